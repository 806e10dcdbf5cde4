"""What people and tools see of a host: `meshd.admin.shapes` filled from the agent's parts. Reads only."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TypeVar

from meshd.admin import registries
from meshd.admin.shapes import (
    CertRow,
    DocumentRow,
    EndpointRow,
    NodeRow,
    ProblemRow,
    ProxyState,
    RegistryState,
    ServiceRow,
    SnapshotState,
    Status,
)
from meshd.admin.whole import Whole
from meshd.agent import Agent, cpu_seconds
from meshd.control import status as reports
from meshd.control.documents import Name
from meshd.control.status import HostStatus
from meshd.telemetry.metrics import Facts
from policies.compiled import EndpointStat, Stats
from policies.compiled import Service as ServiceResource
from policies.parse import parse
from policies.schema.service_intentions import ServiceIntentions
from registry import interest, keys
from registry.ca import rotation
from registry.model import Document, Endpoint, Instance
from registry.store import Behind, Replicated

T = TypeVar("T")
LEADING = frozenset(("service-router", "service-splitter", "service-resolver"))  # kinds that may send calls elsewhere


def status(whole: Whole, others: Mapping[str, HostStatus]) -> Status:
    """`/v1/mesh/status`. `others`: the status keys of all hosts, as far as they could be read."""
    agent = whole.agent
    endpoints = sum(len(whole.endpoints(service)) for service in whole.services)
    reasons = agent.not_ready()
    return Status(
        node=agent.host.node,
        version=agent.version,
        ready=not reasons,
        not_ready=reasons,
        trust_domain=agent.identities.trust_domain,
        registry=registry(agent),
        proxy=proxy(agent),
        nodes=nodes(whole, others),
        services=len(whole.services),
        endpoints=endpoints,
        documents=len(whole.documents),
        problems=problems(whole),
        warnings=warnings(agent),
    )


def registry(agent: Agent) -> RegistryState:
    heard = max(agent.fold.last_event.values(), default=None)
    behind = agent.store.behind() if isinstance(agent.store, Replicated) else Behind(-1.0, True)
    return RegistryState(
        kind=agent.host.registry.kind,
        reachable=heard is not None and not agent.standing.contacts()[agent.host.registry.name],
        last_event_age=round(agent.around.clock() - heard, 3) if heard is not None else -1.0,
        index=agent.sync.index,
        last_contact=round(behind.seconds, 3),
        led=behind.led,
        snapshot=snapshot(agent),
        store_id=agent.fold.store_id,
        foreign=agent.fold.foreign,
        held=short(agent.fold.held),
        braked=dict(agent.fold.braked),
        damped=dict(agent.fold.damped(agent.around.clock())),
        suspect=dict(agent.fold.suspects),
        reconciled=agent.reconcile.differences,
    )


def short(held: Mapping[str, str]) -> dict[str, str]:
    """Prefixes as operators name them: `policy/`."""
    return {prefix.removeprefix(keys.PREFIX): why for prefix, why in sorted(held.items())}


def snapshot(agent: Agent) -> SnapshotState:
    state = agent.cold_start.state
    word = "saved" if state.word == "serving" and not agent.fold.restored else state.word
    age = round(max(0.0, agent.around.now() - state.heard), 3) if state.heard else -1.0
    return SnapshotState(state=word, age=age, reason=state.reason)


def staleness(agent: Agent) -> dict[str, float]:
    """For how many seconds each followed service's endpoints are unconfirmed: since the registry last spoke of them."""
    fold, now = agent.fold, agent.around.clock()
    if fold.restored:
        silent = round(max(0.0, agent.around.now() - agent.cold_start.state.heard), 3)
        return registries.staleness(agent, dict.fromkeys(fold.services, silent))
    alive = fold.last_event.get(keys.LEASES)
    found = {}
    for service in agent.subscriptions.interest.called | agent.subscriptions.interest.hosted:
        heard = (fold.last_event.get(one) for one in (interest.endpoints(service), keys.SERVICES))
        last = max((at for at in heard if at is not None), default=None)
        if alive is not None and last is not None:
            found[service] = round(max(0.0, now - min(alive, last)), 3)
    return registries.staleness(agent, found)


