"""Documents, instances and views for tests of `policies`, each in one line."""

from collections.abc import Mapping
from typing import Any

from policies.compile import Compiled, HostView, compile_host
from policies.compiled import Endpoint, Inbound, Routes, Service
from policies.parse import parse
from policies.problem import Problem
from policies.schema.kinds import AnyDocument
from registry import model


def document(kind: str, name: str, text: str, version: int = 1) -> AnyDocument:
    """A document that must be good."""
    parsed = parse(kind, name, text.encode(), version=version)
    assert parsed.document is not None, [str(problem) for problem in parsed.problems]
    return parsed.document


def problems(kind: str, name: str, text: str | bytes) -> tuple[Problem, ...]:
    """What is wrong with a document that must be refused."""
    data = text.encode() if isinstance(text, str) else text
    parsed = parse(kind, name, data, version=1)
    assert parsed.document is None
    assert parsed.problems
    return parsed.problems


def problem(kind: str, name: str, text: str | bytes) -> Problem:
    """The one thing that is wrong."""
    found = problems(kind, name, text)
    assert len(found) == 1, [str(one) for one in found]
    return found[0]


def documents(*said: tuple[str, str, str]) -> dict[tuple[str, str], AnyDocument]:
    """(kind, name, text) each, versions counting from 1."""
    return {
        (kind, name): document(kind, name, text, version) for version, (kind, name, text) in enumerate(said, start=1)
    }


def instance(service: str, node: str = "b", instance_id: str = "", **fields: Any) -> model.Instance:
    """Meshed, passing, on 10.0.0.1:8080 unless said otherwise."""
    said: dict[str, Any] = {
        "service": service,
        "node": node,
        "id": instance_id or f"{service}-1",
        "address": "10.0.0.1",
        "port": 8080,
        "inbound": model.Address(address="10.0.0.1", port=15443),
        **fields,
    }
    return model.Instance(**said)


def caller(service: str, *upstreams: str, node: str = "a", **fields: Any) -> model.Instance:
    """An instance with upstream ports from 9101 on."""
    declared = tuple(model.Upstream(service=name, local_bind_port=9101 + i) for i, name in enumerate(upstreams))
    return instance(service, node, mesh=model.Mesh(upstreams=declared), **fields)


def endpoint(said: model.Instance, state: model.EndpointState = "passing") -> model.Endpoint:
    return model.Endpoint(instance=said, state=state)


def view(*said: tuple[str, str, str], **fields: Any) -> HostView:
    """Host a, with documents."""
    given: dict[str, Any] = {
        "node": "a",
        "trust_domain": "mesh.local",
        "inbound": model.Address(address="127.0.0.1", port=15443),
        "documents": documents(*said),
        **fields,
    }
    return HostView(**given)


def resources(compiled: Compiled) -> Mapping[str, Any]:
    """By `<kind>/<name>`."""
    return {f"{r.__struct_config__.tag}/{r.name}": r for r in compiled.resources}


def routes(service: str, *said: tuple[str, str, str], **fields: Any) -> Routes:
    found = resources(compile_host(view(*said, wanted=frozenset((service,)), **fields)))[f"routes/{service}"]
    assert isinstance(found, Routes)
    return found


def service(name: str, *said: tuple[str, str, str], **fields: Any) -> Service:
    found = resources(compile_host(view(*said, wanted=frozenset((name,)), **fields)))[f"service/{name}"]
    assert isinstance(found, Service)
    return found


def compiled_endpoints(name: str, *said: tuple[str, str, str], **fields: Any) -> tuple[Endpoint, ...]:
    compiled = compile_host(view(*said, wanted=frozenset((name,)), **fields))
    return tuple(resource for resource in compiled.resources if isinstance(resource, Endpoint))


def inbound(said: model.Instance, *documents: tuple[str, str, str], **fields: Any) -> Inbound:
    compiled = compile_host(view(*documents, local=(said,), **fields))
    (found,) = (resource for resource in compiled.resources if isinstance(resource, Inbound))
    return found


HTTP = "Protocol: http"
