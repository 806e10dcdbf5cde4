"""Settings of registries: what a further one needs, and that names tell them apart."""

import pytest

from meshd.registry_settings import Further, Registry, check_further, check_server

ETCD = Further(name="etcd", address="10.0.0.1:2379")


def test_a_home_and_further_ones_of_both_kinds() -> None:
    consul = Further(name="legacy", kind="consul", addresses=("https://10.0.0.2:8501",), mode="agentless")
    assert check_further(Registry(merge="priority"), (ETCD, consul)) == []


@pytest.mark.parametrize(
    ("home", "further", "setting", "reason"),
    [
        (Registry(), Further(address="h:1"), "Registries[0].Name", "'' is no name"),
        (Registry(name="etcd"), ETCD, "Registries[0].Name", "etcd is the name of another registry"),
        (Registry(name="a/b"), ETCD, "Registry.Name", "'a/b' is no name"),
        (Registry(), Further(name="x"), "Registries[0].Addresses", "missing"),
        (Registry(), Further(name="x", address="h:1", mode="agent"), "Registries[0].Mode", "means nothing"),
        (Registry(), Further(name="x", kind="consul", address="h:1"), "Registries[0].Addresses", "has no scheme"),
        (Registry(), Further(name="x", address="http://h", ca_file="/x"), "Registries[0].Addresses", "without TLS"),
        (Registry(), Further(name="x", address="h:1", key_file="/x"), "Registries[0].KeyFile", "without CertFile"),
    ],
)
def test_what_is_wrong_is_named_by_its_path(home: Registry, further: Further, setting: str, reason: str) -> None:
    assert [(one[0], reason in one[1]) for one in check_further(home, (further,))] == [(setting, True)]


def test_merging_one_registry_means_nothing() -> None:
    assert [one[0] for one in check_further(Registry(merge="priority"), ())] == ["Registry.Merge"]


def test_addresses_of_etcd_may_stand_without_a_scheme() -> None:
    assert check_server(Registry(kind="etcd", addresses=("a:1", "https://b:1")), "Registry") == []
