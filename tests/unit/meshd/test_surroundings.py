from pathlib import Path

import pytest

from meshd.config import Host, load
from meshd.placed import ConfigError
from meshd.surroundings import advertised, configured
from tests.unit.meshd.conftest import settings


def test_services_of_the_file_are_read_like_registrations() -> None:
    host = Host(services=({"Name": "web", "Port": 80},))
    assert configured(host, frozenset())[0].id == "web"
    with pytest.raises(ConfigError, match=r"Services\[0\]\.Prot.*did you mean"):
        configured(Host(services=({"Name": "web", "Prot": 80},)), frozenset())


def test_loopback_is_no_address_for_other_hosts(tmp_path: Path) -> None:
    host = load(None, {}, [*settings(tmp_path), "Advertise.Address="])
    assert advertised(host)  # development: loopback where there is no route
    with pytest.raises(ConfigError, match=r"no other host"):
        advertised(load(None, {}, ["Node=a", "Roles=[registry]", "Advertise.Address=127.0.0.1"]))
