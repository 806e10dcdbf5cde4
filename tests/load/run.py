"""Drives a plan: connections take the next request of one shared schedule, wait for its time, send, read."""

import asyncio
import itertools
import time
from collections.abc import Callable, Iterator

from tests.load.connection import Broken, Connection
from tests.load.plan import Plan
from tests.load.report import Report, Tally


async def run(
    plan: Plan,
    *,
    stop: asyncio.Event | None = None,
    tally: Tally | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Report:
    """Run to the plan's end, or until `stop` is set: requests under way are then still counted."""
    tally = tally if tally is not None else Tally()
    indexes = itertools.count()
    start = clock()

    def departures() -> Iterator[float]:
        for index in indexes:
            due = plan.departure(index)
            stopped = stop is not None and stop.is_set()
            if due is None or stopped or (plan.seconds is not None and clock() - start >= plan.seconds):
                return
            yield due

    await asyncio.gather(*(_connection(plan, departures(), tally, clock, start) for _ in range(plan.conns)))
    return tally.report(clock() - start)


async def _connection(
    plan: Plan, departures: Iterator[float], tally: Tally, clock: Callable[[], float], start: float
) -> None:
    connection = Connection(plan.address)
    try:
        for due in departures:
            early = start + due - clock()
            if early > 0:
                await asyncio.sleep(early)
            # Closed loop: the schedule says "now". Open loop: a late connection does not shorten what the caller saw.
            departed = due if plan.rate is not None else clock() - start
            await _request(plan, connection, tally, lambda: clock() - start, departed)
    finally:
        connection.close()


async def _request(plan: Plan, connection: Connection, tally: Tally, now: Callable[[], float], departed: float) -> None:
    try:
        async with asyncio.timeout(plan.timeout):
            answer = await connection.get(plan.head)
    except TimeoutError:
        tally.broke(now(), TimeoutError(f"no answer in {plan.timeout:g} s"))
    except (OSError, Broken, ValueError, asyncio.LimitOverrunError) as error:
        tally.broke(now(), error)
        await asyncio.sleep(0.005)  # a refused connection fails in microseconds: a closed loop must not spin on it
    else:
        tally.answered(now(), now() - departed, answer.status, answer.body)
