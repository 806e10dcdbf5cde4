"""The command line: JSON lines (or nothing) on stdout, the table on stderr."""

import argparse
import json
import sys
import traceback
from collections.abc import Sequence

from tests.bench.measure import Row, Settings, measure
from tests.bench.stage import Missing
from tests.bench.summary import table
from tests.bench.topology import TOPOLOGIES


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="CPU per request, ours beside peers.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(TOPOLOGIES)} (default: all)")
    parser.add_argument("--duration", type=float, default=5.0, help="seconds per measurement")
    parser.add_argument("--conns", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=1, help="data threads of every proxy process")
    parser.add_argument("--json", action="store_true", help="one JSON line on stdout per name and round")
    args = parser.parse_args(argv)
    unknown = [name for name in args.names if name not in TOPOLOGIES]
    if unknown or args.duration < 1 or args.conns < 1 or args.rounds < 1 or args.workers < 1:
        parser.error(f"unknown: {', '.join(unknown)}" if unknown else "numbers must be at least 1")
    return args


def main() -> int:
    """0: every round of every name measured without an error; 1: not; 78: a program is missing."""
    args = arguments()
    settings = Settings(args.duration, args.conns, args.workers)
    rows: list[Row] = []
    broken: list[str] = []
    for round_ in range(1, args.rounds + 1):
        for name in args.names or list(TOPOLOGIES):
            try:
                row = measure(name, round_, TOPOLOGIES[name], settings)
            except Missing as missing:
                print(f"missing: {missing} (run `make tools`)", file=sys.stderr)
                return 78
            except Exception:  # one topology that does not start must not take the others' figures with it
                traceback.print_exc()
                broken.append(f"{name} (round {round_})")
                continue
            rows.append(row)
            if args.json:
                print(json.dumps(row.as_json()), flush=True)
            else:
                print(f"round {round_} {name}: {row.us_per_req:.1f} us/request", file=sys.stderr)
    print(table(rows), file=sys.stderr)
    wrong = broken + [f"{row.name} (round {row.round}): {row.errors} failed requests" for row in rows if row.errors]
    if wrong:
        print(f"INVALID: {'; '.join(wrong)}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
