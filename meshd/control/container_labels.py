"""A container's labels, read into the registration that they ask for. Pure.

The registration goes through the door of the HTTP API, so that labels and requests obey the same rules; what is
refused there is named here by its label.
"""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from meshd.control.container import Binding, Container, ours
from registry import keys
from registry.api import fields, registration
from registry.api.fields import Json, Refused
from registry.api.registration import Registration

META = "meshd.meta."
CHECK = "meshd.check."
TARGETS = ("http", "tcp", "grpc", "ttl")
KNOWN = (
    "meshd.service", "meshd.id", "meshd.port", "meshd.tags", "meshd.protocol", "meshd.upstreams",
    *(CHECK + name for name in (*TARGETS, "interval", "timeout")),
)  # fmt: skip

# The mark of our own registrations: only what carries it is ever withdrawn. In Consul's alphabet for meta keys.
OWNER = "meshd-owner"
OWNED = "docker"
CONTAINER = "meshd-container"

INTERVAL = "10s"
HEALTHCHECK = "HEALTHCHECK"
ENDLESS = "8760h"  # a daemon that is away has not said that a container is ill
WORDS = {"Name": "meshd.service", "ID": "meshd.id", "Port": "meshd.port", "Tags": "meshd.tags", "Meta": META + "*",
         "Mesh.Protocol": "meshd.protocol"}  # fmt: skip


@dataclass(frozen=True)
class Here:
    """This host: where published ports are dialled, and its addresses."""

    loopback: str
    own: frozenset[str]


class Trouble(msgspec.Struct, frozen=True, order=True):
    """What is wrong with a container, by its name. `label` may be empty."""

    container: str
    label: str
    error: str
    hint: str = ""

    def __str__(self) -> str:
        place = f"container {self.container}: " + (f"{self.label}: " if self.label else "")
        return f"{place}{self.error}" + (f" ({self.hint})" if self.hint else "")


def read(container: Container, here: Here) -> Registration | Trouble:
    """The registration of a running container with labels of ours, or why there is none."""
    try:
        return _read(container, here)
    except Refused as refused:
        invalid = refused.invalid
        return Trouble(container.name, label_of(invalid.field), invalid.error, invalid.hint)


def refused_upstreams(container: Container) -> Trouble | None:
    """Only who is on the host's network has upstreams: elsewhere nothing tells for certain who calls.

    A port on the bridge's gateway would be open to every container of that bridge, and source addresses there can be
    forged by whoever has NET_RAW, which Docker gives to all.
    """
    if container.network == "host" or not container.labels.get("meshd.upstreams"):
        return None
    error = "refused: it has a network of its own, where nothing tells for certain who calls; it serves all the same"
    return Trouble(container.name, "meshd.upstreams", error, "run it with --network host")


def label_of(field: str) -> str:
    """`Checks[0].Interval` -> `meshd.check.interval`; what is a label already stays."""
    if field.startswith("Checks["):
        return CHECK + field.rpartition(".")[2].lower() if "." in field else CHECK + "*"
    if field.startswith("Mesh.Upstreams"):
        return "meshd.upstreams"
    if field.startswith(("Meta", "Tags")):
        return WORDS[field[:4]]
    return WORDS.get(field, field)


def _read(container: Container, here: Here) -> Registration:
    labels = {name: value.strip() for name, value in container.labels.items() if ours({name: value})}
    for name in labels:
        if name not in KNOWN and not (name.startswith(META) and name != META):
            raise Refused("no such label", name, fields.nearest(name, KNOWN))
    service = labels.get("meshd.service", "")
    if not service:
        raise Refused("missing", "meshd.service", "the service that the container serves")
    address, port = _place(container, _number(labels, "meshd.port"))
    dialled = address or here.loopback
    mesh: dict[str, Json] = {"Upstreams": _upstreams(labels.get("meshd.upstreams", ""))}
    if labels.get("meshd.protocol"):
        mesh["Protocol"] = labels["meshd.protocol"]
    meta: dict[str, Json] = {name.removeprefix(META): text for name, text in labels.items() if name.startswith(META)}
    tags: list[Json] = [tag.strip() for tag in labels.get("meshd.tags", "").split(",") if tag.strip()]
    body: dict[str, Json] = {
        "Name": service,
        "ID": labels.get("meshd.id") or _id(container),
        "Port": port,
        "Address": address,
        "Tags": tags,
        "Meta": meta | {OWNER: OWNED, CONTAINER: container.short},
        "Checks": _checks(labels, at(dialled, port)) or _own_check(container),
        "Mesh": mesh,
    }
    found = registration.read(body, here.own | {dialled}, None)
    if container.network == "host":
        return found
    mesh_alone = msgspec.structs.replace(found.mesh, upstreams=())  # `refused_upstreams` says why
    return msgspec.structs.replace(found, mesh=mesh_alone)


