"""How many jobs a run has: those in the queue at its start, and later submissions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import boto3
import pytest
from moto import mock_aws

from distributed_something.aws.clients import Clients
from distributed_something.core.submission import SubmissionDocument, build_submission, build_submission_time
from distributed_something.observe.documents.run_start import RunStart, observe_run_start, observe_submitted_jobs
from distributed_something.observe.documents.submissions import SubmissionReader
from distributed_something.worker import AppKeys
from tests.support.fakes import MONITOR_FILE

BUCKET, APP, QUEUE = MONITOR_FILE.MONITOR_BUCKET_NAME, MONITOR_FILE.MONITOR_APP_NAME, MONITOR_FILE.MONITOR_QUEUE_NAME


class Account:
    """An emulated account with a queue and a bucket."""

    def __init__(self) -> None:
        self.clients = Clients(boto3.Session("test", "test", region_name="us-east-1"))
        self.clients.s3.create_bucket(Bucket=BUCKET)
        self.url = self.clients.sqs.create_queue(QueueName=QUEUE)["QueueUrl"]
        attributes = self.clients.sqs.get_queue_attributes(QueueUrl=self.url, AttributeNames=["CreatedTimestamp"])
        self.created = float(attributes["Attributes"]["CreatedTimestamp"])
        self.file = replace(MONITOR_FILE, MONITOR_START_TIME=int((self.created + 100) * 1000))

    def send(self, count: int, queue: str = QUEUE) -> None:
        url = self.clients.sqs.create_queue(QueueName=queue)["QueueUrl"]
        for n in range(count):
            self.clients.sqs.send_message(QueueUrl=url, MessageBody=f"{n}")

    def submit(self, count: int, after: float, **more: Any) -> None:
        """Write the document of a submission that began `after` seconds after the queue was created."""
        time = build_submission_time(self.created + after)
        document = SubmissionDocument(APP, QUEUE, time, "job.json", "digest", count, count, time)
        body = build_submission(replace(document, **more))
        self.clients.s3.put_object(Bucket=BUCKET, Key=AppKeys(APP).submission(time), Body=body)

    @property
    def now(self) -> float:
        """100 s after the queue was created."""
        return self.file.MONITOR_START_TIME / 1000

    def observe_start(self, settling_seconds: float = 95.0) -> RunStart:
        return observe_run_start(self.clients, self.file, settling_seconds, self.now)

    def count_jobs(self, start: RunStart, later: float = 0.0) -> int:
        reader = SubmissionReader(self.clients.s3, BUCKET, APP)
        return observe_submitted_jobs(reader, self.file, start, self.now + later).count


@pytest.fixture
def account() -> Iterator[Account]:
    with mock_aws():
        yield Account()


def test_a_first_run_has_all_jobs_that_were_submitted_since_the_queue_was_created(account: Account) -> None:
    """SQS's count may still lack jobs that were sent in the last minute."""
    account.submit(30, after=10)
    account.submit(30, after=20)
    account.send(52)
    assert account.count_jobs(account.observe_start()) == 60


def test_a_count_of_sqs_that_has_settled_is_right_whatever_the_documents_say(account: Account) -> None:
    """For example, a `submitJob --replace` that was killed had already removed the jobs of an earlier submission."""
    account.submit(60, after=1)
    account.submit(60, after=2)
    account.send(60)
    assert account.count_jobs(account.observe_start()) == 60
    account.submit(60, after=99)
    assert account.count_jobs(account.observe_start()) == 180, "SQS's count may not have settled"
    assert account.count_jobs(account.observe_start(settling_seconds=0.0)) == 60, "in the local cloud"


def test_jobs_that_a_script_sent_to_the_queue_count_too(account: Account) -> None:
    account.submit(5, after=10)
    account.send(8)
    assert account.count_jobs(account.observe_start()) == 8


def test_later_submissions_are_added(account: Account) -> None:
    account.submit(5, after=10)
    start = account.observe_start()
    account.submit(7, after=200)
    account.submit(100, after=210, queue="AnotherQueue")
    assert account.count_jobs(start) == 12


def test_a_run_after_another_one_has_the_jobs_that_the_other_one_left(account: Account) -> None:
    account.submit(60, after=3)
    earlier = replace(account.file, MONITOR_START_TIME=int((account.created + 50) * 1000))
    account.clients.s3.put_object(Bucket=BUCKET, Key=earlier.keys.history, Body=b"{}")
    account.send(9)
    start = account.observe_start()
    assert account.count_jobs(start) == 9
    account.submit(4, after=150)
    assert account.count_jobs(start) == 13


