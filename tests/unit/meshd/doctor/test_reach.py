import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from meshd.doctor import reach
from meshd.registry_settings import Registry
from tests.fakes.pki import Pki


@asynccontextmanager
async def server(context: ssl.SSLContext | None = None, path: str = "") -> AsyncIterator[int]:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(text=f"{request.method} {request.headers.get('X-Consul-Token', '-')}")

    app = web.Application()
    app.router.add_route("*", "/v1/status/leader", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.UnixSite(runner, path) if path else web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    try:
        yield 0 if path else runner.addresses[0][1]
    finally:
        await runner.cleanup()


def host(**registry: object) -> Registry:
    return Registry(kind="consul", **registry)  # type: ignore[arg-type]  # one setting each


async def ask(given: Registry) -> reach.Answer:
    (door,), why = reach.readable(given, Path("/none"))
    assert not why
    return await reach.ask(door, "/v1/status/leader", {"X-Consul-Token": "t"})


async def test_an_answer_with_its_time() -> None:
    async with server() as port:
        answer = await ask(host(address=f"http://127.0.0.1:{port}"))
        assert (answer.status, answer.body, answer.problem) == (200, b"GET t", "")
        assert answer.date.endswith("GMT")
        (door,), _ = reach.readable(host(address=f"http://127.0.0.1:{port}"), Path("/none"))
        assert (await reach.ask(door, "/v1/status/leader", body=b"[]")).body == b"POST -"


async def test_over_a_unix_socket(tmp_path: Path) -> None:
    async with server(path=str(tmp_path / "s")):
        assert (await ask(host(address=f"unix://{tmp_path}/s"))).status == 200


async def test_nobody_listens() -> None:
    answer = await ask(host(address="http://127.0.0.1:1"))
    assert "127.0.0.1:1" in answer.problem
    assert "running" in answer.todo


@pytest.mark.parametrize(
    ("fault", "todo"),
    [("", ""), ("authority", "CAFile"), ("name", "another name"), ("expired", "expired"), ("client", "CertFile")],
)
async def test_what_is_wrong_with_tls(tmp_path: Path, fault: str, todo: str) -> None:
    pki, other = Pki(tmp_path / "pki"), Pki(tmp_path / "other", name="other")
    where = "10.9.9.9" if fault == "name" else "127.0.0.1"
    certificate, key = pki.issue("server", address=where, hours=-1 if fault == "expired" else 1)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(pki.roots))
    context.load_cert_chain(certificate, key)
    context.verify_mode = ssl.CERT_REQUIRED
    client, client_key = pki.issue("client")
    files = {"ca_file": str(other.roots if fault == "authority" else pki.roots)}
    if fault != "client":
        files |= {"cert_file": str(client), "key_file": str(client_key)}
    async with server(context) as port:
        answer = await ask(host(address=f"https://127.0.0.1:{port}", **files))
        assert bool(answer.problem) == bool(fault), answer
        assert todo in answer.todo, answer


def test_files_that_cannot_be_used_are_said(tmp_path: Path) -> None:
    found, why = reach.readable(host(address="https://127.0.0.1:1", ca_file=str(tmp_path / "none")), tmp_path)
    assert found == ()
    assert why


def test_how_each_kind_is_asked(tmp_path: Path) -> None:
    pki = Pki(tmp_path)
    etcd = Registry(kind="etcd", addresses=("127.0.0.1:2379", "https://b:2379"), ca_file=str(pki.roots))
    assert [door.url for door in reach.doors(etcd, tmp_path)] == [
        "https://127.0.0.1:2379",
        "https://b:2379",
    ]
    plain = Registry(kind="etcd", addresses=("127.0.0.1:2379",))
    assert [(door.url, door.context) for door in reach.doors(plain, tmp_path)] == [("http://127.0.0.1:2379", None)]
    assert reach.doors(Registry(), tmp_path) == ()
