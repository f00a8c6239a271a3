"""Two attempts at one job: the first to finish wins, however late the other attempt's requests arrive."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distributed_something.worker.attempt import outcomes
from distributed_something.worker.attempt.context import WorkerContext
from distributed_something.worker.attempt.job_record import (
    CLAIM_REASON,
    build_record_key,
    claim_job_results,
    write_record,
)
from distributed_something.worker.job.job_id import job_id
from tests.support.objects import list_sizes, put_objects
from tests.worker.attempt.attempt_harness import JOB_ID, SLOW_MESSAGE, AttemptHarness, InterceptedS3


@pytest.mark.parametrize("existing", [None, {"state": "failed", "attempts": 1}])
def test_a_record_that_the_next_attempt_has_already_written_is_kept(
    harness: AttemptHarness, existing: dict[str, Any] | None
) -> None:
    """The next attempt writes its record before this attempt reads the record (`existing` is None) or right after."""
    key, later = build_record_key(harness.settings, job_id(SLOW_MESSAGE)), {"state": "failed", "attempts": 2}
    s3 = harness.s3

    def record_later(request: dict[str, Any]) -> None:
        if request["Key"] == key:
            s3.put_object(Bucket="ours", Key=key, Body=json.dumps(later))

    s3.put_object(Bucket="ours", Key=key, Body=json.dumps(existing or later))
    if existing:
        harness.s3 = InterceptedS3(s3, record_later)
    assert harness.interrupt() == later


def publish_elsewhere(harness: AttemptHarness, with_record: bool) -> Callable[..., None]:
    """Return a hook that uploads a result as if another worker had received the same message."""

    def publish(*_: Any) -> None:
        harness.s3.put_object(Bucket="ours", Key=f"App/{JOB_ID}/a", Body=b"the other's")
        if with_record:
            body = json.dumps({"job": JOB_ID, "state": "done", "outputs": []})
            harness.s3.put_object(Bucket="ours", Key=build_record_key(harness.settings, JOB_ID), Body=body)

    return publish


@pytest.mark.parametrize("with_record", [True, False])
def test_a_result_that_another_worker_uploads_in_the_meantime_is_not_overwritten(
    harness: AttemptHarness, with_record: bool
) -> None:
    harness.handle(failure=publish_elsewhere(harness, with_record))
    assert harness.read_result() == b"the other's"
    # If the other worker has not deleted the message in the meantime, the job is then found to be done, or runs again.
    assert harness.queue.calls == ["returned"]
    assert (harness.read_record().get("state") == "done") == with_record


def test_a_second_attempt_does_not_change_a_job_that_is_finished_in_the_meantime(harness: AttemptHarness) -> None:
    harness.handle(failure=publish_elsewhere(harness, with_record=True), receives=2)
    assert harness.queue.calls == ["deleted"]


def test_files_from_an_attempt_that_died_are_replaced(harness: AttemptHarness) -> None:
    harness.s3.put_object(Bucket="ours", Key=f"App/{JOB_ID}/a", Body=b"half of it")
    harness.handle(receives=2)
    assert harness.read_record()["state"] == "done"
    assert list_sizes(harness.s3, "App/") == {f"App/{JOB_ID}/a": 0}


def test_a_job_does_not_count_as_done_because_of_files_from_an_attempt_that_died(harness: AttemptHarness) -> None:
    harness.handle(failure=lambda *_: "no")
    put_objects(harness.s3, f"App/{JOB_ID}/a")
    harness.handle(receives=2)
    record = harness.read_record()
    assert (record["state"], record["attempts"], record["exit_code"]) == ("done", 2, 0)


def test_the_failed_record_of_a_job_that_was_sent_again_is_replaced(harness: AttemptHarness) -> None:
    harness.handle(failure=lambda *_: "no")
    put_objects(harness.s3, f"App/{JOB_ID}/a")
    harness.handle(receives=1)
    assert harness.read_record()["state"] == "skipped"


def test_an_attempt_claims_another_attempts_files_before_replacing_them(harness: AttemptHarness) -> None:
    harness.s3.put_object(Bucket="ours", Key=f"App/{JOB_ID}/a", Body=b"half of it")
    writes: list[Any] = []

    def record_write(request: dict[str, Any]) -> None:
        writes.append((request["Key"].rpartition("/")[2], harness.read_record().get("reason")))

    harness.s3 = InterceptedS3(harness.s3, record_write)
    harness.handle(receives=2)
    assert writes == [(f"{JOB_ID}.json", None), ("a", CLAIM_REASON), (f"{JOB_ID}.json", CLAIM_REASON)]


@pytest.mark.parametrize("receives", [1, 2])
@pytest.mark.parametrize(
    "difference", [{"machine": "other"}, {"container": "other"}, {"started": "2026-11-23T10:45:00.000Z"}], ids=str
)
def test_a_late_record_is_rejected_after_another_attempt_claims_the_results_even_if_that_attempt_is_lost(
    harness: AttemptHarness, monkeypatch: pytest.MonkeyPatch, receives: int, difference: dict[str, str]
) -> None:
    """This worker freezes before writing the record. Another worker gets the job, replaces the results, and dies.

    The other worker may be on the same machine, or even the same one, which then began the job at another time.
    """

    def write_after_claim(context: WorkerContext, record: dict[str, Any], *args: Any) -> bool:
        claim = record | {"state": "interrupted", "reason": CLAIM_REASON} | difference
        assert claim_job_results(context, claim)
        context.s3.put_object(Bucket="ours", Key=f"App/{JOB_ID}/a", Body=b"the other's")
        return write_record(context, record, *args)

    monkeypatch.setattr(outcomes, "write_record", write_after_claim)
    harness.handle(receives=receives)
    assert harness.read_record()["state"] == "interrupted"
    assert harness.queue.calls == ["returned"]
    monkeypatch.undo()
    harness.handle(receives=3)
    assert harness.read_record()["state"] == "done"
    assert harness.read_result() == b""


@pytest.mark.parametrize("state", ["failed", "interrupted", "done"])
def test_a_delayed_record_does_not_replace_a_done_record(harness: AttemptHarness, state: str) -> None:
    """The other attempt writes its record after this attempt reads the record and before this attempt writes."""
    key = build_record_key(harness.settings, JOB_ID)
    s3, done = harness.s3, json.dumps({"job": JOB_ID, "state": "done", "attempts": 7}).encode()

    def write_other_record(request: dict[str, Any]) -> None:
        if request["Key"] == key and "IfNoneMatch" in request:
            s3.put_object(Bucket="ours", Key=key, Body=done)

    harness.s3 = InterceptedS3(s3, write_other_record)
    record = {"job": JOB_ID, "state": state, "attempts": 1, "log": None, "message_id": "m"}
    assert not write_record(harness.context, record, Path("none"))
    assert harness.read_record()["attempts"] == 7


@pytest.mark.parametrize("attempts", [1, 2])
def test_another_attempts_record_is_replaced_if_the_results_come_from_this_attempt(
    harness: AttemptHarness, attempts: int
) -> None:
    late = json.dumps({"job": "j", "state": "done", "attempts": 1}).encode()
    harness.s3.put_object(Bucket="ours", Key=build_record_key(harness.settings, "j"), Body=late)
    record = {"job": "j", "state": "done", "attempts": attempts, "log": None, "message_id": "m", "machine": "this"}
    assert not write_record(harness.context, record, Path("none"), lambda: False)
    assert write_record(harness.context, record, Path("none"), lambda: True)
    assert harness.read_record("j")["machine"] == "this"


def test_a_late_record_does_not_replace_that_of_another_submission_which_has_replaced_the_results(
    harness: AttemptHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job was submitted twice. This worker is slow to write the record; meanwhile, the other message is done."""

    def write_after_other_submission(context: WorkerContext, record: dict[str, Any], *args: Any) -> Any:
        if record["state"] == "done":
            body = json.dumps(record | {"message_id": "message-2", "machine": "other"})
            context.s3.put_object(Bucket="ours", Key=f"App/{JOB_ID}/a", Body=b"the other's")
            context.s3.put_object(Bucket="ours", Key=build_record_key(context.settings, JOB_ID), Body=body)
        return write_record(context, record, *args)

    monkeypatch.setattr(outcomes, "write_record", write_after_other_submission)
    harness.handle()
    record = harness.read_record()
    assert (record["state"], record["message_id"], record["machine"]) == ("done", "message-2", "other")
    assert [(other["message_id"], other["state"]) for other in record["other_submissions"]] == [
        ("message-1", "skipped")
    ]
    assert [line["state"] for line in harness.recorded] == ["skipped"]
    assert harness.queue.calls == ["deleted"]


def test_a_record_counts_as_written_even_if_the_response_was_lost(harness: AttemptHarness) -> None:
    record = {"job": "j", "state": "done", "attempts": 1, "log": None, "message_id": "m"}
    assert write_record(harness.context, record, Path("none"))
    assert write_record(harness.context, record, Path("none"))


def test_the_logs_of_two_attempts_do_not_replace_each_other(harness: AttemptHarness) -> None:
    for _ in range(2):
        harness.handle({"group": "g", "command": "echo hello", "shell": True}, failure=lambda *_: "no")
    assert len([key for key in list_sizes(harness.s3, "runs/") if key.endswith(".log.txt")]) == 2
