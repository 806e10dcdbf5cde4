"""Kinds: every one has a schema or is known to come later."""

from typing import get_args

from policies.schema.kinds import KINDS, LATER, AnyDocument, shape


def test_every_document_type_has_its_schema() -> None:
    assert sorted(KINDS) == sorted(kind.kind for kind in get_args(AnyDocument))
    assert shape("mesh") is KINDS["mesh"]
    assert shape("mash") is None


def test_a_kind_is_supported_or_comes_later() -> None:
    assert not set(KINDS) & set(LATER)
