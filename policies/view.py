"""What `compile_host` is given and what it returns."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from policies.compiled import AnyResource
from policies.problem import Problem
from policies.schema.kinds import AnyDocument
from registry.model import Address, Endpoint, Instance

Protocol = Literal["tcp", "http"]


@dataclass(frozen=True, kw_only=True)
class HostView:
    """Everything that a host's configuration follows from.

    inbound       where this host's proxy binds its mTLS port
    loopback      where upstream ports are bound that do not say (`Loopback` of the host's configuration)
    local         the host's own instances; `address` as its proxy is to dial the app
    endpoints     by service, as the fold sees them, in the order of their keys; each key once
    documents     by (kind, name): the last good version of each
    unreadable    documents that exist but of which no valid version is known: intentions then deny
    wanted        further services to compile for, beyond the upstreams of `local`
    meshed        services once seen with a meshed instance: never spoken to in plaintext
    spoken        protocols as last registered, also of services that have no instance any more
    """

    node: str
    trust_domain: str
    inbound: Address
    loopback: str = "127.0.0.1"
    local: tuple[Instance, ...] = ()
    endpoints: Mapping[str, tuple[Endpoint, ...]] = field(default_factory=dict)
    documents: Mapping[tuple[str, str], AnyDocument] = field(default_factory=dict)
    access_log_path: str = ""
    unreadable: frozenset[tuple[str, str]] = frozenset()
    wanted: frozenset[str] = frozenset()
    meshed: frozenset[str] = frozenset()
    spoken: Mapping[str, Protocol] = field(default_factory=dict)
    forbid_default_allow: bool = False  # the host's own file overrules `DefaultIntention: allow`


@dataclass(frozen=True, kw_only=True)
class Compiled:
    """`resources` sorted by kind and the parts of the name, names unique; `problems` sorted: none stops the others."""

    resources: tuple[AnyResource, ...]
    problems: tuple[Problem, ...] = ()
