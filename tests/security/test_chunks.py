"""Chunked bodies that two receivers read differently (security.md class 6: RUSTSEC-2021-0079 and http-garden's list).

Names as Http11Probe has them where it has the case. Each is sent at once behind its head, and a second time only
after the head has reached the app. Refused means: 400, the connection ends, and no request ever came whole to the app.
"""

import pytest

from tests.security.doors import CANARY, SIDES, Doors, request
from tests.unit.proxy.wire import Wire

END = b"0\r\n\r\n"

BAD = {
    "CHUNK-SIZE-EMPTY": b"\r\nabc\r\n" + END,
    "CHUNK-INVALID-SIZE": b"g\r\nabc\r\n" + END,
    "CHUNK-NEGATIVE": b"-3\r\nabc\r\n" + END,
    "CHUNK-SIZE-PLUS": b"+3\r\nabc\r\n" + END,
    "CHUNK-HEX-PREFIX": b"0x3\r\nabc\r\n" + END,
    "CHUNK-UNDERSCORE": b"1_0\r\n0123456789abcdef\r\n" + END,
    "CHUNK-LEADING-SP": b" 3\r\nabc\r\n" + END,
    "CHUNK-LEADING-TAB": b"\t3\r\nabc\r\n" + END,
    "CHUNK-SIZE-TRAILING-OWS": b"3 \r\nabc\r\n" + END,
    "CHUNK-SIZE-TRAILING-TAB": b"3\t\r\nabc\r\n" + END,
    "CHUNK-SIZE-BEFORE-EXT-SP": b"3 ;a\r\nabc\r\n" + END,
    "CHUNK-SIZE-VTAB": b"3\x0b\r\nabc\r\n" + END,
    "CHUNK-SIZE-NUL": b"3\x00\r\nabc\r\n" + END,
    "CHUNK-SIZE-DOT": b"3.0\r\nabc\r\n" + END,
    "CHUNK-SIZE-HIGH-BYTE": b"\xb3\r\nabc\r\n" + END,
    "CHUNK-SIZE-OVERFLOW-64": b"10000000000000003\r\nabc\r\n" + END,
    "CHUNK-SIZE-OVERFLOW-MAX": b"ffffffffffffffff\r\nabc\r\n" + END,
    "CHUNK-SIZE-OVERFLOW-SIGN": b"8000000000000003\r\nabc\r\n" + END,
    "CHUNK-SIZE-MANY-ZEROS": b"0" * 400 + b"3\r\nabc\r\n" + END,
    "CHUNK-LF-TERM": b"3\nabc\n0\n\n",
    "CHUNK-SIZE-LF": b"3\nabc\r\n" + END,
    "CHUNK-DATA-LF": b"3\r\nabc\n" + END,
    "CHUNK-BARE-CR-TERM": b"3\rabc\r\n" + END,
    "CHUNK-SIZE-CR-CR-LF": b"3\r\r\nabc\r\n" + END,
    "CHUNK-DATA-CR": b"3\r\nabc\r" + END,
    "CHUNK-SPILL": b"3\r\nabcdef\r\n" + END,
    "CHUNK-SHORT": b"5\r\nabc\r\n" + END,
    "CHUNK-MISSING-TRAILING-CRLF": b"3\r\nabc" + END,
    "CHUNK-INVALID-SIZE-DESYNC": b"3\r\nabc\r\n0x0\r\n\r\n",
    "CHUNK-BARE-SEMICOLON": b"3;\r\nabc\r\n" + END,
    "CHUNK-EXT-DOUBLE-SEMICOLON": b"3;;\r\nabc\r\n" + END,
    "CHUNK-EXT-LF": b"3;a\nabc\r\n" + END,
    "CHUNK-EXT-LF-INSIDE": b"3;a\nb\r\nabc\r\n" + END,
    "CHUNK-EXT-CR": b"3;a\rb\r\nabc\r\n" + END,
    "CHUNK-EXT-CTRL": b"3;a\x01\r\nabc\r\n" + END,
    "CHUNK-EXT-NUL": b"3;a\x00\r\nabc\r\n" + END,
    "CHUNK-EXT-SP": b"3; a\r\nabc\r\n" + END,
    "CHUNK-EXT-INVALID-TOKEN": b"3;[\r\nabc\r\n" + END,
    "CHUNK-EXT-QUOTED-LF": b'3;a="\n"\r\nabc\r\n' + END,
    "CHUNK-EXT-QUOTED-CRLF": b'3;a="\r\nabc\r\n' + END,
    "CHUNK-EXTENSION-LONG": b"3;" + b"a" * 70_000 + b"\r\nabc\r\n" + END,
    "CHUNK-LAST-LF": b"3\r\nabc\r\n0\n\r\n",
    "CHUNK-LF-TRAILER": b"3\r\nabc\r\n0\r\n\n",
    "CHUNK-LAST-CR": b"3\r\nabc\r\n0\r\n\rX",
    "TRAILER-CL": b"3\r\nabc\r\n0\r\nContent-Length: 5\r\n\r\n",
    "TRAILER-TE": b"3\r\nabc\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n",
    "TRAILER-TE-underscore": b"3\r\nabc\r\n0\r\nTransfer_Encoding: chunked\r\n\r\n",
    "TRAILER-HOST": b"3\r\nabc\r\n0\r\nHost: evil\r\n\r\n",
    "TRAILER-AUTH": b"3\r\nabc\r\n0\r\nAuthorization: evil\r\n\r\n",
    "TRAILER-CONTENT-TYPE": b"3\r\nabc\r\n0\r\nContent-Type: evil\r\n\r\n",
    "TRAILER-SOURCE": b"3\r\nabc\r\n0\r\nX-Meshd-Source: evil\r\n\r\n",
    "TRAILER-source-underscore": b"3\r\nabc\r\n0\r\nx_meshd_source: evil\r\n\r\n",
    "TRAILER-XFCC": b"3\r\nabc\r\n0\r\nX-Forwarded-Client-Cert: evil\r\n\r\n",
    "TRAILER-SP-BEFORE-COLON": b"3\r\nabc\r\n0\r\nX : y\r\n\r\n",
    "TRAILER-FOLD": b"3\r\nabc\r\n0\r\nX: y\r\n z\r\n\r\n",
    "TRAILER-LF": b"3\r\nabc\r\n0\r\nX: y\n\r\n",
    "TRAILER-NO-COLON": b"3\r\nabc\r\n0\r\nX\r\n\r\n",
    "TRAILER-NUL": b"3\r\nabc\r\n0\r\nX: \x00\r\n\r\n",
    "TRAILER-REQUEST-LINE": b"3\r\nabc\r\n0\r\nGET /inner HTTP/1.1\r\n\r\n",
    "TRAILER-LONG": b"3\r\nabc\r\n0\r\nX: " + b"y" * 20_000 + b"\r\n\r\n",
}

