"""The version of this meshd, from the installed package."""

from importlib import metadata


def version() -> str:
    try:
        return metadata.version("meshd")
    except metadata.PackageNotFoundError:
        return "0+source"
