import pytest

from meshd.doctor.versions import FAULTS, Product, judge, parse


@pytest.mark.parametrize(
    ("product", "version", "named"),
    [
        ("etcd", "3.4.23", {"CVE-2026-33343", "CVE-2026-33413", "CVE-2026-44283", "CVE-2026-73499"}),
        ("etcd", "3.4.42", {"CVE-2026-44283", "CVE-2026-73499"}),
        ("etcd", "3.5.33", set()),
        ("etcd", "3.7.0", {"CVE-2026-73499"}),
        ("etcd", "3.7.3", set()),
        ("consul", "1.8.7+dfsg1", {"CVE-2025-11392", "CVE-2020-25864"}),
        ("consul", "1.8.10", {"CVE-2025-11392"}),
        ("consul", "1.21.5", {"22822"}),
        ("consul", "1.22.0", set()),
    ],
)
def test_the_faults_of_a_version(product: Product, version: str, named: set[str]) -> None:
    checks = judge(product, version)
    warned = [check for check in checks if check.verdict == "warn"]
    assert len(warned) == len(named)
    for name in named:
        assert any(name in check.seen for check in warned)
    assert all("upgrade to" in check.todo for check in warned)


def test_the_nearest_good_release_is_named() -> None:
    (check, *_) = judge("etcd", "3.5.2")
    assert check.todo == "upgrade to 3.5.28 or later"


def test_a_version_that_is_not_told_is_a_warning() -> None:
    (check,) = judge("consul", "")
    assert check.verdict == "warn"


def test_every_row_names_its_source() -> None:
    assert all(fault.source and fault.fixed for fault in FAULTS)


def test_versions_as_servers_write_them() -> None:
    assert parse("v3.4.23") == (3, 4, 23)
    assert parse("1.13.9-dev") == (1, 13, 9)
    assert parse("main") is None
