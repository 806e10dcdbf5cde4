"""A host's side of the authority: join, sign, renew, exchange. Several addresses are tried in order.

What comes back is checked before it is believed: our key, the name we asked for, a chain to roots that we pinned.
Errors are `registry.errors`: Denied (asking again is useless), Unavailable (nobody signed: try later), Corrupt.
"""

import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import aiohttp
import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from registry.ca import bundle, certificate, csr, files, names, rotation, svid, tls
from registry.ca.routes import RootsAnswer, SignedAnswer
from registry.ca.svid import Svid
from registry.errors import Conflict, Corrupt, Denied, NotFound, RegistryError, TooLarge, Unavailable

MAX_ANSWER = 1024 * 1024
TIMEOUT = 10.0  # seconds, one address
_KINDS: dict[int, type[RegistryError]] = {404: NotFound, 409: Conflict, 413: TooLarge, 429: Unavailable}


@dataclass(frozen=True)
class Place:
    """Where authorities answer (`host:port`), how TLS to them is made, and this host's clock (Unix seconds)."""

    addresses: Sequence[str]
    roots: tuple[x509.Certificate, ...]
    trust_domain: str
    now: Callable[[], float]
    ssl: ssl.SSLContext
    patience: float = TIMEOUT  # seconds for one address


@dataclass(frozen=True)
class Granted:
    """A certificate that was checked. `offline`: signed without the store, renew soon. Save with `files.save`."""

    credentials: files.Credentials
    svid: Svid
    roots: tuple[x509.Certificate, ...]
    trust_domain: str
    addresses: tuple[str, ...]
    offline: bool


async def join(
    addresses: Sequence[str],
    token: str,
    root_hash: str,
    now: Callable[[], float],
    *,
    key: ec.EllipticCurvePrivateKey | None = None,
    patience: float = TIMEOUT,
) -> Granted:
    """Become the host that the token names. `root_hash`: 64 hex digits of the root's SHA-256 (`meshctl ca`).

    The roots come over TLS that nobody verified and count only if one has that hash; the token goes out on a second
    connection, verified against that root. Raises Denied, Unavailable, Corrupt.
    """
    place = await pin(addresses, root_hash, now, patience)
    key = key or certificate.new_key()
    answer = await _ask(place, "/v1/join", {"Token": token.strip(), "Csr": csr.make(key)})
    return _granted(place, answer, key, "node")


async def pin(addresses: Sequence[str], root_hash: str, now: Callable[[], float], patience: float = TIMEOUT) -> Place:
    """Find the root with this hash. Raises Denied when an authority answers with others, Unavailable if none does."""
    wanted = root_hash.strip().lower().replace(":", "")
    problems: list[str] = []
    for address in addresses:
        try:
            answer = await _roots(address, patience)
        except Unavailable as error:
            problems.append(str(error))
            continue
        found = {bundle.root_hash(root): root for pem in answer.roots for root in bundle.read_pem(pem.encode())}
        root = found.get(wanted)
        if root is None:
            raise Denied(
                f"{address}: its root has the hash {', '.join(found) or 'of nothing'}, not {wanted}: nothing was sent."
                " Compare with `meshctl ca` on the authority; if they differ, somebody else answers at this address"
            )
        domain = bundle.trust_domain(root)
        return Place(addresses, (root,), domain, now, tls.pinned_context([root], domain), patience)
    raise Unavailable("no authority answers: " + ("; ".join(problems) or "no address given"))


async def sign_service(
    place: Place, node: str, service: str, instance_id: str, held: files.Credentials | None = None
) -> Granted:
    """A certificate with a new key for an instance of this node. `place.ssl` carries the node certificate."""
    key = certificate.new_key()
    wanted = names.service_id(place.trust_domain, service, node, instance_id)
    body = {"Service": service, "Id": instance_id, "Csr": csr.make(key), "Certificate": held.chain_pem if held else ""}
    return _granted(place, await _ask(place, "/v1/sign", body), key, wanted)


async def sign_role(place: Place, node: str, role: str, held: files.Credentials | None = None) -> Granted:
    """A role certificate (server side of 15444) with a new key for this node."""
    key = certificate.new_key()
    body = {"Role": role, "Csr": csr.make(key), "Certificate": held.chain_pem if held else ""}
    return _granted(place, await _ask(place, "/v1/sign", body), key, names.role_id(place.trust_domain, role, node))


async def renew_node(place: Place, held: files.Credentials) -> Granted:
    """A new certificate for this node's key; one that has expired is exchanged (up to 90 days after its end).

    The key stays: only then can a host that slept for weeks prove that it is the same.
    """
    own = svid.read(held.leaf, place.trust_domain)
    request = csr.make(held.key)
    if place.now() <= own.not_after:
        answer = await _ask(place, "/v1/renew", {"Csr": request})
    else:
        bare = tls.pinned_context(place.roots, place.trust_domain)
        asked = Place(place.addresses, place.roots, place.trust_domain, place.now, bare, place.patience)
        answer = await _ask(asked, "/v1/join", {"Certificate": held.chain_pem, "Csr": request})
    return _granted(place, answer, held.key, own.identity.uri)


def from_files(
    layout: files.Layout, addresses: Sequence[str], now: Callable[[], float], context: ssl.SSLContext
) -> Place:
    """A joined host's place. `context` from `tls.client_context`. Raises as `files.read`."""
    roots = files.read_certificates(layout.roots)
    return Place(addresses, roots, files.load_trust_domain(layout), now, context)


