"""In force means applied by the proxy; a refused resource takes the documents behind it out."""

from pathlib import Path

from meshd.control.documents import Documents
from meshd.control.report import Report, by_document, origins
from meshd.dataplane.client import Dataplane, Refusal
from policies.compiled import Leg, Routes, Rule
from registry.interest import Interest
from registry.model import Document
from tests.unit.meshd.control.conftest import Lines

ROUTES = Routes(
    name="api",
    rules=(
        Rule(
            origin="service-router/api#Routes[0]@5",
            legs=(Leg(service="api", origin="service-splitter/api#Splits[0]@6"),),
        ),
        Rule(origin="default#route", legs=(Leg(service="api"),)),
    ),
)
REFUSED = {"routes/api": Refusal("routes/api", "00", "rules[0]", "bad regex")}


def test_origins_name_documents_but_not_defaults() -> None:
    assert origins(ROUTES) == {"service-router/api", "service-splitter/api"}


def test_a_refused_resource_points_at_its_documents() -> None:
    found = by_document(REFUSED, (ROUTES,))
    assert set(found) == {"service-router/api", "service-splitter/api"}
    assert found["service-router/api"] == ("the proxy refuses routes/api rules[0]: bad regex",)
    assert by_document({}, (ROUTES,)) == {}


async def test_documents_are_in_force_once_applied_and_not_before(tmp_path: Path, log: Lines) -> None:
    documents = Documents(tmp_path / "d")
    plane = Dataplane(log, lambda version: None)
    report = Report("a", "1", documents, plane)
    text = Document(kind="service-defaults", name="api", text=b"Protocol: http\n", version=5)
    documents.update({("service-defaults", "api"): text})
    report.compiled(1)
    assert report.current().documents == {}
    report.applied(1)
    assert report.current().documents["service-defaults/api"].version == 5
    documents.update({})
    report.compiled(2)
    report.compiled(3)
    assert report.current().documents
    report.applied(3)
    assert report.current().documents == {}


async def test_what_the_proxy_refuses_is_reported_as_rejected(tmp_path: Path, log: Lines) -> None:
    documents = Documents(tmp_path / "d")
    plane = Dataplane(log, lambda version: None)
    report = Report("a", "1", documents, plane)
    report.resources = lambda: (ROUTES,)
    text = Document(kind="service-splitter", name="api", text=b"Splits: [{Weight: 100}]\n", version=6)
    documents.update({("service-splitter", "api"): text})
    report.compiled(1)
    report.applied(1)
    plane.refused = dict(REFUSED)
    now = report.current()
    assert now.documents == {}
    assert now.rejected["service-splitter/api"].problems == ("the proxy refuses routes/api rules[0]: bad regex",)
    assert now.proxy.pid == 0


async def test_a_document_that_waits_is_not_in_force(tmp_path: Path, log: Lines) -> None:
    documents = Documents(tmp_path / "d")
    report = Report("a", "1", documents, Dataplane(log, lambda version: None))
    name = ("service-defaults", "api")
    documents.update({name: Document(kind=name[0], name=name[1], text=b"Protocol: http\n", version=5)})
    report.held = lambda: frozenset({name})
    report.interest = lambda: Interest(called=frozenset({"api"}))
    report.compiled(1)
    report.applied(1)
    assert report.current().documents == {}
    assert report.current().interest.called == {"api"}
