"""Addresses out of the registry: its writers are not trusted, so an address is one before it is dialled or bound."""

import ipaddress
from typing import Final

_METADATA: Final = ipaddress.ip_network("169.254.0.0/16"), ipaddress.ip_network("fe80::/10")


def joined(address: str, port: int) -> str | None:
    """`ip:port`, IPv6 in brackets; None when it is nothing that a proxy may dial (names, link-local, multicast)."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return None
    if ip.is_multicast or ip.is_unspecified or not 0 < port < 65536 or "%" in address:
        return None
    plain = getattr(ip, "ipv4_mapped", None) or ip  # ::ffff:169.254.169.254 is the same place
    if (
        plain.is_multicast
        or plain.is_unspecified
        or any(plain in net for net in _METADATA if net.version == plain.version)
    ):
        return None
    return f"[{ip}]:{port}" if ip.version == 6 else f"{ip}:{port}"


def loopback(address: str) -> bool:
    """May an upstream port be bound here? On any other address, other hosts would call with this host's identity."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