def last_events(agent: Agent) -> dict[str, float]:
    """Unix time of the oldest last sign of life, by the part of the store that its watches are about."""
    found: dict[str, float] = {}
    wall, now = agent.around.now(), agent.around.clock()
    for selector, at in agent.fold.last_event.items():
        part = next((one for one in (keys.SERVICES, keys.POLICY) if selector.startswith(one)), selector)
        found[part] = min(found.get(part, wall), wall - (now - at))
    return found


def proxy(agent: Agent) -> ProxyState:
    link = agent.dataplane.link
    if link is None:
        return ProxyState(connected=False)
    return ProxyState(
        connected=True,
        pid=link.pid,
        generation=link.hello.generation,
        version=link.hello.version,
        update=agent.dataplane.update,
        reattached=agent.supervisor.reattached,
    )


def nodes(whole: Whole, others: Mapping[str, HostStatus]) -> tuple[NodeRow, ...]:
    """All joined hosts; while the registry is away those whose leases are followed, by name alone."""
    leases = whole.agent.fold.leases
    rows = []
    for name in sorted(whole.nodes or leases):
        node, seen = whole.nodes.get(name), others.get(name)
        rows.append(
            NodeRow(
                name=name,
                address=node.address if node else "",
                alive=name in leases,
                version=node.version if node else "",
                roles=node.roles if node else (),
                update=seen.update if seen else 0,
                rejected=tuple(sorted(seen.rejected)) if seen else (),
            )
        )
    return tuple(rows)


def problems(whole: Whole) -> tuple[ProblemRow, ...]:
    """Refused documents and keys, then what is odd but in force."""
    agent = whole.agent
    rows = [
        ProblemRow(document="/".join(name), reason=instead(name, agent.documents.unreadable) + placed(name, reason))
        for name, rejection in sorted(agent.documents.rejected.items())
        for reason in rejection.problems
    ]
    rows += [ProblemRow(document=key.removeprefix(keys.PREFIX), reason=why) for key, why in whole.problems.items()]
    rows += [
        ProblemRow(document=name, reason=f"{one.path}: {one.reason}" if one.path else one.reason)
        for name, one in sorted(agent.dataplane.refused.items())
    ]
    for one in agent.compilation.problems:
        rows.append(
            ProblemRow(
                document=f"{one.kind}/{one.name}",
                reason=one.reason,
                path=one.path,
                line=one.line or None,
                hint=one.hint,
                refused=False,
            )
        )
    return tuple(rows)


def instead(name: Name, unreadable: frozenset[Name]) -> str:
    """What is in force while a document is refused."""
    if name not in unreadable:
        return "last good version kept: "
    denies = name[0] == ServiceIntentions.kind
    return "no version was ever good: " + ("everything is denied: " if denies else "its kind is at the default: ")


def placed(name: Name, reason: str) -> str:
    """A problem's text with its place (`1:12`, line and column) but without the document's name again."""
    text = reason.removeprefix("/".join(name)).removeprefix(":")
    return f"line {text}" if text[:1].isdigit() else text.strip()


def warnings(agent: Agent) -> tuple[str, ...]:
    found = list(agent.identities.missing())
    if agent.host.development:
        found.append("development: whoever reaches the local API administers it")
    found += [f"{caller} calls {service}, of which no instance is known" for caller, service in nowhere(agent)]
    found += agent.containers.problems
    if agent.registrar.problem:
        found.append(f"the registry does not take our instances: {agent.registrar.problem}")
    if agent.lease.problem:
        found.append(f"the host's lease cannot be kept: {agent.lease.problem}")
    found += registries.warnings(agent)
    found += doubts(agent)
    reloaded = agent.reloader.state
    if reloaded.problem:
        found.append(f"the configuration was not reloaded: {reloaded.problem}")
    if reloaded.waiting:
        found.append(f"settings wait for the next start of meshd: {', '.join(reloaded.waiting)}")
    saved = snapshot(agent)
    if saved.state in ("refused", "too old"):
        found.append(f"the saved snapshot is not used: {saved.reason}")
    elif saved.state == "serving":
        note = f"; {saved.reason}" if saved.reason else ""
        found.append(f"serving from the saved snapshot, {saved.age:.0f} s old{note}")
    if agent.cold_start.problem:
        found.append(f"the snapshot cannot be saved: {agent.cold_start.problem}")
    found += [f"the registry is not reached: {why}" for _, why in sorted(agent.fold.unreachable.items())[:1]]
    found += [f"{event.kind}: {event.detail}" for event in agent.events if event.kind == "listener_failed"][-4:]
    return tuple(found)


