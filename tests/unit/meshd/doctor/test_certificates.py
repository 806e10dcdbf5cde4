from pathlib import Path

import pytest
from cryptography import x509

from meshd.config import Registry
from meshd.doctor import certificates
from registry.ca.init import First, init
from tests.fakes.pki import Pki

NOW = 1_795_435_200.0
DAY = 86400.0


@pytest.mark.parametrize(("days", "verdict"), [(1, "ok"), (16, "warn"), (29, "warn"), (31, "fail"), (-1, "fail")])
def test_our_own_are_late_when_half_their_life_is_over(tmp_path: Path, days: float, verdict: str) -> None:
    init(tmp_path, First("a"), NOW)
    found = {one.name: one for one in certificates.examine(tmp_path, (), NOW + days * DAY)}
    assert found["certificate node"].verdict == verdict, found["certificate node"]
    assert "certificate role" in found
    assert "certificate issuer" in found


def test_a_host_that_has_not_joined(tmp_path: Path) -> None:
    (check,) = certificates.examine(tmp_path, (), NOW)
    assert (check.name, check.verdict) == ("certificate node", "warn")


def test_what_is_shown_to_the_registry(tmp_path: Path) -> None:
    pki = Pki(tmp_path / "pki")
    good, expired = pki.issue("good", hours=20)[0], pki.issue("old", hours=-1)[0]
    for file, verdict in ((good, "ok"), (expired, "fail"), (tmp_path / "none", "fail")):
        at = x509.load_pem_x509_certificate(good.read_bytes()).not_valid_before_utc.timestamp() + 2 * 3600
        found = certificates.examine(tmp_path, (Registry(cert_file=str(file), ca_file=str(pki.roots)),), at)
        assert {one.name: one.verdict for one in found}["certificate CertFile"] == verdict
