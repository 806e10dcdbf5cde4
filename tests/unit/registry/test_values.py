import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry import keys, values
from registry.errors import Corrupt
from registry.model import Address, Instance, Mesh, Node, Upstream, Weights
from tests.unit.registry import made


def test_an_instance_is_read_as_it_was_written() -> None:
    written = made.instance(tags=("v2", "größer"), health="warning")
    assert values.read_instance(made.key(written), values.write(written)) == written


def test_stored_fields_are_spelled_as_consul_spells_them() -> None:
    stored = msgspec.json.decode(values.write(made.instance(tags=("v2",))))
    assert stored == {
        "Service": "web",
        "Node": "a",
        "Id": "web-1",
        "Address": "10.0.0.1",
        "Port": 8080,
        "Tags": ["v2"],
        "Inbound": {"Address": "10.0.0.1", "Port": 15443},
    }


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"service": "api"}, "another instance"),
        ({"node": "b"}, "another instance"),
        ({"address": "10.0.0.1\r\nX: y"}, "bad address"),
        ({"address": "fe80::1%eth0"}, "bad address"),
        ({"address": ""}, "bad address"),
        ({"port": 0}, "bad port"),
        ({"port": 65536}, "bad port"),
        ({"inbound": Address(address="example.org", port=1)}, "bad Inbound"),
        ({"inbound": Address(address="10.0.0.1", port=-1)}, "bad Inbound"),
        ({"weights": Weights(passing=-1)}, "bad Weights"),
        ({"weights": Weights(warning=65_536)}, "bad Weights"),
        ({"mesh": Mesh(upstreams=(Upstream(service="a/b", local_bind_port=1),))}, "bad Mesh.Upstreams"),
        ({"tags": ("a\nb",)}, "control characters"),
        ({"meta": {"a\x00": "b"}}, "control characters"),
        ({"node_meta": {"a": "b\x7f"}}, "control characters"),
        ({"reason": "x" * 70_000}, "control characters"),
    ],
)
def test_an_instance_with_unsafe_content_is_refused(change: dict[str, object], words: str) -> None:
    known = made.instance()
    with pytest.raises(Corrupt, match=words) as refused:
        values.read_instance(made.key(known), values.write(msgspec.structs.replace(known, **change)))
    assert str(refused.value).startswith(made.key(known))


def test_names_that_are_no_names_are_refused_even_if_the_key_agrees() -> None:
    bad = made.instance(id="..")
    with pytest.raises(Corrupt, match="bad service, node or id"):
        values.read_instance(made.key(bad), values.write(bad))


@pytest.mark.parametrize("value", [b"", b"{", b"\xff", b"[]", b'{"Service":"web"}', b'{"Unknown":1}'])
def test_bytes_that_are_no_instance_are_refused(value: bytes) -> None:
    with pytest.raises(Corrupt):
        values.read_instance("mesh/v1/services/web/a/web-1", value)


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_refused_and_nothing_else_happens(value: bytes) -> None:
    for read in (values.read_instance, values.read_node):
        with pytest.raises(Corrupt):
            read("mesh/v1/services/web/a/web-1", value)


def test_a_host_is_read_as_it_was_written() -> None:
    host = made.node()
    assert values.read_node(keys.node("a"), values.write(host)) == host


@pytest.mark.parametrize(
    "host",
    [
        Node(name="b", address="10.0.0.1", inbound_port=1),
        Node(name="a", address="nowhere", inbound_port=1),
        Node(name="a", address="10.0.0.1", inbound_port=0),
        Node(name="a", address="10.0.0.1", inbound_port=1, version="1\n2"),
    ],
)
def test_a_host_with_unsafe_content_is_refused(host: Node) -> None:
    with pytest.raises(Corrupt, match="mesh/v1/nodes/a"):
        values.read_node(keys.node("a"), values.write(host))


def test_a_host_name_in_place_of_an_address_is_allowed_for_the_app() -> None:
    known = msgspec.structs.replace(made.instance(), address="app.example.org")
    assert isinstance(values.read_instance(made.key(known), values.write(known)), Instance)
