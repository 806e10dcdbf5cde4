"""The answers of `/v1/mesh/*`: the contract between the admin routes and `meshctl` (both sides import it).

Routes (on 15500 and api.sock, mounted into the Consul-compatible app):

    GET    /v1/mesh/status                              Status
    GET    /v1/mesh/services                            list[ServiceRow]
    GET    /v1/mesh/services/{name}                     ServiceView (404 unknown)
    POST   /v1/mesh/apply                               body: YAML or JSON, one or several documents; ?dry_run=1
                                                        -> ApplyResult (400 with problems: nothing was written)
    GET    /v1/mesh/documents                           list[DocumentRow]
    GET    /v1/mesh/documents/{kind}/{name}             raw text of the stored document, header X-Meshd-Version
    DELETE /v1/mesh/documents/{kind}/{name}             {"index": int}
    POST   /v1/mesh/delete                              body DeleteRequest -> {"index": int} (404: nothing was deleted)
    POST   /v1/mesh/explain                             body policies.compiled.ExplainRequest -> Explanation
    GET    /v1/mesh/certs                               list[CertRow]
    GET    /v1/mesh/proxy/config                        policies.compiled.Config (from the proxy's own Dump)
    GET    /v1/mesh/proxy/stats                         policies.compiled.Stats (from a Scrape)
    GET    /v1/mesh/settings                            the host's settings in force (as /status of the admin port)
    GET    /v1/mesh/roots                               {"trust_domain", "roots": [{"hash", "subject", "not_after"}]}
    POST   /v1/mesh/tokens                              body TokenRequest -> TokenAnswer (ca role only, else 409)
    GET    /v1/mesh/registries                          list[RegistryRow]
    GET    /v1/mesh/registries/diff                     ?a=NAME&b=NAME -> RegistryDiff (404: no such registry)
    GET    /v1/mesh/registries/placement/{name}         ServicePlacement of a service
    POST   /v1/mesh/registries/placement/{name}         body {"registries": [names]} -> ApplyResult
    POST   /v1/mesh/registry/adopt                      Adopted (believe the store as it is; ends every hold)
    POST   /v1/mesh/revocations                         body {"identity"|"serial", "reason"} -> {"index": int}

Errors everywhere: {"error", "field", "hint"} with the HTTP status of `registry.api`.
"""

from typing import Literal

import msgspec


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """Base: plain snake_case JSON."""


class ProblemRow(Shape, frozen=True, kw_only=True):
    """One problem of one document, as operators read it. `document` is `<kind>/<name>`."""

    document: str
    reason: str
    path: str = ""
    line: int | None = None
    hint: str = ""
    refused: bool = True  # False: a warning; the document is in force


class NodeRow(Shape, frozen=True, kw_only=True):
    """A joined host. `in_force`/`rejected`: what its proxy status says; `alive`: its lease exists."""

    name: str
    address: str
    alive: bool
    version: str
    roles: tuple[str, ...] = ()
    update: int = 0
    rejected: tuple[str, ...] = ()


class ProxyState(Shape, frozen=True, kw_only=True):
    """The local proxy as meshd sees it."""

    connected: bool
    pid: int = 0
    generation: int = 0
    version: str = ""
    update: int = 0
    reattached: bool = False


class SnapshotState(Shape, frozen=True, kw_only=True):
    """The saved snapshot. `state`: none, saved, serving (in force: the registry was silent at the start), refused, too
    old (both: not used, `reason` says why). `age`: seconds since the registry was heard by then; -1: not known."""

    state: str = "none"
    age: float = -1.0
    reason: str = ""


class RegistryState(Shape, frozen=True, kw_only=True):
    """`last_event_age` seconds since the registry last gave a sign of life; `reachable` false while it is lost.

    `last_contact`: seconds by which the server that answers may be behind its leader, -1: none of several servers;
    `led` false: it knows no leader, reads may be old and writes fail.
    `foreign`: why the store is not believed (wiped, restored, another's); `held`: by prefix, why keys that it does
    not list stay in force; `braked`: by service, instances in use although too many vanished at once; `damped`: by
    service, instances held back because they flap; `suspect`: by service, instances that nobody vouches for;
    `reconciled`: keys that a watch had missed and a listing has made good.
    """

    kind: str
    reachable: bool
    last_event_age: float
    index: int
    last_contact: float = -1.0
    led: bool = True
    snapshot: SnapshotState = SnapshotState()
    store_id: str = ""
    foreign: str = ""
    held: dict[str, str] = {}
    braked: dict[str, int] = {}
    damped: dict[str, int] = {}
    suspect: dict[str, int] = {}
    reconciled: int = 0


class Status(Shape, frozen=True, kw_only=True):
    """`meshctl status`."""

    node: str
    version: str
    ready: bool
    not_ready: tuple[str, ...]
    trust_domain: str
    registry: RegistryState
    proxy: ProxyState
    nodes: tuple[NodeRow, ...]
    services: int
    endpoints: int
    documents: int
    problems: tuple[ProblemRow, ...]
    warnings: tuple[str, ...] = ()


