"""Takes every measurement and prints one table. The exit code is 0 whatever the numbers are: a benchmark is no test."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.bench import memory, speed, startup
from tests.bench.report import Line, table

JOBS = 100_000
MANY_JOBS = 1_000_000
ROUNDS = 2
HELP_RUNS = 10


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        print(table(measure(Path(name))))


def measure(folder: Path) -> list[Line]:
    """Every line of the table; progress goes to standard error."""
    note(f"starting run.py --help {HELP_RUNS} times")
    lines = startup.lines(HELP_RUNS)
    note(f"sending {JOBS:,} jobs, and a bare loop, in turn, {ROUNDS} times each")
    lines += speed.lines(folder, JOBS, ROUNDS)
    note(f"sending {MANY_JOBS:,} jobs to a stand-in for SQS")
    return lines + memory.lines(folder, MANY_JOBS)


def note(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
