"""A store from a host's configuration: files that are wanted, read and read again."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from registry.backends.etcd_links import Tls
from registry.backends.etcd_open import open_etcd, tls
from registry.errors import Denied
from registry.tls_files import Files
from tests.fakes.etcd import FakeEtcd
from tests.tools import ROOT


@dataclass
class Settings:
    all_addresses: tuple[str, ...] = ("a:2379",)
    token_file: str = ""
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""


def file(directory: Path, name: str, text: str) -> str:
    path = directory / name
    path.write_text(text)
    return str(path)


def test_plaintext_needs_no_files() -> None:
    assert tls(Settings())() is None


def test_https_alone_trusts_the_system() -> None:
    assert tls(Settings(("https://a:2379",)))() == Tls()


def test_files_are_read_each_time(tmp_path: Path) -> None:
    settings = Settings(ca_file=file(tmp_path, "ca", "1"), cert_file=file(tmp_path, "cert", "2"))
    read = tls(settings)
    assert read() == Tls(b"1", b"2", b"2", Files(settings.ca_file, settings.cert_file))
    file(tmp_path, "ca", "new")
    settings.key_file = file(tmp_path, "key", "3")
    assert read() == Tls(b"new", b"2", b"3", Files(settings.ca_file, settings.cert_file, settings.key_file))


@pytest.mark.parametrize("field", ["token_file", "ca_file", "cert_file", "key_file"])
def test_a_file_that_is_missing_is_named(tmp_path: Path, field: str) -> None:
    given = {"cert_file": file(tmp_path, "cert", "x"), field: str(tmp_path / "missing")}
    with pytest.raises(Denied, match="missing"):
        open_etcd(Settings(**given))  # type: ignore[arg-type]  # names of its fields


def test_an_empty_token_file_is_no_account(tmp_path: Path) -> None:
    with pytest.raises(Denied, match="is empty"):
        open_etcd(Settings(token_file=file(tmp_path, "token", "\n")))


def test_what_is_no_address_is_refused() -> None:
    with pytest.raises(Denied, match="wanted"):
        open_etcd(Settings(("unix:///run/etcd",)))


async def test_the_account_of_the_file_is_used(tmp_path: Path) -> None:
    async with FakeEtcd(node="secret").serve() as etcd:
        store = open_etcd(Settings((etcd.address,), token_file=file(tmp_path, "token", "node:secret\n")))
        assert await store.index("mesh/v1/") == etcd.revision
        await store.close()


def test_without_its_libraries_the_host_is_told_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "grpc.py").write_text("raise ImportError('no grpc here')")
    code = "import registry.backends.etcd_open"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join((str(tmp_path), str(ROOT)))}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=30, check=False
    )
    assert "registry.errors.Denied: Kind: etcd needs grpcio and protobuf, pip install 'meshd[etcd]'" in done.stderr
