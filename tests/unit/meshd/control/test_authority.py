"""The authority's upkeep on a host that was away for long."""

import time
from pathlib import Path

from meshd.control.authority import recover
from registry.ca import entitlement, files
from registry.ca.init import First, init

DAY = 86400.0


def test_nothing_is_renewed_while_everything_is_young(tmp_path: Path) -> None:
    init(tmp_path, First("a"), time.time())
    assert not recover(files.Layout(tmp_path), "a", time.time())


def test_an_expired_node_certificate_is_made_anew_with_its_rights(tmp_path: Path) -> None:
    layout = files.Layout(tmp_path)
    init(tmp_path, First("a", services=("web",)), time.time() - 40 * DAY)
    before = files.load(layout.node)
    assert recover(layout, "a", time.time())
    after = files.load(layout.node)
    assert after.leaf.not_valid_after_utc.timestamp() > time.time()
    assert entitlement.decode(after.leaf) == entitlement.decode(before.leaf)
    assert files.load(layout.role).leaf.not_valid_after_utc.timestamp() > time.time()
