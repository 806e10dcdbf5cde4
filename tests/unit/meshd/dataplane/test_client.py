"""What is sent to the proxy: only differences, trust alone and first, refused resources left out and reported."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from meshd.dataplane.client import Dataplane, Refusal, difference
from meshd.dataplane.frames import Encoded, encode_resource
from meshd.dataplane.link import open_link
from policies.compiled import AnyResource, Endpoint, Service, Settings, Trust
from tests.fakes.proxy import FakeProxy
from tests.unit.meshd.dataplane.conftest import Lines

TRUST = Trust(name="trust", trust_domain="mesh.local", roots=("PEM",))
SETTINGS = Settings(name="settings", node="a", inbound_address="127.0.0.1", inbound_port=1)


def service(name: str, protocol: str = "tcp") -> Service:
    return Service(name=name, protocol=protocol)  # type: ignore[arg-type] - a literal by way of a parameter


class Bench:
    """A Dataplane beside a fake proxy; `put` waits until the version is decided."""

    def __init__(self, proxy: FakeProxy, log: Lines) -> None:
        self.proxy = proxy
        self.versions: asyncio.Queue[int] = asyncio.Queue()
        self.plane = Dataplane(log, self.versions.put_nowait)
        self.version = 0
        self.tasks: list[asyncio.Task[None]] = [asyncio.get_running_loop().create_task(self.plane.run())]

    async def attach(self) -> None:
        link = await open_link(self.proxy.path)
        self.tasks.append(asyncio.get_running_loop().create_task(link.run()))
        self.plane.attach(link)

    async def put(self, *resources: AnyResource) -> None:
        self.version += 1
        self.plane.want(self.version, resources)
        await self.settle()

    async def settle(self) -> None:
        while await asyncio.wait_for(self.versions.get(), 5) != self.version:
            pass

    async def close(self) -> None:
        if self.plane.link is not None:
            self.plane.link.close()
        for task in self.tasks:
            task.cancel()
        await asyncio.wait(self.tasks)

    def sent(self) -> list[tuple[list[str], list[str], bool]]:
        """What each Update carried: ids put, ids deleted, full."""
        return [
            ([f"{one['kind']}/{one['name']}" for one in update["put"]], update["delete"], update["full"])
            for update in self.proxy.updates
        ]


@pytest.fixture
async def bench(proxy: FakeProxy, log: Lines) -> AsyncIterator[Bench]:
    made = Bench(proxy, log)
    yield made
    await made.close()


Put = Callable[..., Awaitable[None]]


async def test_a_fresh_proxy_gets_trust_alone_and_then_everything(bench: Bench) -> None:
    await bench.attach()
    await bench.put(SETTINGS, service("api"), TRUST)
    assert bench.sent() == [
        (["trust/trust"], [], False),
        (["settings/settings", "service/api"], [], True),
    ]
    assert bench.plane.applied == 1


async def test_only_what_changed_is_sent(bench: Bench) -> None:
    await bench.attach()
    await bench.put(SETTINGS, service("api"), service("db"), TRUST)
    await bench.put(SETTINGS, service("api", "http"), TRUST)
    assert bench.sent()[2:] == [(["service/api"], ["service/db"], False)]
    await bench.put(SETTINGS, service("api", "http"), TRUST)
    assert len(bench.sent()) == 3


async def test_a_new_meshd_sends_a_running_proxy_only_what_differs(bench: Bench) -> None:
    same, other, stale = (encode_resource(service(name)) for name in ("same", "other", "stale"))
    trust = encode_resource(TRUST)
    bench.proxy.holds = {
        same.id: (same.digest, {}),
        "service/other": ("00", {}),
        stale.id: (stale.digest, {}),
        trust.id: (trust.digest, {}),
    }
    await bench.attach()
    await bench.put(service("same"), service("other"), TRUST)
    assert bench.sent() == [([other.id], ["service/stale"], False)]


async def test_nothing_is_sent_before_something_is_wanted(bench: Bench) -> None:
    bench.proxy.holds = {"service/old": ("00", {})}
    await bench.attach()
    assert bench.plane.link is not None
    await bench.plane.link.scrape()
    assert bench.proxy.updates == []
    assert bench.plane.applied == 0
    assert bench.plane.in_force  # it serves from what the meshd before us sent


async def test_a_refused_resource_is_left_out_and_keeps_its_last_version(bench: Bench) -> None:
    await bench.attach()
    await bench.put(service("api"), service("db"))
    bench.proxy.refuse = {"service/api": "bad regex"}
    await bench.put(service("api", "http"), service("db", "http"))
    assert bench.sent()[1:] == [
        (["service/api", "service/db"], [], False),
        (["service/db"], [], False),
    ]
    assert (
        bench.proxy.holds["service/api"][1]["protocol"] == "tcp"
        if "protocol" in bench.proxy.holds["service/api"][1]
        else True
    )
    assert bench.plane.refused["service/api"].reason == "bad regex"
    assert not bench.plane.reload_ok


async def test_a_refused_version_is_not_tried_again_until_it_changes(bench: Bench) -> None:
    await bench.attach()
    bench.proxy.refuse = {"service/api": "bad"}
    await bench.put(service("api"), service("db"))
    before = len(bench.sent())
    await bench.put(service("api"), service("db"), service("new"))
    assert bench.sent()[before:] == [(["service/new"], [], False)]
    bench.proxy.refuse = {}
    await bench.put(service("api", "http"), service("db"), service("new"))
    assert bench.plane.refused == {}
    assert bench.plane.reload_ok


async def test_refused_trust_does_not_block_the_rest(bench: Bench) -> None:
    bench.proxy.refuse = {"trust/trust": "no PEM"}
    await bench.attach()
    await bench.put(service("api"), TRUST)
    assert "service/api" in bench.proxy.holds
    assert set(bench.plane.refused) == {"trust/trust"}


async def test_an_update_refused_as_such_is_not_repeated_for_ever(bench: Bench) -> None:
    bench.proxy.refuse_all = "too busy"
    await bench.attach()
    await bench.put(service("api"))
    assert len(bench.proxy.updates) == 1
    assert set(bench.plane.refused) == {"service/api"}


async def test_a_restarted_proxy_gets_everything_again(bench: Bench) -> None:
    await bench.attach()
    await bench.put(service("api"), TRUST)
    assert bench.plane.link is not None
    bench.plane.link.close()
    bench.plane.detach()
    assert not bench.plane.in_force
    bench.proxy.holds.clear()
    bench.proxy.updates.clear()
    await bench.attach()
    await bench.settle()
    assert bench.sent() == [(["trust/trust"], [], False), (["service/api"], [], True)]


async def test_only_what_moved_is_encoded(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    await bench.attach()
    api, db = service("api"), service("db")
    await bench.put(api, db, TRUST)
    encoded: list[str] = []

    def encode(resource: AnyResource) -> Encoded:
        encoded.append(resource.name)
        return encode_resource(resource)

    monkeypatch.setattr("meshd.dataplane.frames.encode_resource", encode)
    await bench.put(api, service("db", "http"), service("new"), TRUST)
    assert encoded == ["db", "new"]
    assert bench.sent()[2:] == [(["service/db", "service/new"], [], False)]
    await bench.put(service("new"), TRUST)
    assert bench.sent()[3:] == [([], ["service/api", "service/db"], False)]


def test_difference_never_deletes_trust_and_never_repeats_a_refusal() -> None:
    one = encode_resource(Endpoint(name="a/b/c", id="c", service="a", node="b", address="127.0.0.1:1"))
    change = difference({one.id: one, "trust/trust": None}, {"trust/trust": "00", one.id: one.digest}, {}, fresh=False)
    assert change.empty
    refusal = Refusal(one.id, one.digest, "", "bad")
    assert difference({one.id: one}, {one.id: "00"}, {one.id: refusal}, fresh=False).empty
