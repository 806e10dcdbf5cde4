"""The host's own instances: the agent behind the registration API.

A registration is saved on disk first, then put into the catalogue; whatever the registry loses is put again, and what
was deregistered while it was away is withdrawn when it is back. Deregistering withdraws: the key is marked, so that
callers stop at once, and deleted later by the catalogue.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import msgspec

from meshd.control.adopt import Adoption
from meshd.control.health import Runner, cut
from meshd.control.overdue import Overdue
from meshd.control.registrations import File, Local, Saved
from meshd.control.threshold import worst
from registry.api.agent import CheckState, Info
from registry.api.registration import Registration
from registry.catalog import Catalog
from registry.errors import Denied, NotFound, RegistryError
from registry.model import Address, Check, CheckResult, Health, Instance, InstanceKey

LEFT = 60.0  # seconds that a deregistered instance is served at most while the registry does not show it
RETRY = (0.2, 5.0)  # seconds: first and longest pause while the registry refuses


class Log(Protocol):
    def info(self, event: str, **fields: object) -> None: ...

    def warning(self, event: str, **fields: object) -> None: ...

    def error(self, event: str, **fields: object) -> None: ...


@dataclass(frozen=True)
class Facts:
    """What every instance of this host has in common. `entitled`: may this host serve a service?"""

    node: str
    address: str
    loopback: str
    inbound: Address
    version: str
    server: bool
    entitled: Callable[[str], bool]
    development: bool = False


class Registrar:
    """Implements `registry.api.agent.Agent`. `on_change` is called when `local` differs; `clock` in seconds."""

    def __init__(
        self, facts: Facts, catalog: Catalog, file: File, runner: Runner, log: Log, clock: Callable[[], float]
    ) -> None:
        self._facts = facts
        self._catalog = catalog
        self._file = file
        self._runner = runner
        self._log = log
        self._clock = clock
        self._local: dict[str, Local] = {}
        self._withdrawals: set[InstanceKey] = set()
        self._left: dict[InstanceKey, tuple[Instance, float]] = {}  # deregistered, until the watch shows it
        self._sought: dict[InstanceKey, float] = {}  # deregistered in an earlier run: looked for until then
        self._results: dict[tuple[str, str], CheckResult] = {}
        self._overdue = Overdue()
        self._adoption = Adoption(catalog, facts.inbound, facts.entitled, log)
        self._stored: dict[InstanceKey, Instance] | None = None  # of this node, as the registry last showed them
        self._dirty = asyncio.Event()
        self._writing = asyncio.Lock()
        self._leaving = False
        self.on_change: Callable[[], None] = lambda: None
        self.settle: Callable[[list[Instance]], Awaitable[None]] | None = None  # of several registries: in which ones
        self.problem = ""  # why the registry does not have what is registered here; empty: it has

    # ---- the host's side ------------------------------------------------------------------------------------------

    def load(self, configured: tuple[Registration, ...]) -> None:
        """Saved registrations, then those of the configuration file, which follow the file."""
        saved = self._file.load()
        if self._file.problem:
            self._log.error("registrations lost", problem=self._file.problem)
        self._withdrawals = set(saved.withdrawals)
        self._sought = dict.fromkeys(saved.leaving, self._clock() + LEFT)
        named = {one.id for one in configured}
        for local in saved.local:
            if local.configured and local.instance.id not in named:
                self._withdrawals.add(local.instance.key)
            else:
                self._local[local.instance.id] = self._refreshed(local)
        for registration in configured:
            self._adopt(self._made(registration, configured=True, replace_checks=True))
        for local in self._local.values():
            self._follow(local.instance)
        self._dirty.set()

    def _refreshed(self, local: Local) -> Local:
        """A saved instance as it is now: the host's addresses may have changed since."""
        instance = msgspec.structs.replace(local.instance, inbound=self._facts.inbound, node=self._facts.node)
        return msgspec.structs.replace(local, instance=instance)

    @property
    def local(self) -> tuple[Instance, ...]:
        """Instances that this host serves, with the address that its proxy dials; withdrawn ones until they are
        deleted, so that running requests finish."""
        mine = {local.instance.key: _dialled(local.instance, local.app) for local in self._local.values()}
        kept = {key: one for key, one in (self._stored or {}).items() if one.adopted or one.state == "withdrawn"}
        now = self._clock()
        left = {key: one for key, (one, until) in self._left.items() if now < until}
        for key, instance in (left | kept).items():
            if key not in mine:
                mine[key] = _dialled(instance, self._app(instance.address))
        return tuple(mine[key] for key in sorted(mine))

    @property
    def hosted(self) -> frozenset[str]:
        """Services with an instance on this host, whoever registered it, also while it leaves."""
        now = self._clock()
        left = [key for key, (_, until) in self._left.items() if now < until]
        sought = [key for key, until in self._sought.items() if now < until]
        keys = (*(one.instance.key for one in self._local.values()), *self._withdrawals, *left, *sought)
        return frozenset(key.service for key in (*keys, *(self._stored or ()))) | self._catalog.foreign

    def seen(self, stored: Mapping[InstanceKey, Instance]) -> None:
        """What the registry holds for this node (from the fold, after its first listing)."""
        if self._stored != stored:
            gone = (self._stored or {}).keys() - stored.keys()
            self._stored = dict(stored)
            for key, one in stored.items():
                if one.state == "withdrawn":
                    self._left.pop(key, None)  # from here on the registry says how long it is served
                    self._catalog.finish(key)
            self._dirty.set()
            if gone:
                self.on_change()

    def poke(self) -> None:
        """Where instances are to be, or where they are, has changed."""
        self._dirty.set()

    async def run(self) -> None:
        """Keep the registry at what is registered here."""
        pause = RETRY[0]
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._next_deadline()):
                    await self._dirty.wait()
            self._dirty.clear()
            await self._drop_critical()
            try:
                async with self._writing:
                    await self._reconcile()
                self.problem, pause = "", RETRY[0]
            except RegistryError as error:
                self._say(error)
                await asyncio.sleep(pause)
                pause = min(RETRY[1], pause * 2)
                self._dirty.set()

    def _say(self, error: RegistryError) -> None:
        if not self.problem:
            self._log.warning("registry does not take our instances", error=str(error))
        self.problem = f"{type(error).__name__}: {error}"

    async def _reconcile(self) -> None:
        """Raises the first error, after each part was tried: one registry of several may be away."""
        failed = [await _attempt(self._withdraw(key)) for key in sorted(self._withdrawals)]
        if self._stored is not None and not self._leaving:  # until the first listing nobody knows what is missing
            settle = self.settle or self._put_missing
            failed.append(await _attempt(settle([local.instance for local in self._local.values()])))
            failed.append(await _attempt(self._adoption.take_in(dict(self._stored))))
        first = next(filter(None, failed), None)
        if first is not None:
            raise first

    async def _put_missing(self, instances: list[Instance]) -> None:
        for one in instances:
            if (self._stored or {}).get(one.key) != one:
                await self._put(one)

    async def _withdraw(self, key: InstanceKey) -> None:
        with contextlib.suppress(NotFound):
            await self._catalog.withdraw(key)
        self._withdrawals.discard(key)
        self._save()

    async def _put(self, instance: Instance) -> int:
        index = await self._catalog.register(instance)
        if self._stored is not None:
            self._stored[instance.key] = instance
        return index

    # ---- registry.api.agent.Agent -----------------------------------------------------------------------------------

    async def register(self, registration: Registration, replace_checks: bool) -> int:
        """Raises Denied (not entitled), Unavailable (kept here and put later, but not promised)."""
        if not self._facts.entitled(registration.service):
            raise Denied(
                f"{self._facts.node} is not entitled to serve {registration.service}: its join token did not name it"
            )
        local = self._made(registration, configured=False, replace_checks=replace_checks)
        async with self._writing:
            before = self._local.get(local.instance.id)
            if before is not None and before.instance.key != local.instance.key:
                self._withdrawals.add(before.instance.key)  # the id now names another service's instance
            self._withdrawals.discard(local.instance.key)
            self._adopt(local)
            self._save()
            self._follow(local.instance)
            self.on_change()
            self._dirty.set()
            index = await self._put(self._local[local.instance.id].instance)
        self._log.info("registered", instance=str(local.instance.key), port=local.instance.port)
        return index

    async def deregister(self, instance_id: str) -> int:
        local = self._known(instance_id)
        key = local.instance.key
        async with self._writing:
            del self._local[instance_id]
            leaving = msgspec.structs.replace(local.instance, state="withdrawn")
            self._left[key] = (leaving, self._clock() + LEFT)
            self._withdrawals.add(key)
            self._save()
            self._runner.forget(key)
            self._forget_results(instance_id)
            self._dirty.set()
            try:
                index = await self._catalog.withdraw(key)
            except NotFound:
                index = 0
            self._withdrawals.discard(key)
            self._save()
            self.on_change()
        self._log.info("deregistered", instance=str(key))
        return index

    async def configure(self, configured: tuple[Registration, ...]) -> None:
        """`Services` of the configuration file as it is now: what is not there any more is deregistered."""
        named = {one.id for one in configured}
        for local in [one for one in self._local.values() if one.configured and one.instance.id not in named]:
            with contextlib.suppress(RegistryError):  # kept here, and withdrawn when the registry is back
                await self.deregister(local.instance.id)
        async with self._writing:
            for registration in configured:
                local = self._made(registration, configured=True, replace_checks=True)
                before = self._local.get(local.instance.id)
                if before is not None and before.instance.key != local.instance.key:
                    self._withdrawals.add(before.instance.key)
                self._adopt(local)
                self._follow(local.instance)
            self._save()
        self.on_change()
        self._dirty.set()

    async def maintenance(self, instance_id: str, enable: bool, reason: str) -> int:
        instance = self._known(instance_id).instance
        state = "maintenance" if enable else "active"
        return await self._change(msgspec.structs.replace(instance, state=state, reason=reason if enable else ""))

    async def check_update(self, check_id: str, status: Health, output: str) -> int:
        for local in self._local.values():
            for check in local.instance.checks:
                if check.check_id == check_id and check.ttl:
                    self._runner.beat(local.instance.key, check_id)
                    return await self._report(
                        local.instance.key, CheckResult(check_id=check_id, status=status, output=cut(output))
                    )
        raise NotFound(f"no TTL check {check_id} on this host")

    async def check_register(self, instance_id: str, check: Check) -> int:
        instance = self._known(instance_id).instance
        kept = tuple(one for one in instance.checks if one.check_id != check.check_id)
        return await self._change(_with_checks(instance, (*kept, check)))

    async def check_deregister(self, check_id: str) -> int:
        for local in self._local.values():
            kept = tuple(one for one in local.instance.checks if one.check_id != check_id)
            if len(kept) != len(local.instance.checks):
                return await self._change(_with_checks(local.instance, kept))
        raise NotFound(f"no check {check_id} on this host")

    def services(self) -> Mapping[str, Instance]:
        return {name: local.instance for name, local in self._local.items()}

    def checks(self) -> Mapping[str, CheckState]:
        return {
            check.check_id: CheckState(local.instance, check, self._result(local.instance, check))
            for local in self._local.values()
            for check in local.instance.checks
        }

    def info(self) -> Info:
        facts = self._facts
        return Info(facts.node, facts.address, facts.version, facts.server)

    # ---- inside ---------------------------------------------------------------------------------------------------

    async def report(self, key: InstanceKey, result: CheckResult) -> None:
        """A check's status changed. The registry may be away: what counts is kept here and put later."""
        with contextlib.suppress(RegistryError):
            await self._report(key, result)

    async def _report(self, key: InstanceKey, result: CheckResult) -> int:
        local = self._local.get(key.id)
        if local is None or local.instance.key != key:
            raise NotFound(f"{key} is not registered on this host")
        self._results[key.id, result.check_id] = result
        self._overdue.saw(key.id, result, self._clock())
        instance = local.instance
        before = next((one for one in instance.results if one.check_id == result.check_id), None)
        if before is not None and before.status == result.status:
            return await self._index(instance)
        self._log.info("check", instance=str(key), check=result.check_id, status=result.status, output=result.output)
        others = tuple(one for one in instance.results if one.check_id != result.check_id)
        results = tuple(sorted((*others, result), key=lambda one: one.check_id))
        return await self._change(_with_results(instance, results), follow=False)

    async def _index(self, instance: Instance) -> int:
        """Nothing changes: the registry's index as a write of the same value gives it."""
        async with self._writing:
            return await self._put(instance)

    async def _change(self, instance: Instance, *, follow: bool = True) -> int:
        local = self._known(instance.id)
        async with self._writing:
            self._local[instance.id] = msgspec.structs.replace(local, instance=instance)
            self._save()
            if follow:
                self._follow(instance)
            self.on_change()
            self._dirty.set()
            return await self._put(instance)

    def _made(self, registration: Registration, *, configured: bool, replace_checks: bool) -> Local:
        facts = self._facts
        before = self._local.get(registration.id)
        checks = registration.checks
        if before is not None and not replace_checks:
            named = {check.check_id for check in checks}
            checks += tuple(check for check in before.instance.checks if check.check_id not in named)
        uids = registration.mesh.uids or ((registration.uid,) if registration.uid is not None else ())
        instance = Instance(
            service=registration.service,
            node=facts.node,
            id=registration.id,
            address=registration.address or facts.address,
            port=registration.port,
            tags=registration.tags,
            meta=registration.meta,
            weights=registration.weights,
            mesh=msgspec.structs.replace(registration.mesh, uids=uids),
            inbound=facts.inbound,
        )
        if before is not None:
            state, reason = before.instance.state, before.instance.reason
            instance = msgspec.structs.replace(instance, state=state, reason=reason, results=before.instance.results)
        app = registration.address or facts.loopback
        return Local(instance=_with_checks(instance, checks), app=app, uid=registration.uid, configured=configured)

    def _adopt(self, local: Local) -> None:
        self._withdrawals.discard(local.instance.key)
        self._local[local.instance.id] = local

    def _app(self, address: str) -> str:
        return self._facts.loopback if address == self._facts.address else address

    def _follow(self, instance: Instance) -> None:
        self._runner.follow(instance.key, instance.checks, instance.results)

    def _result(self, instance: Instance, check: Check) -> CheckResult:
        stored = {one.check_id: one for one in instance.results}
        initial = CheckResult(check_id=check.check_id, status=check.status)
        return self._results.get((instance.id, check.check_id)) or stored.get(check.check_id, initial)

    def _known(self, instance_id: str) -> Local:
        found = self._local.get(instance_id)
        if found is None:
            raise NotFound(f"no instance {instance_id} is registered on this host")
        return found

    def _save(self) -> None:
        local = tuple(self._local[name] for name in sorted(self._local))
        leaving = tuple(sorted(self._left.keys() | self._sought.keys()))
        self._file.save(Saved(local=local, withdrawals=tuple(sorted(self._withdrawals)), leaving=leaving))

    def _forget_results(self, instance_id: str) -> None:
        self._overdue.forget(instance_id)
        for name in [name for name in self._results if name[0] == instance_id]:
            del self._results[name]

    def _expiries(self) -> dict[str, float]:
        return self._overdue.due(local.instance for local in self._local.values())

    def _next_deadline(self) -> float | None:
        expiries = self._expiries()
        return max(0.0, min(expiries.values()) - self._clock()) if expiries else None

    async def _drop_critical(self) -> None:
        for name, due in self._expiries().items():
            if due <= self._clock():
                self._log.warning("critical for too long: deregistered", instance=name)
                with contextlib.suppress(RegistryError):
                    await self.deregister(name)

    async def withdraw_all(self) -> None:
        """Take every instance out of traffic (this host stops); they stay registered here for the next start."""
        self._leaving = True
        for local in self._local.values():
            with contextlib.suppress(RegistryError):
                await self._catalog.withdraw(local.instance.key)
        await self._adoption.let_go(dict(self._stored or {}))


async def _attempt(step: Awaitable[object]) -> RegistryError | None:
    """Why a step failed; None: it did not."""
    try:
        await step
    except RegistryError as error:
        return error
    return None


def _dialled(instance: Instance, app: str) -> Instance:
    return msgspec.structs.replace(instance, address=app)


def _with_checks(instance: Instance, checks: tuple[Check, ...]) -> Instance:
    named = {check.check_id for check in checks}
    kept = tuple(result for result in instance.results if result.check_id in named)
    return _with_results(msgspec.structs.replace(instance, checks=checks), kept)


def _with_results(instance: Instance, results: tuple[CheckResult, ...]) -> Instance:
    """An instance is as healthy as its worst check; one without a result yet counts by its initial status."""
    said = {result.check_id: result.status for result in results}
    health = worst(tuple(said.get(check.check_id, check.status) for check in instance.checks))
    return msgspec.structs.replace(instance, results=results, health=health)
