"""The command line: JSON lines on stdout, one line for people each on stderr."""

import argparse
import json
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from tests.bench.control import endpoints, fanout, propagation, reconnect, subscriptions
from tests.bench.control.result import Row
from tests.bench.stage import Missing


class Measure(Protocol):
    def __call__(self, *, short: bool) -> Iterator[Row]: ...


FIGURES: Mapping[str, Measure] = {
    "propagation": propagation.measure,
    "subscriptions": subscriptions.measure,
    "fanout": fanout.measure,
    "reconnect": reconnect.measure,
    "endpoints": endpoints.measure,
}


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.control", description="The control plane's figures.")
    parser.add_argument("figures", nargs="*", metavar="FIGURE", help=f"of {', '.join(FIGURES)} (default: all)")
    parser.add_argument("--short", action="store_true", help="few changes, few hosts: shows that it runs, in seconds")
    parser.add_argument("--check", action="store_true", help="exit 1 when a bar is missed")
    args = parser.parse_args(argv)
    unknown = [name for name in args.figures if name not in FIGURES]
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}")
    return args


def main() -> int:
    """0: all were measured; 1: one was not, or with --check a bar is missed; 78: a program is missing."""
    args = arguments()
    failed = missed = False
    for name in args.figures or list(FIGURES):
        try:
            for row in FIGURES[name](short=args.short):
                print(json.dumps(row.as_json()), flush=True)
                print(row.text(), file=sys.stderr, flush=True)
                failed, missed = failed or bool(row.invalid), missed or not row.held
        except Missing as missing:
            print(f"missing: {missing} (run `make tools`)", file=sys.stderr)
            return 78
        except Exception:  # one figure that cannot be taken must not take the others with it
            traceback.print_exc()
            failed = True
    return 1 if failed or (args.check and missed) else 0


if __name__ == "__main__":
    sys.exit(main())
