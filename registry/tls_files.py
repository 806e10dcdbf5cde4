"""TLS with the registry from files: read again when they change, and what a failed handshake says about them.

The texts are those of OpenSSL (Consul, over Python's ssl) and BoringSSL (etcd, over gRPC).
"""

import re
import ssl
from dataclasses import dataclass
from pathlib import Path

from registry.errors import Denied


@dataclass(frozen=True)
class Files:
    """Paths as configured, empty: none. Without `key`, `cert` holds both."""

    ca: str = ""
    cert: str = ""
    key: str = ""

    @property
    def named(self) -> str:
        return ", ".join(filter(None, (self.ca, self.cert, self.key)))


NO_FILES = Files()

EXPIRED = re.compile("certificate has expired")
OTHER_NAME = re.compile("IP address mismatch|Hostname mismatch|Hostname Verification Check failed")
OTHER_AUTHORITY = re.compile("self[- ]signed certificate|unable to get (local )?issuer")
REFUSED = re.compile(
    "alert.(certificate.required|bad.certificate|unknown.ca|certificate.expired|certificate.unknown)", re.I
)
PLAINTEXT = re.compile("WRONG_VERSION_NUMBER")


def advice(said: str, files: Files) -> str:
    """What to do about a connection that failed with these words; empty when they are not about certificates."""
    if EXPIRED.search(said):
        return "the server's certificate has expired: renew it there; if it has not, this machine's clock is wrong"
    if OTHER_NAME.search(said):
        return "the server's certificate is for another name: Addresses must use one that it was issued for"
    if OTHER_AUTHORITY.search(said):
        held = f"CAFile {files.ca}" if files.ca else "this machine's own list (no CAFile is set)"
        return f"the server's certificate is of no authority in {held}: put the one that issued it there"
    if REFUSED.search(said):
        shown = f"CertFile {files.cert}" if files.cert else "no certificate (CertFile is not set)"
        return f"the server does not take {shown}: it wants a valid one of an authority that it trusts"
    if PLAINTEXT.search(said):
        return "the server speaks no TLS there: http:// in Addresses, or TLS at the server"
    return ""


class TlsFiles:
    """`tls()` is the context of what the files hold now: whoever connects asks for it."""

    def __init__(self, files: Files) -> None:
        """Raises Denied naming the files when they cannot be used."""
        self.files = files
        self._seen = self._stamps()
        self._context = self._load()

    def __call__(self) -> ssl.SSLContext:
        """New files take effect for new connections; while they cannot be used the last ones stay."""
        stamps = self._stamps()
        if stamps != self._seen:
            try:
                self._context = self._load()
                self._seen = stamps
            except Denied:
                pass  # half replaced: asked again with the next connection
        return self._context

    def _load(self) -> ssl.SSLContext:
        try:
            context = ssl.create_default_context(cafile=self.files.ca or None)
            if self.files.cert:
                context.load_cert_chain(self.files.cert, self.files.key or None)
        except (OSError, ssl.SSLError) as error:
            raise Denied(f"TLS to the registry with {self.files.named}: {error}") from error
        return context

    def _stamps(self) -> tuple[int, ...]:
        """When each file was last written; 0: it is not there now."""
        return tuple(_stamp(path) for path in (self.files.ca, self.files.cert, self.files.key) if path)


def _stamp(path: str) -> int:
    try:
        return Path(path).stat().st_mtime_ns
    except OSError:
        return 0
