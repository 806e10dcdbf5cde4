"""Where a message ends, said twice or said badly (security.md classes 1, 2 and 5).

Each case goes in by every door with a second request behind it. Whoever frames the message otherwise than the proxy
would take the second one for body or the body for a second one; so the answer is 400, the connection ends, and the
app sees nothing at all.
"""

import pytest

from tests.security.doors import CANARY, SIDES, Doors, request
from tests.unit.proxy.echo import Conversation

CHUNKS = b"3\r\nabc\r\n0\r\n\r\n"
CL, TE = "Content-Length: 13", "Transfer-Encoding: chunked"

BOTH = {
    "CL-TE-BOTH": (CL, TE),
    "TE-CL-BOTH": (TE, CL),
    "CL-TE-upper": (CL, "TRANSFER-ENCODING: CHUNKED"),
    "TE-CL-mixed": ("Transfer-encoding: ChUnKeD", "CONTENT-LENGTH: 13"),
    "CL0-TE": ("Content-Length: 0", TE),
    "CLTE-CONN-CLOSE": (CL, TE, "Connection: close"),
    "CLTE-KEEPALIVE": (CL, TE, "Connection: keep-alive"),
    "CLTE-nominated": (CL, TE, "Connection: Content-Length"),
    "TECL-nominated": (TE, CL, "Connection: Transfer-Encoding"),
    "CL-TE-underscore": (CL, "Transfer_Encoding: chunked"),
    "CL-underscore-TE": ("Content_Length: 13", TE),
    "TE-only-underscore": ("Transfer_Encoding: chunked",),
    "CL-only-underscore": ("Content_Length: 13",),
    "TE-SP-BEFORE-COLON": (CL, "Transfer-Encoding : chunked"),
    "CL-SP-BEFORE-COLON": ("Content-Length : 13", TE),
    "TE-TAB-BEFORE-COLON": (CL, "Transfer-Encoding\t: chunked"),
    "TE-leading-space": (CL, " Transfer-Encoding: chunked"),
    "TE-OBS-FOLD": (CL, "Transfer-Encoding:", " chunked"),
    "TE-fold-in-other": (CL, "X-A: b", "\tTransfer-Encoding: chunked"),
    "TE-VTAB": (CL, "Transfer-Encoding: \x0bchunked"),
    "TE-FORMFEED": (CL, "Transfer-Encoding: \x0cchunked"),
    "TE-NULL": (CL, "Transfer-Encoding: chunked\x00"),
    "TE-in-quotes": (CL, 'Transfer-Encoding: "chunked"'),
    "TE-BARE-CR": (CL, "X-A: b\rTransfer-Encoding: chunked"),
    "TE-BARE-LF": (CL, "X-A: b\nTransfer-Encoding: chunked"),
    "TE-LF-name": (CL, "\nTransfer-Encoding: chunked"),
}

CODINGS = {
    "TE-NOT-FINAL-CHUNKED": ("Transfer-Encoding: chunked, identity",),
    "TE-LEADING-COMMA": ("Transfer-Encoding: , chunked",),
    "TE-TRAILING-COMMA": ("Transfer-Encoding: chunked,",),
    "TE-DOUBLE-CHUNKED": ("Transfer-Encoding: chunked, chunked",),
    "TE-GZIP": ("Transfer-Encoding: gzip, chunked",),
    "TE-IDENTITY": ("Transfer-Encoding: identity",),
    "TE-XCHUNKED": ("Transfer-Encoding: xchunked",),
    "TE-CHUNKED-WITH-PARAMS": ("Transfer-Encoding: chunked;q=0.5",),
    "TE-EMPTY-VALUE": ("Transfer-Encoding:",),
    "TE-DUPLICATE-HEADERS": (TE, TE),
    "TE-identity-second": (TE, "Transfer-Encoding: identity"),
    "TE-identity-first": ("Transfer-Encoding: identity", TE),
    "TE-case-duplicate": (TE, "transfer-encoding: CHUNKED"),
    "TE-CASE-k-sign": ("Transfer-Encoding: chun\xe2\x84\xaaed",),
}

