"""Keys below mesh/v1/ that not every store can write. Pure."""

from collections.abc import Iterable

from meshd.doctor.check import Check, ok, warn
from registry import keys

NAMED = 5  # keys that the line names


def judge(found: Iterable[str]) -> Check:
    bad = sorted(key for key in found if not keys.valid_key(key))
    if not bad:
        return ok("keys", f"all below {keys.PREFIX} are [A-Za-z0-9._/-]")
    more = f" and {len(bad) - NAMED} more" if len(bad) > NAMED else ""
    seen = f"outside the alphabet: {', '.join(map(repr, bad[:NAMED]))}{more}"
    todo = "delete them with the store's own tool: newer servers (Consul 1.21.5) refuse to write such keys"
    return warn("keys", seen, todo)
