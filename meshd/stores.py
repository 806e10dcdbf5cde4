"""Opening what the configuration names: the home registry by `Registry.Kind`, and those beside it.

A backend is imported where it is opened: a host needs one or two of them, and pays for no more.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from meshd.config import Host
from meshd.control.contact import Contact
from meshd.control.registries import Joined, Registries
from meshd.registry_settings import Further, Registry
from meshd.surroundings import Surroundings, advertised
from registry.ca import files, names, tls
from registry.catalog import KvCatalog
from registry.placement import Placement
from registry.store import SessionStore

Run = Callable[[], Awaitable[None]]


@dataclass(frozen=True)
class One:
    """A registry by itself. `run`: what must run for it; `acting_as`: itself under a caller's token."""

    store: SessionStore
    run: Run | None = None
    acting_as: Callable[[str], SessionStore] | None = None
    catalog: KvCatalog | None = None


@dataclass(frozen=True)
class Opened:
    """`store`: all registries as one; `home`: the one that other hosts may be served from. `addresses`: where the
    authority answers. `runs`: what must run, by name. `catalog` None: plain keys in `store`."""

    store: SessionStore
    home: SessionStore
    addresses: tuple[str, ...]
    runs: Mapping[str, Run]
    acting_as: Callable[[str], SessionStore] | None = None
    catalog: KvCatalog | None = None
    registries: Registries | None = None


def open_stores(host: Host, around: Surroundings) -> Opened:
    """Nothing is asked of a server yet. Raises RegistryError naming a file that cannot be used."""
    home = open_home(host, around.contact)
    addresses = host.registry.all_addresses if host.registry.kind == "mesh" else host.authorities
    runs = {"leases": home.run} if home.run is not None else {}
    if not host.registries:
        return Opened(home.store, home.store, addresses, runs, home.acting_as, home.catalog)
    joined = [Joined(host.registry.name, host.registry.kind, home.store, around.contact)]
    opened = [home]
    for section in host.registries:
        contact = Contact()
        one = open_server(section, host, contact)
        opened.append(one)
        joined.append(Joined(section.name, section.kind, one.store, contact))
        runs |= {f"registry {section.name}": one.run} if one.run is not None else {}
    store, registries = together(host, tuple(joined), opened, around)
    return Opened(store, home.store, addresses, runs, home.acting_as, registries.placement, registries)


def together(
    host: Host, joined: tuple[Joined, ...], opened: list[One], around: Surroundings
) -> tuple[SessionStore, Registries]:
    """Several registries as one store, with a catalogue that writes into each of them."""
    from registry.backends.union import Member, UnionStore

    members = [Member(one.name, one.store, one.contact.made, one.contact.pause) for one in joined]
    store = UnionStore(members, rule=host.registry.merge)
    catalogs = {
        one.name: how.catalog or KvCatalog(one.store, clock=around.clock)
        for one, how in zip(joined, opened, strict=True)
    }
    placement = Placement(store, catalogs, host.node, around.log)
    registries = Registries(joined, placement, host.registry.merge, host.node, around.clock)
    store.heard, registries.last_known = registries.heard, store.last_known
    return store, registries


def open_home(host: Host, contact: Contact) -> One:
    """The home registry."""
    kind = host.registry.kind
    if kind == "sqlite":
        from registry.backends.sqlite import SqliteStore

        host.data.mkdir(parents=True, exist_ok=True)
        embedded = SqliteStore.open(host.data / "registry.sqlite")
        return One(embedded, embedded.run)
    if kind == "mesh":
        from registry.backends.consul import Backoff, ConsulStore

        layout, addresses = files.Layout(host.data), host.registry.all_addresses
        peer = names.peer_name(files.load_trust_domain(layout))
        urls = [address if "://" in address else f"https://{address}" for address in addresses]
        remote = ConsulStore(urls, ssl=tls.client_context(layout), server_hostname=peer, backoff=Backoff(contact.pause))
        return One(remote, remote.run, remote.acting_as)
    return open_server(host.registry, host, contact)


def open_server(section: Registry | Further, host: Host, contact: Contact) -> One:
    """A Consul or an etcd."""
    if section.kind == "consul":
        from registry.backends.consul_open import open_consul

        store, catalog = open_consul(section, host.node, advertised(host), contact.pause)
        return One(store, store.run, store.acting_as, catalog)
    from registry.backends.etcd_open import open_etcd

    etcd = open_etcd(section, contact.pause)
    return One(etcd, etcd.run, etcd.acting_as)
