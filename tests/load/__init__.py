"""A load generator of our own: constant rate or closed loop, keep-alive GETs, and every failure told.

`python -m tests.load --url U --rate 200 --conns 8 --count 5000 --json` exits 1 when a request failed. As a library,
beside whatever is done to the mesh meanwhile:

    stop = asyncio.Event()
    report, _ = await asyncio.gather(run(Plan(url=url, rate=200, seconds=60), stop=stop), kill_something(stop))
    assert report.failed == 0, report.errors

A failed request: no connection, a cut or unreadable answer, none within `timeout`, or a status outside 2xx and 3xx.
"""

from tests.load.plan import Plan
from tests.load.report import Report, Second, Tally
from tests.load.run import run

__all__ = ["Plan", "Report", "Second", "Tally", "run"]
