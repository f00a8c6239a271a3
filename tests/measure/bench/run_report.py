"""Measures the processor time, the memory, and the size of the page that the report of a large run takes.

The measured process is `python -m tests.measure.bench.run_report JOBS`. It reads journals and records over HTTP.
"""

from __future__ import annotations

import json
import sys

import boto3

from distributed_something.aws.clients import Clients
from distributed_something.results.command_line import CommandLine
from distributed_something.results.outcome import load_run_outcome
from distributed_something.results.report.numbers.attempts import AttemptTable
from distributed_something.results.report.numbers.build_report import build_report
from distributed_something.results.status.document import RunState
from distributed_something.run.report.make_report import render_page
from distributed_something.run.report.run_facts import RunMoment, gather_run_facts
from tests.measure.bench import child
from tests.measure.bench.report import Measurement
from tests.measure.bench.s3_server import serve_run
from tests.support.emulator import KEYS
from tests.support.fakes import MONITOR_FILE, START
from tests.support.large_run import LargeRun


def measure_reports(jobs: int, many_jobs: int) -> list[Measurement]:
    """Measure the report of a run whose jobs are all listed, and that of a large one."""
    small = LargeRun(jobs, failed=jobs // 100, containers=48, is_spread=True)
    large = LargeRun(many_jobs, failed=many_jobs // 100, containers=1_000, is_spread=True)
    return [*_measure_report(small, 15, 200, 2.0), *_measure_report(large, 240, 560, 5.0)]


def _measure_report(
    run: LargeRun, max_seconds: int, max_megabytes: int, max_page_megabytes: float
) -> list[Measurement]:
    with serve_run(run) as url:
        env = child.build_environment(**KEYS, AWS_ENDPOINT_URL=url)
        result = child.run_python(["-m", "tests.measure.bench.run_report", str(run.jobs)], env)
    numbers = json.loads(result.output)
    assert (numbers["done"], numbers["failed"]) == (run.jobs - run.failed, run.failed), numbers
    seconds, peak, page = result.processor_seconds, result.peak_bytes / 1e6, numbers["bytes"] / 1e6
    return [
        Measurement(
            f"report, {run.jobs:,} jobs, processor time",
            f"{seconds:.0f} s",
            f"<= {max_seconds} s",
            seconds <= max_seconds,
        ),
        Measurement("  peak memory", f"{peak:.0f} MB", f"<= {max_megabytes} MB", peak <= max_megabytes),
        Measurement("  page", f"{page:.1f} MB", f"<= {max_page_megabytes:g} MB", page <= max_page_megabytes),
    ]


def _print_numbers(jobs: int) -> None:
    clients, table = Clients(boto3.Session()), AttemptTable(START, START + 86_400)
    outcome = load_run_outcome(clients.s3, MONITOR_FILE, submitted=jobs, left=0, attempts=table)
    moment = RunMoment(RunState.FAILED, START + 86_400, START + 43_200, 0, 10.0, has_waiting=False)
    report = build_report(gather_run_facts(clients, MONITOR_FILE, moment, CommandLine()), outcome, table)
    page = render_page(report)
    assert not table.problem, table.problem
    assert report.verdict.cost is not None
    print(json.dumps({"done": report.verdict.done, "failed": report.verdict.failed, "bytes": len(page)}))


if __name__ == "__main__":
    _print_numbers(int(sys.argv[1]))
