"""Rules and who they are about (security.md classes 12, 17, 18 and 19): whoever is not surely meant is not let in."""

import asyncio
from typing import Any, Literal

import pytest

from policies import compiled as c
from tests.security import cert_zoo
from tests.security.doors import ENDED, Doors, client_context, pem
from tests.unit.proxy.certs import sni
from tests.unit.proxy.wire import Wire, get

Action = Literal["allow", "deny"]


def rules(*sources: c.Source, fallback: Action = "deny") -> c.Permissions:
    return c.Permissions(sources=sources, fallback=fallback)


def source(name: str, action: Action) -> c.Source:
    return c.Source(name=name, origin=f"test/{action}-{name}", action=action)


def layer7(*permissions: tuple[Action, c.Match | None], name: str = "web") -> c.Source:
    made = tuple(
        c.Permission(action=action, origin=f"test/{i}-{action}", match=match)
        for i, (action, match) in enumerate(permissions)
    )
    return c.Source(name=name, origin="test/l7", permissions=made)


def header(name: str, **test: Any) -> c.Match:
    return c.Match(headers=(c.HeaderMatch(name=name, **test),))


NOT = header("x-blocked", present=True, invert=True)
KINDS: dict[str, tuple[c.Permissions, int]] = {
    "nothing": (rules(), 403),
    "nothing, fallback allow": (rules(fallback="allow"), 200),
    "allow by name": (rules(source("web", "allow")), 200),
    "allow another": (rules(source("admin", "allow")), 403),
    "allow any": (rules(source("*", "allow")), 200),
    "deny by name": (rules(source("web", "deny"), source("*", "allow"), fallback="allow"), 403),
    "deny another, allow any": (rules(source("admin", "deny"), source("*", "allow")), 200),
    "deny another, fallback allow": (rules(source("admin", "deny"), fallback="allow"), 200),
    "deny any, fallback allow": (rules(source("*", "deny"), fallback="allow"), 403),
    "layer 7 allow": (rules(layer7(("allow", c.Match(path_prefix="/")))), 200),
    "layer 7 allow elsewhere": (rules(layer7(("allow", c.Match(path_prefix="/else")))), 403),
    "layer 7 deny elsewhere, allow": (rules(layer7(("deny", c.Match(path_prefix="/else")), ("allow", None))), 200),
    "layer 7 deny, fallback allow": (rules(layer7(("deny", c.Match(path_prefix="/"))), fallback="allow"), 403),
    "layer 7 of another, fallback allow": (rules(layer7(("deny", None), name="admin"), fallback="allow"), 200),
    "not: allow without a header": (rules(layer7(("allow", NOT))), 200),
    "not: deny without a header": (rules(layer7(("deny", NOT), ("allow", None))), 403),
    "not: allow any without a header": (rules(layer7(("allow", NOT), name="*")), 200),
    "not: allow any but a value": (rules(layer7(("allow", header("x-a", exact="b", invert=True)), name="*")), 200),
}


async def ask(d: Doors, certificate: str, *lines: str, host: str = "api.mesh", tls: bool = True) -> int:
    """Status that this client gets at the inbound port; 0: no answer at all."""
    context = client_context(certificate) if tls else None
    name = sni(d.mesh.spiffe) if tls else None
    try:
        async with asyncio.timeout(5):
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", d.mesh.inbound_port, ssl=context, server_hostname=name
            )
            try:
                writer.write(get("/x", *lines, host=host))
                return int((await reader.readuntil(b"\r\n\r\n")).split(b" ")[1])
            finally:
                writer.transport.abort()
    except ENDED:
        return 0


async def test_no_rule_lets_an_absent_identity_in_istio_security_2021_004() -> None:
    """Every kind of rule, for nobody, for names of other trust domains under our own root, and for the right one."""
    async with Doors() as d:
        a = d.mesh.authority
        foreign = [cert_zoo.good(a.issuer, a.issuer_key, f"spiffe://{domain}/svc/web/n/a/i/web-1") for domain in
                   ("other.example", "mesh.local.evil", "evil-mesh.local", "mesh", "local")]  # fmt: skip
        nobody = cert_zoo.good(a.issuer, a.issuer_key, "https://mesh.local/svc/web/n/a/i/web-1")
        web = pem(a.instance("web/a/web-1"))
        for kind, (permissions, expected) in KINDS.items():
            await d.mesh.b.update(d.mesh.inbound(permissions))
            before = len(d.app.whole)
            assert await ask(d, "") == 0, kind
            assert await ask(d, "", tls=False) == 0, kind
            for leaf in (*foreign, nobody):
                assert await ask(d, leaf.cert_pem + leaf.key_pem) == 0, kind
            assert len(d.app.whole) == before, kind
            assert await ask(d, web) == expected, kind
            async with Wire(d.mesh.port) as w:
                assert (await w.ask(get("/x"))).status == expected, f"{kind}, by the caller's proxy"


async def test_hosts_and_roles_are_no_service() -> None:
    """A host's own certificate is authenticated, but no rule that names a service is about it."""
    async with Doors() as d:
        a = d.mesh.authority
        node = cert_zoo.good(a.issuer, a.issuer_key, "spiffe://mesh.local/node/web")
        for kind in ("allow by name", "layer 7 allow", "not: allow without a header"):
            await d.mesh.b.update(d.mesh.inbound(KINDS[kind][0]))
            assert await ask(d, node.cert_pem + node.key_pem) == 403, kind


