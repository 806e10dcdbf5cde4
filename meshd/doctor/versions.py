"""Faults of registry servers that matter to a mesh, by version. Pure.

Only what changes who may read or write the mesh's keys, or what keys can be written, is here; each row names its
source. A version that is not in any row is not thereby good: read the product's own advisories.
"""

import re
from collections.abc import Iterable
from typing import Literal

import msgspec

from meshd.doctor.check import Check, ok, warn

Product = Literal["consul", "etcd"]
Version = tuple[int, int, int]

NUMBER = re.compile(r"v?(\d+)\.(\d+)\.(\d+)")


class Fault(msgspec.Struct, frozen=True):
    """`fixed`: the first good release of each release line; a line below the first of them was never mended.

    `since`: the first bad release.
    """

    product: Product
    what: str
    source: str
    fixed: tuple[Version, ...]
    since: Version = (0, 0, 0)


FAULTS = (
    Fault(
        "etcd",
        "nested transactions bypass the rights of accounts: any account reads and writes everything",
        "CVE-2026-33343, https://osv.dev/vulnerability/BIT-etcd-2026-33343",
        ((3, 4, 42), (3, 5, 28), (3, 6, 9)),
    ),
    Fault(
        "etcd",
        "lease and compaction calls are open to any account",
        "CVE-2026-33413, https://osv.dev/vulnerability/CVE-2026-33413",
        ((3, 4, 42), (3, 5, 28), (3, 6, 9)),
    ),
    Fault(
        "etcd",
        "transactions read previous values and attach leases without the right to",
        "CVE-2026-44283, https://osv.dev/vulnerability/CVE-2026-44283",
        ((3, 4, 44), (3, 5, 30), (3, 6, 11)),
    ),
    Fault(
        "etcd",
        "an account that may read one key watches everything behind it",
        "CVE-2026-73499, GHSA-xg4h-6gfc-h4m8",
        ((3, 5, 33), (3, 6, 14), (3, 7, 1)),
    ),
    Fault(
        "consul",
        "1.21.5 refuses keys with other characters than letters, digits and a few signs, also such that exist",
        "https://github.com/hashicorp/consul/issues/22822",
        ((1, 21, 6),),
        since=(1, 21, 5),
    ),
    Fault(
        "consul",
        "keys with `..` segments reach other endpoints than their ACL rules were written for",
        "CVE-2025-11392, https://github.com/hashicorp/consul/pull/22696",
        ((1, 21, 5),),
    ),
    Fault(
        "consul",
        "?raw answers of the KV store run as web pages",
        "CVE-2020-25864, https://github.com/hashicorp/consul/pull/10023",
        ((1, 7, 14), (1, 8, 10), (1, 9, 5)),
    ),
)


def parse(text: str) -> Version | None:
    """`1.8.7+dfsg1`, `v3.4.23` and the like; None: no version."""
    found = NUMBER.match(text.strip())
    return (int(found[1]), int(found[2]), int(found[3])) if found else None


def has(fault: Fault, version: Version) -> bool:
    if version < fault.since or version >= max(fault.fixed):
        return False
    mended = [fixed for fixed in fault.fixed if fixed[:2] == version[:2]]
    return not mended or version < mended[0]


def judge(product: Product, text: str, faults: Iterable[Fault] = FAULTS) -> tuple[Check, ...]:
    """One line for each fault that this version has; one that says ok when it has none."""
    name = f"version {product}"
    version = parse(text)
    if version is None:
        return (
            warn(
                name,
                f"{text or 'unknown'}: the account may not see it",
                'grant node_prefix "" read (deploy/consul/host.hcl), or look it up by hand',
            ),
        )
    found = [fault for fault in faults if fault.product == product and has(fault, version)]
    checks = []
    for fault in found:
        newest = ".".join(map(str, _target(fault, version)))
        checks.append(warn(name, f"{text}: {fault.what} ({fault.source})", f"upgrade to {newest} or later"))
    return tuple(checks) or (ok(name, f"{text}: no fault known here"),)


def _target(fault: Fault, version: Version) -> Version:
    """The nearest good release: of the same line, else of a later one."""
    return min((fixed for fixed in fault.fixed if fixed > version), default=max(fault.fixed))
