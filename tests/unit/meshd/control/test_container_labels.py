"""Labels in, registration out; what is wrong is named by its label."""

import msgspec
import pytest

from meshd.control.container import Binding, Container, Network
from meshd.control.container_labels import Here, Trouble, at, read, refused_upstreams
from registry.api.registration import Registration
from registry.model import Upstream

HERE = Here("127.0.0.1", frozenset({"10.0.0.5", "127.0.0.1"}))
PLAIN = {"meshd.service": "web", "meshd.port": "80"}
BASE = Container(id="f" * 64, name="web-1", labels=PLAIN, address="172.18.0.2")
HOST_NETWORK = msgspec.structs.replace(BASE, network="host", address="")


def made(container: Container = BASE, **labels: str) -> Registration:
    found = read(labelled(container, **labels), HERE)
    assert isinstance(found, Registration), found
    return found


def labelled(container: Container, **labels: str) -> Container:
    """`meshd_check_http` stands for `meshd.check.http`."""
    named = {name.replace("_", "."): text for name, text in labels.items()}
    return msgspec.structs.replace(container, labels={**container.labels, **named})


def test_two_labels_are_enough() -> None:
    found = made()
    assert (found.service, found.id, found.address, found.port) == ("web", "web-1", "172.18.0.2", 80)
    assert found.meta == {"meshd-owner": "docker", "meshd-container": "f" * 12}
    assert found.checks == ()


def test_every_label() -> None:
    found = made(
        HOST_NETWORK,
        meshd_id="w", meshd_tags="a, b,", meshd_meta_team="shop", meshd_protocol="http",
        meshd_upstreams="api:9101, db:9102", meshd_check_http="/healthz", meshd_check_interval="5s",
        meshd_check_timeout="1s",
    )  # fmt: skip
    assert (found.id, found.tags, found.meta["team"], found.mesh.protocol) == ("w", ("a", "b"), "shop", "http")
    assert found.mesh.upstreams == (
        Upstream(service="api", local_bind_port=9101), Upstream(service="db", local_bind_port=9102),
    )  # fmt: skip
    (check,) = found.checks
    assert (check.http, check.interval, check.timeout) == ("http://127.0.0.1:80/healthz", 5.0, 1.0)


def test_the_other_checks() -> None:
    assert made(meshd_check_tcp="true").checks[0].tcp == "172.18.0.2:80"
    assert made(meshd_check_grpc="true").checks[0].grpc == "172.18.0.2:80"
    assert made(meshd_check_grpc="shop.Cart").checks[0].grpc == "172.18.0.2:80/shop.Cart"
    assert made(meshd_check_ttl="30s").checks[0].ttl == 30.0
    assert len(made(meshd_check_ttl="30s", meshd_check_http="/", meshd_check_interval="1s").checks) == 2


def test_the_mark_cannot_be_chosen() -> None:
    assert made(**{"meshd_meta_meshd-owner": "me"}).meta["meshd-owner"] == "docker"


@pytest.mark.parametrize(
    ("bindings", "expected", "probed"),
    [
        ([Binding("0.0.0.0", 8099), Binding("::", 8099)], ("", 8099), "127.0.0.1:8099"),
        ([Binding("::", 8099)], ("", 8099), "127.0.0.1:8099"),
        ([Binding("127.0.0.1", 8099)], ("127.0.0.1", 8099), "127.0.0.1:8099"),
        ([Binding("10.0.0.5", 1), Binding("0.0.0.0", 2)], ("", 2), "127.0.0.1:2"),
        ([Binding("10.0.0.5", 1)], ("10.0.0.5", 1), "10.0.0.5:1"),
    ],
)
def test_a_published_port_is_on_the_host(bindings: list[Binding], expected: tuple[str, int], probed: str) -> None:
    found = made(msgspec.structs.replace(BASE, ports={80: tuple(bindings)}), meshd_check_tcp="true")
    assert (found.address, found.port) == expected
    assert found.checks[0].tcp == probed


def test_another_published_port_is_not_it() -> None:
    assert made(msgspec.structs.replace(BASE, ports={81: (Binding("0.0.0.0", 8099),)})).address == "172.18.0.2"


