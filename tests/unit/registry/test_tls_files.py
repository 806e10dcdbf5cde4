"""What failed handshakes say, and files that are replaced under us; on real servers: tests/contract/test_tls.py."""

import os
import ssl
from pathlib import Path

import pytest

from registry.errors import Denied
from registry.tls_files import NO_FILES, Files, TlsFiles, advice
from tests.fakes.pki import Pki

FILES = Files("/etc/ca.pem", "/etc/own.pem", "/etc/own.key")


@pytest.mark.parametrize(
    ("said", "mended"),
    [
        ("certificate verify failed: self-signed certificate in certificate chain (_ssl.c:1006)", "CAFile /etc/ca.pem"),
        ("CERTIFICATE_VERIFY_FAILED: self signed certificate in certificate chain: OK", "CAFile /etc/ca.pem"),
        ("CERTIFICATE_VERIFY_FAILED: unable to get local issuer certificate", "CAFile /etc/ca.pem"),
        ("CERTIFICATE_VERIFY_FAILED: certificate has expired: OK", "renew it"),
        ("IP address mismatch, certificate is not valid for '127.0.0.1'", "Addresses must use"),
        ("UNAUTHENTICATED: Hostname Verification Check failed.", "Addresses must use"),
        ("[SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED] tlsv13 alert certificate required", "CertFile /etc/own.pem"),
        ("error:10000412:SSL routines:OPENSSL_internal:TLSV1_ALERT_BAD_CERTIFICATE", "CertFile /etc/own.pem"),
        ("[SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1006)", "http:// in Addresses"),
        ("Connection refused", ""),
    ],
)
def test_a_failed_handshake_names_the_file_and_what_to_do(said: str, mended: str) -> None:
    found = advice(said, FILES)
    assert mended in found
    assert bool(found) == bool(mended)


def test_what_is_not_configured_is_said() -> None:
    assert "no CAFile is set" in advice("self-signed certificate", NO_FILES)
    assert "CertFile is not set" in advice("tlsv1 alert unknown ca", NO_FILES)


def roots(context: ssl.SSLContext) -> set[str]:
    return {str(one["subject"]) for one in context.get_ca_certs()}


def test_replaced_files_are_read_again_and_half_replaced_ones_are_not_used(tmp_path: Path) -> None:
    old, new = Pki(tmp_path / "old", "old"), Pki(tmp_path / "new", "new")
    files = Files(str(tmp_path / "ca"), str(tmp_path / "crt"), str(tmp_path / "key"))
    certificate, key = old.issue("client")
    for source, name in ((old.roots, "ca"), (certificate, "crt"), (key, "key")):
        (tmp_path / name).write_bytes(source.read_bytes())
    tls = TlsFiles(files)
    first = tls()
    assert tls() is first
    certificate, key = new.issue("client")
    steps = [("crt", certificate), ("ca", new.roots), ("key", key)]
    for number, (name, source) in enumerate(steps):
        assert tls() is first, "certificate and key do not belong together yet"
        (tmp_path / name).write_bytes(source.read_bytes())
        os.utime(tmp_path / name, (number + 1, number + 1))
    assert tls() is not first
    assert roots(tls()) != roots(first)
    (tmp_path / "ca").unlink()
    assert roots(tls()) != roots(first), "the last ones stay"


@pytest.mark.parametrize("missing", ["ca", "crt"])
def test_files_that_cannot_be_used_are_named(tmp_path: Path, missing: str) -> None:
    pki = Pki(tmp_path)
    certificate, key = pki.issue("client")
    files = Files(
        str(tmp_path / "none") if missing == "ca" else str(pki.roots),
        str(tmp_path / "none") if missing == "crt" else str(certificate),
        str(key),
    )
    with pytest.raises(Denied, match="none"):
        TlsFiles(files)
