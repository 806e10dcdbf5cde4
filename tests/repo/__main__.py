"""`python -m tests.repo [ROOT]`: every finding on its line, exit 1 when there is one."""

import sys
from pathlib import Path

from tests.repo.budgets import long_files
from tests.repo.rules import RULES, findings
from tests.repo.tree import Tree


def main() -> int:
    tree = Tree(Path(sys.argv[1] if len(sys.argv) > 1 else "."))
    found = findings(tree)
    for finding in found:
        print(finding)
    for warning in long_files(tree):
        print(f"worth a look: {warning}", file=sys.stderr)
    print(f"house rules: {len(RULES)} rules, {len(tree.paths)} files, {len(found)} findings", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