async def test_principals_are_compared_whole_cve_2026_39350() -> None:
    near = ("a-b", "axb", "a_b", "a.b.c", "a", "b", "A.B", "a.bb", "xa.b", "aXb", "a..b", "a.b-", "-a.b")
    async with Doors(permissions=rules(source("a.b", "allow"))) as d:
        for service in near:
            assert await ask(d, pem(d.mesh.authority.instance(f"{service}/a/1"))) == 403, service
        for name in ("x/a.b/1", "x/a/a.b"):
            assert await ask(d, pem(d.mesh.authority.instance(name))) == 403, name
        assert await ask(d, pem(d.mesh.authority.instance("a.b/a/1"))) == 200
        await d.mesh.b.update(d.mesh.inbound(rules(source("a.b", "deny"), source("*", "allow"))))
        for service in near:
            assert await ask(d, pem(d.mesh.authority.instance(f"{service}/a/1"))) == 200, service
        assert await ask(d, pem(d.mesh.authority.instance("a.b/a/1"))) == 403


HEADER_CASES = (
    ("x-role: admin",),
    ("x-role: admin", "x-role: user"),
    ("x-role: user", "x-role: admin"),
    ("X-ROLE: admin",),
    ("x_role: admin",),
    ("x-role: user, admin",),
    ("x-role: admin,user",),
    ("x-role:", "x-role: admin"),
    ("x-role: admin\xff",),
    ("x-role: \xffadmin",),
    ("x-role: user\xe2\x80\xa8admin",),
    ("x-role:  admin\t",),
)


# which of these values surely differ: whole other values, not the same one written otherwise
OTHERS = {"exact": (5, 6, 8, 9, 10), "prefix": (5, 9, 10), "suffix": (6, 8)}


@pytest.mark.parametrize(
    ("how", "value"),
    [("exact", "admin"), ("prefix", "admin"), ("suffix", "admin"), ("contains", "admin"), ("regex", ".*admin.*"),
     ("present", True)],
)  # fmt: skip
async def test_what_a_header_rule_cannot_read_counts_against_the_caller_cve_2026_73552(how: str, value: Any) -> None:
    """Bytes beyond ASCII, lists, repeated lines, underscores: a deny rule applies, an allow rule does not."""
    deny = rules(layer7(("deny", header("x-role", **{how: value})), ("allow", None)))
    allow = rules(layer7(("allow", header("x-role", exact="user"))))
    async with Doors(permissions=deny) as d:
        web = pem(d.mesh.authority.instance("web/a/web-1"))
        assert await ask(d, web) == 200
        for i, lines in enumerate(HEADER_CASES):
            assert await ask(d, web, *lines) == (200 if i in OTHERS.get(how, ()) else 403), lines
        await d.mesh.b.update(d.mesh.inbound(allow))
        assert await ask(d, web, "x-role: user") == 200
        for lines in (*HEADER_CASES, (), ("x-role:",), ("x-role: user\xff",), ("x_role: user",), ("x-role: User",)):
            assert await ask(d, web, *lines) == 403, lines


async def test_rules_about_hosts_hold_for_every_spelling_cve_2021_39155() -> None:
    """Case, a dot at the end and the default port name the same host."""
    deny = rules(layer7(("deny", header("host", exact="admin.mesh")), ("allow", None)))
    allow = rules(layer7(("allow", header("host", exact="api.mesh"))))
    async with Doors(permissions=deny) as d:
        web = pem(d.mesh.authority.instance("web/a/web-1"))
        for host in ("admin.mesh", "ADMIN.mesh", "admin.mesh.", "Admin.Mesh.", "admin.mesh:80", "admin.MESH.:80"):
            assert await ask(d, web, host=host) == 403, host
        assert await ask(d, web, host="api.mesh") == 200
        await d.mesh.b.update(d.mesh.inbound(allow))
        for host in ("admin.mesh", "api.mesh.evil", "evil-api.mesh", "api.mesh:8080"):
            assert await ask(d, web, host=host) == 403, host
        assert await ask(d, web, host="API.mesh.:80") == 200


async def test_a_rule_that_this_proxy_does_not_know_is_refused_whole_cve_2022_21679() -> None:
    """A newer control plane's field in a permission: nothing is ignored, the rules before stay in force."""
    async with Doors(permissions=rules(source("web", "deny"))) as d:
        control = d.mesh.b.control
        strange = (
            b'{"type":"update","update":777,"put":[{"kind":"inbound","name":"api/b/api-1","service":"api","app":"%s",'
            b'"sni":"%s","protocol":"http","permissions":{"sources":[{"name":"web","origin":"o","action":"allow",'
            b'"unless":"monday"}]}}]}' % (d.mesh.app.address.encode(), sni(d.mesh.spiffe).encode())
        )
        await control.send_raw(strange)
        await control.until(lambda: any(isinstance(f, c.Rejected) and f.update == 777 for f in control.answers))
        assert await ask(d, pem(d.mesh.authority.instance("web/a/web-1"))) == 403