class ServiceRow(Shape, frozen=True, kw_only=True):
    """One line of `meshctl services`."""

    name: str
    protocol: str
    passing: int
    warning: int
    critical: int
    suspect: int
    draining: int
    ejected: int
    damped: int = 0


class EndpointRow(Shape, frozen=True, kw_only=True):
    """An instance as this host sees it."""

    name: str
    node: str
    address: str
    inbound: str
    state: Literal["passing", "warning", "critical", "suspect", "draining", "damped"]
    ejected: bool
    subsets: tuple[str, ...]
    tags: tuple[str, ...]
    ewma_ms: float
    output: str  # of its failing checks; why it is damped
    proof: str = ""  # of a suspect: was a handshake with its identity good lately? good, bad, unknown


class Setting(Shape, frozen=True, kw_only=True):
    """One effective value and who set it (`default#...` or `kind/name#path@doc_version`)."""

    name: str
    value: str
    origin: str


class RuleRow(Shape, frozen=True, kw_only=True):
    """One rule of the service's routes, in order, with hits of the local proxy."""

    match: str
    action: str
    origin: str
    hits: int


class IntentionRow(Shape, frozen=True, kw_only=True):
    """One source of the service's intentions, in order of precedence."""

    source: str
    action: str
    origin: str


class ServiceView(Shape, frozen=True, kw_only=True):
    """`meshctl service NAME`."""

    name: str
    protocol: str
    endpoints: tuple[EndpointRow, ...]
    settings: tuple[Setting, ...]
    routes: tuple[RuleRow, ...]
    faults: tuple[RuleRow, ...]
    intentions: tuple[IntentionRow, ...]


class DocumentRow(Shape, frozen=True, kw_only=True):
    """`state`: in-force, rejected (last good kept), held (gone from the store, kept), waiting (for the endpoints
    that it leads to), elsewhere (about services that this host neither calls nor hosts)."""

    kind: str
    name: str
    version: int
    digest: str
    state: str


class DeleteRequest(Shape, frozen=True, kw_only=True):
    """`<kind>/<name>` each, deleted on purpose: however many they are, no host holds them."""

    documents: tuple[str, ...]


class Applied(Shape, frozen=True, kw_only=True):
    """One document written by apply; `changed` false: the same text was there already."""

    kind: str
    name: str
    version: int
    digest: str
    changed: bool


class ApplyResult(Shape, frozen=True, kw_only=True):
    """`nodes`: the joined hosts to wait for."""

    applied: tuple[Applied, ...]
    nodes: tuple[str, ...]
    warnings: tuple[ProblemRow, ...] = ()


class Adopted(Shape, frozen=True, kw_only=True):
    """`store_id` as every host will see it; the rest is what this host kept until now and lets go of."""

    store_id: str
    documents: tuple[str, ...] = ()
    held: dict[str, str] = {}
    braked: dict[str, int] = {}


class CertRow(Shape, frozen=True, kw_only=True):
    """A certificate that this host holds. Times RFC 3339."""

    name: str
    spiffe: str
    serial: str
    not_before: str
    not_after: str
    renew_at: str


class TokenRequest(Shape, frozen=True, kw_only=True):
    """kind join: `node` and the `services` that it may host; operator: `name`. `ttl` seconds."""

    kind: Literal["join", "operator"]
    node: str = ""
    services: tuple[str, ...] = ()
    name: str = ""
    ttl: float = 3600.0


class TokenAnswer(Shape, frozen=True, kw_only=True):
    token: str
    expires: str
    root_hash: str


class RegistryRow(Shape, frozen=True, kw_only=True):
    """One line of `meshctl registry list`. `reachable` false: `reason` says why, and the counts are the last known.

    `last_event_age`: seconds since it last gave a sign of life; -1: never.
    """

    name: str
    kind: str
    home: bool
    reachable: bool
    last_event_age: float
    instances: int
    services: int
    reason: str = ""


class DiffRow(Shape, frozen=True, kw_only=True):
    """An instance that two registries do not show alike: in one of them alone, or with these fields differing."""

    service: str
    instance: str
    only: Literal["", "a", "b"] = ""
    fields: tuple[str, ...] = ()


class RegistryDiff(Shape, frozen=True, kw_only=True):
    """`same`: how many instances both show alike."""

    a: str
    b: str
    same: int
    rows: tuple[DiffRow, ...] = ()


class PlacedInstance(Shape, frozen=True, kw_only=True):
    """Registries by name: where it stands, where it is on its way out, and where another tool registered it."""

    name: str
    node: str
    standing: tuple[str, ...] = ()
    withdrawn: tuple[str, ...] = ()
    foreign: tuple[str, ...] = ()


class ServicePlacement(Shape, frozen=True, kw_only=True):
    """`named`: what its defaults say (`document`: which ones; empty: none), empty: `home`. `registries`: of the host
    that answers. `hosts`: living hosts with their registries, each with why contact is lost; `silent`: the others."""

    service: str
    home: str
    named: tuple[str, ...]
    document: str
    registries: tuple[str, ...]
    instances: tuple[PlacedInstance, ...]
    hosts: dict[str, dict[str, str]]
    silent: tuple[str, ...] = ()
