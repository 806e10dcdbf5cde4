"""Instances and hosts in the shapes of Consul's agent, catalogue and health answers. Pure.

https://developer.hashicorp.com/consul/api-docs/health, /catalog, /agent; keys and their order as 1.8 sends them.
What the mesh does not have (segments, proxies of Consul's own) has Consul's empty value.
"""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from registry.model import Check, CheckResult, Health, Instance, Node

Json = dict[str, Any]

NAMESPACE = uuid.UUID("8f7d5a35-3c1f-5e6b-9a53-0b6b61b2f1c4")  # of node ids: stable, made from the node's name
SERF = "serfHealth"
MAINTENANCE = "_service_maintenance:"
NO_DEFINITION: Mapping[str, object] = {
    "Interval": "0s",
    "Timeout": "0s",
    "DeregisterCriticalServiceAfter": "0s",
    "HTTP": "",
    "Header": None,
    "Method": "",
    "Body": "",
    "TLSSkipVerify": False,
    "TCP": "",
}
ORDER: tuple[Health, ...] = ("passing", "warning", "critical")


@dataclass(frozen=True)
class Picture:
    """What the views are made from. `index`: the one that the answer carries. `alive`: nodes that hold a lease."""

    index: int
    datacenter: str
    instances: Sequence[Instance] = ()
    nodes: dict[str, Node] = field(default_factory=dict)
    alive: frozenset[str] = frozenset()

    def node(self, name: str) -> Json:
        """The host as Consul's catalogue shows a node; of one that is not joined only the name is known."""
        address = self.address(name)
        meta = self.nodes[name].meta if name in self.nodes else {}
        return {
            "ID": node_id(name),
            "Node": name,
            "Address": address,
            "Datacenter": self.datacenter,
            "TaggedAddresses": {f"{net}{kind}": address for net in ("lan", "wan") for kind in ("", _family(address))},
            "Meta": {"consul-network-segment": "", **meta},
            "CreateIndex": self.index,
            "ModifyIndex": self.index,
        }

    def address(self, name: str) -> str:
        if name in self.nodes:
            return self.nodes[name].address
        return next((i.inbound.address for i in self.instances if i.node == name and i.inbound), "")

    def names(self) -> list[str]:
        return sorted({*self.nodes, *(i.node for i in self.instances)})

    def service(self, instance: Instance) -> Json:
        return {
            "ID": instance.id,
            "Service": instance.service,
            "Tags": list(instance.tags),
            "Address": instance.address,
            "Meta": dict(instance.meta),
            "Port": instance.port,
            "Weights": _weights(instance),
            "EnableTagOverride": False,
            "Proxy": {"MeshGateway": {}, "Expose": {}},
            "Connect": {},
            "CreateIndex": self.index,
            "ModifyIndex": self.index,
        }

    def catalog_service(self, instance: Instance) -> Json:
        node = self.node(instance.node)
        return {
            **{name: node[name] for name in ("ID", "Node", "Address", "Datacenter", "TaggedAddresses")},
            "NodeMeta": node["Meta"],
            "ServiceKind": "",
            "ServiceID": instance.id,
            "ServiceName": instance.service,
            "ServiceTags": list(instance.tags),
            "ServiceAddress": instance.address,
            "ServiceWeights": _weights(instance),
            "ServiceMeta": dict(instance.meta),
            "ServicePort": instance.port,
            "ServiceEnableTagOverride": False,
            "ServiceProxy": {"MeshGateway": {}, "Expose": {}},
            "ServiceConnect": {},
            "CreateIndex": self.index,
            "ModifyIndex": self.index,
        }

    def serf(self, node: str) -> Json:
        """The host's own check: it holds its lease. Consul's clients know this check by this name."""
        alive = node in self.alive
        output = "Agent alive and reachable" if alive else "the host's lease is gone: its meshd does not renew it"
        return {
            "Node": node,
            "CheckID": SERF,
            "Name": "Serf Health Status",
            "Status": "passing" if alive else "critical",
            "Notes": "",
            "Output": output,
            "ServiceID": "",
            "ServiceName": "",
            "ServiceTags": [],
            "Type": "",
            "Definition": {},
            "CreateIndex": self.index,
            "ModifyIndex": self.index,
        }

    def checks(self, instance: Instance) -> list[Json]:
        results = {result.check_id: result for result in instance.results}
        found = [check_view(instance, c, results.get(c.check_id), self.index) for c in instance.checks]
        if instance.state == "maintenance":
            found.append(maintenance(instance, self.index))
        return found

    def entry(self, instance: Instance) -> Json:
        """One element of /v1/health/service."""
        checks = [self.serf(instance.node), *self.checks(instance)]
        return {"Node": self.node(instance.node), "Service": self.service(instance), "Checks": checks}


def node_id(name: str) -> str:
    """A UUID for clients that want one; the mesh's own name of a host is its name."""
    return str(uuid.uuid5(NAMESPACE, name))


def check_view(instance: Instance, check: Check, result: CheckResult | None, index: int = 0) -> Json:
    return {
        "Node": instance.node,
        "CheckID": check.check_id,
        "Name": check.name,
        "Status": result.status if result is not None else check.status,
        "Notes": check.notes,
        "Output": result.output if result is not None else "",
        "ServiceID": instance.id,
        "ServiceName": instance.service,
        "ServiceTags": list(instance.tags),
        "Type": kind(check),
        "Definition": {},
        "CreateIndex": index,
        "ModifyIndex": index,
    }


def kind(check: Check) -> str:
    """Consul's word for what a check does."""
    return "http" if check.http else "tcp" if check.tcp else "grpc" if check.grpc else "ttl"


def maintenance(instance: Instance, index: int = 0) -> Json:
    """The critical check that maintenance shows as."""
    check = Check(
        check_id=f"{MAINTENANCE}{instance.id}", name="Service Maintenance Mode", ttl=1.0, notes=instance.reason
    )
    return check_view(instance, check, None, index) | {"Type": "maintenance"}


def agent_check(view: Json) -> Json:
    """A check as /v1/agent/health shows it: without type, with a definition that says nothing (as 1.8)."""
    return view | {"Type": "", "Definition": dict(NO_DEFINITION)}


def agent_service(instance: Instance) -> Json:
    """An element of /v1/agent/services."""
    return {
        "ID": instance.id,
        "Service": instance.service,
        "Tags": list(instance.tags),
        "Meta": dict(instance.meta),
        "Port": instance.port,
        "Address": instance.address,
        "Weights": _weights(instance),
        "EnableTagOverride": False,
    }


def worst(statuses: Iterable[str]) -> str:
    """passing, warning or critical; nothing is passing."""
    return max(statuses, key=lambda status: ORDER.index(_health(status)), default="passing")


def aggregated(checks: Iterable[Json]) -> str:
    """As `worst`; `maintenance` above all, as Consul's agent reports it."""
    found = list(checks)
    if any(str(check["CheckID"]).startswith(MAINTENANCE) for check in found):
        return "maintenance"
    return worst(check["Status"] for check in found)


def tagged(instances: Iterable[Instance]) -> dict[str, list[str]]:
    """Service names with all tags of their instances."""
    found: dict[str, set[str]] = {}
    for instance in instances:
        found.setdefault(instance.service, set()).update(instance.tags)
    return {name: sorted(tags) for name, tags in sorted(found.items())}


def _health(status: str) -> Health:
    return next((known for known in ORDER if known == status), "critical")


def _weights(instance: Instance) -> Json:
    return {"Passing": instance.weights.passing, "Warning": instance.weights.warning}


def _family(address: str) -> str:
    return "_ipv6" if ":" in address else "_ipv4"
