"""Host configuration: defaults, precedence, and every fault with its place and a hint."""

from pathlib import Path

import msgspec
import pytest

from meshd.config import ConfigError, Host, Seconds, duration, load, restore, show, source_address
from tests.tools import ROOT

CONSUL = (
    "Node: a\nRegistry: {Kind: consul, Addresses: ['https://10.0.0.9:8501']}\n"
    f"Join: {{Address: '10.0.0.1:15444', TokenFile: /t, RootHash: {'a' * 64}}}\n"
)
MINIMAL = "Node: a\nRoles: [registry, ca]\n"


def write(folder: Path, text: str) -> Path:
    path = folder / "host.yaml"
    path.write_text(text)
    return path


def faults(folder: Path, text: str, environ: dict[str, str] | None = None, *sets: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(write(folder, text), environ or {}, sets)
    return [str(fault).replace(str(folder) + "/", "") for fault in caught.value.faults]


def test_defaults_are_those_of_the_interface(tmp_path: Path) -> None:
    host = load(write(tmp_path, MINIMAL), {})
    ports = host.ports
    assert (ports.api, ports.forward, ports.inbound, ports.peer, ports.dns, ports.admin) == (
        15500,
        15501,
        15443,
        15444,
        15053,
        15590,
    )
    assert (host.loopback, host.lease_ttl, host.data_dir, host.run_dir) == (
        "127.0.0.1",
        15.0,
        "/var/lib/meshd",
        "/run/meshd",
    )
    assert host.proxy.manage
    assert not host.development
    assert host.advertise_port == 15443


def test_node_defaults_to_the_short_host_name() -> None:
    assert load(None, {}, ["Roles=[registry]"], hostname="vm7.example.org").node == "vm7"


def test_flag_wins_over_environment_over_file(tmp_path: Path) -> None:
    path = write(tmp_path, MINIMAL + "Ports: {Api: 1, Admin: 1, Peer: 1}\nLeaseTTL: 20s\n")
    host = load(path, {"MESHD_PORTS_API": "2", "MESHD_PORTS_ADMIN": "2", "MESHD_LEASETTL": "9s"}, ["Ports.Admin=3"])
    assert (host.ports.peer, host.ports.api, host.ports.admin, host.lease_ttl) == (1, 2, 3, 9.0)


def test_text_settings_from_the_environment_stay_text(tmp_path: Path) -> None:
    assert load(write(tmp_path, MINIMAL), {"MESHD_NODE": "7"}).node == "7"


def test_lists_from_flags_are_yaml(tmp_path: Path) -> None:
    assert load(None, {}, ["Node=a", "Roles=[registry, ca]"]).roles == ("registry", "ca")


def test_variables_of_other_programs_are_left_alone(tmp_path: Path) -> None:
    environ = {"MESHD_API": "x", "MESHD_PROXY_BIN": "y", "HOME": "/"}
    assert load(write(tmp_path, MINIMAL), environ).node == "a"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Nod: a\n", "host.yaml:1: unknown key Nod (did you mean Node?)"),
        (MINIMAL + "Ports:\n  Apo: 1\n", "host.yaml:4: unknown key Ports.Apo (did you mean Api?)"),
        (MINIMAL + "Register:\n- Uids: [1]\n- Uid: [2]\n", "host.yaml:5: unknown key Register[1].Uid"),
        (MINIMAL + "Ports:\n  Api: 70000\n", "host.yaml:4: Ports.Api: Expected `int` <= 65535"),
        (MINIMAL + "LeaseTTL: 10q\n", "host.yaml:3: LeaseTTL: '10q' is no duration; write 15s"),
        (MINIMAL + "LeaseTTL: 1s\n", "host.yaml:3: LeaseTTL: 1 s is out of range (2s to 1h"),
        ("Node: a/b\nRoles: [registry]\n", "host.yaml:1: Node: 'a/b' is no node name"),
        ("Node: a\nNode: b\n", "host.yaml:2: Node is given twice"),
        ("Node: [a\n", "host.yaml:2: no YAML"),
        ("- a\n", "host.yaml:1: the file must be a mapping"),
        ("Node: a\n", "Registry.Kind: sqlite is the embedded registry and needs the role registry"),
        ("Node: a\nRegistry: {Kind: mesh}\n", "host.yaml:2: Registry.Address: missing"),
        ("Node: a\nRegistry: {Kind: zk}\n", "host.yaml:2: Registry.Kind: Invalid enum value 'zk'"),
        ("Node: a\nRegistry: {Kind: etcd}\n", "host.yaml:2: Registry.Addresses: missing"),
        ("Node: a\nRegistry: {Kind: etcd, Address: 'unix:///x'}\n", "'unix:///x' is no address of etcd"),
        ("Node: a\nRegistry: {Kind: etcd, Address: 'http://b', CAFile: /x}\n", "'http://b' is without TLS, but its"),
        ("Node: a\nRegistry: {Kind: etcd, Address: b, KeyFile: /x}\n", "Registry.KeyFile: means nothing without Cert"),
        ("Node: a\nRegistry: {Kind: etcd, Address: b}\n", "Join.Address: missing (address:15444 of the host with"),
        ("Node: a\nRegistry: {Kind: etcd, Address: b, Mode: agent}\n", "Registry.Mode: means nothing with Kind: etcd"),
        ("Node: a\nRoles: [registry, ca]\nRegistry: {Kind: etcd, Address: b}\n", "serves sqlite, not etcd"),
        (MINIMAL + "Registry: {TokenFile: /x}\n", "host.yaml:3: Registry.TokenFile: means nothing with Kind: sqlite"),
        (MINIMAL + "Registry: {Address: 'b:1'}\n", "host.yaml:3: Registry.Address: means nothing with Kind: sqlite"),
        (MINIMAL + "Registry: {Mode: agent}\n", "host.yaml:3: Registry.Mode: means nothing with Kind: sqlite"),
        (CONSUL + "Roles: [registry, ca]\n", "Roles: the role registry serves sqlite, not consul"),
        (CONSUL + "LeaseTTL: 9s\n", "LeaseTTL: 9 s: Consul's sessions take no less than 10 s"),
        (CONSUL.replace("https://", ""), "'10.0.0.9:8501' has no scheme (https://10.0.0.9:8501 or"),
        (CONSUL.replace("Join", "# "), "Join.Address: missing (address:15444 of the host with the role ca"),
        ("Node: a\nRegistry: {Kind: consul}\n", "host.yaml:2: Registry.Addresses: missing"),
        ("Node: a\nRegistry: {Kind: consul, KeyFile: k}\n", "Registry.KeyFile: means nothing without CertFile"),
        ("Node: a\nRegistry: {Kind: consul, Mode: both}\n", "host.yaml:2: Registry.Mode: Invalid enum value 'both'"),
        (MINIMAL + "Registries: [{Nam: x}]\n", "host.yaml:3: unknown key Registries[0].Nam (did you mean Name?)"),
        (MINIMAL + "Registries:\n- {Name: x}\n", "host.yaml:4: Registries[0].Addresses: missing"),
        (
            MINIMAL + "LeaseTTL: 5s\nRegistries: [{Name: x, Kind: consul, Address: 'http://b'}]\n",
            "take no less than 10",
        ),
        (MINIMAL + "Loopback: 10.0.0.1\n", "host.yaml:3: Loopback: 10.0.0.1 is not a loopback address"),
        (MINIMAL + "Advertise: {Address: 127.0.0.1}\n", "host.yaml:3: Advertise.Address: no other host reaches"),
        (MINIMAL + "Advertise: {Address: web.example}\n", "Advertise.Address: 'web.example' is no IP address"),
        (MINIMAL + "Docker: {Enable: true}\n", "host.yaml:3: unknown key Docker.Enable (did you mean Enabled?)"),
        (MINIMAL + "Docker: {Interval: 0s}\n", "host.yaml:3: Docker.Interval: 0 s is out of range"),
        (MINIMAL + "Docker: {Socket: tcp://h:1}\n", "Docker.Socket: 'tcp://h:1' is no path (/var/run/docker.sock)"),
        (MINIMAL + "Join: {Address: 'x:1'}\n", "host.yaml:3: Join: needs Address, TokenFile and RootHash"),
    ],
)
def test_fault_names_place_and_hint(tmp_path: Path, text: str, expected: str) -> None:
    assert any(expected in fault for fault in faults(tmp_path, text)), faults(tmp_path, text)


