"""Many keys in few reads: what is asked at one moment goes together, a refusal hits only its own key."""

import asyncio
from collections.abc import Sequence

import pytest

from registry.backends.etcd_cells import Cell
from registry.backends.etcd_together import MOST, Together
from registry.errors import Denied, Unavailable
from tests.unit.registry import made


class Server:
    """Answers from `there`; refuses what names a key of `closed`."""

    def __init__(self, *there: str, closed: str = "", down: bool = False) -> None:
        self.there = set(there)
        self.closed = closed
        self.down = down
        self.reads: list[list[str]] = []
        self.hold: asyncio.Event | None = None
        self.asked = asyncio.Event()

    async def __call__(self, names: Sequence[str]) -> tuple[dict[str, Cell], int]:
        self.reads.append(list(names))
        self.asked.set()
        if self.hold is not None:
            await self.hold.wait()
        if self.down:
            raise Unavailable("nobody answers")
        if self.closed in names:
            raise Denied("permission denied")
        return {name: Cell(made.entry(name, b"1")) for name in names if name in self.there}, 7


async def test_keys_that_are_asked_at_one_moment_are_one_read_each_128() -> None:
    server = Server("k0", "k200")
    together = Together(server)
    found = await asyncio.gather(*(together.read(f"k{n}") for n in range(201)))
    assert [len(names) for names in server.reads] == [MOST, 201 - MOST]
    assert [n for n, (cell, _) in enumerate(found) if cell is not None] == [0, 200]
    assert {revision for _, revision in found} == {7}


async def test_a_forbidden_key_is_refused_alone() -> None:
    together = Together(Server("a", "c", closed="b"))
    first, refused, last = await asyncio.gather(*map(together.read, "abc"), return_exceptions=True)
    assert isinstance(refused, Denied)
    for found in (first, last):
        assert not isinstance(found, BaseException)
        assert found[0] is not None


async def test_who_reads_for_all_may_be_cancelled_and_the_others_still_get_theirs() -> None:
    server = Server("a", "b")
    server.hold = asyncio.Event()
    together = Together(server)
    leader = asyncio.ensure_future(together.read("a"))  # noqa: TID251 - awaited below
    other = asyncio.ensure_future(together.read("b"))  # noqa: TID251 - awaited below
    await server.asked.wait()
    leader.cancel()
    await asyncio.wait([leader])
    server.hold.set()
    assert (await other)[0] is not None


async def test_an_outage_is_every_askers() -> None:
    together = Together(Server(down=True))
    found = await asyncio.gather(together.read("a"), together.read("b"), return_exceptions=True)
    assert all(isinstance(one, Unavailable) for one in found)
    with pytest.raises(Unavailable):
        await together.read("a")
