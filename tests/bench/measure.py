"""One row: a topology started, warmed up, its idle cost read, driven, and judged by its own processes' CPU time."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

from tests.bench import procfs, wrk
from tests.bench.stage import Stage, Target, wait_for
from tests.mesh.cluster import http

WARM_UP = 1.0  # seconds
# Idle control work comes in steps of a second (stats, leases): a shorter window would see none of them, or all.
IDLE = (2.0, 5.0)


@dataclass(frozen=True)
class Settings:
    """`duration` in seconds; `workers`: data threads of every proxy process."""

    duration: float = 5.0
    conns: int = 64
    workers: int = 1


@dataclass(frozen=True)
class Row:
    """`us_per_req`: CPU microseconds of the proxies; `control_us_per_req`: of meshd, its idle work taken off."""

    name: str
    round: int
    requests: int
    rps: float
    us_per_req: float
    p50_ms: float
    p99_ms: float
    pss_mb: float
    errors: int
    control_us_per_req: float
    switches_per_req: float

    def as_json(self) -> dict[str, object]:
        return {name: round(value, 3) if isinstance(value, float) else value for name, value in asdict(self).items()}


def measure(name: str, round_: int, start: Callable[[Stage], Target], settings: Settings) -> Row:
    """Raises Missing (a program), or what the start or wrk raised, with the ends of all logs added as a note."""
    with Stage(workers=settings.workers) as stage:
        try:
            target = start(stage)
            wait_for(f"{name} answers", lambda: _answers(stage, target))
            return _drive(name, round_, target, settings)
        except Exception as error:
            error.add_note(f"while measuring {name}\n{stage.logs()}")
            raise


def _answers(stage: Stage, target: Target) -> bool:
    stage.check()
    return http("GET", target.url, timeout=2).status == 200


def _drive(name: str, round_: int, target: Target, settings: Settings) -> Row:
    wrk.drive(target.url, WARM_UP, settings.conns)
    idle = _idle_share(target, min(max(settings.duration, IDLE[0]), IDLE[1]))
    proxies, control = target.proxies(), target.control()
    began, cpu = time.monotonic(), procfs.cpu_seconds(proxies)
    control_cpu, switched = procfs.run_seconds(control), procfs.switches(proxies)
    load = wrk.drive(target.url, settings.duration, settings.conns)
    elapsed, cpu = time.monotonic() - began, procfs.cpu_seconds(proxies) - cpu
    extra = procfs.run_seconds(control) - control_cpu - idle * elapsed
    requests = max(load.requests, 1)
    return Row(
        name=name,
        round=round_,
        requests=load.requests,
        rps=load.rps,
        us_per_req=cpu / requests * 1e6,
        p50_ms=load.p50_ms,
        p99_ms=load.p99_ms,
        pss_mb=procfs.pss_mb(proxies),
        errors=load.errors if load.requests else load.errors + 1,
        control_us_per_req=extra / requests * 1e6,
        switches_per_req=(procfs.switches(proxies) - switched) / requests,
    )


def _idle_share(target: Target, seconds: float) -> float:
    """CPU share of the control processes while no request flows."""
    control = target.control()
    if not control:
        return 0.0
    began, before = time.monotonic(), procfs.run_seconds(control)
    time.sleep(seconds)
    return (procfs.run_seconds(control) - before) / (time.monotonic() - began)
