"""All checks of one host, in the order in which a person would look. Leaves nothing behind.

check         one line, and the exit code
reach         asking addresses          clocks      skew, from the answers
versions      known faults              rights      probes, and what would be too much
alphabet      keys                      certificates  ages
disk limits sockets program             this machine
"""

import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

import msgspec

from meshd.config import Host
from meshd.doctor import alphabet, certificates, clocks, disk, limits, program, reach, rights, sockets, versions
from meshd.doctor.check import UNREACHABLE, Check, fail, ok, warn
from meshd.doctor.reach import Answer, Door
from meshd.doctor.rights import Who
from meshd.registry_settings import Further, Registry
from registry import keys
from registry.ca import tls
from registry.errors import RegistryError
from registry.store import Store

TOKEN = "X-Consul-Token"
LIVELY = {"consul": "/v1/status/leader", "mesh": "/v1/status/leader", "etcd": "/version"}


class Side(msgspec.Struct, frozen=True):
    """One registry. `store`: None where it cannot be opened, `why` says so."""

    settings: Registry | Further
    store: Store | None
    why: str = ""

    @property
    def beside(self) -> bool:
        return isinstance(self.settings, Further)

    def named(self, check: Check) -> Check:
        """Lines of a registry beside the home one say which it is."""
        if not self.beside or check.name.startswith(("address ", "clock ")):
            return check
        return msgspec.structs.replace(check, name=f"{check.name} of {self.settings.name}")


class Place(msgspec.Struct, frozen=True):
    """`sides`: the home registry first. `now`: Unix time. `version`: meshd's own."""

    host: Host
    sides: tuple[Side, ...]
    environ: Mapping[str, str]
    now: Callable[[], float]
    version: str


Step = Callable[[], AsyncIterator[Check]]