def test_a_consul_is_used_as_it_is_named(tmp_path: Path) -> None:
    host = load(write(tmp_path, CONSUL), {})
    assert (host.registry.all_addresses, host.registry.mode) == (("https://10.0.0.9:8501",), "")
    assert host.authorities == ("10.0.0.1:15444",), "where it joined is where it asks for certificates"


def test_the_role_ca_alone_goes_with_a_registry_of_its_own_kind(tmp_path: Path) -> None:
    host = load(write(tmp_path, CONSUL.replace("Join", "# ") + "Roles: [ca]\nBind: {Peer: 10.0.0.1}\n"), {})
    assert host.authorities == ("10.0.0.1:15444",)
    assert any("role ca without the role registry" in fault for fault in faults(tmp_path, "Node: a\nRoles: [ca]\n"))


def test_the_example_of_a_host_with_consul_is_one(tmp_path: Path) -> None:
    host = load(ROOT / "deploy" / "consul" / "meshd.yaml", {})
    assert (host.registry.kind, host.registry.mode) == ("consul", "agent")


def test_beside_an_etcd_the_authority_needs_no_registry_and_the_others_ask_it_where_they_joined(tmp_path: Path) -> None:
    registry = "Registry: {Kind: etcd, Addresses: ['https://b:2379'], TokenFile: /t, CAFile: /c}\n"
    first = load(write(tmp_path, "Node: a\nRoles: [ca]\nBind: {Peer: 127.0.0.7}\n" + registry), {})
    assert first.authorities == ("127.0.0.7:15444",)
    join = f"Join: {{Address: 'a:15444', TokenFile: /j, RootHash: {'a' * 64}}}\n"
    assert load(write(tmp_path, "Node: b\n" + registry + join), {}).authorities == ("a:15444",)


