"""The unmodified `consul` 1.8.7 against the embedded registry's API."""

import asyncio
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from aiohttp.test_utils import TestClient

from registry.backends.sqlite import SqliteStore
from tests.tools import tool

PATIENCE = 20.0  # seconds for one command
DEFINITION = {
    "service": {
        "name": "web",
        "id": "web-1",
        "port": 8080,
        "tags": ["v2"],
        "meta": {"version": "2"},
        "checks": [{"name": "alive", "ttl": "30s", "status": "passing"}],
    }
}


class Cli:
    """Runs `consul ARGS` with the API as its agent."""

    def __init__(self, url: str) -> None:
        self._command = str(tool("consul"))
        self._environment = {"PATH": os.environ["PATH"], "CONSUL_HTTP_ADDR": url}

    async def start(self, *args: str) -> asyncio.subprocess.Process:
        pipe = asyncio.subprocess.PIPE
        return await asyncio.create_subprocess_exec(
            self._command, *args, env=self._environment, stdout=pipe, stderr=pipe
        )

    async def __call__(self, *args: str, code: int = 0) -> str:
        process = await self.start(*args)
        async with asyncio.timeout(PATIENCE):
            out, err = await process.communicate()
        assert process.returncode == code, (args, out, err)
        return (out + err).decode()


@pytest.fixture
def cli(api: TestClient) -> Cli:
    return Cli(str(api.make_url("/")).rstrip("/"))


async def test_services_register_and_deregister(cli: Cli, tmp_path: Path) -> None:
    definition = tmp_path / "web.json"
    definition.write_text(json.dumps(DEFINITION))
    assert "Registered service: web" in await cli("services", "register", str(definition))
    assert (await cli("catalog", "services", "-tags")).split() == ["web", "v2"]
    assert "n1" in await cli("catalog", "nodes", "-service=web")
    assert "Deregistered" in await cli("services", "deregister", "-id=web-1")
    assert "web" not in await cli("catalog", "services")


async def test_services_register_from_flags_and_hcl(cli: Cli, tmp_path: Path) -> None:
    await cli("services", "register", "-name=api", "-id=api-1", "-port=81", "-tag=a", "-meta=k=v")
    definition = tmp_path / "db.hcl"
    definition.write_text('service { name = "db" port = 5432 check { tcp = "127.0.0.1:5432" interval = "10s" } }')
    await cli("services", "register", str(definition))
    assert (await cli("catalog", "services")).split() == ["api", "db"]


async def test_a_refused_registration_is_shown_with_its_reason(cli: Cli) -> None:
    assert "1 to 65535" in await cli("services", "register", "-name=api", "-port=70000", code=1)


async def test_catalog_nodes_and_members(cli: Cli) -> None:
    header, row = (await cli("catalog", "nodes")).strip().splitlines()
    assert header.split() == ["Node", "ID", "Address", "DC"]
    assert row.split()[0] == "n1"
    assert row.split()[2:] == ["127.0.0.1", "dc1"]
    assert "alive" in await cli("members")


async def test_kv(cli: Cli) -> None:
    await cli("kv", "put", "a/b", "one")
    assert await cli("kv", "get", "a/b") == "one\n"
    await cli("kv", "put", "-flags=42", "a/c", "two")
    assert (await cli("kv", "get", "-recurse", "a/")).splitlines() == ["a/b:one", "a/c:two"]
    assert (await cli("kv", "get", "-keys", "a/")).split() == ["a/b", "a/c"]
    detailed = await cli("kv", "get", "-detailed", "a/c")
    index = next(line.split()[1] for line in detailed.splitlines() if line.startswith("ModifyIndex"))
    assert "Flags            42" in detailed
    assert "CAS failed" in await cli("kv", "put", "-cas", "-modify-index=1", "a/c", "x", code=1)
    await cli("kv", "put", "-cas", f"-modify-index={index}", "a/c", "three")
    assert await cli("kv", "get", "a/c") == "three\n"
    await cli("kv", "delete", "a/b")
    await cli("kv", "get", "a/b", code=1)
    await cli("kv", "delete", "-recurse", "a/")
    assert await cli("kv", "get", "-recurse", "a/") == ""


async def test_kv_export_and_import(cli: Cli, tmp_path: Path) -> None:
    await cli("kv", "put", "e/1", "x")
    exported = tmp_path / "kv.json"
    exported.write_text(await cli("kv", "export", "e/"))
    await cli("kv", "delete", "e/1")
    await cli("kv", "import", f"@{exported}")
    assert await cli("kv", "get", "e/1") == "x\n"


async def first_line(process: asyncio.subprocess.Process, wanted: Callable[[str], bool]) -> str:
    assert process.stdout is not None
    async with asyncio.timeout(PATIENCE):
        while True:
            line = (await process.stdout.readline()).decode()
            assert line, "the watch ended"
            if wanted(line):
                return line


@pytest.mark.parametrize(
    ("args", "mark"),
    [
        (("-type=key", "-key=w/a"), "bmV3"),
        (("-type=keyprefix", "-prefix=w/"), "bmV3"),
        (("-type=service", "-service=web"), "web-9"),
        (("-type=services",), "web"),
        (("-type=nodes",), "n9"),
        (("-type=checks", "-state=any"), "n9"),
    ],
)
async def test_watch(cli: Cli, store: SqliteStore, args: tuple[str, ...], mark: str) -> None:
    """The handler runs `cat`: what it is given first does not hold the change, what it is given then does."""
    await cli("kv", "put", "w/a", "old")
    process = await cli.start("watch", *args, "sh", "-c", "cat; echo; echo end")
    try:
        if args[0] != "-type=service":  # consul does not run a handler for an empty service
            await first_line(process, lambda line: line == "end\n")
        else:
            while not store.watching:  # noqa: ASYNC110 - the request has to have arrived
                await asyncio.sleep(0.005)  # sleep: polls
        await cli("kv", "put", "w/a", "new")
        await cli("services", "register", "-name=web", "-id=web-9", "-port=80")
        await cli("kv", "put", "mesh/v1/nodes/n9", '{"Name": "n9", "Address": "127.0.0.9", "InboundPort": 1}')
        assert mark in await first_line(process, lambda line: mark in line)
    finally:
        process.kill()
        await process.communicate()


async def test_lock_runs_its_command_and_lets_go(cli: Cli, store: SqliteStore) -> None:
    assert "held" in await cli("lock", "jobs/nightly", "echo held")
    entries = (await store.list("jobs/")).entries
    assert [entry for entry in entries if entry.lease] == []


async def test_semaphore_lock(cli: Cli) -> None:
    assert "held" in await cli("lock", "-n=2", "jobs/two", "echo held")


async def test_maintenance(cli: Cli) -> None:
    await cli("services", "register", "-name=web", "-port=80")
    await cli("maint", "-enable", "-service=web", "-reason=upgrade")
    assert "upgrade" in await cli("maint")
    await cli("maint", "-disable", "-service=web")
    assert "upgrade" not in await cli("maint")
