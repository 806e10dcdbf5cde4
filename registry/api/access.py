"""Who may do what over HTTP: one table of routes, one of rights, and a pure decision. No I/O.

The API never lends the rights of `meshd`: a caller has what its socket, certificate or token gives it (security.md
class 43). Rights add up: an operator's token on a joined host's connection has what the host has, and policy.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from registry import keys


class Action(StrEnum):
    """What a route does, as far as rights are concerned; `decide` says what its target is."""

    STATUS = "status"  # no target
    CATALOG = "catalog"  # no target
    AGENT_READ = "agent-read"  # no target
    REGISTER = "register"  # target: the service
    KV_READ = "kv-read"  # target: a key, or a prefix (then each key is decided again)
    KV_WRITE = "kv-write"  # target: a key
    SESSION_READ = "session-read"  # no target
    SESSION_CREATE = "session-create"  # no target
    SESSION_WRITE = "session-write"  # target: the node that owns the session
    TXN = "txn"  # no target: each of its operations is decided as KV_READ or KV_WRITE


Kind = Literal["admin", "local", "node", "operator", "anonymous"]


@dataclass(frozen=True)
class Route:
    """One row: `peer` routes are also served to other hosts on 15444, under the rights of a node."""

    method: str
    path: str
    action: Action
    peer: bool = False

    @property
    def name(self) -> str:
        return f"{self.method} {self.path}"


ROUTES = (
    Route("GET", "/v1/status/leader", Action.STATUS, peer=True),
    Route("GET", "/v1/status/peers", Action.STATUS, peer=True),
    Route("GET", "/v1/catalog/datacenters", Action.STATUS, peer=True),
    Route("GET", "/v1/agent/self", Action.STATUS),
    Route("GET", "/v1/agent/members", Action.STATUS),
    Route("GET", "/v1/agent/services", Action.AGENT_READ),
    Route("GET", "/v1/agent/service/{id}", Action.AGENT_READ),
    Route("GET", "/v1/agent/checks", Action.AGENT_READ),
    Route("GET", "/v1/agent/health/service/name/{name}", Action.AGENT_READ),
    Route("GET", "/v1/agent/health/service/id/{id}", Action.AGENT_READ),
    Route("PUT", "/v1/agent/service/register", Action.REGISTER),
    Route("PUT", "/v1/agent/service/deregister/{id}", Action.REGISTER),
    Route("PUT", "/v1/agent/service/maintenance/{id}", Action.REGISTER),
    Route("PUT", "/v1/agent/check/register", Action.REGISTER),
    Route("PUT", "/v1/agent/check/deregister/{id}", Action.REGISTER),
    Route("PUT", "/v1/agent/check/pass/{id}", Action.REGISTER),
    Route("PUT", "/v1/agent/check/warn/{id}", Action.REGISTER),
    Route("PUT", "/v1/agent/check/fail/{id}", Action.REGISTER),
    Route("PUT", "/v1/agent/check/update/{id}", Action.REGISTER),
    Route("GET", "/v1/catalog/services", Action.CATALOG, peer=True),
    Route("GET", "/v1/catalog/service/{name}", Action.CATALOG, peer=True),
    Route("GET", "/v1/catalog/nodes", Action.CATALOG, peer=True),
    Route("GET", "/v1/catalog/node/{node}", Action.CATALOG, peer=True),
    Route("GET", "/v1/health/service/{name}", Action.CATALOG, peer=True),
    Route("GET", "/v1/health/checks/{name}", Action.CATALOG, peer=True),
    Route("GET", "/v1/health/node/{node}", Action.CATALOG, peer=True),
    Route("GET", "/v1/health/state/{state}", Action.CATALOG, peer=True),
    Route("GET", "/v1/kv/{key:.*}", Action.KV_READ, peer=True),
    Route("PUT", "/v1/kv/{key:.*}", Action.KV_WRITE, peer=True),
    Route("DELETE", "/v1/kv/{key:.*}", Action.KV_WRITE, peer=True),
    Route("PUT", "/v1/txn", Action.TXN, peer=True),
    Route("PUT", "/v1/session/create", Action.SESSION_CREATE, peer=True),
    Route("PUT", "/v1/session/renew/{id}", Action.SESSION_WRITE, peer=True),
    Route("PUT", "/v1/session/destroy/{id}", Action.SESSION_WRITE, peer=True),
    Route("GET", "/v1/session/info/{id}", Action.SESSION_READ, peer=True),
    Route("GET", "/v1/session/list", Action.SESSION_READ, peer=True),
    Route("GET", "/v1/session/node/{node}", Action.SESSION_READ, peer=True),
)


@dataclass(frozen=True)
class Grant:
    """One row of the host's `Register`: these uids may register these services (`*`: all)."""

    uids: frozenset[int]
    services: frozenset[str]


