"""Health checks: what is read, and what a registration may not make this host do (security.md class 29)."""

import pytest

from registry.api import checks
from registry.api.fields import Json, Refused
from registry.model import Check

OWN = frozenset({"10.0.0.5", "fd00::5"})


def refusal(value: Json) -> tuple[str, str]:
    with pytest.raises(Refused) as caught:
        checks.read(value, "Check", OWN)
    return caught.value.invalid.field, caught.value.invalid.error


def test_an_http_check_with_everything() -> None:
    found = checks.read(
        {
            "CheckID": "c", "Name": "n", "HTTP": "http://localhost:8080/healthz?x=1", "Method": "head",
            "Header": {"Accept": ["a", "b"], "X": "c"}, "Interval": "5s", "Timeout": 1_000_000_000,
            "SuccessBeforePassing": 2, "FailuresBeforeWarning": 1, "FailuresBeforeCritical": 3,
            "DeregisterCriticalServiceAfter": "1m", "Status": "passing", "Notes": "why", "TLSSkipVerify": False,
        },
        "Check",
        OWN,
    )  # fmt: skip
    assert found == Check(
        check_id="c", name="n", http="http://localhost:8080/healthz?x=1", method="HEAD",
        header={"Accept": ("a", "b"), "X": ("c",)}, interval=5.0, timeout=1.0, success_before_passing=2,
        failures_before_warning=1, failures_before_critical=3, deregister_critical_service_after=60.0,
        status="passing", notes="why",
    )  # fmt: skip


def test_grpc_of_a_server_and_of_a_service() -> None:
    assert checks.read({"grpc": "127.0.0.1:80", "interval": "5s"}, "Check", OWN).grpc == "127.0.0.1:80"
    found = checks.read({"GRPC": "[fd00::5]:80/shop.Cart", "Interval": "5s", "GRPCUseTLS": False}, "Check", OWN)
    assert found.grpc == "[fd00::5]:80/shop.Cart"


def test_checks_over_tls() -> None:
    tls = {"TLSServerName": "api.local", "TLSSkipVerify": True}
    found = checks.read({"GRPC": "127.0.0.1:80", "Interval": "5s", "GRPCUseTLS": True, **tls}, "Check", OWN)
    assert (found.grpc_tls, found.tls_server_name, found.tls_skip_verify) == (True, "api.local", True)
    found = checks.read({"HTTP": "https://127.0.0.1/", "Interval": "5s", **tls}, "Check", OWN)
    assert (found.grpc_tls, found.tls_server_name, found.tls_skip_verify) == (False, "api.local", True)


