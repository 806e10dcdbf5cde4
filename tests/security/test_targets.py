"""Which resource a request is for: hosts and paths in every spelling (security.md classes 10, 11 and 13).

The decision must be the decision on the path that the app sees, however the app reads it.
"""

import posixpath
from urllib.parse import unquote

import pytest

from policies import compiled as c
from tests.security.doors import CANARY, SIDES, Doors
from tests.unit.proxy.wire import get

SECRET = c.Match(path_prefix="/secret")
KEEP_OUT = c.Permissions(
    sources=(
        c.Source(
            name="web",
            origin="test/l7",
            permissions=(
                c.Permission(action="deny", origin="test/secret", match=SECRET),
                c.Permission(action="allow", origin="test/rest"),
            ),
        ),
    )
)
LET_IN = c.Permissions(
    sources=(
        c.Source(
            name="web",
            origin="test/l7",
            permissions=(c.Permission(action="allow", origin="test/public", match=c.Match(path_prefix="/public/")),),
        ),
    )
)

TARGETS = (
    "/secret", "/secret/", "/secret/x", "//secret", "///secret", "/./secret", "/.//secret", "/a/../secret",
    "/a//../secret", "/a/b/../../secret", "/../secret", "/../../secret", "/public/../secret", "/public/./../secret",
    "/public/x/../../secret", "/%73ecret", "/%73%65cret", "/s%65cret", "/secre%74", "/%2e/secret", "/%2e%2e/secret",
    "/a/%2e%2e/secret", "/a/.%2e/secret", "/a/%2E./secret", "/public/%2e%2e/secret", "/public%2f..%2fsecret",
    "/public/..%2fsecret", "/%2fsecret", "/public%5c..%5csecret", "/public\\..\\secret", "/public/..\\secret",
    "/\\secret", "/secret%00", "/secret%00.png", "/secret#x", "/public#/../secret", "/public/..;/secret",
    "/public/..;x=y/secret", "/public/.;/../secret", "/public/%2e%2e;/secret", "/public/..%3b/secret", "/;/secret",
    "/;x/secret", "/secret;", "/secret;x=y", "/secret;/x", "/%3b/secret", "/a;b/../secret", "/public;/../secret",
    "/secret%3bx", "/secret?x", "/public/..?/secret", "/secret%", "/secret%zz", "/secret%2", "/%u0073ecret",
    "/%c0%afsecret", "/public/%c0%ae%c0%ae/secret", "/sec\xe9ret", "/SECRET", "/%53ecret", "/public/%2525",
    "/%252e%252e/secret", "/public/%252e%252e/secret", "secret", "*", "?/secret", "http://api.mesh/secret",
    "http://api.mesh//secret", "http://api.mesh/public/../secret", "HTTP://API.MESH/%73ecret", "http://api.mesh",
    "http://api.mesh?/secret", "http:///secret", "http:/secret", "http:secret", "/http://api.mesh/secret",
    "//api.mesh/secret",
)  # fmt: skip


def readings(target: str) -> set[str]:
    """The paths that some backend makes of a target: decoded or not, with and without parameters, dots resolved."""
    path = target.split("?")[0].split("#")[0]
    found = set()
    for p in (path, unquote(path, "latin-1")):
        bare = "/".join(s.split(";")[0] for s in p.split("/"))
        found |= {p, bare, posixpath.normpath("/" + p.lstrip("/")), posixpath.normpath("/" + bare.lstrip("/"))}
    return found


@pytest.mark.parametrize("side", ["pair", "foreign", "peer"])
async def test_a_denied_path_is_denied_in_every_spelling_cve_2019_9901_cve_2026_73551(side: str) -> None:
    async with Doors(permissions=KEEP_OUT) as d:
        for target in TARGETS:
            seen = await d.send(side, get(target))
            assert seen.status in (200, 400, 403), target
            for r in seen.requests:
                assert not [p for p in readings(r.target) if p.startswith("/secret")], f"{target} -> {r.target}"
        assert (await d.send(side, get("/public/x"))).status == 200


@pytest.mark.parametrize("side", ["pair", "foreign", "peer"])
async def test_only_an_allowed_path_gets_through_cve_2021_29492_cve_2026_73553(side: str) -> None:
    async with Doors(permissions=LET_IN) as d:
        for target in TARGETS:
            seen = await d.send(side, get(target))
            assert seen.status in (200, 400, 403), target
            for r in seen.requests:
                assert all(p.startswith("/public") for p in readings(r.target)), f"{target} -> {r.target}"
        assert (await d.send(side, get("/public/x;a=b"))).status == 200


@pytest.mark.parametrize("side", SIDES)
async def test_what_is_forwarded_is_what_was_decided_on_cve_2021_32779(side: str) -> None:
    forwarded = {
        "/a/b?c=d/../e": "/a/b?c=d/../e",
        "/a/./b/../c": "/a/c",
        "//a///b": "/a/b",
        "/%61%2d%7E": "/a-~",
        "/%e4%bd%a0": "/%E4%BD%A0",
        "/a%20b": "/a%20b",
        "/a/..": "/",
        "http://api.mesh/x?y": "/x?y",
        "http://api.mesh": "/",
        "http://API.mesh:80/x": "/x",
        "/?": "/?",
    }
    async with Doors() as d:
        for target, expected in forwarded.items():
            seen = await d.send(side, get(target))
            assert (seen.status, seen.targets) == (200, [expected]), target
        for target in ("/a%2fb", "/a%5cb", "/a%00", "/a\\b", "/a#b", "/a?b#c", "/a%g1", "/\x7f", "/\xff", "/a?\xff"):
            seen = await d.send(side, get(target))
            assert (seen.status, seen.targets) == (400, []), target


