"""The contract with the proxy: resources as meshd sends them over the control socket.

`meshd/proxy/src/config.rs` holds the same structs for serde (unknown fields refused on both sides); the files in
`tests/golden/` are read by both test suites. Times end in `_ms`; percentages are hundredths of a percent
(0-10000, "per ten thousand"); `origin` is `kind/name#path@doc_version` of the document that says so, or
`default#what` where no document does. Names: an instance is `<service>/<node>/<id>`.

A resource's identity is `<kind>/<name>`; its digest is the first 32 hex digits of SHA-256 over its JSON as sent.
"""

# budget: the whole contract in one file, read side by side with its Rust half.

from typing import Literal

import msgspec

SCHEMA = 1  # grows with every field that an older proxy would not know


class Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Base of everything inside a resource."""


class Resource(Part, frozen=True, kw_only=True, tag_field="kind"):
    """Base of the resources. `name` is unique within the kind."""

    name: str


# ---- matching ---------------------------------------------------------------------------------------------------


class HeaderMatch(Part, frozen=True, kw_only=True):
    """Exactly one of present, exact, prefix, suffix, contains, regex is set. Several lines join with `,`."""

    name: str  # lower case
    present: bool = False
    exact: str | None = None
    prefix: str | None = None
    suffix: str | None = None
    contains: str | None = None
    regex: str | None = None
    invert: bool = False


class QueryMatch(Part, frozen=True, kw_only=True):
    """Exactly one of present, exact, regex is set; compared after percent-decoding."""

    name: str
    present: bool = False
    exact: str | None = None
    regex: str | None = None


class Match(Part, frozen=True, kw_only=True):
    """All that is set must hold. At most one of the three paths; paths are compared in normal form without query."""

    path_exact: str | None = None
    path_prefix: str | None = None
    path_regex: str | None = None  # RE2 syntax, must match the whole path
    case_insensitive: bool = False
    headers: tuple[HeaderMatch, ...] = ()
    query: tuple[QueryMatch, ...] = ()
    methods: tuple[str, ...] = ()


# ---- outbound ---------------------------------------------------------------------------------------------------


class Listener(Resource, frozen=True, kw_only=True, tag="listener"):
    """An upstream port on loopback: connections belong to `instance` and go to `service`.

    name: `<instance>:<service>`.
    """

    address: str
    port: int
    instance: str
    service: str


class Outlier(Part, frozen=True, kw_only=True):
    """Passive ejection: after N failures in a row, for base x times ejected, never more than a share of endpoints."""

    consecutive_failures: int = 5
    base_ejection_ms: int = 30_000
    max_ejection_percent: int = 5_000
    interval_ms: int = 10_000


class Upstream(Part, frozen=True, kw_only=True):
    """How one calling service treats a destination (`service-defaults` UpstreamConfig of the caller)."""

    connect_timeout_ms: int = 1_000
    idle_timeout_ms: int = 60_000
    allow_plaintext: bool = False
    outlier: Outlier = Outlier()
    origin: str = "default#upstream"


class Service(Resource, frozen=True, kw_only=True, tag="service"):
    """A destination. `callers` overrides `upstream` by calling service. protocol: of the service's instances."""

    protocol: Literal["tcp", "http"] = "tcp"
    upstream: Upstream = Upstream()
    callers: dict[str, Upstream] = {}


class Endpoint(Resource, frozen=True, kw_only=True, tag="endpoint"):
    """One instance of a destination, name `<service>/<node>/<id>`.

    `address` is the app's `ip:port`; `inbound` its host's mTLS `ip:port`, None: not meshed (plaintext only).
    State critical and draining get no new requests; suspect ones do until the first failure to connect.
    """

    id: str
    service: str
    node: str
    address: str
    inbound: str | None = None
    sni: str = ""
    spiffe: str = ""
    weight: int = 1
    state: Literal["passing", "warning", "critical", "suspect", "draining"] = "passing"
    subsets: tuple[str, ...] = ()


