"""The command line: `python -m tests.load --help`."""

import argparse
import asyncio
import json
import sys

from tests.load import Plan, Report, run


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.load", description="Send keep-alive GETs; exit 1 on failures."
    )
    parser.add_argument("--url", required=True, help="http://HOST:PORT/PATH")
    parser.add_argument("--rate", type=float, help="requests per second, sent on schedule (without: closed loop)")
    parser.add_argument("--conns", type=int, default=8)
    parser.add_argument("--count", type=int, help="end after so many requests")
    parser.add_argument("--seconds", type=float, help="end after so many seconds")
    parser.add_argument("--timeout", type=float, default=10.0, help="seconds per request")
    parser.add_argument("--header", action="append", default=[], metavar="NAME: VALUE")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    return parser


def text(report: Report) -> str:
    latency = "  ".join(f"{name} {value:.2f}" for name, value in report.latency_ms.items())
    lines = [
        f"ok {report.ok}  failed {report.failed}  in {report.seconds:.2f} s ({report.rate:.1f}/s)",
        f"statuses {report.statuses}",
        f"latency ms  {latency}",
        *(
            f"  second {row.second}: {row.failed} of {row.ok + row.failed} failed"
            for row in report.per_second
            if row.failed
        ),
        *report.errors,
    ]
    return "\n".join(lines)


def main() -> int:
    parser = arguments()
    args = parser.parse_args()
    fields = [header.partition(":") for header in args.header]
    try:
        plan = Plan(
            url=args.url,
            rate=args.rate,
            conns=args.conns,
            count=args.count if args.count or args.seconds else 1000,
            seconds=args.seconds,
            timeout=args.timeout,
            headers=tuple((name.strip(), value.strip()) for name, _, value in fields),
        )
    except ValueError as error:
        parser.error(str(error))
    report = asyncio.run(run(plan))
    print(json.dumps(report.as_json()) if args.json else text(report))
    return 1 if report.failed or not report.ok else 0


if __name__ == "__main__":
    sys.exit(main())
