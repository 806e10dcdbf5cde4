"""Twin of `registry/backends/consul_open.py`: what a configuration names is used, or refused by name."""

import os
import ssl
from pathlib import Path

import pytest

from meshd.config import Registry
from registry.backends.consul_open import TokenFile, open_consul, tls
from registry.errors import Denied
from tests.fakes.tls import pair


def settings(**given: str) -> Registry:
    return Registry(kind="consul", addresses=("https://127.0.0.1:8501",), **given)  # type: ignore[arg-type]  # only fields of text are given


def test_a_rotated_token_is_read_without_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "token"
    token = TokenFile(path)
    assert token() is None
    path.write_text("one\n")
    assert token() == "one"
    path.write_text("two\n")
    os.utime(path, ns=(1, 1))
    assert token() == "two"
    path.unlink()
    assert token() == "two", "a file that is being replaced is no reason to lose one's rights"


def test_a_missing_token_is_refused_before_anything_is_asked(tmp_path: Path) -> None:
    with pytest.raises(Denied, match="TokenFile"):
        open_consul(settings(token_file=str(tmp_path / "none")), "a", "10.0.0.1")


def test_tls_trusts_the_named_authority_and_shows_the_certificate(tmp_path: Path) -> None:
    made = pair(tmp_path, "consul")
    files = tls(settings(ca_file=str(made.path), cert_file=str(made.path)))
    assert files is not None
    context = files()
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert len(context.get_ca_certs()) <= 1, "no other authority than the named one"
    assert tls(settings()) is None


@pytest.mark.parametrize("key", ["ca_file", "cert_file"])
def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, key: str) -> None:
    bad = tmp_path / "bad.pem"
    bad.write_text("no certificate")
    with pytest.raises(Denied, match=r"bad\.pem"):
        open_consul(settings(**{key: str(bad)}), "a", "10.0.0.1")


async def test_the_mode_is_the_catalogues() -> None:
    store, catalog = open_consul(settings(mode="agentless"), "a", "10.0.0.1")
    assert catalog.mode == "agentless"
    await store.close()
    store, catalog = open_consul(settings(), "a", "10.0.0.1")
    assert catalog.mode == "agent"
    await store.close()