def doubts(agent: Agent) -> list[str]:
    """What the registry says and this host does not believe, or does not act on."""
    found = []
    if agent.fold.foreign:
        found.append(f"{agent.fold.foreign}: nothing is let go of until `meshctl registry adopt`")
    found += [f"{prefix} is held: {why}" for prefix, why in short(agent.fold.held).items()]
    found += [
        f"brake: {count} instances of {service} went at once and stay in use as suspect; `meshctl registry adopt` lets"
        " them go"
        for service, count in sorted(agent.fold.braked.items())
    ]
    found += [
        f"suspect: nobody vouches for {count} instances of {service}; they are used while they answer"
        for service, count in sorted(agent.fold.suspects.items())
    ]
    found += [
        f"flapping: {count} instances of {service} are held back (`meshctl service {service}` says until when)"
        for service, count in sorted(agent.fold.damped(agent.around.clock()).items())
    ]
    waiting = agent.fold.unexplained.keys() & agent.fold.documents.keys() - agent.fold.held_documents
    if waiting:
        found.append(f"{len(waiting)} deleted documents stay in force until a host with a role has judged it;"
                     " `meshctl delete` says that it was meant")  # fmt: skip
    return found


def nowhere(agent: Agent) -> Iterable[tuple[str, str]]:
    """Declared upstreams without any instance, and which no document leads elsewhere."""
    led = {name for kind, name in agent.documents.good if kind in LEADING}
    for one in agent.registrar.local:
        for upstream in one.mesh.upstreams:
            listed = agent.fold.known(interest.endpoints(upstream.service))
            if listed and upstream.service not in agent.fold.services and upstream.service not in led:
                yield str(one.key), upstream.service


# ---- services -----------------------------------------------------------------------------------------------------


def ejected(stats: Stats | None) -> Mapping[str, EndpointStat]:
    return {one.name: one for one in stats.endpoints} if stats is not None else {}


def services(whole: Whole, stats: Stats | None) -> list[ServiceRow]:
    seen = ejected(stats)
    rows = []
    for name in sorted(whole.services):
        endpoints = whole.endpoints(name)
        counts = Counter(endpoint.state for endpoint in endpoints)
        out = sum(1 for one in endpoints if (stat := seen.get(str(one.instance.key))) is not None and stat.ejected)
        rows.append(
            ServiceRow(
                name=name,
                protocol=protocol(whole.agent, name, (one.instance for one in endpoints)),
                passing=counts["passing"],
                warning=counts["warning"],
                critical=counts["critical"],
                suspect=counts["suspect"],
                draining=counts["draining"],
                ejected=out,
                damped=counts["damped"],
            )
        )
    return rows


def protocol(agent: Agent, service: str, instances: Iterable[Instance]) -> str:
    """As compiled where this host calls the service, else as its instances say, else tcp."""
    for resource in agent.compilation.resources:
        if isinstance(resource, ServiceResource) and resource.name == service:
            return resource.protocol
    return next((one.mesh.protocol for one in instances if one.mesh.protocol), "tcp")


