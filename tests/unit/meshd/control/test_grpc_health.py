"""Against a real gRPC server that answers as the health protocol says, and against what is none."""

import asyncio
import ssl
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from meshd.control.grpc_health import ask, read_varint, request, serving_status, varint
from registry.model import Check
from tests.fakes.pki import Pki

Start = Callable[..., Awaitable[str]]


@pytest.fixture
async def serve() -> AsyncIterator[Start]:
    """`await serve(answer)`: the address of a server whose Check answers `answer(request)`."""
    servers: list[Any] = []

    async def start(answer: Callable[[bytes], bytes], pair: tuple[Path, Path] | None = None) -> str:
        async def check(asked: bytes, context: Any) -> bytes:
            try:
                return answer(asked)
            except LookupError:
                await context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
                raise

        server = grpc.aio.server()
        handlers = {"Check": grpc.unary_unary_rpc_method_handler(check)}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("grpc.health.v1.Health", handlers),))
        if pair is None:
            port = server.add_insecure_port("127.0.0.1:0")
        else:
            credentials = grpc.ssl_server_credentials([(pair[1].read_bytes(), pair[0].read_bytes())])
            port = server.add_secure_port("127.0.0.1:0", credentials)
        await server.start()
        servers.append(server)
        return f"127.0.0.1:{port}"

    yield start
    for server in servers:
        await server.stop(None)


async def asked(target: str, **tls: Any) -> tuple[str, str]:
    return await ask(Check(check_id="c", grpc=target, **tls))


SERVING, NOT_SERVING = b"\x08\x01", b"\x08\x02"


async def test_the_answers_of_a_health_service(serve: Start) -> None:
    known = {b"": SERVING, b"\n\x08shop.api": NOT_SERVING}
    address = await serve(known.__getitem__)
    assert await asked(address) == ("passing", f"gRPC {address}: SERVING")
    assert await asked(f"{address}/shop.api") == ("critical", f"gRPC {address}/shop.api: NOT_SERVING")
    status, output = await asked(f"{address}/other")
    assert (status, "NOT_FOUND unknown service" in output) == ("critical", True)


async def test_over_tls(serve: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pki = Pki(tmp_path)
    named = await serve(lambda asked: SERVING, pki.issue("api.local"))
    addressed = await serve(lambda asked: SERVING, pki.issue("other", address="127.0.0.1"))
    trusting: dict[str, Any] = {"grpc_tls": True, "tls_skip_verify": True}
    assert (await asked(named, **trusting))[0] == "passing"
    assert (await asked(addressed, **trusting))[0] == "passing"
    assert (await asked(named, grpc_tls=True))[0] == "critical", "nobody here trusts its authority"
    assert (await asked(named))[0] == "critical", "without TLS it answers nobody"
    paths = ssl.get_default_verify_paths()._replace(cafile=str(pki.roots))
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: paths)
    assert (await asked(addressed, grpc_tls=True))[0] == "passing"
    assert (await asked(named, grpc_tls=True))[0] == "critical", "its certificate is not for the address"
    assert (await asked(named, grpc_tls=True, tls_server_name="api.local"))[0] == "passing"
    assert (await asked(named, tls_server_name="web.local", **trusting))[0] == "passing", "nothing is verified"


async def test_an_answer_that_is_no_message(serve: Start) -> None:
    address = await serve(lambda asked: b"\x0f")
    status, output = await asked(address)
    assert (status, "no answer of a health service" in output) == ("critical", True)


async def test_an_answer_of_unlimited_length_is_not_taken(serve: Start) -> None:
    status, output = await asked(await serve(lambda asked: b"\x12\xff\xff\x03" + b"x" * 65535))
    assert (status, "RESOURCE_EXHAUSTED" in output) == ("critical", True)


async def test_nobody_and_who_speaks_something_else() -> None:
    async def http1(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(http1, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    assert "UNAVAILABLE" in (await asked(f"127.0.0.1:{port}"))[1]
    server.close()
    await server.wait_closed()
    status, output = await asked(f"127.0.0.1:{port}")
    assert (status, "UNAVAILABLE" in output) == ("critical", True)


async def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "grpc", None)
    status, output = await asked("127.0.0.1:1")
    assert (status, "meshd[grpc]" in output) == ("critical", True)


def test_a_request() -> None:
    assert request("") == b""
    assert request("x" * 200) == b"\n\xc8\x01" + b"x" * 200


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (b"", 0), (SERVING, 1), (b"\x12\x02ab\x08\x01", 1), (b"\x11" + b"x" * 8 + SERVING, 1),
        (b"\x15" + b"x" * 4 + SERVING, 1), (b"\x10\x02", 0), (SERVING + NOT_SERVING, 2),
    ],
)  # fmt: skip
def test_other_fields_are_skipped(answer: bytes, status: int) -> None:
    assert serving_status(answer) == status


@pytest.mark.parametrize("answer", [b"\x08", b"\x12\x05ab", b"\x0b", b"\x08" + b"\xff" * 11, b"\x11abc"])
def test_no_messages(answer: bytes) -> None:
    with pytest.raises(ValueError, match=r"cut short|wire type|longer"):
        serving_status(answer)


@pytest.mark.parametrize("number", [0, 1, 127, 128, 300, 2**32, 2**63])
def test_numbers_come_back(number: int) -> None:
    assert read_varint(varint(number), 0) == (number, len(varint(number)))
