"""`python -m tests.demo`: see `make demo`. `KEEP=1` leaves the mesh up, `--json` prints the checks for programs."""

import argparse
import os
import shutil
import signal
import sys
from pathlib import Path
from types import FrameType

from tests.demo.leftover import Pidfile, end_proxies, taken
from tests.demo.registry import REGISTRIES
from tests.demo.show import Show
from tests.demo.steps import SET_UP, STEPS, Story
from tests.mesh.cluster import ADMIN, API, INBOUND, PEER, ROOT, Cluster

EXIT_UNUSABLE = 78


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="demo", description=__doc__)
    parser.add_argument("--json", action="store_true", help="checks as JSON on stdout, the story on stderr")
    parser.add_argument("--net", default="127.0.0", help="hosts are <net>.1 to .3 (default 127.0.0)")
    parser.add_argument("--state", type=Path, default=ROOT / ".demo", help="state of the hosts (default .demo)")
    parser.add_argument("--only", choices=list(STEPS), help="the set-up and this step")
    parser.add_argument("--break", dest="broken", default="", choices=["", *STEPS], help="do a step wrong on purpose")
    parser.add_argument("--stop", action="store_true", help="end a mesh that KEEP=1 left up")
    return parser.parse_args()


def stop_on_signal(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def clean(state: Path, pids: Pidfile) -> None:
    ended = pids.end_all()
    end_proxies(state)
    if ended:
        print(f"ended processes of an earlier run: {', '.join(ended)}", file=sys.stderr)
    shutil.rmtree(state, ignore_errors=True)


def tell(mesh: Cluster, error: Exception) -> str:
    mesh.print_logs()
    return f"{type(error).__name__}: {error}"


def play(story: Story, wanted: list[str]) -> int:
    error = ""
    try:
        for name in wanted:
            STEPS[name](story)
    except Exception as failure:  # every failure of a step becomes the demo's last failed check
        error = tell(story.mesh, failure)
    return story.show.finish(error)


def main() -> int:
    args = arguments()
    state = args.state.resolve()
    pids = Pidfile(state / "pids")
    clean(state, pids)
    if args.stop:
        return 0
    kind = os.environ.get("REGISTRY", "embedded")
    if kind not in REGISTRIES:
        print(f"demo: REGISTRY is {kind!r}, not one of {', '.join(REGISTRIES)}", file=sys.stderr)
        return EXIT_UNUSABLE
    busy = taken([f"{args.net}.{n}" for n in (1, 2, 3)], [API, ADMIN, PEER, INBOUND])
    if busy:
        print("demo: ports are taken:\n  " + "\n  ".join(busy), file=sys.stderr)
        return EXIT_UNUSABLE
    signal.signal(signal.SIGTERM, stop_on_signal)
    mesh = Cluster(state, net=args.net, on_start=lambda process: pids.add(process.pid, process.name))
    registry = REGISTRIES[kind](mesh, pids.add)
    wanted = [name for name in STEPS if not args.only or name in (*SET_UP, args.only)]
    try:
        code = play(Story(mesh, Show(as_json=args.json), registry, args.broken), wanted)
        if os.environ.get("KEEP") == "1":
            mesh.release()
            print("the mesh is left up; end it with: .venv/bin/python -m tests.demo --stop", file=sys.stderr)
    finally:
        mesh.close()
        if os.environ.get("KEEP") != "1":
            registry.stop()
            end_proxies(state)
            pids.path.unlink(missing_ok=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
