"""`meshctl service`: every value in force with who set it, in words."""

import json
from pathlib import Path

import msgspec

from meshd.admin import service_view
from policies.compiled import ExplainInput, Match

GOLDEN = Path(__file__).parents[3] / "golden" / "explain_input.json"
RESOURCES = msgspec.convert(json.loads(GOLDEN.read_text()), ExplainInput).resources


def test_rules_faults_and_intentions_are_shown_in_order() -> None:
    view = service_view.build("api", RESOURCES, (), {"default#route": 7})
    assert view.protocol == "http"
    first, last = view.routes
    assert first.match == "from web, path prefix /admin, not header x-user, query debug, GET/POST"
    assert first.action == "api/v1 90 %, api/v9 10 % (broken: service-resolver/api has no subset v9)"
    assert (last.match, last.hits) == ("everything", 7)
    assert view.faults[0].action == "delay 100ms-200ms for 50 %; abort with status 503 for 1 %"
    assert view.faults[0].match == "from web, header x-chaos" or "x-chaos" in view.faults[0].match
    assert [(row.source, row.action) for row in view.intentions] == [
        ("web", "deny path = /secret"),
        ("web", "allow everything"),
        ("web", "allow everything else"),
        ("*", "deny"),
        ("(any other)", "allow"),
    ]


def test_settings_name_their_origin() -> None:
    settings = {one.name: one for one in service_view.build("api", RESOURCES, (), {}).settings}
    assert settings["ConnectTimeout"].value == "1s"
    assert settings["web: ConnectTimeout"].value == "500ms"
    assert settings["web: ConnectTimeout"].origin == "service-defaults/web#UpstreamConfig.Overrides[0]@9"
    assert settings["DefaultIntention"].origin == "mesh/mesh#DefaultIntention@2"
    assert settings["MaxInboundConnections"].value == "100"


def test_a_service_that_is_not_compiled_shows_defaults() -> None:
    view = service_view.build("absent", (), (), {})
    assert (view.protocol, view.routes, view.intentions) == ("tcp", (), ())
    assert {one.origin for one in view.settings} == {"default#Protocol", "default#upstream"}


def test_subsets_by_endpoint() -> None:
    assert service_view.subsets(RESOURCES)["api/b/api-1"] == ("v1",)


def test_words() -> None:
    assert service_view.match(Match(path_exact="/x"), ()) == "path = /x"
    assert service_view.match(None, ()) == "everything"
    assert [service_view.milliseconds(value) for value in (0, 20, 1500)] == ["none", "20ms", "1.5s"]
