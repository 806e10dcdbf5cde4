"""One host: everything that meshd holds, in the order in which data moves.

What each part is for stands in its own module; what happens when one
ends unasked is decided here, by `Tasks`: nothing is restarted silently, a crash ends the process and the next meshd
attaches to the proxy that goes on serving.
"""

import asyncio
import contextlib
import resource
from collections.abc import Callable, Mapping
from functools import partial

from meshd import ports
from meshd.config import Host
from meshd.control.alarms import Alarms
from meshd.control.authority import upkeep
from meshd.control.cold_start import ColdStart
from meshd.control.compilation import Compilation, Place, Sources
from meshd.control.container_labels import Here
from meshd.control.containers import Containers
from meshd.control.deletions import Deletions
from meshd.control.documents import Documents
from meshd.control.drain import Drainer
from meshd.control.health import Runner
from meshd.control.history import Recorder
from meshd.control.identity import Identities
from meshd.control.lease import Lease
from meshd.control.memory import Memory
from meshd.control.register import Facts, Registrar
from meshd.control.registrations import File
from meshd.control.registries import Parties, Registries, Standing
from meshd.control.report import Report
from meshd.control.status import Publisher
from meshd.control.subscriptions import Followed, Subscriptions
from meshd.control.sync import Parts, Sync
from meshd.dataplane.client import Dataplane
from meshd.dataplane.supervise import Supervisor
from meshd.notify import notify
from meshd.placed import ConfigError
from meshd.reload import Plan, Reloader
from meshd.surroundings import Surroundings, advertised, configured
from meshd.tasks import Crashed, Tasks, first
from meshd.version import version
from policies.compiled import Event, Events
from registry.ca import names
from registry.ca.authority import Authority
from registry.ca.authority import Deps as AuthorityDeps
from registry.ca.files import Layout
from registry.catalog import KvCatalog
from registry.fold import Fold
from registry.interest import BASE
from registry.model import Address, CheckResult, Instance, InstanceKey, Node
from registry.reconcile import Pace, Reconcile
from registry.snapshot import Snapshot, capture
from registry.store import Batch, SessionStore, WatchEvent
from registry.watch import Watcher

EVENTS_KEPT = 256
READY_EVERY = 0.05  # seconds


