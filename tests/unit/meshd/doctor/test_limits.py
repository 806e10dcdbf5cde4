import os
import resource
from pathlib import Path

import pytest

from meshd.doctor import limits


@pytest.mark.parametrize(("soft", "verdict"), [(-1, "ok"), (65_536, "ok"), (4096, "warn"), (1023, "fail")])
def test_how_many_are_enough(soft: int, verdict: str) -> None:
    assert limits.judge("proxy", soft).verdict == verdict


def test_of_a_running_process() -> None:
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    assert limits.of_process(os.getpid()) == (-1 if soft == resource.RLIM_INFINITY else soft)


def test_no_limit_and_no_process(tmp_path: Path) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "limits").write_text(
        "Max open files            unlimited            unlimited            files\n"
    )
    assert limits.of_process(7, tmp_path) == -1
    assert limits.of_process(8, tmp_path) is None


def test_a_new_proxy_gets_the_hard_limit() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    assert limits.of_a_start() == (-1 if hard == resource.RLIM_INFINITY else hard)
