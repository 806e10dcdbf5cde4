"""Which store is this? `store-id` (`kv.md`) tells a wiped or restored store from the one that a host belongs to. Pure.

The value is `<id>` as `ca init` drew it, then `<id>.<n>`: `meshctl registry adopt` counts n up, which tells every
host that an operator believes this store as it is.
"""

from typing import Literal

Verdict = Literal["first", "same", "adopted", "absent", "other", "older"]

WHY = {
    "absent": "the store has lost its store-id: it was wiped, or is another one",
    "other": "the store's id is another one: it was wiped and made anew, or belongs to another mesh",
    "older": "the store's id is older than the one this host has seen: it was restored from a backup",
}


def judge(pinned: str, seen: str) -> Verdict:
    """`pinned`: the id that this host has believed so far; `seen`: what the store says now. Empty: none."""
    if not pinned:
        return "first"
    if not seen:
        return "absent"
    if base(pinned) != base(seen):
        return "other"
    before, now = _count(pinned), _count(seen)
    if before == now:
        return "same"
    return "adopted" if now > before else "older"


def base(store_id: str) -> str:
    """The part that `ca init` drew."""
    return store_id.partition(".")[0]


def following(store_id: str) -> str:
    """The id that says: adopted."""
    return f"{base(store_id)}.{_count(store_id) + 1}"


def rank(store_id: str, known: str) -> int:
    """For comparing ids of one store: how often it was adopted; -1 for another store's."""
    return _count(store_id) if base(store_id) == base(known) else -1


def _count(store_id: str) -> int:
    text = store_id.partition(".")[2]
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0