def _id(container: Container) -> str:
    """Unique on this host, and the same after a restart."""
    return container.name if keys.valid_name(container.name) else container.short


def _number(labels: Mapping[str, str], name: str) -> int:
    text = labels.get(name, "")
    if not text:
        raise Refused("missing", name, "the TCP port that the container listens on")
    if not (text.isascii() and text.isdecimal() and 1 <= int(text[:6]) <= 65535):
        raise Refused(f"{text[:64]!r} is no port", name, "1 to 65535")
    return int(text)


def _place(container: Container, port: int) -> tuple[str, int]:
    """Where the host reaches that port: as published, else on the container's own address. Empty: the host's own."""
    if container.network == "host":
        return "", port
    if container.ports.get(port):
        binding = min(container.ports[port], key=_preference)
        return ("" if _everywhere(binding) else binding.address), binding.port
    if container.address:
        return container.address, port
    if container.network == "shared":
        raise Refused("it shares another container's network", "", "put the labels on that one")
    raise Refused(f"this host does not reach its port {port}", "meshd.port", "publish it, or give it a bridge network")


def _everywhere(binding: Binding) -> bool:
    return binding.address in ("", "0.0.0.0", "::")


def _preference(binding: Binding) -> tuple[bool, bool, str]:
    """IPv4 before IPv6, every address before one."""
    return (":" in binding.address, not _everywhere(binding), binding.address)


def at(address: str, port: int) -> str:
    """`address:port` of a literal, IPv6 in brackets."""
    return f"[{address}]:{port}" if ipaddress.ip_address(address).version == 6 else f"{address}:{port}"


def _checks(labels: Mapping[str, str], place: str) -> list[Json]:
    given = {name: labels[CHECK + name] for name in TARGETS if labels.get(CHECK + name)}
    times: dict[str, Json] = {
        name.title(): labels[CHECK + name] for name in ("interval", "timeout") if labels.get(CHECK + name)
    }
    if times and not given:
        raise Refused("there is no check that it belongs to", CHECK + next(iter(times)).lower(), CHECK + "http")
    found: list[Json] = []
    for name, text in given.items():
        check: dict[str, Json] = {name.upper(): _target(name, text, place)}
        if name != "ttl":
            check = {"Interval": INTERVAL} | times | check
        found.append(check)
    return found


def _own_check(container: Container) -> list[Json]:
    """Its HEALTHCHECK, where labels ask for none: Docker runs it, and its events move the status (`containers`)."""
    return [{"Name": HEALTHCHECK, "TTL": ENDLESS}] if container.health is not None else []


def _target(name: str, text: str, place: str) -> str:
    if name == "ttl":
        return text
    if name == "http":
        if not text.startswith("/"):
            raise Refused(f"{text[:64]!r} is no path", CHECK + name, "like /healthz")
        return f"http://{place}{text}"
    if name == "grpc" and text != "true":
        return f"{place}/{text}"
    if text != "true":
        raise Refused(f"{text[:64]!r} is not true", CHECK + name, "true probes meshd.port")
    return place


def _upstreams(text: str) -> list[Json]:
    """`api:9101,db:9102`: loopback ports that lead to services."""
    found: list[Json] = []
    for one in filter(None, (part.strip() for part in text.split(","))):
        service, _, port = one.rpartition(":")
        if not service:
            raise Refused(f"{one[:64]!r} is no upstream", "meshd.upstreams", "service:port, like api:9101,db:9102")
        number = _number({"meshd.upstreams": port}, "meshd.upstreams")
        found.append({"Service": service, "LocalBindPort": number})
    return found
