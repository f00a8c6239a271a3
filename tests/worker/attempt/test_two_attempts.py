"""Two attempts at one job: whichever is done first stays, however late the other one's requests arrive."""

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
from tests.worker.attempt.table import JOB, SLOW, Table, WatchedS3


@pytest.mark.parametrize("found", [None, {"state": "failed", "attempts": 1}])
def test_what_the_next_attempt_has_recorded_by_then_stays(table: Table, found: dict[str, Any] | None) -> None:
    """`found`: what is there when the record is about to be written; the next attempt's comes before it, or amid."""
    key, later = build_record_key(table.settings, job_id(SLOW)), {"state": "failed", "attempts": 2}
    s3 = table.s3

    def record_later(request: dict[str, Any]) -> None:
        if request["Key"] == key:
            s3.put_object(Bucket="ours", Key=key, Body=json.dumps(later))

    s3.put_object(Bucket="ours", Key=key, Body=json.dumps(found or later))
    if found:
        table.s3 = WatchedS3(s3, record_later)
    assert table.interrupt() == later


def done_elsewhere(table: Table, record_too: bool) -> Callable[..., None]:
    """Another worker, which got the same message, publishes while this one's program runs."""

    def publish(*_: Any) -> None:
        table.s3.put_object(Bucket="ours", Key=f"App/{JOB}/a", Body=b"the other's")
        if record_too:
            body = json.dumps({"job": JOB, "state": "done", "outputs": []})
            table.s3.put_object(Bucket="ours", Key=build_record_key(table.settings, JOB), Body=body)

    return publish


@pytest.mark.parametrize("record_too", [True, False])
def test_a_result_that_another_worker_published_meanwhile_is_not_overwritten(table: Table, record_too: bool) -> None:
    table.handle(failure=done_elsewhere(table, record_too))
    assert table.result() == b"the other's"
    assert table.queue.calls == []  # the other deletes it; or its lease ends and it is looked at anew
    assert (table.record().get("state") == "done") == record_too


def test_on_a_second_try_a_job_that_is_done_meanwhile_is_left_as_it_is(table: Table) -> None:
    table.handle(failure=done_elsewhere(table, record_too=True), receives=2)
    assert table.queue.calls == ["deleted"]


def test_what_a_dead_attempt_left_is_replaced(table: Table) -> None:
    table.s3.put_object(Bucket="ours", Key=f"App/{JOB}/a", Body=b"half of it")
    table.handle(receives=2)
    assert table.record()["state"] == "done"
    assert list_sizes(table.s3, "App/") == {f"App/{JOB}/a": 0}


def test_files_of_an_earlier_attempt_that_died_are_not_taken_for_a_result(table: Table) -> None:
    table.handle(failure=lambda *_: "no")
    put_objects(table.s3, f"App/{JOB}/a")
    table.handle(receives=2)
    record = table.record()
    assert (record["state"], record["attempts"], record["exit_code"]) == ("done", 2, 0)


def test_a_job_sent_again_whose_files_are_there_has_its_failed_record_replaced(table: Table) -> None:
    table.handle(failure=lambda *_: "no")
    put_objects(table.s3, f"App/{JOB}/a")
    table.handle(receives=1)
    assert table.record()["state"] == "done"


def test_an_attempt_that_replaces_what_another_left_has_claimed_it(table: Table) -> None:
    table.s3.put_object(Bucket="ours", Key=f"App/{JOB}/a", Body=b"half of it")
    seen: list[Any] = []

    def see(request: dict[str, Any]) -> None:
        seen.append((request["Key"].rpartition("/")[2], table.record().get("reason")))

    table.s3 = WatchedS3(table.s3, see)
    table.handle(receives=2)
    assert seen == [(f"{JOB}.json", None), ("a", CLAIM_REASON), (f"{JOB}.json", CLAIM_REASON)]


@pytest.mark.parametrize("receives", [1, 2])
def test_a_late_record_is_refused_once_another_attempt_claimed_the_outputs_also_if_that_one_is_lost(
    table: Table, monkeypatch: pytest.MonkeyPatch, receives: int
) -> None:
    """This worker is frozen before its record; another gets the job, replaces the outputs, and is killed."""

    def frozen(context: WorkerContext, record: dict[str, Any], *rest: Any) -> bool:
        claim = record | {"state": "interrupted", "reason": CLAIM_REASON, "machine": "it"}
        assert claim_job_results(context, claim)
        context.s3.put_object(Bucket="ours", Key=f"App/{JOB}/a", Body=b"the other's")
        return write_record(context, record, *rest)

    monkeypatch.setattr(outcomes, "write_record", frozen)
    table.handle(receives=receives)
    assert table.record()["state"] == "interrupted"
    assert table.queue.calls == []
    monkeypatch.undo()
    table.handle(receives=3)
    assert table.record()["state"] == "done"
    assert table.result() == b""


@pytest.mark.parametrize("state", ["failed", "interrupted", "done"])
def test_a_record_that_was_long_on_its_way_does_not_replace_one_that_is_done(table: Table, state: str) -> None:
    """Another attempt's record comes between this one's look and its own."""
    key = build_record_key(table.settings, JOB)
    s3, done = table.s3, json.dumps({"job": JOB, "state": "done", "attempts": 7}).encode()

    def be_slow(request: dict[str, Any]) -> None:
        if request["Key"] == key and "IfNoneMatch" in request:
            s3.put_object(Bucket="ours", Key=key, Body=done)

    table.s3 = WatchedS3(s3, be_slow)
    ours = {"job": JOB, "state": state, "attempts": 1, "log": None}
    assert not write_record(table.context, ours, Path("none"))
    assert table.record()["attempts"] == 7


@pytest.mark.parametrize("attempts", [1, 2])
def test_where_the_outputs_in_s3_are_this_attempts_anothers_record_is_replaced(table: Table, attempts: int) -> None:
    late = json.dumps({"job": "j", "state": "done", "attempts": 1}).encode()
    table.s3.put_object(Bucket="ours", Key=build_record_key(table.settings, "j"), Body=late)
    ours = {"job": "j", "state": "done", "attempts": attempts, "log": None, "machine": "this"}
    assert not write_record(table.context, ours, Path("none"), lambda: False)
    assert write_record(table.context, ours, Path("none"), lambda: True)
    assert table.record("j")["machine"] == "this"


def test_a_record_whose_answer_was_lost_counts_as_written(table: Table) -> None:
    ours = {"job": "j", "state": "done", "attempts": 1, "log": None}
    assert write_record(table.context, ours, Path("none"))
    assert write_record(table.context, ours, Path("none"))


def test_two_attempts_logs_do_not_replace_each_other(table: Table) -> None:
    for _ in range(2):
        table.handle({"group": "g", "command": "echo hello", "shell": True}, failure=lambda *_: "no")
    assert len([key for key in list_sizes(table.s3, "runs/") if key.endswith(".log.txt")]) == 2
