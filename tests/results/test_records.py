"""Tests how the outcome of a run is read from the run's records and dead-letter queue."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from moto import mock_aws

from distributed_something.aws.clients import Clients
from distributed_something.results.records import FailedJob, summarize_records
from distributed_something.worker import job_id
from tests.support.fakes import MONITOR_FILE

BUCKET, QUEUE = MONITOR_FILE.MONITOR_BUCKET_NAME, "AppDead"


class Run:
    """A run in an emulated account, with records in the bucket and messages in the dead-letter queue."""

    def __init__(self) -> None:
        self.clients = Clients(boto3.Session("test", "test", region_name="us-east-1"))
        self.clients.s3.create_bucket(Bucket=BUCKET)
        self.url = self.clients.sqs.create_queue(QueueName=QUEUE)["QueueUrl"]

    def put(self, name: str, content: bytes) -> None:
        self.clients.s3.put_object(Bucket=BUCKET, Key=f"{MONITOR_FILE.keys.jobs}{name}", Body=content)

    def record(self, job: str, **fields: Any) -> None:
        self.put(f"{job}.json", json.dumps(fields).encode())

    def fail(self, body: str, reason: str | None = None) -> str:
        attributes: Any = {"reason": {"DataType": "String", "StringValue": reason}} if reason else {}
        return self.clients.sqs.send_message(QueueUrl=self.url, MessageBody=body, MessageAttributes=attributes)[
            "MessageId"
        ]


@pytest.fixture
def run() -> Iterator[Run]:
    with mock_aws():
        yield Run()


def test_only_records_are_counted_and_not_logs_or_files_from_failed_attempts(run: Run) -> None:
    run.record("A01-1")
    run.record("A02-2")
    run.put("A01-1.log", b"start")
    run.put("failed/A03-3/1/measurements.json", b"{}")
    summary = summarize_records(run.clients, MONITOR_FILE, QUEUE)
    assert (summary.done, summary.dead, summary.failed) == (2, 0, [])


def test_a_failed_job_is_described_by_its_record_and_does_not_count_as_done(run: Run) -> None:
    message = {"group": {"well": "A01"}}
    job = job_id(message)
    run.record(job, reason="exit code 3", attempts=3, exit_code=3, last_lines=["no such image"], log="s3://b/a.log")
    run.fail(json.dumps(message))
    summary = summarize_records(run.clients, MONITOR_FILE, QUEUE)
    assert (summary.done, summary.dead) == (0, 1)
    assert summary.failed == [FailedJob(job, "exit code 3", 3, 3, ("no such image",), "s3://b/a.log")]


@pytest.mark.parametrize(
    ("reason", "expected"),
    [(None, "no record: the worker was killed during every attempt"), ("it is not a job", "it is not a job")],
)
def test_a_failed_job_without_a_record_is_described_by_its_message(run: Run, reason: str | None, expected: str) -> None:
    message = {"group": "A01"}
    run.fail(json.dumps(message), reason)
    (failed,) = summarize_records(run.clients, MONITOR_FILE, QUEUE).failed
    assert (failed.job, failed.reason) == (job_id(message), expected)


def test_a_message_that_cannot_be_read_is_identified_by_its_id(run: Run) -> None:
    message_id = run.fail("not JSON")
    (failed,) = summarize_records(run.clients, MONITOR_FILE, QUEUE).failed
    assert (failed.job, failed.reason) == (f"message {message_id}", "its message cannot be read")


def test_failed_jobs_stay_in_the_queue_after_they_are_read(run: Run) -> None:
    for number in range(25):
        run.fail(json.dumps({"group": number}))
    assert len(summarize_records(run.clients, MONITOR_FILE, QUEUE).failed) == 25
    assert summarize_records(run.clients, MONITOR_FILE, QUEUE).dead == 25
    assert len(run.clients.sqs.receive_message(QueueUrl=run.url, MaxNumberOfMessages=10)["Messages"]) == 10


def test_without_a_dead_letter_queue_no_jobs_count_as_failed(run: Run) -> None:
    run.record("A01-1")
    summary = summarize_records(run.clients, MONITOR_FILE, "another")
    assert (summary.done, summary.dead, summary.failed) == (1, 0, [])
