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
from registry import keys
from registry.ca import tls
from registry.errors import RegistryError
from registry.store import Store

TOKEN = "X-Consul-Token"
LIVELY = {"consul": "/v1/status/leader", "mesh": "/v1/status/leader", "etcd": "/version"}


class Place(msgspec.Struct, frozen=True):
    """`store`: None where it cannot be opened, `why` says so. `now`: Unix time. `version`: meshd's own."""

    host: Host
    store: Store | None
    why: str
    environ: Mapping[str, str]
    now: Callable[[], float]
    version: str


Step = Callable[[], AsyncIterator[Check]]


class Doctor:
    """`steps` are run one after the other; each yields its lines."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._host = place.host
        self._first: Door | None = None  # an address of the registry that answers

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

    async def registry(self) -> AsyncIterator[Check]:
        if self._host.registry.kind == "sqlite":
            yield ok(UNREACHABLE, "embedded, in this host's own meshd")
            return
        doors, why = reach.readable(self._host)
        if why:
            yield fail("registry files", why, "the TLS files of Registry, or DataDir/identity")
            return
        answers = [(door, await self._ask(door, LIVELY[self._host.registry.kind])) for door in doors]
        others = any(good(answer) for _, answer in answers)
        for door, answer in answers:
            yield judge_address(door.url, answer, others=others)
            if not answer.problem:
                self._first = self._first or door
                yield clocks.judge(f"registry {door.url}", answer.date, answer.before, answer.after)
        yield judge_registry(len(answers), [answer for _, answer in answers])

    async def _ask(self, door: Door, path: str, body: bytes | None = None) -> Answer:
        headers = {}
        if self._host.registry.kind == "consul":
            try:
                account = reach.account(self._host.registry)
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

    async def version(self) -> AsyncIterator[Check]:
        kind = self._host.registry.kind
        if self._first is None or kind not in ("consul", "etcd"):
            return
        path = "/v1/agent/members" if kind == "consul" else "/version"
        answer = await self._ask(self._first, path)
        for line in versions.judge("consul" if kind == "consul" else "etcd", server_version(kind, answer.body)):
            yield line

    async def rights(self) -> AsyncIterator[Check]:
        host, store = self._host, self._place.store
        if host.registry.kind == "sqlite":
            yield ok("rights", "embedded: this host's meshd holds all of them")
            return
        if store is None:
            yield fail("rights", self._place.why, "TokenFile, CertFile and KeyFile of Registry")
            return
        if self._first is None:
            yield warn("rights", "not asked: the registry does not answer", "see the line `registry`")
            return
        native = host.registry.kind == "consul"
        who = Who(host.node, self._services(), "ca" in host.roles, native)
        for line in await rights.examine(store, who, rights.WHERE[host.registry.kind]):
            yield line
        if native:
            for line in await self._catalogue(self._first, who):
                yield line

    def _services(self) -> tuple[str, ...]:
        return tuple(sorted({app.instance.split("/")[0] for app in sockets.apps(self._host) if "/" in app.instance}
                            | {str(body["Name"]) for body in self._host.services if "Name" in body}))  # fmt: skip

    async def _catalogue(self, door: Door, who: Who) -> Sequence[Check]:
        asked = rights.wishes(who, agent=self._host.registry.mode != "agentless")
        body = msgspec.json.encode([wish for wish, _ in asked])
        answer = await self._ask(door, "/v1/internal/acl/authorize", body)
        try:
            said = msgspec.json.decode(answer.body, type=list[rights.Said])
        except msgspec.DecodeError:
            text = answer.problem or answer.body[:80].decode(errors="replace")
            if "ACL support disabled" in text:
                return [warn("rights catalogue", "Consul has no ACLs: everybody may write everything", "enable ACLs")]
            return [warn("rights catalogue", f"cannot be asked: {text}", "compare the token's policies by hand")]
        return rights.judge_catalogue(asked, said, rights.WHERE["consul"])

    async def keys(self) -> AsyncIterator[Check]:
        if self._place.store is None or (self._first is None and self._host.registry.kind != "sqlite"):
            return
        try:
            listing = await self._place.store.list(keys.PREFIX)
        except RegistryError as error:
            yield warn("keys", f"cannot be listed: {error}", "see the lines `right read`")
            return
        yield alphabet.judge(entry.key for entry in listing.entries)

    async def certificates(self) -> AsyncIterator[Check]:
        for line in certificates.examine(self._host.data, self._host.registry, self._place.now()):
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