def test_tcp_and_ttl() -> None:
    assert checks.read({"tcp": "127.0.0.1:80", "interval": "5s"}, "Check", OWN).tcp == "127.0.0.1:80"
    assert checks.read({"ttl": "15s"}, "Check", OWN).ttl == 15.0


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ({}, "Check"),
        ({"TTL": "5s", "HTTP": "http://localhost/", "Interval": "5s"}, "Check"),
        ({"HTTP": "http://localhost/"}, "Check.Interval"),
        ({"HTTP": "http://localhost/", "Interval": "1ms"}, "Check.Interval"),
        ({"HTTP": "http://localhost/", "Interval": "5x"}, "Check.Interval"),
        ({"HTTP": "ftp://localhost/", "Interval": "5s"}, "Check.HTTP"),
        ({"HTTP": "http://", "Interval": "5s"}, "Check.HTTP"),
        ({"HTTP": "http://[::1/", "Interval": "5s"}, "Check.HTTP"),
        ({"HTTP": "http://u:p@localhost/", "Interval": "5s"}, "Check.HTTP"),
        ({"TCP": "127.0.0.1", "Interval": "5s"}, "Check.TCP"),
        ({"TCP": "127.0.0.1:99999", "Interval": "5s"}, "Check.TCP"),
        ({"HTTP": "http://localhost/", "Interval": "5s", "Method": "TRACE"}, "Check.Method"),
        ({"HTTP": "http://localhost/", "Interval": "5s", "Header": []}, "Check.Header"),
        ({"TTL": "5s", "Status": "pass"}, "Check.Status"),
        ({"GRPC": "127.0.0.1:80"}, "Check.Interval"),
        ({"GRPC": "127.0.0.1", "Interval": "5s"}, "Check.GRPC"),
        ({"GRPC": "/shop", "Interval": "5s"}, "Check.GRPC"),
        ({"TCP": "127.0.0.1:80", "GRPCUseTLS": True, "Interval": "5s"}, "Check.GRPCUseTLS"),
        ({"GRPC": "127.0.0.1:80", "GRPCUseTLS": "yes", "Interval": "5s"}, "Check.GRPCUseTLS"),
        ({"GRPC": "127.0.0.1:80", "TLSSkipVerify": True, "Interval": "5s"}, "Check.TLSSkipVerify"),
        ({"HTTP": "http://localhost/", "TLSServerName": "x", "Interval": "5s"}, "Check.TLSServerName"),
        ({"GRPC": "127.0.0.1:80", "TTL": "5s"}, "Check"),
        ({"TTL": "5s", "TLSSkipVerify": True}, "Check.TLSSkipVerify"),
        ({"TTL": "5s", "FailuresBeforeCritical": -1}, "Check.FailuresBeforeCritical"),
        ({"TTl": "5s", "Intervall": "5s"}, "Check.Intervall"),
    ],
)
def test_a_bad_check_is_refused_at_its_field(value: Json, field: str) -> None:
    assert refusal(value)[0] == field


@pytest.mark.parametrize("field", ["Args", "ScriptArgs", "Script", "DockerContainerID", "Shell"])
def test_a_check_that_runs_a_program_is_refused(field: str) -> None:
    value: Json = {field: ["sh", "-c", "id"] if "Args" in field else "sh", "Interval": "5s"}
    found, error = refusal(value)
    assert found == f"Check.{field}"
    assert "runs a program" in error


@pytest.mark.parametrize(
    "host",
    [
        "example.com",
        "localhost.example.com",
        "10.0.0.6",
        "8.8.8.8",
        "169.254.169.254",
        "169.254.1.1",
        "100.100.100.200",
        "[fe80::1]",
        "[fd00:ec2::254]",
        "[::ffff:169.254.169.254]",
        "[::ffff:8.8.8.8]",
        "0.0.0.0",
        "2130706433",
        "0x7f.1",
        "127.1",
        "017700000001",
    ],
)
def test_targets_that_are_not_this_host_are_refused_cve_2022_29153(host: str) -> None:
    for target in ({"HTTP": f"http://{host}:80/"}, {"TCP": f"{host}:80"}, {"GRPC": f"{host}:80/shop.Cart"}):
        value: Json = {**target, "Interval": "5s"}
        assert refusal(value)[1].startswith("check target")


def test_metadata_is_refused_even_when_the_host_claims_the_address() -> None:
    assert checks.foreign("169.254.169.254", frozenset({"169.254.169.254"}))


@pytest.mark.parametrize(
    "host", ["localhost", "127.0.0.1", "127.9.9.9", "::1", "10.0.0.5", "fd00::5", "::ffff:127.0.0.1"]
)
def test_own_addresses_are_probed(host: str) -> None:
    assert checks.foreign(host, OWN) == ""


def test_names_of_checks_are_consuls() -> None:
    one = Check(check_id="", ttl=5.0)
    given = Check(check_id="mine", name="m", ttl=5.0)
    assert [c.check_id for c in checks.named([one], "web-1", "web")] == ["service:web-1"]
    several = checks.named([one, given, one], "web-1", "web")
    assert [(c.check_id, c.name) for c in several] == [
        ("service:web-1:1", "Service 'web' check"),
        ("mine", "m"),
        ("service:web-1:3", "Service 'web' check"),
    ]
    with pytest.raises(Refused, match="mine"):
        checks.named([given, given], "web-1", "web")