def test_the_hosts_network_is_the_host() -> None:
    found = made(msgspec.structs.replace(BASE, network="host", address=""), meshd_check_tcp="true")
    assert (found.address, found.port, found.checks[0].tcp) == ("", 80, "127.0.0.1:80")


def test_ipv6_stands_in_brackets() -> None:
    assert at("fd00::2", 80) == "[fd00::2]:80"
    found = made(msgspec.structs.replace(BASE, address="fd00::2"), meshd_check_http="/h")
    assert found.checks[0].http == "http://[fd00::2]:80/h"


@pytest.mark.parametrize(
    ("labels", "label"),
    [
        ({"meshd_service": ""}, "meshd.service"),
        ({"meshd_service": "a b"}, "meshd.service"),
        ({"meshd_id": "a/b"}, "meshd.id"),
        ({"meshd_port": ""}, "meshd.port"),
        ({"meshd_port": "http"}, "meshd.port"),
        ({"meshd_port": "0"}, "meshd.port"),
        ({"meshd_port": "70000"}, "meshd.port"),
        ({"meshd_port": "9" * 5000}, "meshd.port"),
        ({"meshd_port": "²"}, "meshd.port"),
        ({"meshd_protocol": "smtp"}, "meshd.protocol"),
        ({"meshd_upstreams": "api"}, "meshd.upstreams"),
        ({"meshd_upstreams": "api:x"}, "meshd.upstreams"),
        ({"meshd_upstreams": "a:9101,b:9101"}, "meshd.upstreams"),
        ({"meshd_upstreams": "a b:9101"}, "meshd.upstreams"),
        ({"meshd_check_http": "healthz"}, "meshd.check.http"),
        ({"meshd_check_http": "http://169.254.169.254/"}, "meshd.check.http"),
        ({"meshd_check_tcp": "10.0.0.9:80"}, "meshd.check.tcp"),
        ({"meshd_check_http": "/", "meshd_check_interval": "often"}, "meshd.check.interval"),
        ({"meshd_check_interval": "5s"}, "meshd.check.interval"),
        ({"meshd_check_ttl": "5"}, "meshd.check.ttl"),
        ({"meshd_sevice": "web"}, "meshd.sevice"),
        ({"meshd_meta_": "x"}, "meshd.meta."),
        ({"meshd_tags": "a\nb"}, "meshd.tags"),
        ({"meshd_meta_team": "a\0b"}, "meshd.meta.*"),
    ],
)
def test_a_bad_label_is_named(labels: dict[str, str], label: str) -> None:
    found = read(labelled(BASE, **labels), HERE)
    assert isinstance(found, Trouble), found
    assert found.label.partition("[")[0] == label
    assert str(found).startswith(f"container web-1: {found.label}: ")


def test_a_typo_gets_a_hint() -> None:
    found = read(labelled(BASE, meshd_upstream="a:1"), HERE)
    assert isinstance(found, Trouble)
    assert found.hint == "did you mean meshd.upstreams?"


@pytest.mark.parametrize(("network", "word"), [("none", "publish it"), ("shared", "put the labels on that one")])
def test_a_container_that_nobody_reaches(network: Network, word: str) -> None:
    found = read(Container(id="a", name="b", labels=PLAIN, network=network), HERE)
    assert isinstance(found, Trouble)
    assert word in str(found)


def test_a_healthcheck_where_labels_give_no_check() -> None:
    checked = msgspec.structs.replace(BASE, health="critical")
    (check,) = made(checked).checks
    assert (check.check_id, check.name, check.status) == ("service:web-1", "HEALTHCHECK", "critical")
    assert check.ttl > 86400 * 300, "only Docker says when it is ill"
    (check,) = made(checked, meshd_check_http="/").checks
    assert check.http


def test_upstreams_need_the_hosts_network() -> None:
    assert made(BASE, meshd_upstreams="a:1").mesh.upstreams == ()
    found = refused_upstreams(labelled(BASE, meshd_upstreams="a:1"))
    assert found is not None
    assert "network of its own" in found.error
    own = msgspec.structs.replace(BASE, network="host")
    assert refused_upstreams(labelled(own, meshd_upstreams="a:1")) is None
    assert refused_upstreams(BASE) is None