class Agent:
    """Build it when identity and store are there; `start`, then `wait`, then `stop`."""

    def __init__(
        self,
        host: Host,
        store: SessionStore,
        addresses: tuple[str, ...],
        around: Surroundings,
        catalog: KvCatalog | None = None,
        registries: Registries | None = None,
    ) -> None:
        self.host = host
        self.store = store
        self.around = around
        self.log = around.log
        self.version, self.address = version(), advertised(host)
        self.events: list[Event] = []
        self.draining = self.listening = False
        self.tasks = Tasks("meshd", self.log, chance=around.chance)
        layout = Layout(host.data)
        self.identities = Identities(layout, host.node, addresses, self.log, around.now, around.chance)
        self.catalog = catalog or KvCatalog(store, clock=around.clock)
        self.runner = Runner(self.tasks, self._report, around.chance)
        registrations = File(host.data / "registrations.json")
        self.registrar = Registrar(self._facts(), self.catalog, registrations, self.runner, self.log, around.clock)
        self.documents = Documents(host.data / "documents.json")
        self.dataplane = Dataplane(self.log, self._applied)
        self.lease = Lease(store, self._node(), float(host.lease_ttl), host.run / "lease", self.log)
        self.fold = Fold(BASE)
        self.watcher, self.subscriptions = self._following()
        self.cold_start = ColdStart(layout, host.registry.old_snapshot, self._capture, self.log, around.now)
        self.compilation, self.sync = self._control()
        self.status = Report(host.node, self.version, self.documents, self.dataplane)
        self.publisher = Publisher(store, host.node, lambda: self.lease.id, self.status.current, self.log)
        self.supervisor = Supervisor(
            host, self.dataplane, self.log, around.environ, chance=around.chance, before_start=self._check_inbound
        )
        self.containers = Containers(host.docker, self._here(), self.registrar, self.log, around.clock)
        self.recorder = Recorder(store, self.log, around.now)
        self.authority = self._authority(layout) if "ca" in host.roles else None
        self._connect(registries)

    def _join(self, registries: Registries | None) -> None:
        """Several registries: where instances are to be, and the leases beside the home registry's."""
        self.registries = registries
        name = self.host.registry.name
        self.standing = Standing(Parties(self.fold, self.documents, self.registrar), name, registries)
        self.further_leases: Mapping[str, Lease] = {}
        if registries is not None:
            registries.on_change = self._moved
            ttl = float(self.host.lease_ttl)
            self.further_leases = registries.leases(self.lease, self._node(), ttl, self.host.run, self.log)

    def _moved(self) -> None:
        self.registrar.poke()
        self.publisher.changed()

    def _here(self) -> Here:
        return Here(self.host.loopback, self.own_addresses)

    def _authority(self, layout: Layout) -> Authority:
        """Raises RegistryError when `meshctl ca init` has not been run here."""

        async def lookup(service: str, node: str, instance_id: str) -> Instance | None:
            return await self.catalog.get(InstanceKey(service, node, instance_id))

        deps = AuthorityDeps(store=self.store, instance_lookup=lookup, now=self.around.now)
        return Authority(layout, self.host.node, deps)

    # ---- building -------------------------------------------------------------------------------------------------

    @property
    def inbound(self) -> Address:
        return Address(address=self.address, port=self.host.advertise_port)

    @property
    def own_addresses(self) -> frozenset[str]:
        host = self.host
        named = {self.address, host.loopback, host.bind.inbound, host.bind.peer}
        return frozenset(named - {"0.0.0.0", "::"})

    def _facts(self) -> Facts:
        host = self.host
        return Facts(
            node=host.node,
            address=self.address,
            loopback=host.loopback,
            inbound=self.inbound,
            version=self.version,
            server="registry" in host.roles,
            entitled=lambda service: self.identities.entitled(service),
        )

    def _node(self) -> Node:
        return Node(
            name=self.host.node,
            address=self.address,
            inbound_port=self.host.advertise_port,
            roles=tuple(self.host.roles),
            version=self.version,
        )

    def _compilation(self) -> Compilation:
        host = self.host
        bind = Address(address=host.bind.inbound, port=host.ports.inbound)
        place = Place(host.node, bind, host.loopback, host.proxy.access_log)
        sources = Sources(
            fold=self.fold,
            registrar=self.registrar,
            identities=self.identities,
            documents=self.documents,
            cold_start=self.cold_start,
            dataplane=self.dataplane,
            subscriptions=self.subscriptions,
        )
        return Compilation(place, sources, self.around.clock)

    def _following(self) -> tuple[Watcher, Subscriptions]:
        around, store = self.around, self.store
        watcher = Watcher(store, self.tasks.start, pause=around.contact.pause, jitter=around.chance)
        followed = Followed(self.fold, watcher, self.documents, self.registrar)
        all_policy = bool(self.host.roles)  # the record of documents is kept there
        return watcher, Subscriptions(followed, around.clock, all_policy=all_policy, budget=store.max_watches)

    def _control(self) -> tuple[Compilation, Sync]:
        compilation = self._compilation()
        parts = Parts(
            fold=self.fold,
            watcher=self.watcher,
            store=self.store,
            registrar=self.registrar,
            identities=self.identities,
            documents=self.documents,
            dataplane=self.dataplane,
            lease=self.lease,
            memory=Memory(self.host.data / "memory.json"),
            cold_start=self.cold_start,
            compilation=compilation,
            subscriptions=self.subscriptions,
        )
        return compilation, Sync(parts, self.log, self.around.clock)

    def _connect(self, registries: Registries | None) -> None:
        """Who tells whom that something moved."""
        self._join(registries)
        tell = partial(notify, self.around.environ)
        self.reloader = Reloader(self.around.reread, lambda: self.host, self._use, tell, self.log)
        self.reconcile, self.deletions, self.alarms = self._doubting()
        self.registrar.on_change = self.sync.poke
        self.identities.on_change = self.catalog.on_foreign = self.subscriptions.on_change = self.sync.poke
        self.compilation.on_compiled = self._compiled
        self.sync.on_trust = self.sync.poke
        self.sync.on_event = self._told
        self.lease.on_lease = self.publisher.changed
        self.lease.on_contact = self.sync.on_contact = self.around.contact.made
        self.status.resources = lambda: self.compilation.resources
        self.status.interest = lambda: self.subscriptions.interest
        self.status.held = lambda: self.subscriptions.held
        self.status.problems = self._problems
        self.status.registries = self.standing.contacts
        self.containers.on_change = self.publisher.changed
        self.supervisor.on_events = self._events
        self.dataplane.on_attach = self.sync.poke

    def _problems(self) -> tuple[str, ...]:
        return (*map(str, self.compilation.problems), *self.containers.problems, *self.standing.misplaced())

    def _doubting(self) -> tuple[Reconcile, Deletions, Alarms]:
        """Who asks again what the store has told, and who says so."""
        pace = Pace(jitter=self.around.chance)
        reconcile = Reconcile(self.store, lambda: self.watcher.wanted, self._repair, self.log, pace)
        judges = bool(self.host.roles)
        deletions = Deletions(self.store, self.fold, self.sync.explained, self.log, self.around.now, judges=judges)
        return reconcile, deletions, Alarms(self.fold, self.log, self.around.clock)

    def _capture(self) -> Snapshot | None:
        """What a start without the registry needs; None until the registry has listed everything once."""
        fold, around = self.fold, self.around
        if not self.subscriptions.begun or fold.restored:
            return None
        silent = around.clock() - max(fold.last_event.values())
        trust_domain = self.identities.trust_domain
        heard = around.now() - silent
        return capture(fold, node=self.host.node, trust_domain=trust_domain, index=self.sync.index, heard=heard)

    async def _use(self, plan: Plan) -> None:
        """Put what can change of a configuration that was read again into force. Raises ConfigError."""
        services = configured(plan.host, self.own_addresses)
        self.host = plan.host
        self.compilation.access_log(plan.host.proxy.access_log)
        self.sync.poke()
        if "Services" in plan.changed:
            await self.registrar.configure(services)

    def _check_inbound(self) -> None:
        ports.check("Ports.Inbound", self.host.bind.inbound, self.host.ports.inbound)

    # ---- what parts tell each other ---------------------------------------------------------------------------------

    async def _report(self, key: InstanceKey, result: CheckResult) -> None:
        await self.registrar.report(key, result)

    def _told(self, prefix: str, event: WatchEvent) -> None:
        self.reconcile.seen(prefix, event)
        self.deletions.changed()

    async def _repair(self, prefix: str, missed: Batch) -> None:
        await self.watcher.events.put((prefix, missed))

    def _compiled(self, version_number: int) -> None:
        self.alarms.changed()
        self.status.compiled(version_number)
        if self.registries is not None and self.standing.moved():
            self.registrar.poke()
        if self.host.roles:
            self.recorder.accepted(self.documents.accepted())

    def _applied(self, version_number: int) -> None:
        self.status.applied(version_number)
        self.publisher.changed()

    def _events(self, events: Events) -> None:
        for event in events.events:
            if event.kind != "denied":  # one per request: counted, and in the access log
                self.log.info("proxy", kind=event.kind, service=event.service, endpoint=event.endpoint,
                              detail=event.detail)  # fmt: skip
        self.events = [*self.events, *events.events][-EVENTS_KEPT:]

    # ---- life -----------------------------------------------------------------------------------------------------

    def load(self) -> None:
        """What was kept on disk. Raises ConfigError for `Services` that cannot be registered, and for a
        package that the configuration needs and is not there."""
        services = configured(self.host, self.own_addresses)
        self.containers.load()
        problem = self.documents.load()
        if problem:
            self.log.error("documents on disk cannot be used", problem=problem)
        if self.host.roles:  # it judges what is lost: also what was lost while it was down
            self.fold.recollect(self.documents.before)
        self.sync.load()
        self.registrar.load(services)

    def start(self) -> None:
        """Start every long-running part; a crash of one ends the process (see `wait`)."""
        for name, lease in self.further_leases.items():
            self.tasks.start(f"lease {name}", lease.run)
        for name, run in (
            ("catalog", self.catalog.run),
            ("follow", self.sync.follow),
            ("sync", self.sync.run),
            ("keep", self.sync.keep),
            ("snapshot", self.cold_start.run),
            ("recover", self.sync.recover),
            ("reconcile", self.reconcile.run),
            ("deletions", self.deletions.run),
            ("alarms", self.alarms.run),
            ("register", self.registrar.run),
            ("containers", self.containers.run),
            ("identity", self.identities.run),
            ("lease", self.lease.run),
            ("status", self.publisher.run),
            ("dataplane", self.dataplane.run),
            ("proxy", self.supervisor.run),
            ("reload", self.reloader.run),
        ):
            self.tasks.start(name, run)
        if self.host.roles:
            self.tasks.start("history", self.recorder.run)
        if self.authority is not None:
            authority = self.authority
            self.tasks.start("authority", authority.run)
            self.tasks.start("issuer", lambda: upkeep(Layout(self.host.data), authority, self.log, self.around.now))

    def announce(self) -> None:
        """Every address and the identity, for the log."""
        host = self.host
        self.log.info("listening", api=f"{host.loopback}:{host.ports.api}", admin=host.ports.admin,
                      inbound=f"{host.bind.inbound}:{host.ports.inbound}", advertise=self.address,
                      identity=names.node_id(self.identities.trust_domain, host.node),
                      open_access=host.development)  # fmt: skip

    def not_ready(self) -> tuple[str, ...]:
        """Why this host is not ready; empty: it is."""
        reasons = []
        if self.draining:
            reasons.append("draining")
        if not self.listening:
            reasons.append("ports are not bound yet")
        if not self.identities.node_valid():
            reasons.append("the host's certificate is not valid")
        if not self.dataplane.in_force:
            reasons.append("the proxy has not applied a configuration yet")
        return tuple(reasons)

    async def ready(self, tell: Callable[[], None]) -> None:
        """Call `tell` once, when this host is ready for the first time."""
        while self.not_ready():  # noqa: ASYNC110 - four causes, none of which has an event for its end
            await asyncio.sleep(READY_EVERY)
        self.log.info("ready", proxy=self.dataplane.link.pid if self.dataplane.link else 0)
        tell()

    async def drain(self) -> None:
        """Leave on purpose: out of the catalogue, wait for what runs, let the proxy finish."""
        self.draining = True
        self.log.info("draining")
        await self.cold_start.close()
        drainer = Drainer(self.host, self.registrar, self.dataplane, self.supervisor, self.around.clock)
        await drainer.run()

    async def stop(self) -> None:
        """End everything of this process; a proxy that was not drained goes on."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2.0):
                if self.draining:
                    await asyncio.gather(*(one.release() for one in (self.lease, *self.further_leases.values())))
        await self.tasks.stop()
        await self.runner.close()


async def attend(agent: Agent, side: Tasks, stop: asyncio.Event) -> int:
    """Wait for a signal (0) or a crash (1); say READY once."""
    ready = Tasks("ready", agent.log)
    ready.start("notify", lambda: agent.ready(lambda: notify(agent.around.environ, "READY=1")))
    try:
        await first(signalled(stop), agent.tasks.failed(), side.failed())
    except Crashed as crash:
        if isinstance(crash.__cause__, ConfigError):
            raise crash.__cause__ from None
        agent.log.error("ending", reason=str(crash))
        return 1
    finally:
        await ready.stop()
    return 0


async def signalled(event: asyncio.Event) -> None:
    await event.wait()


def cpu_seconds() -> float:
    """CPU time of this process so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
