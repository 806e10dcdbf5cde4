"""Revocations: what they cover, and that a bad one hides no other."""

from pathlib import Path

import pytest

from registry.ca import files, revocation, svid
from registry.errors import Corrupt
from tests.fakes.authority import world


@pytest.fixture
def leaf(tmp_path: Path) -> svid.Svid:
    made = world(tmp_path, now=1_000_000.0)
    return svid.read(files.load(made.layout.node).leaf, "mesh.local")


def test_identity_from_and_serial(leaf: svid.Svid) -> None:
    uri = "spiffe://mesh.local/node/a"
    cases = [
        (f'{{"Identity": "{uri}", "Reason": "stolen"}}', True),
        (f"Identity: {uri}\nFrom: 1970-01-12T13:46:40Z\n", True),
        (f'Identity: {uri}\nFrom: "1970-01-12T13:46:40Z"', True),
        (f'{{"Identity": "{uri}", "From": "1970-01-12T13:46:40"}}', True),
        (f'{{"Identity": "{uri}", "From": "1970-01-01T00:00:00Z"}}', False),
        ('{"Identity": "spiffe://mesh.local/node/a.b"}', False),
        (f'{{"Serial": "{leaf.serial}"}}', True),
        ('{"Serial": "abc"}', False),
    ]
    for text, covered in cases:
        found = revocation.parse_all({"revocations/1": text.encode()})
        assert not found.problems
        assert (found.of(leaf) is not None) is covered, text


def test_the_widest_of_several_counts(leaf: svid.Svid) -> None:
    uri = leaf.identity.uri
    narrow = f'{{"Identity": "{uri}", "From": "1970-01-01T00:00:00Z"}}'.encode()
    wide = f'{{"Identity": "{uri}", "Reason": "wide"}}'.encode()
    for order in ({"1": narrow, "2": wide}, {"1": wide, "2": narrow}):
        found = revocation.parse_all(order)
        covering = found.of(leaf)
        assert covering is not None
        assert covering.reason == "wide"
        assert found.before(uri) == float("inf")
    assert found.before("spiffe://mesh.local/node/other") == 0.0


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"{}",
        b'{"Identity": "spiffe://mesh.local/node/a", "Serial": "ab"}',
        b'{"Identity": "node/a"}',
        b'{"Serial": "AB"}',
        b'{"Serial": "ab", "Until": "x"}',
        b'{"Serial": "ab", "From": "yesterday"}',
        b"a: [",
        b"just text",
        b"? [a]\n: b",
        b"Serial: 12",
        b"[" * 4000,
        b'{"Serial\xff": ""}',
        b"\xff\xfe",
        b"{" + b" " * 5000 + b"}",
    ],
)
def test_bad_values_hide_no_other(leaf: svid.Svid, value: bytes) -> None:
    with pytest.raises(Corrupt):
        revocation.parse(value)
    good = f'{{"Serial": "{leaf.serial}"}}'.encode()
    found = revocation.parse_all({"revocations/bad": value, "revocations/good": good})
    assert found.of(leaf) is not None
    assert set(found.problems) == {"revocations/bad"}
