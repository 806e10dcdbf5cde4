"""Kind service-resolver."""

import pytest

from policies.filter import Equal, Selector
from policies.schema.service_resolver import ServiceResolver, Subset
from tests.unit.policies.build import document, problem


def test_everything_that_it_may_say() -> None:
    text = """
DefaultSubset: v1
Subsets:
  v1: {Filter: Service.Meta.version == "1", OnlyPassing: true}
  all: {Filter: "", OnlyPassing: false}
  none_said: {}
ConnectTimeout: 2.5s
RequestTimeout: -1s
"""
    assert document("service-resolver", "api", text) == ServiceResolver(
        name="api",
        version=1,
        default_subset="v1",
        subsets={
            "v1": Subset(filter=Equal(Selector("Service.Meta", "version"), "1"), only_passing=True),
            "all": Subset(),
            "none_said": Subset(),
        },
        connect_timeout_ms=2500,
        request_timeout_ms=0,
    )


def test_a_bad_filter_is_a_problem_with_both_positions() -> None:
    found = problem("service-resolver", "api", "Subsets:\n  v1:\n    Filter: Service.Mta.x == 1\n")
    assert (found.line, found.path) == (3, "Subsets.v1.Filter")
    assert "at character 1 of the filter" in found.reason


@pytest.mark.parametrize(
    "field", ["Redirect: {Service: b}", "Failover: {'*': {Service: b}}", "LoadBalancer: {Policy: maglev}"]
)
def test_later_fields_are_named(field: str) -> None:
    assert problem("service-resolver", "api", field).reason == f"{field.partition(':')[0]} is not supported yet"
