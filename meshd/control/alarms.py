"""What the log must say once when it begins and once when it ends: instances in doubt, braked or damped."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Protocol

from registry.fold import Fold

EVERY = 1.0  # seconds


class Log(Protocol):
    def info(self, event: str, **fields: object) -> None: ...

    def warning(self, event: str, **fields: object) -> None: ...

    def error(self, event: str, **fields: object) -> None: ...


class Alarms:
    """`changed` whenever the fold has moved; `run` looks, at most once a second. `clock` is the fold's."""

    def __init__(self, fold: Fold, log: Log, clock: Callable[[], float]) -> None:
        self._fold = fold
        self._log = log
        self._clock = clock
        self._said: dict[str, Mapping[str, int]] = {}
        self._news = asyncio.Event()

    def changed(self) -> None:
        self._news.set()

    async def run(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            self.look()
            await asyncio.sleep(EVERY)

    def look(self) -> None:
        fold, log = self._fold, self._log
        doubt = "nobody vouches for instances; they are used while they answer"
        wave = "too many instances vanished at once; used while they answer, until `meshctl registry adopt`"
        self._compare("suspect", fold.suspects, log.warning, doubt)
        self._compare("braked", fold.braked, log.error, wave)
        self._compare("damped", fold.damped(self._clock()), log.warning, "instances flap and are held back")

    def _compare(self, what: str, now: Mapping[str, int], say: Callable[..., None], words: str) -> None:
        before = self._said.get(what, {})
        for service, count in now.items():
            if count > before.get(service, 0):
                say(words, service=service, instances=count)
        for service in before.keys() - now.keys():
            self._log.info(f"no instance is {what} any more", service=service)
        self._said[what] = dict(now)
