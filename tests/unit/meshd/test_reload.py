"""SIGHUP: what changes, what waits, and that a bad file changes nothing."""

import asyncio
import os
import signal
from collections.abc import Callable

import msgspec

from meshd.admin import views
from meshd.config import Host, Ports, Proxy, Seconds
from meshd.placed import ConfigError, Fault
from meshd.reload import LIVE, Plan, Reloader, flat, plan
from tests.unit.meshd.conftest import Lines, Single, until

HOST = Host(node="a")


def test_live_settings_change_and_others_wait() -> None:
    read = Host(
        node="a",
        ports=Ports(api=1),
        drain_timeout=Seconds(5),
        proxy=Proxy(access_log="/var/log/x", threads=3),
        services=({"Name": "web", "Port": 80},),
    )
    found = plan(HOST, read)
    assert found.changed == ("DrainTimeout", "Proxy.AccessLog", "Services")
    assert found.waiting == ("Ports.Api", "Proxy.Threads")
    assert found.host.drain_timeout == 5
    assert found.host.proxy == Proxy(access_log="/var/log/x")
    assert found.host.services == read.services
    assert found.host.ports == HOST.ports


def test_the_same_file_changes_nothing() -> None:
    assert plan(HOST, Host(node="a")) == Plan(HOST)


def test_live_settings_are_settings() -> None:
    assert set(flat(msgspec.to_builtins(HOST, enc_hook=float))) >= LIVE


async def test_a_bad_file_changes_nothing_and_is_said() -> None:
    log = Lines()

    def broken() -> Host:
        raise ConfigError(Fault("host.yaml:3", "unknown key Prot", "did you mean Ports?"))

    async def use(plan: Plan) -> None:
        raise AssertionError("a bad file must not be used")

    reloader = Reloader(broken, lambda: HOST, use, lambda text: None, log)
    await reloader.reload()
    assert "host.yaml:3" in reloader.state.problem
    assert log.errors() == ["configuration not reloaded; all stays as it was"]


async def test_sighup_reloads_and_tells_systemd_both_words() -> None:
    told: list[str] = []
    used: list[Plan] = []

    async def use(plan: Plan) -> None:
        used.append(plan)

    reloader = Reloader(lambda: Host(node="a", drain_timeout=Seconds(9)), lambda: HOST, use, told.append, Lines())
    running = asyncio.get_running_loop().create_task(reloader.run())
    try:
        await asyncio.sleep(0)  # sleep: one turn of the loop, in which the handler is set
        os.kill(os.getpid(), signal.SIGHUP)
        await until("told", lambda: len(told) == 2)
    finally:
        running.cancel()
        await asyncio.wait([running])
        asyncio.get_running_loop().remove_signal_handler(signal.SIGHUP)
    assert told[0].startswith("RELOADING=1\nMONOTONIC_USEC=")
    assert told[1] == "READY=1"
    assert used[0].changed == ("DrainTimeout",)


# ---- in a host ----------------------------------------------------------------------------------------------------


def reads(single: Single, change: Callable[[Host], Host]) -> None:
    found = change(single.agent.host)
    single.reread = lambda: found


async def test_services_of_the_file_come_and_go(single: Single) -> None:
    web, api = {"Name": "web", "ID": "w", "Port": 80}, {"Name": "api", "ID": "p", "Port": 81}
    reads(single, lambda host: msgspec.structs.replace(host, services=(web, api)))
    await single.agent.reloader.reload()
    await until("both serve", lambda: single.held("inbound/web/a/w") and single.held("inbound/api/a/p"))
    moved = {"Name": "web2", "ID": "w", "Port": 80}
    reads(single, lambda host: msgspec.structs.replace(host, services=(moved,)))
    await single.agent.reloader.reload()
    await until("web2 serves", lambda: single.held("inbound/web2/a/w"))
    local = single.agent.registrar.services()
    assert {name: one.service for name, one in local.items()} == {"w": "web2"}
    await until("withdrawn", lambda: {one.service: one.state for one in single.agent.fold.instances.values()}
                == {"web": "withdrawn", "api": "withdrawn", "web2": "active"})  # fmt: skip


async def test_what_waits_and_what_is_wrong_is_in_the_status(single: Single) -> None:
    agent = single.agent
    reads(single, lambda host: msgspec.structs.replace(host, lease_ttl=Seconds(33)))
    await agent.reloader.reload()
    assert agent.host.lease_ttl == 10
    assert "settings wait for the next start of meshd: LeaseTTL" in views.warnings(agent)
    reads(single, lambda host: msgspec.structs.replace(host, services=({"Name": "web", "Prot": 80},)))
    await agent.reloader.reload()
    assert agent.host.services == ()
    assert any("not reloaded" in line and "Services[0]" in line for line in views.warnings(agent))


async def test_the_access_log_moves_without_a_restart(single: Single) -> None:
    proxy = msgspec.structs.replace(single.agent.host.proxy, access_log="/var/log/mesh")
    reads(single, lambda host: msgspec.structs.replace(host, proxy=proxy))
    await single.agent.reloader.reload()
    await until("the proxy knows", lambda: "/var/log/mesh" in str(single.held("settings/settings")))
