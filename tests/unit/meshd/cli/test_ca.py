import hashlib
import json
import stat
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from tests.unit.meshd.cli.conftest import Run


def test_init_needs_no_meshd_and_prints_the_hash_to_pin(meshctl: Run, tmp_path: Path) -> None:
    done = meshctl("ca", "init", "--data-dir", str(tmp_path), "--node", "a", "-o", "json", target="/nowhere")
    assert done.returncode == 0, done.stderr
    root = x509.load_pem_x509_certificate((tmp_path / "ca" / "root.crt").read_bytes())
    assert json.loads(done.stdout)["root_hash"] == hashlib.sha256(root.public_bytes(Encoding.DER)).hexdigest()
    assert all(stat.S_IMODE(p.stat().st_mode) == 0o600 for p in tmp_path.rglob("*.key"))


def test_a_second_init_changes_nothing_and_says_so(meshctl: Run, tmp_path: Path) -> None:
    first = ("ca", "init", "--data-dir", str(tmp_path), "--node", "a")
    assert meshctl(*first).returncode == 0
    before = (tmp_path / "ca" / "root.crt").read_bytes()
    again = meshctl(*first)
    assert again.returncode == 1
    assert "authority already" in again.stderr
    assert (tmp_path / "ca" / "root.crt").read_bytes() == before
