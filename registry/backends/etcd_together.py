"""Reading many single keys as few transactions: a host that starts lists some hundred keys at the same moment.

Whoever asks first reads for all who ask until it is done; nobody waits for others to ask.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from registry.backends.etcd_cells import Cell
from registry.errors import Denied, RegistryError

MOST = 128  # keys of one transaction: etcd's --max-txn-ops

Read = Callable[[Sequence[str]], Awaitable[tuple[dict[str, Cell], int]]]
Found = tuple[Cell | None, int]


class Together:
    """`read_many`: the keys of one moment, and its revision; it is asked for at most `MOST`."""

    def __init__(self, read_many: Read) -> None:
        self._read_many = read_many
        self._asked: list[tuple[str, asyncio.Future[Found | None]]] = []
        self._leading = False

    async def read(self, key: str) -> Found:
        """The key (None: it is not there) and the revision of which that is true. Raises as the store's reads do."""
        while True:
            future: asyncio.Future[Found | None] = asyncio.get_running_loop().create_future()
            self._asked.append((key, future))
            if not self._leading:
                await self._lead()
            found = await future
            if found is not None:
                return found

    async def _lead(self) -> None:
        self._leading = True
        batch: list[tuple[str, asyncio.Future[Found | None]]] = []
        try:
            await asyncio.sleep(0)  # whoever starts in the same turn of the loop comes along
            while self._asked:
                batch, self._asked = self._asked[:MOST], self._asked[MOST:]
                await self._answer(batch)
        finally:
            self._leading = False
            for _, future in (*batch, *self._asked):  # the leader was cancelled: the others ask again
                if not future.done():
                    future.set_result(None)
            self._asked.clear()

    async def _answer(self, batch: Sequence[tuple[str, "asyncio.Future[Found | None]"]]) -> None:
        names = list(dict.fromkeys(key for key, _ in batch))
        try:
            cells, revision = await self._read_many(names)
        except RegistryError as error:
            if isinstance(error, Denied) and len(batch) > 1:
                for one in batch:  # a transaction is refused as a whole: each key for itself tells which one it was
                    await self._answer([one])
                return
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
            return
        for key, future in batch:
            if not future.done():
                future.set_result((cells.get(key), revision))