def test_all_unknown_keys_are_named_at_once(tmp_path: Path) -> None:
    assert len(faults(tmp_path, "Nod: a\nPort: {}\n")) == 2


def test_faults_of_overrides_name_the_override(tmp_path: Path) -> None:
    assert faults(tmp_path, MINIMAL, {"MESHD_PORT_API": "1"}) == [
        "MESHD_PORT_API: no such setting (did you mean MESHD_PORTS_API?)"
    ]
    assert faults(tmp_path, MINIMAL, {"MESHD_PORTS_API": "x"})[0].startswith("MESHD_PORTS_API: Ports.Api: Expected")
    assert faults(tmp_path, MINIMAL, {}, "Ports.Apy=1") == [
        "--set Ports.Apy: unknown key Ports.Apy (did you mean Ports.Api?)"
    ]
    assert faults(tmp_path, MINIMAL, {}, "Node")[0].startswith("--set Node: no value")


def test_missing_file_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path / "absent.yaml", {})


def test_loopback_may_be_advertised_in_development(tmp_path: Path) -> None:
    text = MINIMAL + "Development: true\nAdvertise: {Address: 127.0.0.2}\n"
    assert load(write(tmp_path, text), {}).advertise.address == "127.0.0.2"


@pytest.mark.parametrize(("text", "seconds"), [("15s", 15), ("200ms", 0.2), ("1.5m", 90), ("2h", 7200), (3, 3)])
def test_durations(text: object, seconds: float) -> None:
    assert duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "s", "1", "-1s", "1 s", True, None, "1.2.3s"])
def test_no_durations(text: object) -> None:
    with pytest.raises(ValueError, match="no duration"):
        duration(text)


def test_settings_are_frozen() -> None:
    with pytest.raises(AttributeError):
        Host().node = "x"  # type: ignore[misc] - the assignment that must fail


def test_source_address_without_a_route_is_empty() -> None:
    # An address family mismatch fails as "no route" does.
    assert source_address("::1") == ""


def test_settings_come_back_from_what_is_shown() -> None:
    """`meshctl doctor` asks a running meshd for them."""
    host = Host(node="a", roles=("registry", "ca"), lease_ttl=Seconds(12.5), services=({"Name": "web"},))
    assert restore(msgspec.json.decode(msgspec.json.encode(dict(show(host))))) == host
