"""Deleting documents on purpose, one or many: each deletion and the word that it is meant are one transaction."""

from collections.abc import Mapping, Sequence

from meshd.control import history
from registry import keys
from registry.api.answers import Problem
from registry.errors import Conflict
from registry.store import Op, Store

TOGETHER = 32  # documents in one transaction: two steps each, and Consul takes 64

Name = tuple[str, str]  # (kind, name)


async def delete(store: Store, names: Sequence[Name], held: Mapping[Name, int], who: str, now: float) -> int:
    """Delete all of them; one that is only held (`held`: with the version known here) is let go of.

    Returns the store index. Raises Problem (404, nothing was deleted), Conflict, and as the store does.
    """
    pairs = [await _ops(store, name, held, who, now) for name in dict.fromkeys(names)]
    index = 0
    for first in range(0, len(pairs), TOGETHER):
        part = [op for pair in pairs[first : first + TOGETHER] for op in pair]
        try:
            index = await store.transact(part)
        except Conflict as error:
            raise Conflict(f"written at the same time, nothing deleted with it: {error}; look and try again") from error
    return index


async def _ops(store: Store, name: Name, held: Mapping[Name, int], who: str, now: float) -> tuple[Op, ...]:
    entry = await store.get(keys.policy(*name))
    if entry is not None:
        word = history.deletion(name, entry.version, who, now)
        return word, Op(key=entry.key, value=None, expect=entry.version)
    if name in held:
        return (history.deletion(name, held[name], who, now),)
    raise Problem(404, f"{'/'.join(name)} does not exist", hint="`meshctl get` lists documents")
