"""Instances as services of Consul's own catalogue, and any service of that catalogue as an instance. Pure.

What Consul has a field for stands in that field, so that other tools read it: name, id, address, port, tags, meta and
weights; `TaggedAddresses.meshd` is the mTLS port; one check, `meshd:<id>`, is the worst of what meshd checked. The
rest travels as JSON in `Meta`, in as many `meshd-NN` values of 512 characters as it takes (Consul's limits: 64 pairs
of 512 characters). A service without them was registered by another tool and joins the mesh as it is.
https://developer.hashicorp.com/consul/api-docs/agent/service
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from registry import keys
from registry.errors import Corrupt, TooLarge
from registry.model import (
    ADOPTED,
    Address,
    Check,
    CheckResult,
    Health,
    Instance,
    Mesh,
    Struct,
    Upstream,
    Weights,
)

PAIRS = 64  # Consul's limit of pairs in Meta
PIECE = 512  # characters of a value
CARRIED = re.compile(r"meshd-[0-9]{2}\Z")
TAGGED = "meshd"
CHECK = "meshd:"  # and the instance's id
TTL = "87600h"  # ten years: meshd says when the state changes, and its own death is no state of the app
OURS = "meshd: "  # begins the reason of a maintenance that meshd has switched on
MAINTENANCE = "_service_maintenance:"
NODE_MAINTENANCE = "_node_maintenance"
MAX_OUTPUT = 4096
SHORT_OUTPUT = 160  # characters of a check's output where all of it does not fit
ITSELF = "consul"  # the servers' own service
WORSE: Mapping[Health, int] = {"passing": 0, "warning": 1, "critical": 2}


class Carried(Struct, frozen=True, kw_only=True):
    """What Consul has no field for."""

    mesh: Mesh = Mesh()
    checks: tuple[Check, ...] = ()
    results: tuple[CheckResult, ...] = ()
    health: Health = "passing"
    state: str = "active"
    reason: str = ""
    node_meta: dict[str, str] = msgspec.field(default_factory=dict)


class HostPort(msgspec.Struct, frozen=True, rename="pascal"):
    address: str = ""
    port: int = 0


class NodeRow(msgspec.Struct, frozen=True):
    """`Node` of /v1/health/service."""

    Node: str
    Address: str = ""
    Meta: dict[str, str] | None = None


class ServiceRow(msgspec.Struct, frozen=True):
    ID: str
    Service: str
    Tags: list[str] | None = None
    Address: str = ""
    TaggedAddresses: dict[str, HostPort] | None = None
    Meta: dict[str, str] | None = None
    Port: int = 0
    weights: Weights | None = msgspec.field(default=None, name="Weights")
    Kind: str = ""


class CheckRow(msgspec.Struct, frozen=True):
    CheckID: str
    Status: str = "critical"
    Output: str = ""
    Notes: str = ""
    ServiceID: str = ""


class HealthRow(msgspec.Struct, frozen=True):
    """An element of /v1/health/service/<name>: the checks are the service's and the node's."""

    Node: NodeRow
    Service: ServiceRow
    Checks: list[CheckRow] | None = None


# ---- instance -> Consul ---------------------------------------------------------------------------------------------


def service(instance: Instance) -> dict[str, Any]:
    """The body of /v1/agent/service/register, without a check. Raises TooLarge."""
    found: dict[str, Any] = {
        "Name": instance.service,
        "ID": instance.id,
        "Tags": list(instance.tags),
        "Address": instance.address,
        "Port": instance.port,
        "Meta": {**instance.meta, **_packed(instance)},
        "Weights": {"Passing": instance.weights.passing, "Warning": instance.weights.warning},
    }
    if instance.inbound is not None:
        found["TaggedAddresses"] = {TAGGED: {"Address": instance.inbound.address, "Port": instance.inbound.port}}
    return found


def status(instance: Instance) -> tuple[Health, str]:
    """Of meshd's check at Consul: the instance's health, and what its failing checks say."""
    said = [f"{one.check_id}: {one.output}" for one in instance.results if one.status != "passing"]
    return instance.health, "\n".join(said)[:MAX_OUTPUT]


def agent_body(instance: Instance) -> dict[str, Any]:
    """For the local agent. An instance without checks gets none: there is nothing to say."""
    health, _ = status(instance)
    check = {"CheckID": CHECK + instance.id, "Name": "meshd", "TTL": TTL, "Status": health}
    return service(instance) | ({"Check": check} if instance.checks else {})


def catalog_body(instance: Instance, node_address: str) -> dict[str, Any]:
    """For /v1/catalog/register, with the checks that follow from the instance."""
    body = service(instance)
    health, output = status(instance)
    own = {"Node": instance.node, "ServiceID": instance.id}
    checks = []
    if instance.checks:
        checks.append({**own, "CheckID": CHECK + instance.id, "Name": "meshd", "Status": health, "Output": output})
    if instance.state != "active":
        notes = {"Name": "Service Maintenance Mode", "Status": "critical", "Notes": maintenance_reason(instance)}
        checks.append({**own, "CheckID": MAINTENANCE + instance.id, **notes})
    return {
        "Node": instance.node,
        "Address": node_address,
        "NodeMeta": {"external-source": "meshd"},
        "Service": {"Service": body.pop("Name"), **body},
        "Checks": checks,
    }


def adopted_body(found: Mapping[str, Any], mesh: Mesh, inbound: Address | None) -> dict[str, Any]:
    """Another tool's registration, as its agent shows it, with the mesh's part added; `inbound` None: taken out."""
    meta = {key: value for key, value in (found["Meta"] or {}).items() if key != ADOPTED and not CARRIED.match(key)}
    tagged = {key: value for key, value in (found.get("TaggedAddresses") or {}).items() if key != TAGGED}
    if inbound is not None:
        tagged[TAGGED] = {"Address": inbound.address, "Port": inbound.port}
        plain = Instance(service="-", node="-", id=found["ID"], address="-", port=1, meta=meta, mesh=mesh)
        meta = {**meta, ADOPTED: "true", **_packed(plain)}
    kept = {key: found[key] for key in ("ID", "Tags", "Address", "Port", "Weights", "EnableTagOverride")}
    return {"Name": found["Service"], **kept, "Meta": meta, "TaggedAddresses": tagged}


def sidecar_upstreams(services: Iterable[Mapping[str, Any]], service_id: str) -> tuple[Upstream, ...]:
    """What the sidecar of a service declares (`Connect.SidecarService`), of all services of an agent."""
    proxies = [one.get("Proxy") or {} for one in services if one.get("Kind") == "connect-proxy"]
    rows = [row for proxy in proxies if proxy.get("DestinationServiceID") == service_id for row in _rows(proxy)]
    return tuple(
        Upstream(
            service=row["DestinationName"],
            local_bind_port=row["LocalBindPort"],
            local_bind_address=row.get("LocalBindAddress") or "",
        )
        for row in rows
        if row.get("DestinationType") in ("service", "", None)
        and keys.valid_name(row.get("DestinationName", ""))
        and row.get("LocalBindPort")
    )


def _rows(proxy: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return proxy.get("Upstreams") or []


def maintenance_reason(instance: Instance) -> str:
    return OURS + (f"{instance.state}: {instance.reason}" if instance.reason else instance.state)


def _packed(instance: Instance) -> dict[str, str]:
    room = PAIRS - 1 - len(instance.meta)
    for results in (instance.results, tuple(map(_short, instance.results))):
        carried = Carried(
            mesh=instance.mesh,
            checks=instance.checks,
            results=results,
            health=instance.health,
            state=instance.state,
            reason=instance.reason,
            node_meta=instance.node_meta,
        )
        text = json.dumps(msgspec.to_builtins(carried), separators=(",", ":"))  # ASCII: Consul counts bytes
        pieces = [text[start : start + PIECE] for start in range(0, len(text), PIECE)]
        if len(pieces) <= room:
            return {f"meshd-{number:02}": piece for number, piece in enumerate(pieces)}
    raise TooLarge(f"{instance.key}: its metadata and checks do not fit into Consul's {PAIRS} pairs of {PIECE} bytes")


def _short(result: CheckResult) -> CheckResult:
    return msgspec.structs.replace(result, output=result.output[:SHORT_OUTPUT])


# ---- Consul -> instance ---------------------------------------------------------------------------------------------


def is_ours(row: HealthRow) -> bool:
    """Whether some meshd registered it."""
    return any(CARRIED.match(key) for key in row.Service.Meta or {})


def maintenance(row: HealthRow) -> CheckRow | None:
    """The check that is Consul's maintenance mode, of the service or its node."""
    wanted = (MAINTENANCE + row.Service.ID, NODE_MAINTENANCE)
    return next((check for check in row.Checks or () if check.CheckID in wanted), None)


