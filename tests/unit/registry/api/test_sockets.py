"""What the kernel says of the other end of a socket."""

import os
import socket

import pytest

from registry.api.sockets import tcp_uid, unix_peer


def test_a_unix_peer_is_this_process() -> None:
    one, two = socket.socketpair()
    with one, two:
        peer = unix_peer(one)
    assert peer.uid == os.getuid()
    assert peer.gids == {os.getgid(), *os.getgroups()}


def test_what_is_no_unix_socket_has_no_peer() -> None:
    with socket.socket() as sock, pytest.raises(OSError, match=r"."):
        unix_peer(sock)


@pytest.mark.parametrize(("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_the_uid_of_a_local_tcp_client(family: socket.AddressFamily, host: str) -> None:
    with socket.socket(family) as server:
        server.bind((host, 0))
        server.listen()
        with socket.socket(family) as client:
            client.connect(server.getsockname())
            served, address = server.accept()
            with served:
                assert tcp_uid(address, served.getsockname()) == os.getuid()


def test_a_client_that_is_not_on_this_host_has_no_uid() -> None:
    assert tcp_uid(("192.0.2.1", 4000), ("127.0.0.1", 80)) is None
