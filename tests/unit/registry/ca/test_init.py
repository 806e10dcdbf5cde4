"""`meshctl ca init` and what keeps an authority alive offline."""

from pathlib import Path

import pytest

from registry.ca import bundle, entitlement, files, svid
from registry.ca.certificate import DAY
from registry.ca.entitlement import Entitlement
from registry.ca.init import First, init, read_store_id, recover, refresh
from registry.errors import Conflict, Denied, NotFound

NOW = 1_000_000.0


def test_everything_is_there_without_a_store(tmp_path: Path) -> None:
    made = init(tmp_path, First(node="a", services=("web", "api")), NOW)
    layout = files.Layout(tmp_path)
    roots = files.read_certificates(layout.roots)
    assert bundle.root_hash(roots[0]) == made.root_hash
    assert made.store_id == read_store_id(layout)
    assert len(made.store_id) == 32
    node = svid.verify(files.load(layout.node).chain, roots, "mesh.local", NOW)
    assert node.identity.uri == "spiffe://mesh.local/node/a"
    assert entitlement.decode(node.certificate) == Entitlement(services=("api", "web"), roles=("ca", "registry"))
    role = svid.verify(files.load(layout.role).chain, roots, "mesh.local", NOW)
    assert role.identity.uri == "spiffe://mesh.local/role/ca/a"
    assert files.load(layout.root).leaf == roots[0]
    for path in (*layout.identity.iterdir(), *layout.authority.iterdir()):
        assert path.stat().st_mode & 0o077 == 0


def test_two_runs_have_nothing_in_common(tmp_path: Path) -> None:
    one, other = init(tmp_path / "1", First(node="a"), NOW), init(tmp_path / "2", First(node="a"), NOW)
    assert one.root_hash != other.root_hash
    assert one.store_id != other.store_id


def test_a_second_init_changes_nothing(tmp_path: Path) -> None:
    made = init(tmp_path, First(node="a"), NOW)
    with pytest.raises(Conflict, match="holds an authority already"):
        init(tmp_path, First(node="a"), NOW)
    assert bundle.root_hash(files.load(files.Layout(tmp_path).root).leaf) == made.root_hash


def test_an_interrupted_init_starts_over(tmp_path: Path) -> None:
    layout = files.Layout(tmp_path)
    init(tmp_path, First(node="a"), NOW)
    layout.store_id.unlink()
    layout.issuer.certificate.unlink()
    made = init(tmp_path, First(node="a"), NOW)
    roots = files.read_certificates(layout.roots)
    assert bundle.root_hash(roots[0]) == made.root_hash
    assert svid.verify(files.load(layout.node).chain, roots, "mesh.local", NOW).identity.node == "a"


def test_a_joined_host_is_not_overwritten(tmp_path: Path) -> None:
    made = files.Layout(tmp_path / "a")
    init(made.data_dir, First(node="a"), NOW)
    joined = files.Layout(tmp_path / "b")
    files.save(joined.node, files.load(made.node))
    with pytest.raises(Conflict, match="joined another mesh"):
        init(joined.data_dir, First(node="b"), NOW)


@pytest.mark.parametrize(
    "first",
    [
        First(node=""),
        First(node="a", trust_domain="A.b"),
        First(node="a", services=("x/y",)),
        First(node="a", roles=("root",)),  # type: ignore[arg-type]  # a role that does not exist, on purpose
    ],
)
def test_bad_names_write_nothing(tmp_path: Path, first: First) -> None:
    with pytest.raises(Denied):
        init(tmp_path, first, NOW)
    assert list(tmp_path.iterdir()) == []


def test_without_roles_there_is_no_role_certificate(tmp_path: Path) -> None:
    init(tmp_path, First(node="a", roles=()), NOW)
    with pytest.raises(NotFound):
        files.load(files.Layout(tmp_path).role)


def test_issuer_is_renewed_from_half_its_life_with_the_same_key(tmp_path: Path) -> None:
    init(tmp_path, First(node="a"), NOW)
    layout = files.Layout(tmp_path)
    old = files.load(layout.issuer)
    assert not refresh(layout, NOW + 100 * DAY)
    assert refresh(layout, NOW + 200 * DAY)
    new = files.load(layout.issuer)
    assert new.key.public_key() == old.key.public_key()
    assert new.leaf.not_valid_after_utc.timestamp() == NOW + 565 * DAY
    new.leaf.verify_directly_issued_by(files.load(layout.root).leaf)
    files.load(layout.node).leaf.verify_directly_issued_by(new.leaf)


def test_recover_after_a_long_sleep(tmp_path: Path) -> None:
    """linkerd2#4808: the tool must work when everything but the root has expired."""
    first = First(node="a")
    init(tmp_path, first, NOW)
    layout = files.Layout(tmp_path)
    late = NOW + 1000 * DAY
    keys = [files.load(pair).key_pem for pair in (layout.node, layout.role)]
    recover(layout, first, late)
    roots = files.read_certificates(layout.roots)
    assert svid.verify(files.load(layout.node).chain, roots, "mesh.local", late).identity.kind == "node"
    assert svid.verify(files.load(layout.role).chain, roots, "mesh.local", late).identity.kind == "role"
    assert keys == [files.load(pair).key_pem for pair in (layout.node, layout.role)]


def test_an_expired_root_says_so_with_the_clock(tmp_path: Path) -> None:
    init(tmp_path, First(node="a"), NOW)
    with pytest.raises(Denied, match=r"root .* cannot sign: certificate expired at .* this host's clock says"):
        refresh(files.Layout(tmp_path), NOW + 4000 * DAY)
