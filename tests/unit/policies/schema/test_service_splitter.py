"""Kind service-splitter."""

from policies.schema.headers import HeaderEdits
from policies.schema.service_splitter import Part, ServiceSplitter
from tests.unit.policies.build import document, problem


def test_everything_that_it_may_say() -> None:
    text = """
Splits:
  - {Weight: 99.99, ServiceSubset: v1}
  - {Weight: 0.01, Service: api-next, RequestHeaders: {Add: {x-side: b}}, ResponseHeaders: {Remove: [x]}}
"""
    assert document("service-splitter", "api", text) == ServiceSplitter(
        name="api",
        version=1,
        splits=(
            Part(weight=9999, service_subset="v1"),
            Part(
                weight=1,
                service="api-next",
                request_headers=HeaderEdits(add=(("x-side", "b"),)),
                response_headers=HeaderEdits(remove=("x",)),
            ),
        ),
    )


def test_a_side_needs_a_weight_and_the_document_sides() -> None:
    assert problem("service-splitter", "api", "Splits: [{Service: x}]").path == "Splits[0].Weight"
    assert problem("service-splitter", "api", "Kind: service-splitter").path == "Splits"


def test_sticky_is_not_supported_yet() -> None:
    text = "Splits: [{Weight: 100}]\nSticky: {Cookie: c}"
    assert problem("service-splitter", "api", text).reason == "Sticky is not supported yet"
