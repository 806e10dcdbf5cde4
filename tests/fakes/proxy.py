"""A proxy that behaves at its control socket and carries nothing: `python -m tests.fakes.proxy run --run-dir D ...`.

In a test's own process `FakeProxy` shows what it holds, refuses what it is told to refuse, and can be cut off.
Digests, atomicity, `full` and the treatment of `trust` are those of `policies.compiled`.
"""

import argparse
import asyncio
import hashlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any


class FakeProxy:
    """`holds`: resource JSON by id. `refuse`: id -> reason, answered with Rejected."""

    def __init__(self, run_dir: Path, generation: int = 1) -> None:
        self.path = run_dir / f"proxy-{generation}.sock"
        self.generation = generation
        self.holds: dict[str, tuple[str, dict[str, Any]]] = {}
        self.refuse: dict[str, str] = {}
        self.refuse_all = ""
        self.updates: list[dict[str, Any]] = []
        self.drained = asyncio.Event()
        self.drains: list[dict[str, Any]] = []
        self.stats_sent = 0
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_unix_server(self._serve, str(self.path))

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        while self._writers:  # noqa: ASYNC110 - their tasks see the end of the stream in the next turns of the loop
            await asyncio.sleep(0)
        await self._server.wait_closed()

    def cut(self) -> None:
        """Close every control connection, as a proxy that ends does."""
        for writer in self._writers:
            writer.close()

    def send(self, frame: dict[str, Any]) -> None:
        """To every meshd that is connected."""
        for writer in self._writers:
            self._write(writer, frame)

    def hello(self) -> dict[str, Any]:
        holds = {name: digest for name, (digest, _) in self.holds.items()}
        return {
            "type": "hello",
            "schema": 1,
            "version": "fake",
            "generation": self.generation,
            "pid": os.getpid(),
            "started": 1.0,
            "features": ["http1", "tcp"],
            "holds": holds,
        }

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            self._write(writer, self.hello())
            while True:
                size = int.from_bytes(await reader.readexactly(4), "big")
                text = await reader.readexactly(size)
                self._take(writer, text)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    def _take(self, writer: asyncio.StreamWriter, text: bytes) -> None:
        frame = json.loads(text)
        if frame["type"] == "update":
            self._write(writer, self._update(frame))
        elif frame["type"] == "scrape":
            self._write(writer, self.stats(frame["id"]))
        elif frame["type"] == "dump":
            self._write(writer, {"type": "config", "id": frame["id"], "resources": self.shown()})
        elif frame["type"] == "drain":
            self.drains.append(frame)
            if frame["scope"] == "proxy":
                self.drained.set()

    def _update(self, frame: dict[str, Any]) -> dict[str, Any]:
        self.updates.append(frame)
        refused = {"type": "rejected", "update": frame["update"], "path": ""}
        if self.refuse_all:
            return refused | {"resource": "", "reason": self.refuse_all}
        for one in frame["put"]:
            name = f"{one['kind']}/{one['name']}"
            if name in self.refuse:
                return refused | {"resource": name, "reason": self.refuse[name]}
        if frame["full"]:
            self.holds = {name: held for name, held in self.holds.items() if name == "trust/trust"}
        for name in frame["delete"]:
            self.holds.pop(name, None)
        for one in frame["put"]:
            # The digest is over the JSON as sent; meshd's encoder writes no spaces and keeps the order of fields.
            text = json.dumps(one, separators=(",", ":"), ensure_ascii=False).encode()
            self.holds[f"{one['kind']}/{one['name']}"] = (hashlib.sha256(text).hexdigest()[:32], one)
        return {"type": "applied", "update": frame["update"]}

    def shown(self) -> list[dict[str, Any]]:
        """All resources with private keys replaced."""
        hidden = {"private_key": "sha256:00"}
        return [one | hidden if one["kind"] == "identity" else one for _, one in self.holds.values()]

    def stats(self, number: int) -> dict[str, Any]:
        self.stats_sent += 1
        lists = ("requests", "durations", "tcp", "attempts", "retry_budget_exhausted", "denied", "rules", "endpoints")
        return {"type": "stats", "id": number, "started": 1.0, "connections": 0, "dropped_events": 0} | {
            name: [] for name in lists
        }

    def _write(self, writer: asyncio.StreamWriter, frame: dict[str, Any]) -> None:
        text = json.dumps(frame, separators=(",", ":")).encode()
        writer.write(len(text).to_bytes(4, "big") + text)


async def serve(run_dir: Path, generation: int) -> None:
    """Until SIGTERM or a drain."""
    proxy = FakeProxy(run_dir, generation)
    await proxy.start()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, proxy.drained.set)
    await proxy.drained.wait()
    await proxy.stop()
    proxy.path.unlink(missing_ok=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("command", choices=["run"])
    parser.add_argument("--run-dir", type=Path, required=True)
    parser.add_argument("--generation", type=int, required=True)
    parser.add_argument("--threads", type=int)
    given = parser.parse_args()
    asyncio.run(serve(given.run_dir, given.generation))


def script(folder: Path) -> Path:
    """An executable that runs this fake, for MESHD_PROXY_BIN."""
    path = folder / "fake-meshd-proxy"
    root = Path(__file__).resolve().parents[2]
    path.write_text(f'#!/bin/sh\ncd {root} && exec {sys.executable} -m tests.fakes.proxy "$@"\n')
    path.chmod(0o755)
    return path


if __name__ == "__main__":
    main()
