"""What a host is given: by its process, by the network, and by its configuration."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from meshd.config import Host, source_address
from meshd.control.contact import Contact
from meshd.placed import ConfigError, Fault
from meshd.telemetry.log import Log
from registry.api import registration
from registry.api.fields import Refused
from registry.api.registration import Registration


@dataclass(frozen=True)
class Surroundings:
    """What the process gives: log, environment, Unix time, monotonic time, randomness in [0, 1), its configuration
    read again (raises ConfigError)."""

    log: Log
    environ: Mapping[str, str]
    now: Callable[[], float]
    clock: Callable[[], float]
    chance: Callable[[], float]
    contact: Contact
    reread: Callable[[], Host]


def advertised(host: Host) -> str:
    """The address that other hosts dial. Raises ConfigError when there is none."""
    address = host.advertise.address or source_address()
    if not address and host.development:
        return host.loopback
    if not address or (address.startswith("127.") and not host.development):
        raise ConfigError(
            Fault("Advertise.Address", "this host has no default route to take it from", "set Advertise: {Address: IP}")
        )
    return address


def configured(host: Host, own: frozenset[str]) -> tuple[Registration, ...]:
    """`Services` of the configuration. Raises ConfigError with the field and the hint of the API."""
    found: list[Registration] = []
    for number, body in enumerate(host.services):
        try:
            found.append(registration.read(body, own, None))
        except Refused as refused:
            invalid = refused.invalid
            where = f"Services[{number}].{invalid.field}" if invalid.field else f"Services[{number}]"
            raise ConfigError(Fault(where, invalid.error, invalid.hint)) from None
    return tuple(found)
