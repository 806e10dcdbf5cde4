"""A host's whole configuration."""

import dataclasses
from typing import Any

import msgspec
import pytest

from policies.compile import Compiler, compile_host, kind_of
from policies.compiled import AccessLog, Settings
from registry.model import Mesh
from tests.unit.policies.build import HTTP, caller, documents, endpoint, instance, resources, view


def test_an_empty_host_has_its_settings() -> None:
    compiled = compile_host(view(access_log_path="log"))
    assert compiled.resources == (
        Settings(
            name="settings",
            node="a",
            inbound_address="127.0.0.1",
            inbound_port=15443,
            access_log=AccessLog(path="log"),
        ),
    )


def test_settings_of_the_mesh() -> None:
    text = "ExplainDenials: true\nAccessLog: {Enabled: false, SamplePercent: 5}\nTracing: {SamplingPercent: 0.5}"
    settings = resources(compile_host(view(("mesh", "mesh", text))))["settings/settings"]
    assert settings.access_log == AccessLog(enabled=False, sample=500)
    assert settings.explain_denials
    assert settings.trace_sampling == 50


def test_upstreams_bring_everything_that_their_requests_may_reach() -> None:
    compiled = compile_host(
        view(
            ("service-defaults", "api", HTTP),
            ("service-splitter", "api", "Splits: [{Weight: 50}, {Weight: 50, Service: next}]"),
            local=(caller("web", "api"),),
            endpoints={
                "api": (endpoint(instance("api", mesh=Mesh(protocol="http"))),),
                "next": (endpoint(instance("next", mesh=Mesh(protocol="http"))),),
                "unrelated": (endpoint(instance("unrelated")),),
            },
        )
    )
    assert compiled.problems == ()
    assert [f"{kind_of(resource)}/{resource.name}" for resource in compiled.resources] == [
        "endpoint/api/b/api-1",
        "endpoint/next/b/next-1",
        "inbound/web/a/web-1",
        "listener/web/a/web-1:api",
        "routes/api",
        "routes/next",
        "service/api",
        "service/next",
        "settings/settings",
    ]


def test_wanted_services_are_compiled_too() -> None:
    assert "routes/far" in resources(compile_host(view(wanted=frozenset({"far"}))))


def test_problems_are_sorted_and_told_once() -> None:
    split = "Splits: [{Weight: 100, ServiceSubset: v9}]"
    said = (
        ("service-splitter", "api", split),
        ("service-router", "z", "Routes: [{}]"),
        ("service-router", "b", "Routes: [{}]"),
    )
    compiled = compile_host(view(*said, wanted=frozenset({"z", "b", "api"}), spoken={"b": "tcp", "z": "tcp"}))
    assert [problem.name for problem in compiled.problems] == ["b", "z", "api"]


def test_only_what_a_change_can_touch_is_made_again() -> None:
    mine = tuple(endpoint(instance("api", instance_id=f"api-{n}", mesh=Mesh(protocol="http"))) for n in range(5))
    other = endpoint(instance("db"))
    before = view(local=(caller("web", "api", "db"),), endpoints={"api": mine, "db": (other,)})
    compiler = Compiler()
    first = resources(compiler.compile(before))
    ill = msgspec.structs.replace(mine[2], state="critical")
    moved = {"api": (*mine[:2], ill, *mine[3:]), "db": (other,)}
    second = resources(compiler.compile(dataclasses.replace(before, endpoints=moved)))
    assert second["endpoint/api/b/api-2"].state == "critical"
    assert {name for name in second if second[name] is not first[name]} == {"endpoint/api/b/api-2"}
    said = documents(("service-intentions", "web", "Sources: [{Name: api, Action: allow}]"))
    third = resources(compiler.compile(dataclasses.replace(before, endpoints=moved, documents=said)))
    assert {name for name in third if third[name] is not second[name]} == {"inbound/web/a/web-1"}


@pytest.mark.parametrize("moved", [{"meshed": frozenset({"db"})}, {"endpoints": {"db": (endpoint(instance("db")),)}}])
def test_plaintext_ends_when_a_service_joins_the_mesh(moved: dict[str, Any]) -> None:
    defaults = ("service-defaults", "web", "UpstreamConfig: {Defaults: {AllowPlaintext: true}}")
    before = view(defaults, ("service-defaults", "db", HTTP), local=(caller("web", "db"),))
    compiler = Compiler()
    assert resources(compiler.compile(before))["service/db"].callers["web"].allow_plaintext
    after = resources(compiler.compile(dataclasses.replace(before, **moved)))
    assert not after["service/db"].callers["web"].allow_plaintext