class HeaderEdit(Part, frozen=True, kw_only=True):
    """Applied in the order remove, set, add. Names lower case."""

    add: tuple[tuple[str, str], ...] = ()
    set: tuple[tuple[str, str], ...] = ()
    remove: tuple[str, ...] = ()


class RetryBudget(Part, frozen=True, kw_only=True):
    """Retries allowed as a share of requests plus a floor per second; one budget per destination service."""

    percent: int = 2_000
    min_per_second: int = 10


class Retry(Part, frozen=True, kw_only=True):
    """`attempts` further tries. `on`: connect-failure, reset, peer-503, 5xx, gateway-error, retriable-4xx.

    `default` marks the mesh's own rule (idempotent methods only); a rule written by an operator covers all methods.
    """

    attempts: int = 2
    on: tuple[str, ...] = ("connect-failure", "reset", "peer-503")
    status_codes: tuple[int, ...] = ()
    budget: RetryBudget = RetryBudget()
    default: bool = True
    origin: str = "default#retry"


class Leg(Part, frozen=True, kw_only=True):
    """One side of a split; weights of a rule's legs sum to 10000. `broken`: why it cannot be served (503 NR)."""

    service: str
    subset: str | None = None
    weight: int = 10_000
    request_headers: HeaderEdit | None = None
    response_headers: HeaderEdit | None = None
    broken: str | None = None
    origin: str = "default#route"


class Rule(Part, frozen=True, kw_only=True):
    """One route. The first whose match holds decides; the last rule of a resource matches everything.

    `sources`: calling services it is limited to; empty: all. `prefix_rewrite` replaces the matched prefix.
    """

    origin: str
    legs: tuple[Leg, ...]
    match: Match | None = None
    sources: tuple[str, ...] = ()
    prefix_rewrite: str | None = None
    timeout_ms: int = 15_000  # whole request; 0: none
    per_try_timeout_ms: int = 0  # 0: only the whole
    retry: Retry = Retry()
    request_headers: HeaderEdit | None = None
    response_headers: HeaderEdit | None = None


class Delay(Part, frozen=True, kw_only=True):
    min_ms: int
    max_ms: int
    percent: int = 10_000


class Abort(Part, frozen=True, kw_only=True):
    """Answer with `status`, or reset the connection."""

    status: int | None = None
    reset: bool = False
    percent: int = 10_000


class Fault(Part, frozen=True, kw_only=True):
    """An experiment on requests to this service; ends by the proxy's own clock at `until_ms` (Unix time)."""

    origin: str
    until_ms: int
    match: Match | None = None
    sources: tuple[str, ...] = ()
    header: str | None = None  # only requests that carry this header (lower case)
    delay: Delay | None = None
    abort: Abort | None = None


class Routes(Resource, frozen=True, kw_only=True, tag="routes"):
    """What happens to a request for a service. `rules` decide by the service asked for; `faults` apply to every
    request whose leg ends at this service."""

    rules: tuple[Rule, ...]
    faults: tuple[Fault, ...] = ()


# ---- inbound ----------------------------------------------------------------------------------------------------


class Permission(Part, frozen=True, kw_only=True):
    """A layer-7 rule of an intention: first that matches wins."""

    action: Literal["allow", "deny"]
    origin: str
    match: Match | None = None


class Source(Part, frozen=True, kw_only=True):
    """A caller (service name or `*`, which means any *authenticated* peer) and what it may do.

    Either `action`, or `permissions` (none matches: `fallback`).
    """

    name: str
    origin: str
    action: Literal["allow", "deny"] | None = None
    permissions: tuple[Permission, ...] = ()


class Permissions(Part, frozen=True, kw_only=True):
    """Intentions of one destination, in order of precedence: the first source that fits decides."""

    sources: tuple[Source, ...] = ()
    fallback: Literal["allow", "deny"] = "deny"
    fallback_origin: str = "default#DefaultIntention"


