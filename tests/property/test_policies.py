"""What holds for all documents: no text raises, order means nothing, a bad document changes nothing else."""

import json
from collections.abc import Iterable
from typing import Any

import msgspec
from hypothesis import example, given
from hypothesis import strategies as st

from policies.compile import Compiled, HostView, compile_host, kind_of
from policies.compiled import AnyResource, Inbound, Routes
from policies.parse import parse, parse_file
from policies.problem import Problem
from policies.schema.kinds import KINDS, AnyDocument
from policies.schema.shape import MAX_PROBLEMS
from registry import model
from tests.property import policies_strategies as some

KIND = st.sampled_from(sorted(KINDS))
ROUTING = ["Routes", "Match", "HTTP", "Destination", "Splits", "Weight", "Service", "Subsets", "Filter", "Header"]
CALLERS = ["Sources", "Permissions", "Action", "UpstreamConfig", "Overrides", "PassiveHealthCheck", "RetryBudget"]
OTHERS = ["Kind", "Name", "Delay", "Until", "x", "request_timeout", "RequestHeaders", "Set", "QueryParam", "Methods"]
FIELDS = st.sampled_from([*ROUTING, *CALLERS, *OTHERS])
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=12),
    st.sampled_from(["/", "allow", "http", "1s", "*", "web", "(", "a == b", "2026-12-01T18:00:00Z", "100"]),
)
STRUCTURES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(FIELDS | st.text(max_size=5), inner, max_size=5)
)


def reads_the_kind_as_it_is_said(text: bytes) -> tuple[Problem, ...]:
    """A file's own Kind and Name, whatever they hold, come back in Problems."""
    documents = parse_file(text).documents
    return tuple(problem for said in documents for problem in parse(*said[:3], version=1).problems)


def check_problems(problems: Iterable[Problem]) -> None:
    """Every Problem can be shown on one line and be sent as JSON."""
    for problem in problems:
        assert str(problem).isprintable()
        assert msgspec.json.decode(msgspec.json.encode(problem), type=Problem) == problem


@given(KIND | st.text(), st.text(), st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
@example("mesh", "mesh", b'"\\ud83d": 1\n"\\ud83d": 2\n')
@example("mesh", "mesh", b'{"a\\u0000": 1, "a\\u0000": 2}')
@example("mesh", "mesh", b'Kind: "\\ud83d"\nName: "\\u0000"')
@example("service-resolver", "a", b'Subsets: {v: {Filter: "Checks.\\u0007 == a"}}')
def test_no_bytes_raise(kind: str, name: str, text: bytes) -> None:
    for given_name in (name, "mesh", "web"):
        parsed = parse(kind, given_name, text, version=1)
        assert (parsed.document is None) == bool(parsed.problems)
        check_problems(parsed.problems)
    check_problems(parse_file(text).problems)
    check_problems(reads_the_kind_as_it_is_said(text))


@given(KIND, st.dictionaries(FIELDS, STRUCTURES, max_size=6))
def test_no_structure_raises(kind: str, body: dict[str, Any]) -> None:
    name = "mesh" if kind == "mesh" else "web"
    parsed = parse(kind, name, json.dumps(body).encode(), version=1)
    assert (parsed.document is None) == bool(parsed.problems)
    assert len(parsed.problems) <= MAX_PROBLEMS
    check_problems(parsed.problems)


def parsed(said: Iterable[some.Said]) -> dict[tuple[str, str], AnyDocument]:
    """The good ones, by key."""
    found = {(kind, name): parse(kind, name, text.encode(), version=1).document for kind, name, text in said}
    return {key: document for key, document in found.items() if document is not None}


def compiled(said: Iterable[some.Said], endpoints: Iterable[model.Endpoint], **fields: Any) -> Compiled:
    return compile_host(view(said, endpoints, **fields))


def view(said: Iterable[some.Said], endpoints: Iterable[model.Endpoint], node: str = "a", **fields: Any) -> HostView:
    by_service: dict[str, tuple[model.Endpoint, ...]] = {}
    for endpoint in sorted(endpoints, key=lambda one: one.instance.key):
        service = endpoint.instance.service
        by_service[service] = (*by_service.get(service, ()), endpoint)
    local = tuple(endpoint.instance for endpoint in endpoints if endpoint.instance.node == node)
    return HostView(
        node=node,
        trust_domain="mesh.local",
        inbound=model.Address(address="127.0.0.1", port=15443),
        local=local,
        endpoints=by_service,
        documents=parsed(said),
        wanted=frozenset({"web"}),
        **fields,
    )


@given(some.several, some.endpoints)
def test_what_is_compiled_is_the_contract(said: list[some.Said], endpoints: list[model.Endpoint]) -> None:
    result = compiled(said, endpoints)
    wire = msgspec.json.encode(result.resources)
    assert msgspec.json.decode(wire, type=tuple[AnyResource, ...]) == result.resources
    names = [(kind_of(resource), resource.name.split("/")) for resource in result.resources]
    assert names == sorted(names)
    assert len({(kind_of(resource), resource.name) for resource in result.resources}) == len(names)
    check_problems(result.problems)
    for routes in (resource for resource in result.resources if isinstance(resource, Routes)):
        assert routes.rules[-1].match is None
        assert routes.rules[-1].sources == ()
        for rule in routes.rules:
            assert sum(leg.weight for leg in rule.legs) == 10_000
            assert all(leg.weight > 0 for leg in rule.legs)


@given(some.several, some.endpoints, st.randoms(use_true_random=False))
def test_order_means_nothing(said: list[some.Said], endpoints: list[model.Endpoint], random: Any) -> None:
    expected = compiled(said, endpoints)
    assert compiled(said, endpoints) == expected
    random.shuffle(said)
    random.shuffle(endpoints)
    shuffled = compiled(said, endpoints)
    assert shuffled == expected
    assert msgspec.json.encode(shuffled.resources) == msgspec.json.encode(expected.resources)


@given(some.several, some.endpoints, KIND, some.pattern, some.refused)
def test_an_invalid_document_changes_nothing_else(
    said: list[some.Said], endpoints: list[model.Endpoint], kind: str, name: str, text: str
) -> None:
    name = "mesh" if kind == "mesh" else name
    others = [one for one in said if one[:2] != (kind, name)]
    assert parse(kind, name, text.encode(), version=1).document is None
    assert compiled([*others, (kind, name, text)], endpoints) == compiled(others, endpoints)


@given(some.several, some.endpoints, st.sampled_from(sorted(set(KINDS) - {"service-intentions"})), some.pattern)
def test_unreadable_documents_but_intentions_leave_the_default(
    said: list[some.Said], endpoints: list[model.Endpoint], kind: str, name: str
) -> None:
    others = [one for one in said if one[:2] != (kind, name)]
    unreadable = frozenset({(kind, name)})
    assert compiled(others, endpoints, unreadable=unreadable) == compiled(others, endpoints)


@given(some.several, some.endpoints, some.service)
def test_unreadable_intentions_never_allow_more(
    said: list[some.Said], endpoints: list[model.Endpoint], name: str
) -> None:
    others = [one for one in said if one[:2] != ("service-intentions", name)]
    with_it = compiled(others, endpoints, unreadable=frozenset({("service-intentions", name)}))
    for resource in with_it.resources:
        if isinstance(resource, Inbound) and resource.service == name:
            permissions = resource.permissions
            assert permissions.fallback == "deny"
            assert [source.action for source in permissions.sources] == ["deny"]
