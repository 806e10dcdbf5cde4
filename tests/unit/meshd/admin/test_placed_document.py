"""Only `Registries` changes: comments, order and every other field stay as the author wrote them."""

import pytest

from meshd.admin.placed_document import rewritten
from policies.parse import parse
from policies.schema.service_defaults import ServiceDefaults
from registry.errors import Denied

BOTH = ("home", "etcd")
WRITTEN = """\
# api speaks HTTP
Kind: service-defaults
Name: api
registries:   # moving
- home
- etcd
# said by its owners
Protocol: http  # since May
UpstreamConfig:
  Defaults: {ConnectTimeout: 2s}
"""


def registries(text: bytes) -> tuple[str, ...]:
    found = parse("service-defaults", "api", text, version=0).document
    assert isinstance(found, ServiceDefaults)
    return found.registries


def test_a_document_is_made_where_there_is_none() -> None:
    assert rewritten("api", b"", "", BOTH) == b"Registries: [home, etcd]\n"


def test_comments_and_other_fields_stay() -> None:
    text = rewritten("api", WRITTEN.encode(), "api", ("etcd",)).decode()
    assert text.splitlines() == [
        "# api speaks HTTP",
        "Kind: service-defaults",
        "Name: api",
        "# said by its owners",
        "Protocol: http  # since May",
        "UpstreamConfig:",
        "  Defaults: {ConnectTimeout: 2s}",
        "Registries: [etcd]",
    ]
    assert rewritten("api", text.encode(), "api", ("etcd",)) == text.encode(), "the same again is no change"


def test_the_last_field_without_a_line_end() -> None:
    text = rewritten("api", b"Protocol: http\nRegistries:\n- home", "api", BOTH)
    assert text == b"Protocol: http\nRegistries: [home, etcd]\n"


@pytest.mark.parametrize(
    "text", [b'{"Kind": "service-defaults", "Protocol": "http"}', b"{Protocol: http, registries: [x]}"]
)
def test_json_stays_json(text: bytes) -> None:
    made = rewritten("api", text, "api", BOTH)
    assert made.lstrip().startswith(b"{")
    assert registries(made) == BOTH
    assert b"http" in made


def test_a_patterns_document_is_copied_with_all_that_it_says() -> None:
    pattern = b"Kind: service-defaults\nName: '*'\nProtocol: http\n"
    assert rewritten("api", pattern, "*", BOTH) == b"Kind: service-defaults\nProtocol: http\nRegistries: [home, etcd]\n"


@pytest.mark.parametrize("text", [b"Protocol: smoke\n", b"- a\n", b"Protocol: [\n", b"\xff"])
def test_what_is_not_in_force_is_not_touched(text: bytes) -> None:
    with pytest.raises(Denied, match=r"write `Registries: \[home, etcd\]` into service-defaults/api by hand"):
        rewritten("api", text, "api", BOTH)