def test_a_later_run_has_at_least_the_jobs_that_were_submitted_just_before_it(account: Account) -> None:
    account.submit(60, after=3)
    earlier = replace(account.file, MONITOR_START_TIME=int((account.created + 50) * 1000))
    account.clients.s3.put_object(Bucket=BUCKET, Key=earlier.keys.history, Body=b"{}")
    account.submit(20, after=98)
    account.send(9)
    assert account.count_jobs(account.observe_start()) == 20


def test_runs_before_the_queue_was_created_used_another_queue_with_this_name(account: Account) -> None:
    earlier = replace(account.file, MONITOR_START_TIME=int((account.created - 500) * 1000))
    account.clients.s3.put_object(Bucket=BUCKET, Key=earlier.keys.summary, Body=b"")
    account.submit(60, after=10)
    assert account.count_jobs(account.observe_start()) == 60


def test_a_submission_that_is_still_sending_counts_with_all_its_jobs(account: Account) -> None:
    account.submit(0, after=10, planned=30, ended=None)
    account.send(12)
    assert account.count_jobs(account.observe_start()) == 30


def test_a_submission_that_was_killed_counts_with_the_jobs_that_it_reported(account: Account) -> None:
    account.submit(8, after=10, planned=30, ended=None)
    start = account.observe_start()
    assert account.count_jobs(start, later=10_000) == 8


@pytest.mark.parametrize("earlier_run", [False, True])
def test_jobs_that_resume_sends_during_the_run_are_added(account: Account, earlier_run: bool) -> None:
    """The submission began before the run. Its document says how many jobs it has sent."""
    if earlier_run:
        earlier = replace(account.file, MONITOR_START_TIME=int((account.created + 50) * 1000))
        account.clients.s3.put_object(Bucket=BUCKET, Key=earlier.keys.history, Body=b"{}")
    account.submit(12, after=10, planned=30)
    account.send(12)
    start = account.observe_start()
    assert account.count_jobs(start) == 12
    account.submit(30, after=10, planned=30)
    assert account.count_jobs(start) == 30


def test_jobs_that_replace_removed_are_not_counted(account: Account) -> None:
    account.submit(60, after=10)
    account.submit(50, after=20, removed=60, replace=True, replaced=True)
    account.submit(5, after=30)
    assert account.count_jobs(account.observe_start()) == 55


def test_a_replacement_that_was_interrupted_has_removed_only_some_jobs(account: Account) -> None:
    account.submit(60, after=10)
    account.submit(0, after=20, removed=20, replace=True)
    assert account.count_jobs(account.observe_start()) == 40


def test_the_run_knows_when_its_jobs_were_last_replaced_and_whether_jobs_are_being_sent(account: Account) -> None:
    start, reader = account.observe_start(), SubmissionReader(account.clients.s3, BUCKET, APP)

    def observe() -> tuple[bool, float | None]:
        submitted = observe_submitted_jobs(reader, account.file, start, account.now)
        return submitted.is_sending, submitted.replaced_at

    assert observe() == (False, None)
    account.submit(60, after=110, replace=True)
    assert observe() == (False, None), "it has not removed all waiting jobs"
    account.submit(60, after=120, ended=None, replace=True)
    assert observe() == (True, None)
    removed_at = build_submission_time(account.created + 130)
    account.submit(60, after=120, replace=True, replaced=True, replaced_at=removed_at)
    assert observe() == (False, pytest.approx(account.created + 130, abs=0.001))
    account.submit(60, after=140, replace=True, replaced=True)
    assert observe()[1] == pytest.approx(account.created + 140, abs=0.001), "older versions do not say when"


def test_letters_in_the_dead_letter_queue_at_the_start_are_older_than_the_run(account: Account) -> None:
    account.send(3, queue=MONITOR_FILE.MONITOR_DEAD_LETTER_QUEUE)
    assert account.observe_start().dead_letters == 3


def test_a_run_without_a_queue_has_no_jobs(account: Account) -> None:
    account.clients.sqs.delete_queue(QueueUrl=account.url)
    assert account.count_jobs(account.observe_start()) == 0
