"""Fixtures of the served API; see tests/fakes/served.py."""

from tests.fakes.served import api, deps, serve, store

__all__ = ["api", "deps", "serve", "store"]