LENGTHS = (
    "+13", "-13", "-0", "0x0d", "0b1101", "0o15", "1_3", "", " ", "13, 13", "13,13", "13,", ",13", "13, 12", "1 3",
    "13;", "13 ;", "13.0", "1.3e1", "13\x0b", "13\x00", "'13'", "\xb9\xb3", "\xd9\xa1\xd9\xa3", "abc", "13abc",
    "99999999999999999999", "18446744073709551629", "9223372036854775821", "1000000000000000013",
)  # fmt: skip

SYNTAX = {
    **{f"CL {value!r}": (f"Content-Length: {value}",) for value in LENGTHS},
    "DUPLICATE-CL": ("Content-Length: 13", "Content-Length: 12"),
    "DUPLICATE-CL-same": ("Content-Length: 13", "Content-Length: 13"),
    "DUPLICATE-CL-case": ("Content-Length: 13", "CONTENT-LENGTH: 13"),
    "DUPLICATE-CL-empty": ("Content-Length: 13", "Content-Length:"),
    "CL-OBS-FOLD": ("Content-Length: 1", " 3"),
    "CL-underscore-too": ("Content-Length: 13", "content_length: 0"),
}


async def refused_everywhere(d: Doors, side: str, cases: dict[str, bytes], status: int = 400) -> None:
    """Every case gets this status and the end of its connection, and the app none of it."""
    wrong = []
    for name, raw in cases.items():
        seen = await d.send(side, raw + CANARY)
        if (seen.status, seen.closed, seen.targets) != (status, True, []):
            wrong.append(f"{name}: {seen.status}, closed {seen.closed}, app saw {seen.targets}")
        elif seen.answer is None or seen.answer.header("connection") != "close":
            wrong.append(f"{name}: the answer does not say that it is the last")
    assert wrong == []
    assert d.app.odd == []
    lines = await d.logged(len(cases))
    assert {(line["code"], line["flags"]) for line in lines} == {(status, "DPE")}
    assert len(lines) == len(cases), "one line per event"


@pytest.mark.parametrize("side", SIDES)
async def test_cl_te_both_hyper_4123_cve_2005_2088(side: str) -> None:
    async with Doors() as d:
        await refused_everywhere(d, side, {k: request(*lines, body=CHUNKS) for k, lines in BOTH.items()})


@pytest.mark.parametrize("side", SIDES)
async def test_http10_with_te_and_multiple_te_cve_2026_2835(side: str) -> None:
    cases = {k: request(*lines, body=CHUNKS) for k, lines in CODINGS.items()}
    cases["TE-HTTP10"] = request(TE, body=CHUNKS, version="1.0")
    cases["TE-HTTP10-keep-alive"] = request(TE, "Connection: keep-alive", body=CHUNKS, version="1.0")
    cases["CL-TE-HTTP10"] = request(CL, TE, body=CHUNKS, version="1.0")
    cases["TE-HTTP10-get"] = request(TE, body=CHUNKS, version="1.0", method="GET")
    async with Doors() as d:
        await refused_everywhere(d, side, cases)


@pytest.mark.parametrize("side", SIDES)
async def test_content_length_syntax_cve_2021_32715_cve_2023_40225(side: str) -> None:
    async with Doors() as d:
        await refused_everywhere(d, side, {k: request(*lines, body=b"x" * 13) for k, lines in SYNTAX.items()})


