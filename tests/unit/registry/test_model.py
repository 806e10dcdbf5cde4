import msgspec
import pytest

from registry.model import Check, Instance, InstanceKey, Upstream
from tests.unit.registry import made


def test_an_instance_is_named_by_service_host_and_id() -> None:
    assert made.instance().key == InstanceKey("web", "a", "web-1")
    assert str(made.instance().key) == "web/a/web-1"


def test_keys_sort_by_service_then_host_then_id() -> None:
    names = [("web", "a", "2"), ("api", "b", "1"), ("web", "a", "1"), ("api", "a", "9")]
    assert [tuple(str(key).split("/")) for key in sorted(InstanceKey(*name) for name in names)] == sorted(names)


def test_values_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        made.instance().port = 1  # type: ignore[misc]  # that is the point


def test_an_unknown_field_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError, match="Surprise"):
        msgspec.json.decode(b'{"Service":"a","LocalBindPort":1,"Surprise":1}', type=Upstream)


def test_a_check_is_critical_until_it_ran() -> None:
    assert Check(check_id="c").status == "critical"


def test_what_is_left_out_has_its_default() -> None:
    stored = b'{"Service":"web","Node":"a","Id":"1","Address":"10.0.0.1","Port":80}'
    read = msgspec.json.decode(stored, type=Instance)
    assert (read.health, read.state, read.weights.passing, read.mesh.drain_timeout) == ("passing", "active", 1, 30.0)
    assert msgspec.json.encode(read) == stored
