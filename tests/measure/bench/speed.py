"""submitJob, whole, as a user types it, against a bare loop of SendMessageBatch: the share that checking leaves.

The two take turns on the same emulator, so that a computer that is busy slows both.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from pathlib import Path

import boto3

from tests.measure.bench import child, project
from tests.measure.bench.report import Line
from tests.support.emulator import KEYS, ministack


def lines(folder: Path, jobs: int, rounds: int) -> list[Line]:
    """Messages a second of both, the ratio, and the peak memory of submitJob."""
    made = project.make(folder / "speed", jobs)
    submits: list[child.Measured] = []
    bare: list[float] = []
    with ministack(folder) as url:
        env = child.environment(**KEYS, AWS_ENDPOINT_URL=url)
        queue = _Queue(url)
        for _ in range(rounds):
            submits.append(_submit(made, env))
            queue.must_hold(jobs)
            bare.append(float(child.run(["-m", "tests.measure.bench.bare", str(made.job_file), queue.url], env).output))
            queue.must_hold(jobs)
    ours, loop = (jobs / statistics.median(seconds) for seconds in ([one.seconds for one in submits], bare))
    peak = max(one.peak_bytes for one in submits) / 1e6
    return [
        Line(f"submitJob, {jobs:,} jobs of a CSV, start to end", f"{ours:,.0f} jobs/s"),
        Line("bare loop, same messages, 16 threads", f"{loop:,.0f} jobs/s"),
        Line("  submitJob as a share of it", f"{ours / loop:.2f}", ">= 0.70", ours / loop >= 0.7),
        Line("  peak memory of submitJob", f"{peak:.0f} MB", "< 150 MB", peak < 150),
    ]


def _submit(made: project.Project, env: Mapping[str, str]) -> child.Measured:
    return child.run(["run.py", "--config", str(made.config), "submitJob", str(made.job_file)], env)


class _Queue:
    """The queue that both send to."""

    def __init__(self, url: str) -> None:
        self._sqs = boto3.Session("test", "test", region_name="us-east-1").client("sqs", endpoint_url=url)
        self.url = self._sqs.create_queue(QueueName=project.QUEUE)["QueueUrl"]

    def must_hold(self, jobs: int) -> None:
        """Stops the benchmark where a message is missing or too many; else empties the queue for the next."""
        answer = self._sqs.get_queue_attributes(QueueUrl=self.url, AttributeNames=["ApproximateNumberOfMessages"])
        assert int(answer["Attributes"]["ApproximateNumberOfMessages"]) == jobs, answer
        self._sqs.purge_queue(QueueUrl=self.url)
