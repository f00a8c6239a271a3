"""Takes every measurement and prints one table. The exit code is 0 whatever the numbers are: a benchmark is no test."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.measure.bench import memory, overlap, speed, startup, transfer, worker_memory, worker_speed
from tests.measure.bench.report import Line, table
from tests.measure.simulation import report as simulation

JOBS = 100_000
MANY_JOBS = 1_000_000
ROUNDS = 2
HELP_RUNS = 10
WORKER_JOBS = 1_000
SLOW_JOBS = 20
SMALL_FILES = 2_000
LARGE_BYTES = 2**30


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
    lines += memory.lines(folder, MANY_JOBS)
    note(f"working off {WORKER_JOBS:,} jobs, and a bare loop, in turn, {ROUNDS} times each")
    lines += worker_speed.lines(folder, WORKER_JOBS, ROUNDS)
    note(f"working off {SLOW_JOBS} jobs with an S3 that takes its time")
    lines += overlap.lines(folder, SLOW_JOBS)
    lines += worker_memory.lines(folder)
    lines += simulation.lines()
    note(f"transferring {SMALL_FILES:,} files and a large one, beside s5cmd and the AWS CLI")
    return lines + transfer.lines(folder, SMALL_FILES, LARGE_BYTES, ROUNDS)


def note(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
