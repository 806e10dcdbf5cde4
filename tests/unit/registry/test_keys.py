from collections.abc import Callable

import pytest

from registry import keys


@pytest.mark.parametrize(
    "key",
    [
        "a",
        "mesh/v1/policy/service-router/web",
        "a/b.c_d-e/",
        "mesh/v1/policy/service-intentions/*",
        "mesh/v1/policy/service-intentions/web-*",
        "mesh/v1/history/service-intentions/*/3",
        "mesh/v1/history/service-intentions/web-*/3",
        "a" * 512,
    ],
)
def test_keys_that_every_store_can_hold(key: str) -> None:
    assert keys.valid_key(key)


@pytest.mark.parametrize(
    "key",
    [
        "",
        "/a",
        "a//b",
        "a/../b",
        "..",
        "a/.",
        "a b",
        "a\n",
        "ü",
        "a" * 513,
        "mesh/v1/config/*",
        "mesh/v1/policy/*/web",
        "mesh/v1/policy/x/w*b",
        "mesh/v1/policy/x/**",
        "mesh/v1/history/x/w*b/3",
        "mesh/v1/history/*/web/3",
        "mesh/v1/services/web*/3",
        "*",
        "a%2e",
        "a\x00b",
    ],
)
def test_keys_that_are_refused_as_in_cve_2025_11392(key: str) -> None:
    assert not keys.valid_key(key)


@pytest.mark.parametrize(
    ("name", "valid"), [("web-1.a_B", True), ("a/b", False), ("..", False), ("", False), ("*", False)]
)
def test_names_are_one_path_segment(name: str, valid: bool) -> None:
    assert keys.valid_name(name) is valid


def test_an_instance_key_is_taken_apart_as_it_was_built() -> None:
    assert keys.parse_instance(keys.instance("web", "host-a", "web-1")) == ("web", "host-a", "web-1")


@pytest.mark.parametrize("tail", ["web/a", "web/a/b/c", "web//b", "web/../b", "web/a/"])
def test_other_keys_below_services_are_no_instances(tail: str) -> None:
    assert keys.parse_instance(keys.SERVICES + tail) is None
    assert keys.parse_instance("elsewhere/web/a/b") is None


@pytest.mark.parametrize(
    ("build", "prefix"), [(keys.lease, keys.LEASES), (keys.node, keys.NODES), (keys.status, keys.STATUS)]
)
def test_a_name_behind_a_prefix_is_read_back(build: Callable[[str], str], prefix: str) -> None:
    assert keys.parse_name(prefix, build("host-a")) == "host-a"
    assert keys.parse_name(prefix, build("a/b")) is None
    assert keys.parse_name(prefix, "host-a") is None


@pytest.mark.parametrize(("kind", "name"), [("mesh", "mesh"), ("service-router", "web"), ("service-intentions", "*")])
def test_a_document_key_is_taken_apart_as_it_was_built(kind: str, name: str) -> None:
    assert keys.valid_key(keys.policy(kind, name))
    assert keys.parse_policy(keys.policy(kind, name)) == (kind, name)


@pytest.mark.parametrize(
    "key", ["mesh/v1/policy/x", "mesh/v1/policy//x", "mesh/v1/policy/a/b/c", "mesh/v1/config/other"]
)
def test_other_keys_are_no_documents(key: str) -> None:
    assert keys.parse_policy(key) is None


def test_history_keys_end_in_the_version() -> None:
    assert keys.history("service-router", "web", 7) == "mesh/v1/history/service-router/web/7"


def test_a_selector_is_one_key_or_all_below_a_prefix() -> None:
    assert keys.is_key("a/web")
    assert not keys.is_key("a/")
    assert not keys.is_key("")
    assert keys.covers("a/web", "a/web")
    assert not keys.covers("a/web", "a/web2")
    assert not keys.covers("a/web", "a/web/b")
    assert keys.covers("a/", "a/web")
    assert keys.covers("a/", "a/web/"), "a narrower selector"
    assert not keys.covers("a/", "ab")
    assert keys.covers("", "anything")


@pytest.mark.parametrize("selector", ["a/b/web", "a/b/", "web"])
def test_what_covers_a_selector_can_be_counted(selector: str) -> None:
    found = set(keys.selectors_of(selector))
    assert found == {one for one in ("a/b/web", "a/b/", "a/", "", "web") if keys.covers(one, selector)}
    assert found - {selector} == set(keys.wider(selector))
