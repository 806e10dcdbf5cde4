"""Against a real gRPC server that answers as the health protocol says, and against what is none."""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import pytest

from meshd.control.grpc_health import ask, read_varint, request, serving_status, varint

Start = Callable[[Callable[[bytes], bytes]], Awaitable[str]]


@pytest.fixture
async def serve() -> AsyncIterator[Start]:
    """`await serve(answer)`: the address of a server whose Check answers `answer(request)`."""
    servers: list[Any] = []

    async def start(answer: Callable[[bytes], bytes]) -> str:
        async def check(asked: bytes, context: Any) -> bytes:
            try:
                return answer(asked)
            except LookupError:
                await context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
                raise

        server = grpc.aio.server()
        handlers = {"Check": grpc.unary_unary_rpc_method_handler(check)}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("grpc.health.v1.Health", handlers),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        servers.append(server)
        return f"127.0.0.1:{port}"

    yield start
    for server in servers:
        await server.stop(None)


SERVING, NOT_SERVING = b"\x08\x01", b"\x08\x02"


async def test_the_answers_of_a_health_service(serve: Start) -> None:
    known = {b"": SERVING, b"\n\x08shop.api": NOT_SERVING}
    address = await serve(known.__getitem__)
    assert await ask(address) == ("passing", f"gRPC {address}: SERVING")
    assert await ask(f"{address}/shop.api") == ("critical", f"gRPC {address}/shop.api: NOT_SERVING")
    status, output = await ask(f"{address}/other")
    assert (status, "NOT_FOUND unknown service" in output) == ("critical", True)


async def test_an_answer_that_is_no_message(serve: Start) -> None:
    address = await serve(lambda asked: b"\x0f")
    status, output = await ask(address)
    assert (status, "no answer of a health service" in output) == ("critical", True)


async def test_an_answer_of_unlimited_length_is_not_taken(serve: Start) -> None:
    status, output = await ask(await serve(lambda asked: b"\x12\xff\xff\x03" + b"x" * 65535))
    assert (status, "RESOURCE_EXHAUSTED" in output) == ("critical", True)


async def test_nobody_and_who_speaks_something_else() -> None:
    async def http1(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(http1, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    assert "UNAVAILABLE" in (await ask(f"127.0.0.1:{port}"))[1]
    server.close()
    await server.wait_closed()
    status, output = await ask(f"127.0.0.1:{port}")
    assert (status, "UNAVAILABLE" in output) == ("critical", True)


async def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "grpc", None)
    status, output = await ask("127.0.0.1:1")
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
