"""Snapshots of a run: what one of them keeps for the next one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from moto import mock_aws

from distributed_something.aws.clients import Clients
from distributed_something.core.submission import SubmissionDocument, build_submission, build_submission_time
from distributed_something.observe.documents.run_start import RunStart
from distributed_something.observe.snapshot import RunCaches, RunSnapshot, observe_run
from distributed_something.worker import AppKeys
from tests.support.fakes import MONITOR_FILE, START
from tests.support.run_documents import RunDocuments

BUCKET, APP, QUEUE = MONITOR_FILE.MONITOR_BUCKET_NAME, MONITOR_FILE.MONITOR_APP_NAME, MONITOR_FILE.MONITOR_QUEUE_NAME


class Run:
    """A run in an emulated account, and the calls to S3 that a snapshot made."""

    def __init__(self) -> None:
        self.clients = Clients(boto3.Session("test", "test", region_name="us-east-1"))
        self.clients.s3.create_bucket(Bucket=BUCKET)
        self.clients.ecs.create_cluster(clusterName=MONITOR_FILE.MONITOR_ECS_CLUSTER)
        self.documents = RunDocuments(self.clients.s3, MONITOR_FILE)
        self.caches = RunCaches(self.clients.s3, MONITOR_FILE)
        self.calls: list[str] = []
        self.clients.s3.meta.events.register("before-call.s3", self._record_call)

    def _record_call(self, model: Any, params: dict[str, Any], **_: Any) -> None:
        self.calls.append(f"{model.name} {params['url_path'].rpartition('/')[2]}".strip())

    def submit(self, second: int, count: int) -> str:
        """Write the document of a submission, and return its name."""
        time = build_submission_time(START + second)
        document = SubmissionDocument(APP, QUEUE, time, "job.json", "digest", count, count, time)
        self.documents.put_object(AppKeys(APP).submission(time), build_submission(document))
        return f"{time}.json"

    def observe(self) -> tuple[RunSnapshot, list[str]]:
        """Return a snapshot, and which objects it read."""
        self.calls.clear()
        snapshot = observe_run(self.clients, MONITOR_FILE, RunStart(START, 0, 0), self.caches, START + 600)
        return snapshot, sorted(call.removeprefix("GetObject ") for call in self.calls if call.startswith("GetObject"))


@pytest.fixture
def run() -> Iterator[Run]:
    with mock_aws():
        yield Run()


def test_a_snapshot_reads_only_submissions_and_journals_that_are_new_or_have_changed(run: Run) -> None:
    first, second = run.submit(1, 5), run.submit(2, 7)
    run.documents.write_journal("c1", done=3)
    snapshot, read = run.observe()
    assert (snapshot.submitted, snapshot.totals.done, read) == (12, 3, [first, second, "c1-1.jsonl"])

    snapshot, read = run.observe()
    assert (snapshot.submitted, snapshot.totals.done, read) == (12, 3, [])

    third = run.submit(3, 10)
    run.documents.write_journal("c2", done=4)
    snapshot, read = run.observe()
    assert (snapshot.submitted, snapshot.totals.done, read) == (22, 7, [third, "c2-1.jsonl"])


def test_the_number_of_calls_to_s3_does_not_depend_on_the_number_of_earlier_submissions(run: Run) -> None:
    run.observe()
    calls = list(run.calls)
    for second in range(20):
        run.submit(second, 1)
    run.observe()
    assert len(run.calls) == len(calls) + 20
    run.observe()
    assert run.calls == calls
