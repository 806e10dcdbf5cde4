"""Explanations need both sides: the callee's permissions are compiled here as its host does it."""

from pathlib import Path

import pytest

from meshd.admin.explain import _run, resources
from policies.compiled import Inbound
from policies.parse import parse
from policies.view import HostView
from registry.errors import Unavailable
from registry.model import Address, Endpoint, Instance, Mesh, Upstream

INBOUND = Address(address="10.0.0.2", port=15443)
API = Instance(service="api", node="b", id="api-1", address="10.0.0.2", port=80, inbound=INBOUND,
               mesh=Mesh(protocol="http", upstreams=(Upstream(service="db", local_bind_port=9),)))  # fmt: skip
OTHER = Instance(service="other", node="b", id="o", address="10.0.0.2", port=81, inbound=INBOUND)
TEXTS = {
    ("service-intentions", "api"): b"Sources: [{Name: web, Action: deny}]",
    ("service-splitter", "front"): b"Splits: [{Weight: 100, Service: api}]",
    ("service-defaults", "front"): b"Protocol: http",
}


def view() -> HostView:
    documents = {}
    for (kind, name), text in TEXTS.items():
        document = parse(kind, name, text, version=3).document
        assert document is not None
        documents[kind, name] = document
    endpoints = {"api": (Endpoint(instance=API, state="passing"),)}
    return HostView(node="a", trust_domain="mesh.local", inbound=Address(address="10.0.0.1", port=15443),
                    endpoints=endpoints, documents=documents)  # fmt: skip


def ids(destination: str) -> set[str]:
    found = resources(view(), (API, OTHER), destination)
    return {f"{one.__struct_config__.tag}/{one.name}" for one in found}


def test_the_callees_inbound_is_there_with_its_intentions() -> None:
    found = resources(view(), (API, OTHER), "api")
    inbound = next(one for one in found if isinstance(one, Inbound))
    assert inbound.name == "api/b/api-1"
    assert inbound.permissions.sources[0].action == "deny"
    assert {"service/api", "routes/api", "endpoint/api/b/api-1"} <= ids("api")


def test_services_behind_a_split_belong_to_it_and_others_do_not() -> None:
    assert {"routes/front", "inbound/api/b/api-1"} <= ids("front")
    assert "inbound/other/b/o" not in ids("api")


def test_the_callees_own_upstream_ports_are_not_ours() -> None:
    assert not any(name.startswith("listener/") for name in ids("api"))


async def test_a_program_that_answers_nonsense_is_reported(tmp_path: Path) -> None:
    program = tmp_path / "p"
    program.write_text("#!/bin/sh\ncat >/dev/null; echo broken >&2; echo nonsense\n")
    program.chmod(0o755)
    with pytest.raises(Unavailable, match="it said: broken"):
        await _run(str(program), b"{}")
    with pytest.raises(Unavailable, match="absent"):
        await _run(str(tmp_path / "absent"), b"{}")


async def test_its_answer_is_passed_on(tmp_path: Path) -> None:
    program = tmp_path / "p"
    program.write_text('#!/bin/sh\ncat >/dev/null; echo \'{"verdict":"deny","decisions":[]}\'\n')
    program.chmod(0o755)
    assert (await _run(str(program), b"{}")).verdict == "deny"
