"""Measures how long the monitor takes, and how much memory it needs, to count how the jobs of a large run ended.

The measured process is `python -m tests.measure.bench.outcome JOBS`. It reads journals and records over HTTP.
"""

from __future__ import annotations

import json
import sys

import boto3

from distributed_something.aws.clients import Clients
from distributed_something.results.job_table import JobTable
from distributed_something.results.outcome import load_run_outcome
from tests.measure.bench import child
from tests.measure.bench.report import Measurement
from tests.measure.bench.s3_server import serve_run
from tests.support.emulator import KEYS
from tests.support.fakes import MONITOR_FILE
from tests.support.large_run import LargeRun


def measure_outcomes(jobs: int, many_jobs: int) -> list[Measurement]:
    """Measure a run in which some lines are missing, and a larger one in which all lines are in journals."""
    with_records = LargeRun(jobs, failed=jobs // 20, containers=100, killed=20, lost_lines=50)
    journals_only = LargeRun(many_jobs, failed=many_jobs // 20, containers=1_000)
    return [
        *_measure_outcome(
            f"end of a run, {jobs:,} jobs, {with_records.missing:,} lines missing", with_records, 30, 200
        ),
        *_measure_outcome(f"end of a run, {many_jobs:,} jobs", journals_only, 120, 500),
    ]


def _measure_outcome(name: str, run: LargeRun, max_seconds: int, max_megabytes: int) -> list[Measurement]:
    with serve_run(run) as url:
        env = child.build_environment(**KEYS, AWS_ENDPOINT_URL=url)
        result = child.run_python(["-m", "tests.measure.bench.outcome", str(run.jobs)], env)
    counts = json.loads(result.output)
    assert counts == {"done": run.jobs - run.failed, "failed": run.failed, "unknown": 0}, counts
    seconds, peak = result.seconds, result.peak_bytes / 1e6
    return [
        Measurement(name, f"{seconds:.0f} s", f"<= {max_seconds} s", seconds <= max_seconds),
        Measurement("  peak memory", f"{peak:.0f} MB", f"<= {max_megabytes} MB", peak <= max_megabytes),
    ]


def _print_counts(jobs: int) -> None:
    s3 = Clients(boto3.Session()).s3
    table = JobTable()
    outcome = load_run_outcome(s3, MONITOR_FILE, submitted=jobs, left=0, table=table)
    assert not table.problem, table.problem
    counts = {"done": outcome.counts.done, "failed": outcome.counts.failed, "unknown": outcome.unrecorded}
    print(json.dumps(counts))


if __name__ == "__main__":
    _print_counts(int(sys.argv[1]))
