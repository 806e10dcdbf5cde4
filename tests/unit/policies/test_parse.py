"""From bytes to a document or Problems with a place: real Consul entries, and everything that may be wrong."""

from pathlib import Path

import pytest

from policies.parse import MAX_BYTES, MAX_FILE_BYTES, parse, parse_file
from policies.schema.kinds import KINDS, LATER
from policies.schema.mesh import Mesh
from policies.schema.service_defaults import ServiceDefaults
from policies.schema.service_router import ServiceRouter
from policies.schema.service_splitter import ServiceSplitter
from registry import keys
from tests.unit.policies.build import document, problem, problems

ROOT = Path(__file__).parents[3]
CONSUL = sorted((ROOT / "tests/golden/consul").glob("*.json"))
EXAMPLES = sorted((ROOT / "deploy/examples/two-hosts").glob("*.yaml"))


@pytest.mark.parametrize("path", CONSUL, ids=lambda path: path.stem)
def test_outputs_of_consul_config_read(path: Path) -> None:
    text = path.read_bytes()
    (said,) = parse_file(text, file=path.name).documents
    parsed = parse(said.kind, said.name, said.text, version=1)
    assert parsed.problems == ()
    assert parsed.document is not None
    assert (parsed.document.kind, parsed.document.name) == (said.kind, said.name)


def test_what_consul_wrote_is_what_is_meant() -> None:
    splitter = document("service-splitter", "api", (ROOT / "tests/golden/consul/service-splitter.json").read_text())
    assert isinstance(splitter, ServiceSplitter)
    assert [part.weight for part in splitter.splits] == [9050, 950]
    router = document("service-router", "web", (ROOT / "tests/golden/consul/service-router.json").read_text())
    assert isinstance(router, ServiceRouter)
    assert router.routes[0].destination.request_timeout_ms == 90_000
    defaults = document(
        "service-defaults", "web", (ROOT / "tests/golden/consul/service-defaults-upstreams.json").read_text()
    )
    assert isinstance(defaults, ServiceDefaults)
    (override,) = defaults.upstream_config.overrides
    assert override.passive_health_check is not None
    assert override.passive_health_check.interval_ms == 15_000


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_examples_are_good(path: Path) -> None:
    file = parse_file(path.read_bytes(), file=path.name)
    assert file.problems == ()
    assert file.documents
    for said in file.documents:
        assert parse(said.kind, said.name, said.text, version=1).problems == ()
        assert keys.valid_key(keys.policy(said.kind, said.name))


def test_there_are_fixtures_and_examples() -> None:
    assert {path.stem.removesuffix("-upstreams") for path in CONSUL} == set(KINDS) - {"mesh", "fault"}
    assert len(EXAMPLES) >= 5


def test_yaml_json_and_braces_of_yaml_are_one() -> None:
    expected = Mesh(name="mesh", version=1, explain_denials=True)
    for text in (
        "ExplainDenials: true",
        '{"ExplainDenials": true}',
        "{explain_denials: true}",
        "\ufeffExplainDenials: true",
    ):
        assert document("mesh", "mesh", text) == expected


def test_json_may_be_indented_with_tabs() -> None:
    assert document("mesh", "mesh", '{\n\t"ExplainDenials":\ttrue\n}') == Mesh(
        name="mesh", version=1, explain_denials=True
    )


def test_kind_and_name_may_be_left_out_but_must_agree() -> None:
    assert document("service-defaults", "web", "kind: service-defaults\nname: web\nProtocol: http").name == "web"
    found = problems("service-defaults", "web", "Kind: service-router\nName: api\nProtocol: http")
    assert [(p.path, p.line, p.hint) for p in found] == [
        ("Kind", 1, "service-defaults, or leave it out"),
        ("Name", 2, "web, or leave it out"),
    ]
    assert problem("service-defaults", "web", "Name: [web]").reason == '"a list" contradicts the key'


def test_book_keeping_is_dropped() -> None:
    text = '{"Protocol":"tcp","CreateIndex":1,"ModifyIndex":2,"Hash":3,"Meta":{"a":"b"},"Namespace":"default"}'
    assert document("service-defaults", "web", text) == ServiceDefaults(name="web", version=1, protocol="tcp")


@pytest.mark.parametrize("kind", LATER)
def test_later_kinds_are_known(kind: str) -> None:
    assert problem(kind, "web", "{}").reason == f"kind {kind} is not supported yet"


def test_unknown_kinds_name_the_nearest() -> None:
    assert problem("service-ruoter", "web", "{}").hint == "did you mean service-router?"


