"""Asking an address of the registry or of an authority: one HTTP request, with TLS as the host's settings say.

etcd answers HTTP on its client port too (`/version`), so all kinds are asked in one way, and all say their time.
"""

import ssl
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import msgspec

from meshd.registry_settings import Further, Registry
from registry.ca import names, tls
from registry.ca.files import Layout, load_trust_domain
from registry.errors import RegistryError

Settings = Registry | Further

WITHIN = 5.0  # seconds for one answer


class Door(msgspec.Struct, frozen=True):
    """How to ask: the URL without a path, and for TLS the context and the name that the certificate must have."""

    url: str
    context: ssl.SSLContext | None = None
    server_name: str | None = None


class Answer(msgspec.Struct, frozen=True):
    """`problem`: why there is none; then the rest is empty. `before` and `after`: Unix time of the request."""

    status: int = 0
    body: bytes = b""
    date: str = ""
    before: float = 0.0
    after: float = 0.0
    problem: str = ""
    todo: str = ""


def doors(settings: Settings, data: Path) -> tuple[Door, ...]:
    """Every address of a registry. `data`: DataDir. Raises RegistryError, OSError, ssl.SSLError for files."""
    if settings.kind == "sqlite":
        return ()
    if settings.kind == "mesh":
        layout = Layout(data)
        ours = tls.client_context(layout)
        name = names.peer_name(load_trust_domain(layout))
        return tuple(Door(_https(address), ours, name) for address in settings.all_addresses)
    context = client_context(settings)
    secure = context if context is not None else ssl.create_default_context()
    if settings.kind == "etcd" and context is not None:
        return tuple(Door(_https(address), secure) for address in settings.all_addresses)
    given = (address if "://" in address else f"http://{address}" for address in settings.all_addresses)
    return tuple(Door(url, secure if url.startswith("https://") else None) for url in given)


def _https(address: str) -> str:
    return address if "://" in address else f"https://{address}"


def client_context(settings: Settings) -> ssl.SSLContext | None:
    """None: no file is named. Raises OSError, ssl.SSLError."""
    if not (settings.ca_file or settings.cert_file):
        return None
    context = ssl.create_default_context(cafile=settings.ca_file or None)
    if settings.cert_file:
        context.load_cert_chain(settings.cert_file, settings.key_file or None)
    return context


async def ask(
    door: Door,
    path: str,
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
    now: Callable[[], float] = time.time,
) -> Answer:
    """GET, or POST with a body. Never raises for what the other side does."""
    parts = urlsplit(door.url)
    connector: aiohttp.BaseConnector
    if parts.scheme == "unix":
        connector, url = aiohttp.UnixConnector(parts.path), f"http://localhost{path}"
    else:
        connector, url = aiohttp.TCPConnector(ssl=door.context or True), door.url.rstrip("/") + path
    before = now()
    timeout = aiohttp.ClientTimeout(total=WITHIN)
    try:
        async with (
            aiohttp.ClientSession(connector=connector, timeout=timeout, trust_env=False) as session,
            session.request(
                "GET" if body is None else "POST", url, data=body, headers=headers, allow_redirects=False,
                server_hostname=door.server_name,
            ) as answer,
        ):  # fmt: skip
            data = await answer.content.read(1 << 20)
            return Answer(answer.status, data, answer.headers.get("Date", ""), before, now())
    except (aiohttp.ClientError, TimeoutError, OSError, ssl.SSLError) as error:
        return Answer(before=before, after=now(), problem=said(error), todo=advice(error))


def said(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer in {WITHIN:g} s"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return str(error.certificate_error)
    return str(error) or type(error).__name__


def advice(error: BaseException) -> str:
    """What to look at first."""
    text = said(error).lower()
    if "expired" in text:
        return "a certificate has expired: renew it (the server's, or CertFile)"
    if "hostname mismatch" in text or "ip address mismatch" in text or "doesn't match" in text:
        return "its certificate is for another name: use that name in Registry.Addresses, or add this one to it"
    if "unable to get" in text or "self-signed" in text or "self signed" in text:
        return "Registry.CAFile is not the authority of its certificate"
    dropped = isinstance(error, aiohttp.ServerDisconnectedError | ConnectionResetError)
    if dropped or "certificate required" in text or "bad certificate" in text or "alert" in text:
        # TLS 1.3: the server looks at our certificate when the handshake is over for us
        return "does it want a client certificate (Registry.CertFile, KeyFile), or no TLS at all? Its log says"
    return "is it running, is this its address, and does a firewall let this host through?"


def account(settings: Settings) -> str:
    """Of TokenFile; empty: none is named. Raises OSError."""
    return Path(settings.token_file).read_text().strip() if settings.token_file else ""


def readable(settings: Settings, data: Path) -> tuple[tuple[Door, ...], str]:
    """The doors, or why there are none."""
    try:
        return doors(settings, data), ""
    except (RegistryError, OSError, ssl.SSLError, ValueError) as error:
        return (), str(error)