class Inbound(Resource, frozen=True, kw_only=True, tag="inbound"):
    """A local instance, name `<service>/<node>/<id>`: reached by SNI `sni` on the inbound port, served to `app`."""

    service: str
    app: str  # ip:port
    sni: str
    protocol: Literal["tcp", "http"] = "tcp"
    permissions: Permissions = Permissions()
    max_connections: int = 0  # 0: no limit
    connect_timeout_ms: int = 1_000
    request_timeout_ms: int = 0  # 0: none of its own; the caller's deadline closes the stream


# ---- identity and the rest --------------------------------------------------------------------------------------


class Identity(Resource, frozen=True, kw_only=True, tag="identity"):
    """Certificate and key of a local instance, name as the instance. The key is write-only at the proxy."""

    spiffe: str
    certificate: str  # PEM chain, leaf first
    private_key: str  # PEM, PKCS#8


class Revoked(Part, frozen=True, kw_only=True):
    """Either an identity (SPIFFE URI; certificates issued before `before_ms`, 0: all) or a serial (lower hex)."""

    spiffe: str | None = None
    serial: str | None = None
    before_ms: int = 0


class Trust(Resource, frozen=True, kw_only=True, tag="trust"):
    """Roots and revocations; the one name is `trust`. Always sent in an Update of its own."""

    trust_domain: str
    roots: tuple[str, ...]  # PEM
    revoked: tuple[Revoked, ...] = ()


class AccessLog(Part, frozen=True, kw_only=True):
    """`path` empty: the proxy's stdout. `sample` per ten thousand."""

    enabled: bool = True
    path: str = ""
    sample: int = 10_000


class Settings(Resource, frozen=True, kw_only=True, tag="settings"):
    """The proxy's own; the one name is `settings`."""

    node: str
    inbound_address: str
    inbound_port: int
    access_log: AccessLog = AccessLog()
    explain_denials: bool = False
    trace_sampling: int = 0  # per ten thousand: the sampled flag of new traces


AnyResource = Listener | Service | Endpoint | Routes | Inbound | Identity | Trust | Settings


# ---- frames -----------------------------------------------------------------------------------------------------


