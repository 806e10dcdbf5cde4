from pathlib import Path

import msgspec

from meshd.config import Bind, Host, Registry
from meshd.doctor.check import Check, exit_code
from meshd.doctor.examine import Doctor, Place, Side, judge_address, judge_registry, server_version
from meshd.doctor.reach import Answer
from meshd.registry_settings import Further
from registry import keys
from registry.store import Store
from tests.fakes.store import MemoryStore


def place(host: Host, store: Store | None) -> Place:
    side = Side(host.registry, store, "no such file" if store is None else "")
    further = (Side(one, store) for one in host.registries)
    return Place(host, (side, *further), {}, lambda: 1_795_435_200.0, "0.1.0")


async def all_of(one: Place) -> dict[str, Check]:
    return {check.name: check for _, step in Doctor(one).steps async for check in step()}


async def test_a_registry_that_nobody_reaches_ends_with_75_and_the_rest_is_looked_at(tmp_path: Path) -> None:
    registry = Registry(kind="etcd", addresses=("127.0.0.1:1",))
    host = Host(node="a", data_dir=str(tmp_path), run_dir=str(tmp_path), registry=registry)
    found = await all_of(place(host, MemoryStore()))
    assert found["registry"].verdict == "fail"
    assert found["rights"].verdict == "warn"
    assert {"disk", "apps", "proxy"} <= found.keys()
    assert exit_code(found.values()) == 75


async def test_an_account_that_cannot_be_opened_is_a_failure(tmp_path: Path) -> None:
    registry = Registry(kind="consul", addresses=("http://127.0.0.1:1",), token_file=str(tmp_path / "none"))
    found = await all_of(place(Host(node="a", data_dir=str(tmp_path), run_dir=str(tmp_path), registry=registry), None))
    assert (found["rights"].verdict, found["rights"].seen) == ("fail", "no such file")


async def test_the_embedded_registry_has_no_rights_to_ask_for_but_keys(tmp_path: Path) -> None:
    store = MemoryStore()
    await store.put(keys.POLICY + "fault/a b", b"")
    host = Host(node="a", roles=("registry", "ca"), data_dir=str(tmp_path), run_dir=str(tmp_path),
                bind=Bind(inbound="127.0.0.1", peer="127.0.0.1"))  # fmt: skip
    found = await all_of(place(host, store))
    assert found["rights"].verdict == "ok"
    assert found["keys"].verdict == "warn"
    assert set(store.entries) == {keys.POLICY + "fault/a b"}


def test_one_of_several_addresses_that_is_away_is_a_warning() -> None:
    here, away = Answer(status=200, before=1.0, after=1.5), Answer(problem="refused", todo="start it")
    assert judge_address("http://a", here, others=True).seen == "answers in 500 ms"
    assert judge_address("http://b", away, others=True).verdict == "warn"
    assert judge_address("http://b", away, others=False).verdict == "fail"
    assert judge_address("http://b", Answer(status=500, body=b"No cluster leader"), others=False).verdict == "fail"
    assert judge_registry(2, [here, away]).seen == "1 of 2 addresses answer"
    assert judge_registry(1, [away]).verdict == "fail"


def test_what_servers_say_of_their_version() -> None:
    builds = [("consul", "1.13.9:abc"), ("consul", "1.8.7+dfsg1:"), ("node", "1.2.0:x")]
    members = [{"Name": "x", "Tags": {"role": role, "build": build}} for role, build in builds]
    assert server_version("consul", msgspec.json.encode(members)) == "1.8.7+dfsg1"
    assert server_version("consul", b"[]") == ""
    assert server_version("etcd", b'{"etcdserver":"3.4.23","etcdcluster":"3.4.0"}') == "3.4.23"
    assert server_version("consul", b"Permission denied") == ""


async def test_a_key_file_that_is_no_use_is_not_taken_for_a_registry_that_is_away(tmp_path: Path) -> None:
    registry = Registry(kind="consul", addresses=("https://127.0.0.1:1",), ca_file=str(tmp_path / "none"))
    found = await all_of(place(Host(node="a", data_dir=str(tmp_path), run_dir=str(tmp_path), registry=registry), None))
    assert found["registry files"].verdict == "fail"
    assert exit_code(found.values()) == 1


async def test_a_registry_beside_the_home_one_has_lines_of_its_own(tmp_path: Path) -> None:
    host = Host(node="a", roles=("registry", "ca"), data_dir=str(tmp_path), run_dir=str(tmp_path),
                bind=Bind(inbound="127.0.0.1", peer="127.0.0.1"),
                registries=(Further(name="old", kind="etcd", addresses=("127.0.0.1:1",)),))  # fmt: skip
    found = await all_of(place(host, MemoryStore()))
    assert (found["registry"].verdict, found["registry of old"].verdict) == ("ok", "fail")
    assert found["rights of old"].verdict == "warn"
    assert exit_code(found.values()) == 1, "the home registry answers"
