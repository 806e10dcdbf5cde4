from pathlib import Path

import pytest

from meshd.config import Host, Proxy
from meshd.doctor import program


@pytest.mark.parametrize(
    ("said", "verdict"), [("meshd-proxy 0.1.0\n", "ok"), ("meshd-proxy 0.2.0\n", "warn"), ("nginx/1.22", "fail")]
)
def test_what_the_binary_says(said: str, verdict: str) -> None:
    assert program.judge("/usr/bin/meshd-proxy", said, "0.1.0").verdict == verdict


def test_a_binary_is_asked(tmp_path: Path) -> None:
    binary = tmp_path / "meshd-proxy"
    binary.write_text("#!/bin/sh\necho meshd-proxy 9.9.9\n")
    host = Host(node="a", proxy=Proxy(binary=str(binary)))
    assert program.examine(host, {}, "9.9.9").verdict == "fail", "it may not be executed yet"
    binary.chmod(0o755)
    assert program.examine(host, {}, "9.9.9").verdict == "ok"
    binary.write_text("no program")
    assert program.examine(host, {}, "9.9.9").verdict == "fail"
