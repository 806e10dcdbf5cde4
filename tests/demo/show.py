"""What the demo prints, and the count at its end."""

import json
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.mesh.cluster import BIN, ROOT, Failed


@dataclass(frozen=True)
class Check:
    """One line: what was promised, whether it held, and what the second witness saw."""

    step: str
    what: str
    held: bool
    witness: str


@dataclass
class Show:
    """Collects checks; prints for people, or nothing but JSON at the end."""

    as_json: bool = False
    checks: list[Check] = field(default_factory=list)
    step: str = ""
    started: float = field(default_factory=time.monotonic)

    def say(self, text: str) -> None:
        print(text, file=sys.stderr if self.as_json else sys.stdout, flush=True)

    def begin(self, step: str, title: str) -> None:
        self.step = step
        self.say(f"\n== {title}")

    def check(self, what: str, held: bool, witness: str) -> None:
        self.checks.append(Check(self.step, what, held, witness))
        self.say(f"   {'ok    ' if held else 'FAILED'}  {what}\n           witness: {witness}")

    def run(self, *command: str, stdin: str | None = None, check: bool = True) -> str:
        """Run a command that a user could type, show it and its output, return its stdout."""
        shown = " ".join(shlex.quote(part.removeprefix(f"{ROOT}/")) for part in command)
        self.say(f"   $ {shown}" + (f"  < {first_line(stdin)}" if stdin else ""))
        argv = [str(BIN / command[0]) if command[0] == "meshctl" else command[0], *command[1:]]
        done = subprocess.run(argv, capture_output=True, text=True, input=stdin, timeout=60, check=False, cwd=ROOT)
        for line in (done.stdout + done.stderr).splitlines()[:16]:
            self.say(f"     {line}")
        if check and done.returncode:
            raise Failed(f"{shown}: exit {done.returncode}")
        return done.stdout

    def document(self, text: str) -> None:
        for line in text.strip().splitlines():
            self.say(f"   | {line}")

    def table(self, header: Sequence[str], body: Sequence[Sequence[object]]) -> None:
        cells = [list(header), *[[str(c) for c in row] for row in body]]
        widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
        for row in cells:
            self.say("   " + "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip())

    def finish(self, error: str = "") -> int:
        """The last line and the exit code. A step that could not end counts as a failed check."""
        if error:
            self.check(f"step {self.step or 'start'} ran to its end", False, error)
        failed = sum(not c.held for c in self.checks)
        passed = len(self.checks) - failed
        if self.as_json:
            print(json.dumps({"passed": passed, "failed": failed, "checks": [vars(c) for c in self.checks]}, indent=1))
        self.say(f"\n{time.monotonic() - self.started:.0f} s")
        self.say(f"demo: {passed} passed, {failed} failed")
        return 1 if failed or not passed else 0


def first_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[0][:60] + (" ..." if len(lines) > 1 else "")