@dataclass(frozen=True)
class Access:
    """The host's answer to who may. `open` (dev, demo): whoever reaches the local API administers it.

    `hosts`: names besides `localhost` and own addresses that a Host header may carry. `admin_uids` and `admin_gids`
    administer through the unix socket; over TCP these uids may register any service, and no more than that.
    """

    open: bool = False
    register: tuple[Grant, ...] = ()
    admin_uids: frozenset[int] = frozenset({0})
    admin_gids: frozenset[int] = frozenset()
    hosts: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Caller:
    """Who asks. `uid` when the kernel told it, `node` of a joined host, `operator` the name in a valid token."""

    kind: Literal["admin", "local", "node", "anonymous"]
    uid: int | None = None
    node: str = ""
    operator: str = ""

    @property
    def kinds(self) -> tuple[Kind, ...]:
        return (self.kind, "operator") if self.operator else (self.kind,)


@dataclass(frozen=True)
class Allow:
    pass


@dataclass(frozen=True)
class Refuse:
    status: int
    error: str
    hint: str = ""


Decision = Allow | Refuse
Rule = Callable[[Access, Caller, str], bool]

OPERATOR_KEYS = (keys.POLICY, keys.CONFIG, keys.HISTORY, keys.REVOCATIONS)
PUBLIC_CA = (keys.CA_ROOTS, keys.CA_REPLICAS)


def _yes(_access: Access, _caller: Caller, _target: str) -> bool:
    return True


def _own_service(access: Access, caller: Caller, service: str) -> bool:
    if caller.uid is None:
        return False
    granted = any(caller.uid in g.uids and not g.services.isdisjoint((service, "*")) for g in access.register)
    return granted or caller.uid in access.admin_uids


def _not_ca(_access: Access, _caller: Caller, key: str) -> bool:
    return not key.startswith(keys.CA)


def _mesh_public(_access: Access, _caller: Caller, key: str) -> bool:
    return key.startswith(keys.PREFIX) and (not key.startswith(keys.CA) or key.startswith(PUBLIC_CA))


def _operator_key(_access: Access, caller: Caller, key: str) -> bool:
    # outside mesh/v1/ only on the operator's own host: other hosts' connections carry the mesh alone
    return key.startswith(OPERATOR_KEYS) or (caller.kind != "node" and not key.startswith(keys.PREFIX))


def _own_key(_access: Access, caller: Caller, key: str) -> bool:
    if key in (keys.lease(caller.node), keys.node(caller.node), keys.status(caller.node)):
        return True
    segments = key.removeprefix(keys.SERVICES).split("/")
    return key.startswith(keys.SERVICES) and len(segments) == 3 and segments[1] == caller.node


def _own_session(_access: Access, caller: Caller, owner: str) -> bool:
    return caller.node == owner


# Whom an action is open to, and under which condition; a kind that is not named is refused.
RIGHTS: Mapping[Action, Mapping[Kind, Rule]] = {
    Action.STATUS: {"admin": _yes, "local": _yes, "operator": _yes, "node": _yes},
    Action.CATALOG: {"admin": _yes, "local": _yes, "operator": _yes, "node": _yes},
    Action.AGENT_READ: {"admin": _yes, "local": _yes},
    Action.REGISTER: {"admin": _yes, "local": _own_service},
    Action.KV_READ: {"admin": _yes, "local": _not_ca, "operator": _yes, "node": _mesh_public},
    Action.KV_WRITE: {"admin": _yes, "operator": _operator_key, "node": _own_key},
    Action.SESSION_READ: {"admin": _yes, "local": _yes, "operator": _yes, "node": _yes},
    Action.SESSION_CREATE: {"admin": _yes, "operator": _yes, "node": _yes},
    Action.SESSION_WRITE: {"admin": _yes, "operator": _yes, "node": _own_session},
    Action.TXN: {"admin": _yes, "local": _yes, "operator": _yes, "node": _yes},
}

HINTS: Mapping[Action, str] = {
    Action.REGISTER: "the host's configuration says who may register what: Register: [{Uids: [1000], Services: [web]}]",
    Action.KV_WRITE: "send an operator's token in X-Consul-Token (meshctl token create --operator NAME), or use"
    " api.sock of the registry's host as root or group meshd",
    Action.KV_READ: "keys of the authority are read through api.sock as root or group meshd",
    Action.SESSION_WRITE: "a session belongs to the host that made it",
    Action.SESSION_CREATE: "send an operator's token in X-Consul-Token, or use api.sock as root or group meshd",
}

ALLOW = Allow()


def decide(access: Access, caller: Caller, action: Action, target: str = "") -> Decision:
    """Whether `caller` may do `action` on `target`. A joined host's rights never widen with `open`."""
    if access.open and caller.kind == "local":
        return ALLOW
    rights = RIGHTS[action]
    for kind in caller.kinds:
        rule = rights.get(kind)
        if rule is not None and rule(access, caller, target):
            return ALLOW
    if caller.kind == "anonymous":
        return Refuse(403, "a certificate of a joined host is needed", "join this host first: meshctl token create")
    what = f" {target}" if target else ""
    return Refuse(403, f"Permission denied: {describe(caller)} may not {action}{what}", HINTS.get(action, ""))


def describe(caller: Caller) -> str:
    """For errors and logs: `uid 1000`, `node b`, with `operator ana` where a token was sent."""
    who = f"node {caller.node}" if caller.kind == "node" else "this caller"
    if caller.uid is not None:
        who = f"uid {caller.uid}"
    return f"operator {caller.operator} ({who})" if caller.operator else who
