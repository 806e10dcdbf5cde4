"""Origins: the words by which denials, explain and hits name a rule."""

from policies.schema.mesh import Mesh


def test_origin() -> None:
    assert Mesh(name="mesh", version=7).origin("DefaultIntention") == "mesh/mesh#DefaultIntention@7"
