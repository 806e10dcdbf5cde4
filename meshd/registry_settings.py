"""`Registry` and `Registries` of the host's configuration: where the mesh's state is kept, and what lies beside it."""

from collections.abc import Sequence
from typing import Literal

import msgspec

from meshd.section import Config, Finding
from registry import keys


class Server(Config, frozen=True, kw_only=True, rename="pascal", forbid_unknown_fields=True):
    """A server of a registry, and how to reach it. Secrets are files.

    `mode` (consul): `agent`, the default, registers with the host's own Consul agent; `agentless` in the catalogue.
    """

    address: str = ""
    addresses: tuple[str, ...] = ()
    token_file: str = ""
    ca_file: str = msgspec.field(default="", name="CAFile")
    cert_file: str = ""
    key_file: str = ""
    mode: Literal["", "agent", "agentless"] = ""

    @property
    def all_addresses(self) -> tuple[str, ...]:
        return ((self.address,) if self.address else ()) + self.addresses


class Registry(Server, frozen=True, kw_only=True, rename="pascal", forbid_unknown_fields=True):
    """The home registry: all of the mesh's state. `mesh`: another meshd's embedded registry, on its port 15444.

    `old_snapshot`: what a start without the registry does with a saved snapshot older than `MaxSnapshotAge`.
    `name`: what service-defaults call it. `merge`: what counts of the registries beside it (`registry.merge`).
    """

    name: str = "home"
    kind: Literal["sqlite", "mesh", "consul", "etcd"] = "sqlite"
    old_snapshot: Literal["serve", "deny"] = "serve"
    merge: Literal["union", "priority"] = "union"


class Further(Server, frozen=True, kw_only=True, rename="pascal", forbid_unknown_fields=True):
    """A registry beside the home one, for instances and leases alone. Hosts of a mesh give it the same name."""

    name: str = ""
    kind: Literal["consul", "etcd"] = "etcd"


def check_server(server: Registry | Further, at: str) -> list[Finding]:
    """What is wrong with a Consul or etcd. `at`: the section's path."""
    found: list[Finding] = []
    members = {
        "consul": "[https://127.0.0.1:8501], the host's Consul agent or servers",
        "etcd": "[https://10.0.0.1:2379, ...], all members of the cluster",
    }
    if not server.all_addresses:
        found.append((f"{at}.Addresses", "missing", members[server.kind]))
    for address in server.all_addresses:
        found += _check_address(server, address, at)
    if server.key_file and not server.cert_file:
        found.append((f"{at}.KeyFile", "means nothing without CertFile", "set both, or one file with both in it"))
    return found


def _check_address(server: Registry | Further, address: str, at: str) -> list[Finding]:
    if server.kind == "consul":
        if address.startswith(("http://", "https://", "unix:///")):
            return []
        return [(f"{at}.Addresses", f"{address!r} has no scheme", f"https://{address} or http://{address}")]
    if "://" in address and not address.startswith(("http://", "https://")):
        return [(f"{at}.Addresses", f"{address!r} is no address of etcd", "host:port, or https://host:port")]
    if address.startswith("http://") and (server.ca_file or server.cert_file):
        return [(f"{at}.Addresses", f"{address!r} is without TLS, but its files are given", "https://...")]
    return []


def check_further(home: Registry, further: Sequence[Further]) -> list[Finding]:
    """Names, and each registry's own settings."""
    found: list[Finding] = []
    if not keys.valid_name(home.name):
        found.append(("Registry.Name", f"{home.name!r} is no name", "letters, digits, `.`, `_` and `-`"))
    if home.merge != "union" and not further:
        found.append(("Registry.Merge", "means nothing without further Registries", "remove it, or name some"))
    known = {home.name}
    for number, one in enumerate(further):
        at = f"Registries[{number}]"
        if not keys.valid_name(one.name):
            found.append((f"{at}.Name", f"{one.name!r} is no name", "the same on all hosts, for example: etcd"))
        elif one.name in known:
            found.append((f"{at}.Name", f"{one.name} is the name of another registry", "each has its own"))
        known.add(one.name)
        if one.kind == "etcd" and one.mode:
            found.append((f"{at}.Mode", "means nothing with Kind: etcd", "remove it, or set Kind: consul"))
        found += check_server(one, at)
    return found
