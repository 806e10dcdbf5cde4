"""Reads of a cluster: as its leader has it; without a leader, who is there as the member that answers knows it.

https://etcd.io/docs/v3.4/learning/api_guarantees/ - a serializable read needs no quorum and may be old. Policies and
trust are never read so: an old intention may allow what was forbidden since.
"""

from collections.abc import Callable

from registry import keys
from registry.backends import etcd_errors
from registry.backends.etcd_client import STALE, Client
from registry.backends.etcdpb import etcd_pb2 as pb
from registry.errors import Unavailable
from registry.store import Behind

MAY_BE_OLD = (keys.SERVICES, keys.LEASES, keys.NODES, keys.STATUS)


class Reads:
    """Of all callers of one store. `clock` in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._heard = clock()  # when a leader was last known to be there
        self._led = True
        self._seen = 0

    def saw(self, revision: int) -> None:
        """A leader has confirmed this revision: nothing older is told from here on."""
        self._seen = max(self._seen, revision)
        self._led, self._heard = True, self._clock()

    def behind(self) -> Behind:
        """Of the last answer: without a leader, what was written in these seconds may be missing from it."""
        return Behind(0.0 if self._led else self._clock() - self._heard, self._led)

    async def range(self, client: Client, name: str, span: tuple[bytes, bytes], newest: int) -> pb.RangeResponse:
        """`name`: the key or prefix of the span; `newest`: a version that watches have told already.

        Raises Unavailable when there is no leader and the answer would be old where it may not be, or older than seen.
        """
        try:
            found = await client.range(*span)
        except Unavailable as error:
            if not etcd_errors.leaderless(str(error)):
                raise
            self._led = False
            if not name.startswith(MAY_BE_OLD):
                raise
            key, end = span
            old: pb.RangeResponse = await client.call(STALE, pb.RangeRequest(key=key, range_end=end, serializable=True))
            if old.header.revision < max(self._seen, newest):
                raise
            return old
        self.saw(found.header.revision)
        return found
