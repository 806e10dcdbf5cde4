"""What the HTTP API asks of the host: the local agent, implemented by `meshd.control.register`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from registry.api.registration import Registration
from registry.model import Check, CheckResult, Health, Instance


@dataclass(frozen=True)
class CheckState:
    """A check of a local instance and what it said last (fresher than the stored one)."""

    instance: Instance
    check: Check
    result: CheckResult


@dataclass(frozen=True)
class Info:
    """For `/v1/agent/self` and `/v1/agent/members`."""

    node: str
    address: str
    version: str
    server: bool  # this host serves the embedded registry
    config: Mapping[str, str] = field(default_factory=dict)  # shown as DebugConfig; no secrets


class Agent(Protocol):
    """Every writing call returns the store index at which its effect is visible to all hosts."""

    async def register(self, registration: Registration, replace_checks: bool) -> int:
        """Add or change a local instance. `replace_checks` drops checks that the registration does not name.

        Raises Unavailable (nothing was promised: send it again), Denied (the host is not entitled to the service).
        """
        ...

    async def deregister(self, instance_id: str) -> int:
        """Withdraw, then delete later. Raises NotFound."""
        ...

    async def maintenance(self, instance_id: str, enable: bool, reason: str) -> int:
        """Raises NotFound."""
        ...

    async def check_update(self, check_id: str, status: Health, output: str) -> int:
        """A TTL check was reported. Raises NotFound when there is no TTL check of that id."""
        ...

    async def check_register(self, instance_id: str, check: Check) -> int:
        """Add or replace one check of an instance. Raises NotFound for the instance."""
        ...

    async def check_deregister(self, check_id: str) -> int:
        """Raises NotFound."""
        ...

    def services(self) -> Mapping[str, Instance]:
        """Local instances by id."""
        ...

    def checks(self) -> Mapping[str, CheckState]:
        """Their checks by check id."""
        ...

    def info(self) -> Info: ...
