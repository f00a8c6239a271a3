"""The command behind `make bench`, which takes all measurements and prints them as one table.

Its exit code is 0 whatever the results are, because a benchmark is not a test.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.measure.bench import (
    memory,
    outcome,
    overlap,
    run_report,
    speed,
    startup,
    transfer,
    transfer_memory,
    worker_memory,
    worker_speed,
)
from tests.measure.bench.report import Measurement, format_table
from tests.measure.simulation import report as simulation

JOBS = 100_000
MANY_JOBS = 1_000_000
REPORT_JOBS = 10_000
ROUNDS = 3
HELP_RUNS = 10
WORKER_JOBS = 1_000
SLOW_JOBS = 20
SMALL_FILES = 2_000
LARGE_BYTES = 2**30


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        print(format_table(run_benchmarks(Path(name))))


def run_benchmarks(folder: Path) -> list[Measurement]:
    """Return all measurements. Progress is printed to standard error."""
    print_progress(f"starting run.py --help {HELP_RUNS} times")
    measurements = startup.measure_startup(HELP_RUNS)
    print_progress(f"sending {JOBS:,} jobs with submitJob and with a bare loop, in turn, {ROUNDS} times each")
    measurements += speed.measure_submission(folder, JOBS, ROUNDS)
    print_progress(f"sending {MANY_JOBS:,} jobs to a stand-in for SQS")
    measurements += memory.measure_submission_memory(folder, MANY_JOBS)
    print_progress(f"running {WORKER_JOBS:,} jobs with the worker and with a bare loop, in turn, {ROUNDS} times each")
    measurements += worker_speed.measure_worker(folder, WORKER_JOBS, ROUNDS)
    print_progress(f"running {SLOW_JOBS} jobs with a slow S3")
    measurements += overlap.measure_overlap(folder, SLOW_JOBS)
    print_progress(f"counting the jobs of runs with {JOBS:,} and {MANY_JOBS:,} jobs")
    measurements += outcome.measure_outcomes(JOBS, MANY_JOBS)
    print_progress(f"making the reports of runs with {REPORT_JOBS:,} and {MANY_JOBS:,} jobs")
    measurements += run_report.measure_reports(REPORT_JOBS, MANY_JOBS)
    print_progress("measuring the memory of an idle worker")
    measurements += worker_memory.measure_idle_worker(folder)
    print_progress("measuring the memory of transfers")
    measurements += transfer_memory.measure_transfer_memory(folder)
    print_progress("simulating runs")
    measurements += simulation.measure_simulation()
    print_progress(f"transferring {SMALL_FILES:,} small files and larger ones, also with s5cmd and the AWS CLI")
    return measurements + transfer.measure_transfers(folder, SMALL_FILES, LARGE_BYTES, ROUNDS)


def print_progress(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
