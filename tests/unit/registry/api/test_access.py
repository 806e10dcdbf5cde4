"""Who may do what: a table of rights, and no route outside it."""

import pytest

from registry import keys
from registry.api.access import (
    RIGHTS,
    ROUTES,
    Access,
    Action,
    Allow,
    Caller,
    Grant,
    Refuse,
    decide,
    describe,
)

ADMIN = Caller("admin", uid=0)
LOCAL = Caller("local", uid=1000)
UNKNOWN = Caller("local")
NODE = Caller("node", node="b")
ANA = Caller("local", operator="ana")
NODE_ANA = Caller("node", node="b", operator="ana")
NOBODY = Caller("anonymous")
ALL = {"admin": ADMIN, "local": LOCAL, "node": NODE, "operator": ANA, "node+operator": NODE_ANA, "anonymous": NOBODY}

ACCESS = Access(register=(Grant(frozenset({1000}), frozenset({"web"})), Grant(frozenset({1001}), frozenset({"*"}))))


def allowed(action: Action, target: str = "") -> set[str]:
    return {name for name, caller in ALL.items() if isinstance(decide(ACCESS, caller, action, target), Allow)}


def test_every_action_has_rights_and_no_kind_of_caller_has_them_by_accident() -> None:
    assert set(RIGHTS) == set(Action)
    for rights in RIGHTS.values():
        assert "anonymous" not in rights


def test_every_route_is_decided_for_every_caller() -> None:
    """The table of who may call what, written down a second time on purpose."""
    everyone = {"admin", "local", "node", "operator", "node+operator"}
    expected = {
        Action.STATUS: everyone,
        Action.CATALOG: everyone,
        Action.AGENT_READ: {"admin", "local", "operator"},
        Action.REGISTER: {"admin"},
        Action.KV_READ: everyone - {"node"},  # the empty prefix: more than the mesh
        Action.KV_WRITE: {"admin", "operator"},
        Action.SESSION_READ: everyone,
        Action.SESSION_CREATE: everyone - {"local"},
        Action.SESSION_WRITE: everyone - {"local", "node"} | {"node+operator"},
        Action.TXN: everyone,
    }
    for route in ROUTES:
        assert allowed(route.action) == expected[route.action], route.name


def test_no_route_of_an_agent_is_served_to_other_hosts() -> None:
    assert [r.name for r in ROUTES if r.peer and r.path.startswith("/v1/agent")] == []
    assert len({route.name for route in ROUTES}) == len(ROUTES)


@pytest.mark.parametrize(
    ("key", "who"),
    [
        ("foo", {"admin", "operator"}),
        ("mesh/v1/policy/service-router/web", {"admin", "operator", "node+operator"}),
        ("mesh/v1/config/mesh", {"admin", "operator", "node+operator"}),
        ("mesh/v1/history/mesh/mesh/1", {"admin", "operator", "node+operator"}),
        ("mesh/v1/revocations/1", {"admin", "operator", "node+operator"}),
        ("mesh/v1/services/web/b/web-1", {"admin", "node", "node+operator"}),
        ("mesh/v1/services/web/c/web-1", {"admin"}),
        ("mesh/v1/services/b", {"admin"}),
        ("mesh/v1/services/web/b/x/y", {"admin"}),
        ("mesh/v1/leases/b", {"admin", "node", "node+operator"}),
        ("mesh/v1/leases/b2", {"admin"}),
        ("mesh/v1/nodes/b", {"admin", "node", "node+operator"}),
        ("mesh/v1/nodes/c", {"admin"}),
        ("mesh/v1/status/proxies/b", {"admin", "node", "node+operator"}),
        ("mesh/v1/ca/roots/1", {"admin"}),
        ("mesh/v1/store-id", {"admin"}),
        ("mesh/v1/policyx", {"admin"}),
    ],
)
def test_who_may_write_a_key(key: str, who: set[str]) -> None:
    assert allowed(Action.KV_WRITE, key) == who


@pytest.mark.parametrize(
    ("key", "who"),
    [
        ("foo", {"admin", "local", "operator", "node+operator"}),
        ("mesh/v1/services/", {"admin", "local", "operator", "node", "node+operator"}),
        ("mesh/v1/ca/roots/1", {"admin", "operator", "node", "node+operator"}),
        ("mesh/v1/ca/issued/d/1", {"admin", "operator", "node+operator"}),
        ("mesh/v1/ca/tokens/used/1", {"admin", "operator", "node+operator"}),
    ],
)
def test_who_may_read_a_key(key: str, who: set[str]) -> None:
    assert allowed(Action.KV_READ, key) == who


def test_registration_is_for_the_uids_that_the_host_names() -> None:
    def may(caller: Caller, service: str) -> bool:
        return isinstance(decide(ACCESS, caller, Action.REGISTER, service), Allow)

    assert may(LOCAL, "web")
    assert not may(LOCAL, "api")
    assert not may(LOCAL, "web2")
    assert may(Caller("local", uid=1001), "api")
    assert may(Caller("local", uid=0), "api")
    assert not may(UNKNOWN, "web")
    assert not may(NODE_ANA, "web")


def test_a_session_is_renewed_by_its_own_host_only() -> None:
    assert isinstance(decide(ACCESS, NODE, Action.SESSION_WRITE, "b"), Allow)
    assert isinstance(decide(ACCESS, NODE, Action.SESSION_WRITE, "c"), Refuse)


def test_open_opens_the_local_api_and_never_that_of_other_hosts() -> None:
    for action in Action:
        assert isinstance(decide(Access(open=True), UNKNOWN, action, keys.CA_ROOTS), Allow)
        assert decide(Access(open=True), NOBODY, action, "x") != Allow()
    assert decide(Access(open=True), NODE, Action.KV_WRITE, "mesh/v1/config/mesh") != Allow()


def test_a_refusal_says_who_and_what_to_do() -> None:
    found = decide(ACCESS, LOCAL, Action.KV_WRITE, "mesh/v1/config/mesh")
    assert isinstance(found, Refuse)
    assert found.status == 403
    assert found.error == "Permission denied: uid 1000 may not kv-write mesh/v1/config/mesh"
    assert "token create --operator" in found.hint
    assert describe(NODE_ANA) == "operator ana (node b)"
    assert describe(UNKNOWN) == "this caller"
