"""The version is the package's."""

from importlib import metadata

from meshd.version import version


def test_version_is_the_installed_packages() -> None:
    assert version() == metadata.version("meshd")
