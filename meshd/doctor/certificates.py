"""How long the certificates of a host still live: its own, its instances', and those it shows to the registry."""

from collections.abc import Iterable
from pathlib import Path

from cryptography import x509

from meshd.doctor.check import Check, fail, ok, warn
from meshd.registry_settings import Further, Registry
from registry.ca import rotation
from registry.ca.files import Layout

DAY = 86400.0
OURS = "meshd renews it: its log says why it could not; is an authority reachable (the lines `authority`)?"
THEIRS = "renew it where it was made; meshd reads the file again"


def judge(name: str, certificate: x509.Certificate, now: float, *, ours: bool) -> Check:
    """`ours`: meshd renews it long before half of its life is over, so less than that is late already."""
    start, end = certificate.not_valid_before_utc.timestamp(), certificate.not_valid_after_utc.timestamp()
    seen = f"until {rotation.stamp(end)}, {(end - now) / DAY:.1f} days left"
    todo = OURS if ours else THEIRS
    if now < start:
        return fail(name, f"not valid before {rotation.stamp(start)}, our clock says {rotation.stamp(now)}", "clocks?")
    level = rotation.level(now, start, end)
    if level == "expired":
        return fail(name, seen, todo)
    if level in ("low", "urgent") or (ours and level == "half"):
        return warn(name, seen, todo)
    return ok(name, seen)


def examine(data: Path, settings: Iterable[Registry | Further], now: float) -> tuple[Check, ...]:
    """A line per certificate; missing ones of the host itself are said too."""
    layout = Layout(data)
    found: list[Check] = []
    if not layout.node.certificate.exists():
        found.append(warn("certificate node", f"{layout.node.certificate}: none yet", "this host has not joined"))
    for name, path in _ours(layout):
        found += _file(f"certificate {name}", path, now, ours=True)
    for one in settings:
        of = f" of {one.name}" if isinstance(one, Further) else ""
        for name, given in (("CertFile", one.cert_file), ("CAFile", one.ca_file)):
            if given:
                found += _file(f"certificate {name}{of}", Path(given), now, ours=False)
    return tuple(found)


def _ours(layout: Layout) -> Iterable[tuple[str, Path]]:
    for name, pair in (("node", layout.node), ("role", layout.role), ("issuer", layout.issuer)):
        if pair.certificate.exists():
            yield name, pair.certificate
    services = layout.identity / "svc"
    for path in sorted(services.glob("*/*.crt")):
        yield str(path.relative_to(services).with_suffix("")), path


def _file(name: str, path: Path, now: float, *, ours: bool) -> list[Check]:
    """The one that ends first, of all in the file but the issuers of ours (they have lines of their own)."""
    try:
        held = x509.load_pem_x509_certificates(path.read_bytes())
    except (OSError, ValueError) as error:
        return [fail(name, f"{path}: {error}", "a PEM file that meshd's user may read")]
    first = held[0] if ours else min(held, key=lambda one: one.not_valid_after_utc)
    return [judge(name, first, now, ours=ours)]