def _granted(place: Place, answer: SignedAnswer, key: ec.EllipticCurvePrivateKey, wanted: str) -> Granted:
    """Check what came back. `wanted`: the URI asked for, or `node` where the token decides."""
    chain = bundle.read_pem(answer.certificate.encode())
    now = place.now()
    try:
        leaf = svid.read(chain[0], place.trust_domain) if chain else None
        if leaf is None:
            raise Corrupt("the authority's answer holds no certificate")
        skew = rotation.clock_problem(now, leaf.not_before, leaf.not_after, clock="this host's", other=answer.time)
        if skew:
            raise Unavailable(skew)
        svid.verify(chain, place.roots, place.trust_domain, now)
    except svid.BadSvid as error:
        raise Corrupt(f"the authority's answer: {error}") from error
    if leaf.key != key.public_key():
        raise Corrupt("the authority's answer is for another key")
    if wanted not in (leaf.identity.uri, leaf.identity.kind):
        raise Corrupt(f"the authority signed {leaf.identity} instead of {wanted}")
    return Granted(
        credentials=files.Credentials(key, chain),
        svid=leaf,
        roots=place.roots,
        trust_domain=place.trust_domain,
        addresses=answer.addresses,
        offline=answer.offline,
    )


async def _ask(place: Place, path: str, body: dict[str, str]) -> SignedAnswer:
    """Ask one authority after the other until one decides. Raises what the first decision says, or Unavailable."""
    problems: list[str] = []
    for address in place.addresses:
        try:
            data = await _send(address, path, place, body)
            return msgspec.json.decode(data, type=SignedAnswer)
        except Unavailable as error:
            problems.append(str(error))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            problems.append(f"{address}: no answer of an authority: {error}")
    raise Unavailable("no authority signed: " + ("; ".join(problems) or "no address given"))


async def _roots(address: str, patience: float) -> RootsAnswer:
    """What an address says its roots are, over TLS that nobody verified. Raises Unavailable."""
    status, data = await _exchange(address, _Call("/v1/roots"), tls.unverified_context(), patience)
    try:
        return msgspec.json.decode(data, type=RootsAnswer)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Unavailable(f"{address}: no answer of an authority (status {status}): {error}") from error


async def _send(address: str, path: str, place: Place, body: dict[str, str]) -> bytes:
    """The body of a 200 from a verified authority. Raises what another status means."""
    try:
        call = _Call(path, body, names.peer_name(place.trust_domain))
        status, data = await _exchange(address, call, place.ssl, place.patience)
    except _Unverified as error:
        raise Unavailable(f"{error}{await _clocks(address, place)}") from error
    if status == 200:
        return data
    kind = _KINDS.get(status, Unavailable if status >= 500 else Denied)
    raise kind(f"{address}: {_explanation(status, data, place.now())}")


class _Unverified(Unavailable):
    """The server could not prove that it is an authority of this mesh."""


@dataclass(frozen=True)
class _Call:
    """One request; without a body a GET. `name`: the server name that its certificate must carry."""

    path: str
    body: dict[str, str] | None = None
    name: str | None = None


async def _exchange(address: str, call: _Call, context: ssl.SSLContext, patience: float) -> tuple[int, bytes]:
    """One request on a connection of its own: authorities are asked once a day. Raises Unavailable."""
    limit = aiohttp.ClientTimeout(total=patience)
    connector = aiohttp.TCPConnector(ssl=context, force_close=True)
    try:
        async with (
            aiohttp.ClientSession(connector=connector, timeout=limit, auto_decompress=False) as session,
            session.request(
                "GET" if call.body is None else "POST",
                f"https://{address}{call.path}",
                json=call.body,
                server_hostname=call.name,
                allow_redirects=False,
            ) as response,
        ):
            data = await response.content.read(MAX_ANSWER)
            while len(data) < MAX_ANSWER and (more := await response.content.read(MAX_ANSWER - len(data))):
                data += more
            return response.status, data
    except (aiohttp.ClientConnectorCertificateError, ssl.SSLCertVerificationError) as error:
        raise _Unverified(f"{address} is no authority that this host trusts: {error}") from error
    except TimeoutError as error:
        raise Unavailable(f"{address} did not answer within {patience:g} s") from error
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise Unavailable(f"{address} cannot be asked: {error}") from error


async def _clocks(address: str, place: Place) -> str:
    """Both clocks, for a person who looks at a failed verification (linkerd2#6427)."""
    try:
        theirs = (await _roots(address, place.patience)).time
    except Unavailable:
        return ""
    return (
        f" (this host's clock says {rotation.stamp(place.now())}, that server's {rotation.stamp(theirs)}:"
        " if they differ by more than 10 minutes, set them right first)"
    )


def _explanation(status: int, data: bytes, now: float) -> str:
    """The authority's own words, and both clocks where they differ by more than certificates tolerate."""
    try:
        body = msgspec.json.decode(data, type=dict[str, str | float])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return f"status {status}"
    text = str(body.get("error", f"status {status}"))
    theirs = body.get("time")
    if isinstance(theirs, float | int) and abs(theirs - now) > certificate.BACKDATE:
        text += f" (this host's clock says {rotation.stamp(now)}, the authority's {rotation.stamp(theirs)})"
    return text
