"""Revocations as operators write them: `revocations/<id>` = `{Identity | Serial, From, Reason}` (JSON or YAML).

`Identity`: certificates of that SPIFFE URI that were issued before `From` (absent: all, for ever); a host's URI also
covers what the host asks for. `Serial`: one certificate, or the id of one token. Pure.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

import msgspec

from registry.ca import names
from registry.ca.svid import Svid
from registry.errors import Corrupt

MAX_BYTES = 4096


class Revocation(msgspec.Struct, frozen=True, kw_only=True, rename="pascal", forbid_unknown_fields=True):
    """Exactly one of `identity` and `serial` (lower hex) is set. `from_`: RFC 3339."""

    identity: str = ""
    serial: str = ""
    from_: datetime | None = msgspec.field(default=None, name="From")
    reason: str = ""

    @property
    def before(self) -> float:
        """Certificates issued before this moment (Unix seconds) are revoked; infinity: all, for ever."""
        if self.from_ is None:
            return float("inf")
        moment = self.from_ if self.from_.tzinfo else self.from_.replace(tzinfo=UTC)
        return moment.timestamp()


class Revocations:
    """All revocations that could be read, by what they name; `problems` says why the others could not."""

    def __init__(self, found: Iterable[Revocation], problems: Mapping[str, str] | None = None) -> None:
        self.identities: dict[str, Revocation] = {}
        self.serials: dict[str, Revocation] = {}
        self.problems = dict(problems or {})
        for item in found:
            if item.serial:
                self.serials[item.serial] = item
                continue
            known = self.identities.get(item.identity)
            if known is None or item.before > known.before:
                self.identities[item.identity] = item

    def of(self, svid: Svid) -> Revocation | None:
        """The revocation that covers a certificate. Issued is what its NotBefore says, here and in the proxy."""
        by_serial = self.serials.get(svid.serial)
        if by_serial is not None:
            return by_serial
        by_name = self.identities.get(svid.identity.uri)
        return by_name if by_name is not None and svid.not_before < by_name.before else None

    def before(self, identity: str) -> float:
        """Certificates of an identity count only from here on (Unix seconds); 0: nothing is revoked."""
        found = self.identities.get(identity)
        return found.before if found is not None else 0.0


def parse(value: bytes) -> Revocation:
    """One stored value. Raises Corrupt with the reason."""
    if len(value) > MAX_BYTES:
        raise Corrupt(f"longer than {MAX_BYTES} bytes")
    try:
        text = value if value.lstrip().startswith(b"{") else msgspec.json.encode(msgspec.yaml.decode(value))
        item = msgspec.json.decode(text, type=Revocation)  # by JSON: YAML's times come quoted and unquoted
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, TypeError) as error:
        raise Corrupt(f"no revocation: {error}; wanted {{Identity | Serial, From, Reason}}") from error
    if bool(item.identity) == bool(item.serial):
        raise Corrupt("exactly one of Identity and Serial is wanted")
    if item.identity and names.parse(item.identity) is None:
        raise Corrupt(f"Identity {item.identity!r} is no SPIFFE URI of the mesh")
    if item.serial and not all(c in "0123456789abcdef" for c in item.serial):
        raise Corrupt(f"Serial {item.serial!r} is not lower hex")
    return item


def parse_all(values: Mapping[str, bytes]) -> Revocations:
    """Read all of `revocations/`; one that cannot be read never hides the others."""
    found: list[Revocation] = []
    problems: dict[str, str] = {}
    for key, value in sorted(values.items()):
        try:
            found.append(parse(value))
        except Corrupt as error:
            problems[key] = str(error)
    return Revocations(found, problems)