def instance(row: HealthRow) -> Instance | None:
    """None for what takes no requests: sidecars, Consul itself, services without a port. Raises Corrupt."""
    found = row.Service
    if found.Kind or found.Service == ITSELF or not found.Port:
        return None
    if is_ours(row):
        return _own(row)
    return _foreign(row)


def _own(row: HealthRow) -> Instance:
    """Its meshd's word on its health, and that of further checks which somebody gave the service at Consul.

    Checks of the node say nothing of the instance: for them there is the host's lease.
    """
    found = row.Service
    meta = found.Meta or {}
    checks = [one for one in row.Checks or () if one.ServiceID and _is_foreign_check(one, found.ID)]
    try:
        text = "".join(meta[key] for key in sorted(filter(CARRIED.match, meta)))
        carried = msgspec.json.decode(text.encode(), type=Carried)
    except msgspec.DecodeError as error:
        raise Corrupt(f"service {found.ID} on {row.Node.Node}: its meshd metadata: {error}") from error
    state, reason = carried.state, carried.reason
    switched = maintenance(row)
    if state == "active" and switched is not None:
        state, reason = "maintenance", printable(switched.Notes)
    tagged = (found.TaggedAddresses or {}).get(TAGGED)
    return Instance(
        service=name(found.Service),
        node=name(row.Node.Node),
        id=name(found.ID),
        address=found.Address or row.Node.Address,
        port=found.Port,
        tags=tuple(found.Tags or ()),
        meta={key: value for key, value in meta.items() if not CARRIED.match(key)},
        node_meta=carried.node_meta,
        weights=found.weights or Weights(),
        mesh=carried.mesh,
        checks=carried.checks,
        results=_results(checks) if ADOPTED in meta else carried.results,
        health=_worst([carried.health, *map(_health, checks)]),
        state=_state(state),
        reason=reason,
        inbound=Address(address=tagged.address, port=tagged.port) if tagged is not None else None,
    )


