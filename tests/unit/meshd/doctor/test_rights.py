import pytest

from meshd.doctor.rights import NOBODY, Right, Said, Who, Wish, examine, judge_catalogue, rights, wishes
from registry import keys
from registry.errors import Denied, Unavailable
from registry.store import Entry
from tests.fakes.store import MemoryStore

HOST = Who("web-17", ("web",), authority=False, native=False)


class Ruled(MemoryStore):
    """A store with rules: keys that begin so may be read or written."""

    def __init__(self, read: tuple[str, ...], write: tuple[str, ...]) -> None:
        super().__init__()
        self.read, self.write = read, write

    async def get(self, key: str) -> Entry | None:
        if not key.startswith(self.read):
            raise Denied(key)
        return await super().get(key)

    async def may_write(self, key: str) -> None:
        if not key.startswith(self.write):
            raise Denied(key)


OWN = (keys.lease("web-17"), keys.node("web-17"), keys.status("web-17"), keys.SERVICES + "web/web-17/")


async def test_exactly_what_is_needed() -> None:
    checks = await examine(Ruled((keys.PREFIX,), OWN), HOST, "roles.sh")
    assert {check.verdict for check in checks} == {"ok"}
    assert checks[-1].name == "rights beyond"


@pytest.mark.parametrize("missing", OWN)
async def test_a_missing_right_is_named(missing: str) -> None:
    store = Ruled((keys.PREFIX,), tuple(key for key in OWN if key != missing))
    (failed,) = [check for check in await examine(store, HOST, "roles.sh") if check.verdict == "fail"]
    assert failed.seen == f"missing: write {missing}"
    assert "roles.sh" in failed.todo


async def test_what_may_not_be_read_is_named() -> None:
    parts = (keys.CONFIG, keys.LEASES, keys.NODES, keys.STATUS, keys.HISTORY, keys.REVOCATIONS, keys.CA,
             keys.SERVICES, keys.STORE_ID)  # fmt: skip
    (failed,) = [check for check in await examine(Ruled(parts, OWN), HOST, "") if check.verdict == "fail"]
    assert failed.name == "right read policy/"


async def test_rights_beyond_the_need_are_warnings() -> None:
    checks = await examine(Ruled((keys.PREFIX,), (*OWN, keys.POLICY)), HOST, "roles.sh")
    (warned,) = [check for check in checks if check.verdict != "ok"]
    assert (warned.verdict, warned.name) == ("warn", "right write policy/service-intentions/…")
    assert "take it away" in warned.todo


async def test_asking_writes_nothing() -> None:
    store = MemoryStore()
    checks = await examine(store, HOST, "")
    assert store.entries == {}
    assert [check.verdict for check in checks].count("warn") >= 5, "an open store grants everything"


async def test_a_store_that_does_not_answer_is_no_denial() -> None:
    store = MemoryStore()
    store.failures.append(Unavailable("gone"))
    first = (await examine(store, HOST, ""))[0]
    assert (first.verdict, first.seen) == ("fail", "cannot be asked: gone")


def test_an_authority_needs_its_own_part_and_nobody_else_does() -> None:
    def wanted(authority: bool) -> set[tuple[str, bool]]:
        who = Who("a", (), authority, native=False)
        return {(right.area, right.wanted) for right in rights(who) if right.verb == "write"}

    assert ("store-id", True) in wanted(True)
    assert ("store-id", False) in wanted(False)
    assert ("ca/issued/", True) in wanted(True)


@pytest.mark.parametrize("who", [HOST, Who("a", ("x",), True, False), Who("a", ("x",), False, True)])
def test_every_probe_is_a_key_that_stores_take(who: Who) -> None:
    found: tuple[Right, ...] = rights(who)
    assert all(keys.valid_key(right.key) for right in found)
    assert not who.native or not any(right.key.startswith(keys.SERVICES) for right in found)


def test_consul_s_catalogue() -> None:
    who = Who("web-17", ("web",), authority=False, native=True)
    asked = wishes(who, agent=True)
    said = [Said(wish.resource, wish.access, wish.segment, allow=wanted) for wish, wanted in asked]
    assert {check.verdict for check in judge_catalogue(asked, said, "host.hcl")} == {"ok"}
    lost = [Said(one.resource, one.access, one.segment, allow=one.allow and one.segment != "web") for one in said]
    (failed,) = [check for check in judge_catalogue(asked, lost, "host.hcl") if check.verdict == "fail"]
    assert failed.seen == "missing: service 'web' write"
    wide = [Said(one.resource, one.access, one.segment, allow=True) for one in said]
    warned = {check.name for check in judge_catalogue(asked, wide, "host.hcl") if check.verdict == "warn"}
    assert warned == {"right write service …", "right write node …", "right write acl", "right write operator"}


def test_an_agent_s_settings_are_read_where_there_is_an_agent() -> None:
    who = Who("a", (), False, True)
    assert (Wish("agent", "read", "a"), True) in wishes(who, agent=True)
    assert not any(wish.resource == "agent" for wish, _ in wishes(who, agent=False))
    assert NOBODY not in who.node


def test_beside_the_home_registry_only_instances_and_leases_count() -> None:
    found = rights(Who("a", ("web",), authority=False, native=False, beside=True))
    assert {right.area for right in found if right.wanted} == {"services/", "leases/", "leases/a", "services/web/a/"}
    assert {right.area for right in found if not right.wanted} == {"leases/…", "services/…/…/…"}