@pytest.mark.parametrize("name", ["", "a/b", "..", "a b", "*a", "**", "x" * 200])
def test_names_are_those_of_keys(name: str) -> None:
    assert problem("service-defaults", name, "Protocol: tcp").path == "Name"


@pytest.mark.parametrize("name", ["*", "web-*", "web"])
def test_names_may_be_patterns(name: str) -> None:
    assert document("service-defaults", name, "Protocol: tcp").name == name


@pytest.mark.parametrize(
    ("text", "reason", "line"),
    [
        (b"", "is empty", 1),
        (b"# nothing\n", "is empty", 1),
        (b"null", "is empty", 1),
        (b"[]", "must be a mapping with fields, is a list", 1),
        (b"tcp", 'must be a mapping with fields, is "tcp"', 1),
        (b"Protocol: tcp\nprotocol: http", "is set twice", 2),
        (b'{"Protocol": "tcp", "Protocol": "tcp"}', "is set twice", 1),
        (b"Protocol: tcp\n---\nProtocol: tcp", "more than one document", 2),
        (b"Protocol:\n\ttcp: 1", "is no YAML", 2),
        (b"a: &a [x]\nb: *a", "aliases", 2),
        (b"Protocol: tcp\nx: \xff\xfe", "is not UTF-8", 2),
        (b'{"Protocol": }', "is no JSON", 1),
        (b"x" * (MAX_BYTES + 1), "bytes long", 0),
        (b"[" * 100_000, "nests deeper", 1),
        (b'{"a":' * 50_000, "nests deeper", 1),
        (b"{" * 100_000, "nests deeper", 1),
        (b"? " * 10_000, "", 1),
        (b"- " * 100_000, "nests deeper", 1),
        (b"Protocol: !!python/name:os.system ''", "tags", 1),
        (b"%YAML 9.9\n---\nProtocol: tcp", "is no YAML", 1),
        (b"\x00", "is no YAML", 0),
        (b"Protocol: {a: b}", "must be a single value", 1),
        (b"x: [" + b"1," * 60_000 + b"]", "more than 50000 values", 1),
        (b'{"x": [' + b"1," * 60_000 + b"1]}", "more than 50000 values", 1),
    ],
)
def test_malformed(text: bytes, reason: str, line: int) -> None:
    found = problems("service-defaults", "web", text)[0]
    assert reason in found.reason
    assert found.line == line


def test_places_are_those_of_the_file() -> None:
    parsed = parse("mesh", "mesh", b"ExplainDenial: true", version=1, key="all.yaml", first_line=10)
    (found,) = parsed.problems
    assert str(found) == 'all.yaml:10:1: unknown field "ExplainDenial" (did you mean ExplainDenials?)'


def test_faults_between_fields_have_their_place() -> None:
    found = problem("service-splitter", "api", "Splits:\n  - Weight: 50\n")
    assert (found.path, found.line, found.column) == ("Splits", 2, 3)


def test_a_file_of_several_documents() -> None:
    text = b"""# first
Kind: mesh
ExplainDenials: true
---
# a comment alone is no document
---

Kind: service-defaults
Name: web
Protocol: htp
...
--- {kind: fault, name: slow}
"""
    file = parse_file(text, file="all.yaml")
    assert file.problems == ()
    assert [(said.kind, said.name, said.line) for said in file.documents] == [
        ("mesh", "mesh", 1),
        ("service-defaults", "web", 7),
        ("fault", "slow", 12),
    ]
    assert file.documents[0].text == b"# first\nKind: mesh\nExplainDenials: true\n"
    kind, name, part, line = file.documents[1]
    (found,) = parse(kind, name, part, version=1, key="all.yaml", first_line=line).problems
    assert str(found).startswith("all.yaml:10:11: Protocol:")


@pytest.mark.parametrize(
    ("text", "path", "line"),
    [
        (b"Name: web", "Kind", 1),
        (b"Kind: mesh\n---\nKind: fault", "Name", 3),
        (b"Kind: [x]", "Kind", 1),
        (b"", "", 1),
        (b"---\n---\n", "", 1),
        (b"Kind: mesh\n---\na: [", "", 4),
        (b"- a", "", 1),
        (b"x" * (MAX_FILE_BYTES + 1), "", 0),
        (b"x: 1\n---\n" * 2000, "", 0),
    ],
)
def test_files_with_problems(text: bytes, path: str, line: int) -> None:
    file = parse_file(text, file="f")
    (found,) = file.problems
    assert (found.path, found.line, found.file) == (path, line, "f")