def endpoint_row(endpoint: Endpoint, subsets: tuple[str, ...], stat: EndpointStat | None, now: float) -> EndpointRow:
    """`now`: of the fold's clock."""
    instance = endpoint.instance
    inbound = instance.inbound
    return EndpointRow(
        name=str(instance.key),
        node=instance.node,
        address=f"{instance.address}:{instance.port}",
        inbound=f"{inbound.address}:{inbound.port}" if inbound else "",
        state=endpoint.state,
        ejected=stat is not None and stat.ejected,
        subsets=subsets,
        tags=instance.tags,
        ewma_ms=stat.ewma_ms if stat else 0.0,
        proof=stat.proof if stat and endpoint.state == "suspect" else "",
        output="; ".join((*flapping(endpoint, now), *said(instance))),
    )


def flapping(endpoint: Endpoint, now: float) -> Iterable[str]:
    if endpoint.state == "damped":
        rest = max(0.0, endpoint.damped_until - now)
        yield f"came back {endpoint.flaps} times (FlapHalfLife): held back for another {rest:.0f} s"


def said(instance: Instance) -> Iterable[str]:
    """Why an instance is not used as usual, in its own words."""
    if instance.state != "active":
        yield instance.state + (f": {instance.reason}" if instance.reason else "")
    yield from (one.output for one in instance.results if one.status != "passing" and one.output)


# ---- documents and certificates -----------------------------------------------------------------------------------


def documents(whole: Whole) -> list[DocumentRow]:
    return [
        DocumentRow(
            kind=document.kind,
            name=document.name,
            version=document.version,
            digest=reports.digest(document.text),
            state=document_state(whole, document),
        )
        for _, document in sorted(whole.documents.items())
    ]


def document_state(whole: Whole, document: Document) -> str:
    """Of one that is not followed here only whether it could be in force where it is."""
    agent, name = whole.agent, (document.kind, document.name)
    if not whole.follows(name):
        read = parse(document.kind, document.name, document.text, version=document.version).document
        return "elsewhere" if read is not None else "rejected"
    if name in agent.documents.rejected:
        return "rejected"
    if name in agent.subscriptions.held:
        return "waiting"
    return "held" if name in agent.fold.held_documents else "in-force"


def certificates(agent: Agent) -> list[CertRow]:
    return [
        CertRow(
            name=held.name,
            spiffe=held.svid.identity.uri,
            serial=held.svid.serial,
            not_before=rotation.stamp(held.svid.not_before),
            not_after=rotation.stamp(held.svid.not_after),
            renew_at=rotation.stamp(held.renew_at),
        )
        for held in sorted(agent.identities.certificates.values(), key=lambda held: held.name)
    ]


def facts(agent: Agent, stats: Stats | None) -> Facts:
    """meshd's own part of `/metrics`."""
    now = agent.around.clock()
    seen = ejected(stats)
    endpoints: Counter[tuple[str, str]] = Counter()
    for service in agent.fold.services:
        for one in agent.fold.endpoints(service, now):
            stat = seen.get(str(one.instance.key))
            endpoints[service, "ejected" if stat is not None and stat.ejected else one.state] += 1
    rejected = len(agent.documents.rejected)
    saved = snapshot(agent)
    return Facts(
        version=agent.version,
        node=agent.host.node,
        endpoints=dict(endpoints),
        certificates={held.name: held.svid.not_after for held in agent.identities.certificates.values()},
        last_event=last_events(agent),
        reload_ok=agent.dataplane.reload_ok and not rejected,
        documents_rejected=rejected,
        proxy_up=agent.dataplane.link is not None,
        proxy_restarts=agent.supervisor.restarts,
        process_cpu=cpu_seconds(),
        staleness=staleness(agent),
        held=short(agent.fold.held),
        braked=dict(agent.fold.braked),
        damped=dict(agent.fold.damped(now)),
        reconcile_differences=agent.reconcile.differences,
        foreign=bool(agent.fold.foreign),
        snapshot_age=saved.age,
        snapshot_in_use=saved.state == "serving",
        snapshot_refused=saved.state in ("refused", "too old"),
    )


def read_reports(values: Mapping[str, bytes]) -> dict[str, HostStatus]:
    """Status keys by host; unreadable ones are left out."""
    found = ((key.removeprefix(keys.STATUS), reports.read(value)) for key, value in values.items())
    return {name: report for name, report in found if report is not None}
