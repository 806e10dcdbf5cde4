"""TLS of port 15444: TLS 1.3 only, roots of the mesh only, and reload without a restart.

asyncio fixes one `SSLContext` when a listener starts; certificates are renewed and roots are retired while it runs.
So what is handed out is a `ReloadingContext`: it makes each connection's TLS from the context built last.
"""

import ssl
from collections.abc import Callable, Iterable

from cryptography import x509

from registry.ca import bundle, files, svid
from registry.errors import Corrupt


class ReloadingContext(ssl.SSLContext):
    """Delegates every handshake to the newest context; used directly for anything else it fails (no roots, no key)."""

    _build: Callable[[], ssl.SSLContext]
    _current: ssl.SSLContext

    @classmethod
    def of(cls, protocol: int, build: Callable[[], ssl.SSLContext]) -> "ReloadingContext":
        """`protocol` PROTOCOL_TLS_SERVER or PROTOCOL_TLS_CLIENT. Raises what `build` raises."""
        made = cls(protocol)
        made.minimum_version = ssl.TLSVersion.TLSv1_3
        made._build = build
        made._current = build()
        return made

    def reload(self) -> None:
        """Build again from the files; connections that are open stay as they are. On an error the old one stays."""
        self._current = self._build()

    def wrap_bio(  # what asyncio calls, once for each connection
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        return self._current.wrap_bio(incoming, outgoing, server_side, server_hostname, session)


def server_context(layout: files.Layout) -> ReloadingContext:
    """For 15444: the role certificate; a client certificate is optional in TLS, the routes demand it."""
    return ReloadingContext.of(ssl.PROTOCOL_TLS_SERVER, lambda: _server(layout))


def client_context(layout: files.Layout) -> ReloadingContext:
    """For a joined host: its node certificate, its roots. Pass `server_hostname=registry.ca.names.peer_name(...)`."""
    return ReloadingContext.of(ssl.PROTOCOL_TLS_CLIENT, lambda: _node(layout))


def pinned_context(roots: Iterable[x509.Certificate], trust_domain: str) -> ssl.SSLContext:
    """For joining and exchanging: roots, no certificate of our own."""
    context = _base(ssl.PROTOCOL_TLS_CLIENT, roots)
    context.hostname_checks_common_name = False
    context.sslobject_class = _demanding_role(trust_domain)
    return context


def unverified_context() -> ssl.SSLContext:
    """For GET /v1/roots before anything is trusted: public data, checked by its hash. Nothing secret goes there."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def peer_certificate(connection: object) -> bytes | None:
    """The DER certificate that TLS has verified for a connection; None: there is none, or nobody verified it."""
    if not isinstance(connection, ssl.SSLObject) or connection.context.verify_mode is ssl.CERT_NONE:
        return None
    return connection.getpeercert(binary_form=True)


def _server(layout: files.Layout) -> ssl.SSLContext:
    context = _base(ssl.PROTOCOL_TLS_SERVER, files.read_certificates(layout.roots))
    context.verify_mode = ssl.CERT_OPTIONAL
    # A resumed session would skip the check of a certificate whose root was retired meanwhile.
    context.num_tickets = 0
    context.options |= ssl.OP_NO_TICKET
    _load(context, layout.role)
    return context


def _node(layout: files.Layout) -> ssl.SSLContext:
    context = pinned_context(files.read_certificates(layout.roots), files.load_trust_domain(layout))
    _load(context, layout.node)
    return context


def _base(protocol: int, roots: Iterable[x509.Certificate]) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.load_verify_locations(cadata=bundle.write_pem(roots))
    return context


def _load(context: ssl.SSLContext, pair: files.Pair) -> None:
    files.load(pair)  # modes and match are checked, and an interrupted change is finished, with clear words
    try:
        context.load_cert_chain(pair.certificate, pair.key)
    except (ssl.SSLError, OSError) as error:  # pragma: no cover - files.load has read both a moment ago
        raise Corrupt(f"{pair.certificate}: {error}") from error


def _demanding_role(trust_domain: str) -> type[ssl.SSLObject]:
    class RoleObject(ssl.SSLObject):
        """Ends the handshake unless the server is a role: before the first byte, so no token leaks past it."""

        def do_handshake(self) -> None:
            super().do_handshake()
            try:
                identity = svid.read_der(self.getpeercert(binary_form=True) or b"", trust_domain).identity
            except svid.BadSvid as error:
                raise ssl.SSLCertVerificationError(f"the server is no authority: {error}") from error
            if identity.kind != "role":
                raise ssl.SSLCertVerificationError(f"the server is {identity}, no authority or registry")

    return RoleObject