HOSTS = {
    "missing": (),
    "empty": ("Host:",),
    "two-equal": ("Host: api.mesh", "Host: api.mesh"),
    "two-different": ("Host: api.mesh", "Host: evil.mesh"),
    "two-case": ("Host: api.mesh", "HOST: evil.mesh"),
    "MULTIPLE-HOST-COMMA": ("Host: api.mesh, evil.mesh",),
    "list-space": ("Host: api.mesh evil.mesh",),
    "user": ("Host: evil@api.mesh",),
    "path": ("Host: api.mesh/evil",),
    "query": ("Host: api.mesh?evil",),
    "fragment": ("Host: api.mesh#evil",),
    "backslash": ("Host: api.mesh\\evil",),
    "scheme": ("Host: http://api.mesh",),
    "percent": ("Host: api%2emesh",),
    "port-text": ("Host: api.mesh:http",),
    "port-two": ("Host: api.mesh:80:81",),
    "port-big": ("Host: api.mesh:65536",),
    "port-sign": ("Host: api.mesh:+80",),
    "port-space": ("Host: api.mesh: 80",),
    "dot": ("Host: .",),
    "two-dots": ("Host: api..mesh",),
    "dots-at-end": ("Host: api.mesh..",),
    "dot-at-start": ("Host: .api.mesh",),
    "v6-open": ("Host: [::1",),
    "v6-none": ("Host: []",),
    "v6-zone": ("Host: [fe80::1%25eth0]",),
    "v6-behind": ("Host: [::1]evil",),
    "high": ("Host: \xe4pi.mesh",),
    "nul": ("Host: api.mesh\x00",),
    "quoted": ('Host: "api.mesh"',),
    "long": ("Host: " + "a" * 300,),
    "folded": ("Host: api", " .mesh"),
    "space-before-colon": ("Host : api.mesh",),
}
FORMS = {
    "ABSOLUTE-URI-HOST-MISMATCH": ("http://evil.mesh/", "api.mesh"),
    "absolute-port": ("http://api.mesh:8080/", "api.mesh"),
    "absolute-user": ("http://evil@api.mesh/", "api.mesh"),
    "absolute-empty": ("http:///", "api.mesh"),
    "absolute-other-scheme": ("ftp://api.mesh/", "api.mesh"),
    "absolute-https": ("https://api.mesh/", "api.mesh"),
    "absolute-backslash": ("http://api.mesh\\@evil.mesh/", "api.mesh"),
    "authority-form": ("api.mesh:80", "api.mesh:80"),
}


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("version", ["1.1", "1.0"])
async def test_hosts_that_two_receivers_read_differently_cve_2021_39155(side: str, version: str) -> None:
    cases = {
        name: "\r\n".join([f"GET / HTTP/{version}", *lines, "", ""]).encode("latin-1") for name, lines in HOSTS.items()
    }
    cases |= {
        name: f"GET {target} HTTP/{version}\r\nHost: {host}\r\n\r\n".encode() for name, (target, host) in FORMS.items()
    }
    async with Doors() as d:
        wrong = []
        for name, raw in cases.items():
            seen = await d.send(side, raw + CANARY)
            if (seen.status, seen.closed, seen.targets) != (400, True, []):
                wrong.append(f"{name}: {seen.status}, closed {seen.closed}, app saw {seen.targets}")
        assert wrong == []


@pytest.mark.parametrize("side", SIDES)
async def test_spellings_of_one_host_have_one_decision_cve_2022_23632(side: str) -> None:
    """Case, port, dot at the end: the listener or the SNI says which service it is, Host never another one."""
    async with Doors() as d:
        for host in ("api.mesh", "API.MESH", "api.mesh.", "api.mesh:80", "api.mesh:8080", "api.mesh:", "[::1]:80",
                     "127.0.0.1", "evil.mesh", "admin"):  # fmt: skip
            [r] = (await d.send(side, get("/", host=host))).requests
            assert r.all("host") == [host]
        stats = await d.first(side).control.scrape()
        assert {s.destination for s in stats.requests} == {"plain" if side == "hop" else "api"}


@pytest.mark.parametrize("side", SIDES)
async def test_methods_and_forms_that_are_not_carried_cve_2026_73547(side: str) -> None:
    cases = {
        b"CONNECT api.mesh:80 HTTP/1.1\r\nHost: api.mesh:80\r\n\r\n": 501,
        b"CONNECT / HTTP/1.1\r\nHost: api.mesh\r\n\r\n": 501,
        b"GET * HTTP/1.1\r\nHost: api.mesh\r\n\r\n": 400,
        b"GET  HTTP/1.1\r\nHost: api.mesh\r\n\r\n": 400,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n": 505,
        b"GET / HTTP/2.0\r\nHost: api.mesh\r\n\r\n": 505,
        b"GET / HTTP/1.2\r\nHost: api.mesh\r\n\r\n": 505,
        b"GET / HTTP/1.10\r\nHost: api.mesh\r\n\r\n": 505,
    }
    async with Doors() as d:
        for raw, status in cases.items():
            seen = await d.send(side, raw + CANARY)
            assert (seen.status in (status, 400), seen.closed, seen.targets) == (True, True, []), raw
        seen = await d.send(side, get("*", method="OPTIONS"))
        assert (seen.status, seen.targets) == (200, ["*"])