class Frame(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type"):
    """One frame: 4 bytes big-endian length, then this JSON; at most 16 MiB."""


class Hello(Frame, frozen=True, kw_only=True, tag="hello"):
    """The proxy's first frame on every connection. `holds`: digest by `<kind>/<name>`; `started` Unix seconds."""

    schema: int
    version: str
    generation: int
    pid: int
    started: float
    features: tuple[str, ...]
    holds: dict[str, str]


class Update(Frame, frozen=True, kw_only=True, tag="update"):
    """Atomic. `full`: everything not put is deleted (never applies to `trust` when none is put)."""

    update: int
    full: bool = False
    put: tuple[AnyResource, ...] = ()
    delete: tuple[str, ...] = ()


class Applied(Frame, frozen=True, kw_only=True, tag="applied"):
    """Sent only after the new tables are what requests see, on every thread."""

    update: int


class Rejected(Frame, frozen=True, kw_only=True, tag="rejected"):
    """Nothing of the update is in force. `path` is a JSON path inside the resource, empty: the whole."""

    update: int
    resource: str
    path: str
    reason: str


class Drain(Frame, frozen=True, kw_only=True, tag="drain"):
    """scope `proxy`: stop accepting, finish within `seconds`, exit; `instance`: inbound of `name` takes no new work."""

    scope: Literal["proxy", "instance"]
    name: str = ""
    seconds: float = 30.0


class Scrape(Frame, frozen=True, kw_only=True, tag="scrape"):
    """Ask for Stats now; answered with the same id."""

    id: int


class Dump(Frame, frozen=True, kw_only=True, tag="dump"):
    """Ask for what the proxy holds; answered by Config with the same id."""

    id: int


class Config(Frame, frozen=True, kw_only=True, tag="config"):
    """All resources as held, private keys replaced by `sha256:<hex of the public key>`."""

    id: int
    resources: tuple[AnyResource, ...]


BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class RequestCount(Part, frozen=True, kw_only=True):
    reporter: Literal["source", "destination"]
    source: str
    destination: str
    method: str
    code: int
    flags: str  # "" when nothing special happened
    count: int


class Duration(Part, frozen=True, kw_only=True):
    """`buckets`: one count per BUCKETS bound (not cumulative) and one beyond the last; `sum` seconds."""

    reporter: Literal["source", "destination"]
    source: str
    destination: str
    sum: float
    buckets: tuple[int, ...]


class TcpCount(Part, frozen=True, kw_only=True):
    reporter: Literal["source", "destination"]
    source: str
    destination: str
    opened: int
    closed: int


class AttemptCount(Part, frozen=True, kw_only=True):
    """outcome: success, connect_failure, reset, timeout, peer_503, error_status."""

    source: str
    destination: str
    outcome: str
    count: int


class Named(Part, frozen=True, kw_only=True):
    """A counter by one name."""

    name: str
    count: int


class EndpointStat(Part, frozen=True, kw_only=True):
    """`last_success` Unix seconds, 0: never; `ejected`: by this proxy, now; `proof`: of a suspect, whether a handshake
    with its identity was good lately: good, bad, unknown (only good gets requests)."""

    name: str
    ejected: bool
    inflight: int
    ewma_ms: float
    successes: int
    failures: int
    last_success: float
    proof: str = ""


class ProbeCount(Part, frozen=True, kw_only=True):
    """Handshakes with suspects of a service. result: good, bad."""

    service: str
    result: str
    count: int


class Stats(Frame, frozen=True, kw_only=True, tag="stats", omit_defaults=True):
    """Cumulative totals since `started`; each second (`id` 0) and on Scrape."""

    id: int
    started: float
    requests: tuple[RequestCount, ...]
    durations: tuple[Duration, ...]
    tcp: tuple[TcpCount, ...]
    attempts: tuple[AttemptCount, ...]
    retry_budget_exhausted: tuple[Named, ...]  # by destination service
    denied: tuple[Named, ...]  # by intention (origin)
    rules: tuple[Named, ...]  # hits by origin
    endpoints: tuple[EndpointStat, ...]
    connections: int  # open now, both directions of entry
    dropped_events: int
    probes: tuple[ProbeCount, ...] = ()


class Event(Part, frozen=True, kw_only=True):
    """kind: ejected, restored, suspect_good, suspect_bad, denied, drained, tls_failure, listener_failed,
    listener_bound."""

    at: float
    kind: str
    service: str = ""
    endpoint: str = ""
    origin: str = ""
    detail: str = ""


class Events(Frame, frozen=True, kw_only=True, tag="events"):
    events: tuple[Event, ...]


ToProxy = Update | Drain | Scrape | Dump
FromProxy = Hello | Applied | Rejected | Config | Stats | Events


# ---- explain ----------------------------------------------------------------------------------------------------


class ExplainRequest(Part, frozen=True, kw_only=True):
    """`source` and `destination` are service names; header names lower case."""

    source: str
    destination: str
    method: str = "GET"
    path: str = "/"
    headers: tuple[tuple[str, str], ...] = ()


class ExplainInput(Part, frozen=True, kw_only=True):
    """stdin of `meshd-proxy explain`."""

    resources: tuple[AnyResource, ...]
    request: ExplainRequest


class Decision(Part, frozen=True, kw_only=True):
    stage: str
    verdict: str
    origin: str = ""
    detail: str = ""


class Explanation(Part, frozen=True, kw_only=True):
    """stdout of `meshd-proxy explain`. verdict: allow, deny, no_route, unavailable, fault."""

    verdict: str
    decisions: tuple[Decision, ...]
