"""`meshd dev`: no configuration, one host, and it says that it is open."""

import time
from pathlib import Path

import pytest

from meshd import dev
from meshd.config import load
from registry.ca.files import Layout


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    return tmp_path


def test_settings_make_a_whole_host(here: Path) -> None:
    host = load(None, {}, dev.settings())
    assert (host.node, host.roles, host.development) == ("dev", ("registry", "ca"), True)
    assert host.data.is_relative_to(here)
    assert host.run.is_relative_to(here)


def test_flags_win_over_its_settings(here: Path) -> None:
    assert load(None, {}, [*dev.settings(), "Ports.Api=1234"]).ports.api == 1234


def test_the_authority_is_made_once_and_openness_is_said(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    host = load(None, {}, dev.settings())
    dev.prepare(host, time.time())
    made = Layout(host.data).root.certificate.read_bytes()
    dev.prepare(host, time.time())
    assert Layout(host.data).root.certificate.read_bytes() == made
    assert "OPEN ACCESS" in capsys.readouterr().err
