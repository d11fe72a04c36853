"""Instructions of listening on emulated Raspberry Pis: ``python -m tests.arm64 [--json]``."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from tests.arm64.costs import BUDGET, against_budget, measure, read_budget, table
from tests.arm64.counting import missing_compiler
from tests.arm64.emulated_pi import missing_packages


def main() -> int:
    """Count and print; fails if the budget does not fit."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.arm64",
        description="Counts the instructions of listening on emulated Raspberry Pis.",
    )
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--update", action="store_true", help="let them be the budget")
    options = parser.parse_args()
    if missing := [*missing_packages(), *missing_compiler()]:
        parser.error(f"needs from apt: {' '.join(missing)}")
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder))
    print(json.dumps(figures) if options.json else "\n".join(table(figures)))
    if options.update:
        BUDGET.write_text(json.dumps(figures, indent=2) + "\n")
        return 0
    budget = read_budget()
    differences = [
        sentence
        for processor in figures["instructions_per_s"]
        for sentence in against_budget(figures, budget, processor)
    ]
    print("".join(f"{sentence}\n" for sentence in differences), file=sys.stderr, end="")
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