def _foreign(row: HealthRow) -> Instance:
    found = row.Service
    checks = [check for check in row.Checks or () if _is_foreign_check(check, found.ID)]
    switched = maintenance(row)
    return Instance(
        service=name(found.Service),
        node=name(row.Node.Node),
        id=name(found.ID),
        address=found.Address or row.Node.Address,
        port=found.Port,
        tags=tuple(found.Tags or ()),
        meta=found.Meta or {},
        node_meta=row.Node.Meta or {},
        weights=found.weights or Weights(),
        results=_results(checks),
        health=_worst(map(_health, checks)),
        state="active" if switched is None else "maintenance",
        reason="" if switched is None else printable(switched.Notes),
    )


def _results(checks: Iterable[CheckRow]) -> tuple[CheckResult, ...]:
    return tuple(
        CheckResult(check_id=check.CheckID, status=_health(check), output=check.Output[:MAX_OUTPUT])
        for check in sorted(checks, key=lambda check: check.CheckID)
    )


def _is_foreign_check(check: CheckRow, service_id: str) -> bool:
    return check.CheckID not in (CHECK + service_id, MAINTENANCE + service_id, NODE_MAINTENANCE)


def _health(check: CheckRow) -> Health:
    known: Mapping[str, Health] = {"passing": "passing", "warning": "warning"}
    return known.get(check.Status, "critical")


def _worst(found: Iterable[Health]) -> Health:
    return max(found, key=WORSE.__getitem__, default="passing")


def _state(text: str) -> Any:
    return text if text in ("withdrawn", "maintenance") else "active"


def printable(text: str) -> str:
    """Consul takes any text as a reason; ours is shown in logs and headers."""
    return "".join(char if char.isprintable() else " " for char in text)


def name(text: str) -> str:
    """A name of Consul's in the mesh's alphabet: as it is where it fits, else marked with its hash."""
    if keys.valid_name(text):
        return text
    plain = re.sub(r"[^A-Za-z0-9_-]+", "-", text)[:100].strip("-")
    return f"{plain}-{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:12]}"


def rows_of_nodes(nodes: Sequence["DumpNode"]) -> list[HealthRow]:
    """The rows that /v1/health/service would give for each service of a dump."""
    found = []
    for node in nodes:
        about = NodeRow(node.Node, node.Address, node.Meta)
        for one in node.Services or ():
            checks = [check for check in node.Checks or () if check.ServiceID in ("", one.ID)]
            found.append(HealthRow(about, one, checks))
    return found


class DumpNode(msgspec.Struct, frozen=True):
    """An element of /v1/internal/ui/nodes: a node with all its services and checks."""

    Node: str
    Address: str = ""
    Meta: dict[str, str] | None = None
    Services: list[ServiceRow] | None = None
    Checks: list[CheckRow] | None = None
