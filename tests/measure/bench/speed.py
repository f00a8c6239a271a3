"""Measures the speed of submitJob, as a user runs it, compared with a bare loop of SendMessageBatch calls.

The difference is the cost of checking the jobs and writing the journal. The two programs take turns on the same
emulator, so that any other load on the computer slows both.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import boto3

from tests.measure.bench import child, project
from tests.measure.bench.report import Measurement
from tests.support.emulator import KEYS, run_ministack


def measure_submission(folder: Path, jobs: int, rounds: int) -> list[Measurement]:
    """Measure the jobs per second of both programs, their ratio, and submitJob's peak memory."""
    files = project.write_project(folder / "speed", jobs)
    submissions: list[child.ProcessResult] = []
    bare_loops: list[child.ProcessResult] = []
    with run_ministack(folder) as url:
        env = child.build_environment(**KEYS, AWS_ENDPOINT_URL=url)
        queue = _BenchQueue(url)
        for _ in range(rounds):
            submissions.append(_run_submit_job(files, env))
            queue.check_and_empty(jobs)
            arguments = ["-m", "tests.measure.bench.bare", str(files.job_file), queue.url]
            bare_loops.append(child.run_python(arguments, env))
            queue.check_and_empty(jobs)
    submit_rate = jobs / statistics.median(result.seconds for result in submissions)
    bare_rate = jobs / statistics.median(float(result.output) for result in bare_loops)
    share = submit_rate / bare_rate
    peak = max(result.peak_bytes for result in submissions) / 1e6
    return [
        Measurement(f"submitJob, {jobs:,} jobs from a CSV file", f"{submit_rate:,.0f} jobs/s"),
        Measurement("bare loop, same messages, 16 threads", f"{bare_rate:,.0f} jobs/s"),
        Measurement("  submitJob's speed as a share of that", f"{share:.2f}", ">= 0.80", share >= 0.8),
        Measurement("  submitJob, processor time", f"{_compute_processor_seconds(submissions):.1f} s"),
        Measurement("  bare loop, processor time", f"{_compute_processor_seconds(bare_loops):.1f} s"),
        Measurement("  peak memory of submitJob", f"{peak:.0f} MB", "< 150 MB", peak < 150),
    ]


def _compute_processor_seconds(results: Sequence[child.ProcessResult]) -> float:
    return statistics.median(result.processor_seconds for result in results)


def _run_submit_job(files: project.ProjectFiles, env: Mapping[str, str]) -> child.ProcessResult:
    # --yes: the jobs are the same in each round
    return child.run_python(["run.py", "--config", str(files.config), "submitJob", "--yes", str(files.job_file)], env)


class _BenchQueue:
    """The queue that both programs send to, and the bucket for submitJob's documents."""

    def __init__(self, url: str) -> None:
        session: Any = boto3.Session("test", "test", region_name="us-east-1")
        session.client("s3", endpoint_url=url).create_bucket(Bucket=project.BUCKET)
        self._sqs = session.client("sqs", endpoint_url=url)
        self.url = self._sqs.create_queue(QueueName=project.QUEUE)["QueueUrl"]

    def check_and_empty(self, jobs: int) -> None:
        """Check that the queue contains `jobs` messages, and then empty it for the next round."""
        response = self._sqs.get_queue_attributes(QueueUrl=self.url, AttributeNames=["ApproximateNumberOfMessages"])
        assert int(response["Attributes"]["ApproximateNumberOfMessages"]) == jobs, response
        self._sqs.purge_queue(QueueUrl=self.url)
