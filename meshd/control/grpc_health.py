"""Asks an app for its health by gRPC. https://github.com/grpc/grpc/blob/master/doc/health-checking.md

`grpc` is imported by the first such check: a host without one pays nothing for it. The two messages have one field
each, so that they are written and read here by hand (https://protobuf.dev/programming-guides/encoding/).
"""

import asyncio
import ssl
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from registry.model import Check, Health

METHOD = "/grpc.health.v1.Health/Check"
STATUS = {0: "UNKNOWN", 1: "SERVING", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}
SERVING = 1
# A check says something about the app as it is now, reached from here: no proxy of the environment, no retries.
OPTIONS = (("grpc.enable_http_proxy", 0), ("grpc.enable_retries", 0), ("grpc.max_receive_message_length", 4096))

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # wire types


async def ask(check: Check) -> tuple[Health, str]:
    """`check.grpc`: address:port, or address:port/service. Raises OSError for an address that nobody listens on."""
    target = check.grpc
    try:
        import grpc
    except ImportError as error:
        return "critical", f"the package grpcio is missing: pip install 'meshd[grpc]' ({error})"
    address, _, service = target.partition("/")
    # A pool of its own: connections of one channel are shared in the process, and an old one says little.
    options: tuple[tuple[str, Any], ...] = (*OPTIONS, ("grpc.use_local_subchannel_pool", 1))
    if check.grpc_tls:
        roots, name = await trusted(address, check)
        options += (("grpc.ssl_target_name_override", name),) if name else ()
        channel = grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(roots), options=options)
    else:
        channel = grpc.aio.insecure_channel(address, options=options)
    try:
        call: Any = channel.unary_unary(METHOD)  # bytes in, bytes out: no serializers
        answer: bytes = await call(request(service))
    except grpc.aio.AioRpcError as error:
        return "critical", f"gRPC {target}: {refusal(error)}"
    finally:
        await channel.close()
    try:
        status = serving_status(answer)
    except ValueError as error:
        return "critical", f"gRPC {target}: no answer of a health service: {error}"
    return ("passing" if status == SERVING else "critical"), f"gRPC {target}: {STATUS.get(status, status)}"


async def trusted(address: str, check: Check) -> tuple[bytes | None, str]:
    """Roots (PEM) for a server, and the name that its certificate must have instead of its address.

    gRPC cannot leave out verification. So with `tls_skip_verify` the server is asked for its certificate first, and
    that one is what the call then trusts.
    """
    if not check.tls_skip_verify:
        bundle = ssl.get_default_verify_paths().cafile
        return (await asyncio.to_thread(Path(bundle).read_bytes) if bundle else None), check.tls_server_name
    der = await _shown(address, check.tls_server_name)
    certificate = x509.load_der_x509_certificate(der)
    return certificate.public_bytes(Encoding.PEM), _name(certificate)


async def _shown(address: str, name: str) -> bytes:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    host, _, port = address.rpartition(":")
    _, writer = await asyncio.open_connection(host.strip("[]"), int(port), ssl=context, server_hostname=name or None)
    try:
        found: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        return found
    finally:
        writer.close()


def _name(certificate: x509.Certificate) -> str:
    """A name that the certificate is for; empty: it has none, so the address must do."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ""
    addresses = map(str, names.get_values_for_type(x509.IPAddress))
    return next(iter([*names.get_values_for_type(x509.DNSName), *addresses]), "")


def refusal(error: Any) -> str:
    """A status and its text in one line."""
    return f"{error.code().name} {error.details() or ''}".strip()


def request(service: str) -> bytes:
    """HealthCheckRequest{1: service}; the empty name asks for the whole server."""
    name = service.encode()
    return b"\n" + varint(len(name)) + name if name else b""


def serving_status(answer: bytes) -> int:
    """HealthCheckResponse{1: status}; other fields are skipped. Raises ValueError for what is no message."""
    status, at = 0, 0
    while at < len(answer):
        tag, at = read_varint(answer, at)
        value, at = _field(answer, at, tag & 7)
        if tag == 1 << 3 | VARINT:
            status = value
    return status


def _field(data: bytes, at: int, wire: int) -> tuple[int, int]:
    if wire == VARINT:
        return read_varint(data, at)
    if wire == BYTES:
        length, at = read_varint(data, at)
    elif wire in (FIXED64, FIXED32):
        length = 8 if wire == FIXED64 else 4
    else:
        raise ValueError(f"wire type {wire}")
    if at + length > len(data):
        raise ValueError("cut short")
    return 0, at + length


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """The number and where the next byte is. Raises ValueError."""
    number = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise ValueError("cut short")
        number |= (data[at] & 0x7F) << shift
        at += 1
        if data[at - 1] < 0x80:
            return number, at
    raise ValueError("a number longer than 64 bits")