GOOD = {
    "plain": b"3\r\nabc\r\n" + END,
    "upper-hex": b"A\r\n0123456789\r\n" + END,
    "leading-zeros": b"0003\r\nabc\r\n" + END,
    "only-the-end": END,
    "zeros-end": b"3\r\nabc\r\n000\r\n\r\n",
    "extension": b"3;a\r\nabc\r\n" + END,
    "extension-value": b"3;a=b;c=d\r\nabc\r\n" + END,
    "extension-quoted": b'3;a="b c"\r\nabc\r\n' + END,
    "trailer": b"3\r\nabc\r\n0\r\nX-Checksum: 1\r\ngrpc-status: 0\r\n\r\n",
    "payload-like-chunks": b"a\r\n0\r\n\r\nGET /\r\n" + END,
}

HEAD = request("Transfer-Encoding: chunked")


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("late", [False, True], ids=["at-once", "after-the-head"])
async def test_chunk_parsing_rustsec_2021_0079_http_garden(side: str, late: bool) -> None:
    wrong = []
    async with Doors() as d:
        for name, body in BAD.items():
            seen = await d.send(side, *([HEAD, body + CANARY] if late else [HEAD + body + CANARY]))
            if (seen.status, seen.closed, seen.targets) != (400, True, []):
                wrong.append(f"{name}: {seen.status}, closed {seen.closed}, app saw {seen.targets}")
        assert wrong == []
        assert d.app.odd == [], "the app was sent bytes that are no chunks"
        # nobody but the client is to blame: the endpoint was not taken for a bad one
        assert [s.name for s in (await d.mesh.a.control.scrape()).endpoints if s.failures] == []
        await d.logged(len(BAD))


@pytest.mark.parametrize("side", SIDES)
async def test_chunks_that_are_well_formed_pass_as_they_are(side: str) -> None:
    async with Doors() as d:
        for name, body in GOOD.items():
            before = len(d.app.whole)
            async with d.open(side) as w:
                await w.send(HEAD + body + CANARY)
                assert [(await w.response()).status for _ in range(2)] == [200, 200], name
            assert [r.body for r in d.app.whole[before:]] == [body, b""], name


@pytest.mark.parametrize("side", SIDES)
async def test_chunks_in_single_bytes_are_read_the_same(side: str) -> None:
    async def trickle(w: Wire, data: bytes) -> None:
        for i in range(len(data)):
            await w.send(data[i : i + 1])

    async with Doors() as d:
        async with d.open(side) as w:
            body = b'3;a="b c"\r\nabc\r\n0\r\nX: y\r\n\r\n'
            await trickle(w, HEAD + body)
            assert (await w.response()).status == 200
            assert d.app.whole[-1].body == body
        async with d.open(side) as w:
            await trickle(w, HEAD + b"3\r\nabcX")
            assert (await w.response()).status == 400
        assert len(d.app.whole) == 1
