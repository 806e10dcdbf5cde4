"""Addresses from the registry: what may be dialled, what may be bound."""

import pytest

from policies.address import joined, loopback


@pytest.mark.parametrize(
    ("address", "port", "expected"),
    [
        ("10.0.0.1", 80, "10.0.0.1:80"),
        ("127.0.0.2", 65535, "127.0.0.2:65535"),
        ("2001:db8::1", 80, "[2001:db8::1]:80"),
        ("2001:DB8:0::1", 80, "[2001:db8::1]:80"),
        ("::1", 80, "[::1]:80"),
        ("example.com", 80, None),
        ("", 80, None),
        ("10.0.0.1", 0, None),
        ("10.0.0.1", 65536, None),
        ("10.0.0.1 ", 80, None),
        ("010.0.0.1", 80, None),
        ("0.0.0.0", 80, None),
        ("::", 80, None),
        ("224.0.0.1", 80, None),
        ("169.254.169.254", 80, None),
        ("::ffff:169.254.169.254", 80, None),
        ("fe80::1", 80, None),
        ("fe80::1%eth0", 80, None),
        ("2001:db8::1%1", 80, None),
    ],
)
def test_joined(address: str, port: int, expected: str | None) -> None:
    assert joined(address, port) == expected


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1", True),
        ("127.9.0.2", True),
        ("::1", True),
        ("0.0.0.0", False),
        ("10.0.0.1", False),
        ("localhost", False),
    ],
)
def test_loopback(address: str, expected: bool) -> None:
    assert loopback(address) is expected