class Doctor:
    """`steps` are run one after the other; each yields its lines."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._host = place.host
        self._answering: dict[str, Door] = {}  # by a registry's name: an address of it that answers

    @property
    def steps(self) -> tuple[tuple[str, Step], ...]:
        """What is looked at, and how."""
        return (
            ("the registry's addresses", self.registry),
            ("the authority", self.authority),
            ("the registry's version", self.version),
            ("rights", self.rights),
            ("keys", self.keys),
            ("certificates", self.certificates),
            ("this machine", self.machine),
        )

    async def _each(self, look: Callable[[Side], AsyncIterator[Check]]) -> AsyncIterator[Check]:
        for side in self._place.sides:
            async for check in look(side):
                yield side.named(check)

    def registry(self) -> AsyncIterator[Check]:
        return self._each(self._registry)

    async def _registry(self, side: Side) -> AsyncIterator[Check]:
        settings = side.settings
        if settings.kind == "sqlite":
            yield ok(UNREACHABLE, "embedded, in this host's own meshd")
            return
        doors, why = reach.readable(settings, self._host.data)
        if why:
            yield fail("registry files", why, "the TLS files of Registry, or DataDir/identity")
            return
        answers = [(door, await self._ask(settings, door, LIVELY[settings.kind])) for door in doors]
        others = any(good(answer) for _, answer in answers)
        for door, answer in answers:
            yield judge_address(door.url, answer, others=others)
            if not answer.problem:
                self._answering.setdefault(settings.name, door)
                yield clocks.judge(f"registry {door.url}", answer.date, answer.before, answer.after)
        yield judge_registry(len(answers), [answer for _, answer in answers])

    async def _ask(self, settings: Registry | Further, door: Door, path: str, body: bytes | None = None) -> Answer:
        headers = {}
        if settings.kind == "consul":
            try:
                account = reach.account(settings)
            except OSError:
                account = ""  # opening the store says so
            headers = {TOKEN: account} if account else {}
        return await reach.ask(door, path, headers, body, self._place.now)

    async def authority(self) -> AsyncIterator[Check]:
        """Public roots, so nothing is believed of it but the time."""
        for address in filter(None, self._host.authorities):
            door = Door(f"https://{address}", tls.unverified_context())
            answer = await self._ask_nobody(door)
            if answer.problem:
                own = bool(self._host.roles)
                todo = "start meshd on this host" if own else answer.todo
                yield warn(f"authority {address}", answer.problem, f"{todo} (without it nothing is renewed)")
            else:
                yield ok(f"authority {address}", "answers")
                yield clocks.judge(f"authority {address}", answer.date, answer.before, answer.after)

    async def _ask_nobody(self, door: Door) -> Answer:
        return await reach.ask(door, "/v1/roots", now=self._place.now)

    def version(self) -> AsyncIterator[Check]:
        return self._each(self._version)

    async def _version(self, side: Side) -> AsyncIterator[Check]:
        kind, door = side.settings.kind, self._answering.get(side.settings.name)
        if door is None or kind not in ("consul", "etcd"):
            return
        answer = await self._ask(side.settings, door, "/v1/agent/members" if kind == "consul" else "/version")
        for line in versions.judge("consul" if kind == "consul" else "etcd", server_version(kind, answer.body)):
            yield line

    def rights(self) -> AsyncIterator[Check]:
        return self._each(self._rights)

    async def _rights(self, side: Side) -> AsyncIterator[Check]:
        host, settings, door = self._host, side.settings, self._answering.get(side.settings.name)
        if settings.kind == "sqlite":
            yield ok("rights", "embedded: this host's meshd holds all of them")
            return
        if side.store is None:
            yield fail("rights", side.why, "TokenFile, CertFile and KeyFile of Registry")
            return
        if door is None:
            yield warn("rights", "not asked: the registry does not answer", "see the line `registry`")
            return
        native = settings.kind == "consul"
        who = Who(host.node, self._services(), "ca" in host.roles and not side.beside, native, side.beside)
        for line in await rights.examine(side.store, who, rights.WHERE[settings.kind]):
            yield line
        for line in await self._catalogue(settings, door, who) if native else ():
            yield line

    def _services(self) -> tuple[str, ...]:
        return tuple(sorted({app.instance.split("/")[0] for app in sockets.apps(self._host) if "/" in app.instance}
                            | {str(body["Name"]) for body in self._host.services if "Name" in body}))  # fmt: skip

    async def _catalogue(self, settings: Registry | Further, door: Door, who: Who) -> Sequence[Check]:
        asked = rights.wishes(who, agent=settings.mode != "agentless")
        body = msgspec.json.encode([wish for wish, _ in asked])
        answer = await self._ask(settings, door, "/v1/internal/acl/authorize", body)
        try:
            said = msgspec.json.decode(answer.body, type=list[rights.Said])
        except msgspec.DecodeError:
            text = answer.problem or answer.body[:80].decode(errors="replace")
            if "ACL support disabled" in text:
                return [warn("rights catalogue", "Consul has no ACLs: everybody may write everything", "enable ACLs")]
            return [warn("rights catalogue", f"cannot be asked: {text}", "compare the token's policies by hand")]
        return rights.judge_catalogue(asked, said, rights.WHERE["consul"])

    def keys(self) -> AsyncIterator[Check]:
        return self._each(self._keys)

    async def _keys(self, side: Side) -> AsyncIterator[Check]:
        if side.store is None or (side.settings.kind != "sqlite" and side.settings.name not in self._answering):
            return
        try:
            listing = await side.store.list(keys.PREFIX)
        except RegistryError as error:
            yield warn("keys", f"cannot be listed: {error}", "see the lines `right read`")
            return
        yield alphabet.judge(entry.key for entry in listing.entries)

    async def certificates(self) -> AsyncIterator[Check]:
        settings = tuple(side.settings for side in self._place.sides)
        for line in certificates.examine(self._host.data, settings, self._place.now()):
            yield line

    async def machine(self) -> AsyncIterator[Check]:
        host = self._host
        for line in (*disk.examine(host.data, self._place.now()), *sockets.examine(host)):
            yield line
        running = {pid: found for pid in sockets.proxies(host) if (found := limits.of_process(pid)) is not None}
        for pid, soft in running.items():
            yield limits.judge(f"proxy {pid}", soft)
        if not running:
            yield limits.judge("of a new proxy", limits.of_a_start())
        yield program.examine(host, self._place.environ, self._place.version)


def good(answer: Answer) -> bool:
    return not answer.problem and answer.status < 500


def judge_address(url: str, answer: Answer, *, others: bool) -> Check:
    """Pure. `others`: some address answers, so this one is only a spare that is missing."""
    name = f"address {url}"
    if not good(answer):
        text = f"answers {answer.status}: {answer.body[:120].decode(errors='replace').strip()}"
        said = (name, answer.problem or text, answer.todo or "its log says why")
        return warn(*said) if others else fail(*said)
    took = (answer.after - answer.before) * 1000
    return ok(name, f"answers in {took:.0f} ms")


def judge_registry(count: int, answers: Sequence[Answer]) -> Check:
    """Pure: whether any address answers."""
    answering = sum(map(good, answers))
    if not answering:
        return fail(UNREACHABLE, f"none of {count} addresses answers", "requests go on; see the lines `address`")
    return ok(UNREACHABLE, f"{answering} of {count} addresses answer")


def server_version(kind: str, body: bytes) -> str:
    """Of Consul's members (the oldest server) or etcd's `/version`; empty: it does not say, or may not."""
    try:
        found: Any = json.loads(body)
        if kind == "etcd":
            return str(found["etcdserver"])
        builds = [one["Tags"]["build"].partition(":")[0] for one in found if one["Tags"].get("role") == "consul"]
    except (ValueError, KeyError, TypeError, AttributeError):
        return ""
    return min(builds, key=lambda build: versions.parse(build) or (0, 0, 0), default="")
