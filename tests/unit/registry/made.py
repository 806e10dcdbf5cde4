"""Instances, hosts and store entries as tests need them."""

from typing import Literal

from registry import keys, values
from registry.model import Address, Health, Instance, InstanceKey, Node
from registry.store import Entry


def instance(
    service: str = "web",
    node: str = "a",
    id: str = "web-1",
    *,
    health: Health = "passing",
    state: Literal["active", "withdrawn", "maintenance"] = "active",
    tags: tuple[str, ...] = (),
) -> Instance:
    return Instance(
        service=service,
        node=node,
        id=id,
        address="10.0.0.1",
        port=8080,
        health=health,
        state=state,
        tags=tags,
        inbound=Address(address="10.0.0.1", port=15443),
    )


def node(name: str = "a") -> Node:
    return Node(name=name, address="10.0.0.1", inbound_port=15443)


def key(of: InstanceKey | Instance) -> str:
    return keys.instance(of.service, of.node, of.id)


def entry(name: str, value: bytes, version: int = 1) -> Entry:
    return Entry(key=name, value=value, version=version, created=version)


def stored(of: Instance, version: int = 1) -> Entry:
    return entry(key(of), values.write(of), version)