@pytest.mark.parametrize("side", SIDES)
async def test_lines_that_two_receivers_read_differently(side: str) -> None:
    """No framing header at all, but a line end or a separator that a lenient receiver reads as another one."""
    host = b"Host: api.mesh\r\n"
    cases = {
        "LF-everywhere": b"GET / HTTP/1.1\nHost: api.mesh\n\n",
        "LF-request-line": b"GET / HTTP/1.1\n" + host + b"\r\n",
        "LF-header": b"GET / HTTP/1.1\r\nHost: api.mesh\nX: y\r\n\r\n",
        "LF-end": b"GET / HTTP/1.1\r\n" + host + b"\n",
        "CR-in-value": b"GET / HTTP/1.1\r\n" + host + b"X: a\rY: b\r\n\r\n",
        "NUL-in-value": b"GET / HTTP/1.1\r\n" + host + b"X: a\x00b\r\n\r\n",
        "NUL-in-name": b"GET / HTTP/1.1\r\n" + host + b"X\x00: a\r\n\r\n",
        "empty-name": b"GET / HTTP/1.1\r\n" + host + b": a\r\n\r\n",
        "no-colon": b"GET / HTTP/1.1\r\n" + host + b"X\r\n\r\n",
        "space-in-name": b"GET / HTTP/1.1\r\n" + host + b"X Y: a\r\n\r\n",
        "high-byte-in-name": b"GET / HTTP/1.1\r\n" + host + b"X\xe9: a\r\n\r\n",
        "two-spaces": b"GET  / HTTP/1.1\r\n" + host + b"\r\n",
        "tab-separated": b"GET\t/\tHTTP/1.1\r\n" + host + b"\r\n",
        "space-at-end": b"GET / HTTP/1.1 \r\n" + host + b"\r\n",
        "space-at-start": b" GET / HTTP/1.1\r\n" + host + b"\r\n",
        "bare-LF-before": b"\nGET / HTTP/1.1\r\n" + host + b"\r\n",
        "two-empty-lines-before": b"\r\n\r\nGET / HTTP/1.1\r\n" + host + b"\r\n",
        "quote-in-method": b'G"T / HTTP/1.1\r\n' + host + b"\r\n",
        "HTTP-0.9": b"GET /\r\n",
        "version-lower": b"GET / http/1.1\r\n" + host + b"\r\n",
        "space-in-target": b"GET /a b HTTP/1.1\r\n" + host + b"\r\n",
    }
    async with Doors() as d:
        wrong = []
        for name, raw in cases.items():
            seen = await d.send(side, raw + CANARY)
            # 505: what stands in the version's place is none
            if seen.status not in (400, 505) or not seen.closed or seen.targets:
                wrong.append(f"{name}: {seen.status}, closed {seen.closed}, app saw {seen.targets}")
        assert wrong == []


@pytest.mark.parametrize("side", SIDES)
async def test_what_frames_a_message_once_arrives_as_it_was_sent(side: str) -> None:
    """The refusals above prove nothing if nothing gets through."""
    good = {
        "CL": (request("Content-Length: 13", body=b"x" * 13), b"x" * 13),
        "CL-0": (request("Content-Length: 0"), b""),
        "CL-spaces-around": (request("Content-Length:  \t13 ", body=b"x" * 13), b"x" * 13),
        "TE": (request(TE, body=CHUNKS), CHUNKS),
        "TE-upper": (request("TRANSFER-ENCODING: CHUNKED", body=CHUNKS), CHUNKS),
        "none": (request(), b""),
        "GET-CL": (request("Content-Length: 3", body=b"abc", method="GET"), b"abc"),
        "empty-line-before": (b"\r\n" + request(), b""),
    }
    async with Doors() as d:
        for name, (raw, body) in good.items():
            before = len(d.app.whole)
            async with d.open(side) as w:
                await w.send(raw + CANARY)
                assert [(await w.response()).status for _ in range(2)] == [200, 200], name
            first, second = d.app.whole[before:]
            assert (first.body, second.target) == (body, "/canary"), name
            framing = first.all("content-length") + first.all("transfer-encoding")
            assert len(framing) <= 1, name


BAD_ANSWERS = {
    "CL-TE": b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    "two-CL": b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    "CL-plus": b"HTTP/1.1 200 OK\r\nContent-Length: +3\r\n\r\nabc",
    "TE-identity": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\nabc",
    "TE-HTTP10": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    "LF": b"HTTP/1.1 200 OK\nContent-Length: 3\n\nabc",
    "folded": b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 3\r\n\r\nabc",
    "101-unasked": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    "status-99": b"HTTP/1.1 099 No\r\nContent-Length: 0\r\n\r\n",
    "garbage": b"\x16\x03\x01 not HTTP\r\n\r\n",
}


@pytest.mark.parametrize("side", SIDES)
async def test_an_app_that_poisons_the_next_answer_gets_502_and_loses_its_connection(side: str) -> None:
    """CVE-2005-2088 the other way round: what is behind an answer is never the answer to another request."""
    answers = iter(BAD_ANSWERS.values())

    async def handler(talk: Conversation) -> None:
        if await talk.request() is not None:
            await talk.send(next(answers) + b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison")
            await talk.closed()

    async with Doors(handler=handler) as d:
        for count, name in enumerate(BAD_ANSWERS, 1):
            async with d.open(side) as w:
                r = await w.ask(request("Content-Length: 0"))
                assert (r.status, b"poison" in r.body) == (502, False), name
            assert d.mesh.app.connections == count, name
