"""How an attempt can end, and what becomes of its record, its message, and its lease."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from distributed_something.worker.attempt import outcomes
from distributed_something.worker.attempt.job_record import write_record
from distributed_something.worker.job.failures import Interruption, StaleMessage
from distributed_something.worker.job.job import BadMessage
from distributed_something.worker.job.job_id import job_id
from tests.support.objects import list_sizes, put_objects
from tests.worker.attempt.table import JOB, MESSAGE, Table, broken


def test_a_message_is_deleted_only_after_its_record_is_written(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise EndpointConnectionError(endpoint_url="s3")

    monkeypatch.setattr(outcomes, "write_record", refuse)
    table.handle()
    assert table.queue.calls == ["given back"]


def test_a_lease_ends_before_its_message_is_given_back(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[int] = []
    monkeypatch.setattr(
        table.queue, "change_message_visibility", lambda **_: held.append(len(table.keeper.held_leases))
    )
    table.handle(prepare=broken)
    assert held == [0]


@pytest.mark.parametrize(
    ("code", "status", "calls"), [("NoSuchKey", 404, ["buried", "deleted"]), ("AccessDenied", 403, ["given back"])]
)
def test_only_what_is_not_there_ends_a_job_at_its_first_try(
    table: Table, monkeypatch: pytest.MonkeyPatch, code: str, status: int, calls: list[str]
) -> None:
    answer = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}

    def refuse(**_: Any) -> None:
        raise ClientError(answer, "GetObject")  # type: ignore[arg-type]

    table.settings = replace(table.settings, check_if_done=False)
    message = {"group": "g", "command": "true", "inputs": ["in/a"]}
    real = table.s3.get_object
    monkeypatch.setattr(table.s3, "get_object", lambda **asked: refuse() if asked["Key"] == "in/a" else real(**asked))
    table.handle(message)
    assert table.queue.calls == calls


def test_the_last_try_goes_to_the_dead_letter_queue_with_its_class_and_reason(table: Table) -> None:
    table.handle(failure=lambda *_: "no well", receives=9)
    table.handle(failure=lambda *_: "no well", receives=10)
    assert table.queue.calls == ["given back", "buried", "deleted"]
    assert table.queue.told == [{"reason": "program: no well"}]
    assert table.heard == ["no well: program"] * 2


def test_a_job_sent_again_whose_workers_are_lost_again_and_again_is_not_tried_for_ever(table: Table) -> None:
    table.settings = replace(table.settings, job_retries=3)
    table.handle({"group": "one", "command": "true"}, receives=2, carried={"failures": "1"})
    table.handle({"group": "other", "command": "true"}, receives=2, carried={"failures": "2"})
    assert table.queue.calls == ["deleted", "buried", "deleted"]
    assert table.queue.told == [{"reason": "crash: tried 3 times, and at the last its worker was lost"}]


def test_outputs_of_a_failed_attempt_are_kept_apart_only_if_the_job_file_asks(table: Table) -> None:
    table.handle(failure=lambda *_: "no")
    assert not [key for key in list_sizes(table.s3) if key.endswith("/a")]
    kept = MESSAGE | {"keep_failed": True}
    table.handle(kept, failure=lambda *_: "no")
    assert [key for key in list_sizes(table.s3) if key.endswith("/a")] == [
        f"runs/App/by-hand/jobs/failed/{job_id(kept)}/a"
    ]


def test_an_attempt_that_lost_its_lease_publishes_nothing_and_touches_no_message(table: Table) -> None:
    table.handle(failure=lambda *_: table.lose_lease())
    assert table.queue.calls == []
    assert list_sizes(table.s3) == {}


@pytest.mark.parametrize("failures", ["0", "9"])
def test_an_attempt_that_loses_its_lease_while_its_failure_is_recorded_touches_no_message(
    table: Table, monkeypatch: pytest.MonkeyPatch, worker_log: pytest.LogCaptureFixture, failures: str
) -> None:
    def write(*words: Any) -> bool:
        table.lose_lease()
        return write_record(*words)

    monkeypatch.setattr(outcomes, "write_record", write)
    table.handle(failure=lambda *_: "no well", carried={"failures": failures})
    assert table.queue.calls == []
    assert "lost lease of g-" in worker_log.text


@pytest.mark.parametrize("end", [BadMessage("no"), Interruption(), StaleMessage()])
def test_of_a_message_whose_lease_is_lost_no_copy_is_sent_and_it_is_said(
    table: Table, worker_log: pytest.LogCaptureFixture, end: Exception
) -> None:
    def lose(*_: Any) -> None:
        table.lose_lease()
        raise end

    table.handle(prepare=lose)
    assert table.queue.calls == []
    assert "lost lease of g-" in worker_log.text


def test_a_download_is_left_when_the_worker_is_told_to_stop(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    put_objects(table.s3, "in")
    download = table.s3.get_object

    def stopped_meanwhile(**asked: Any) -> Any:
        table.stop.announce_end(0)
        return download(**asked)

    monkeypatch.setattr(table.s3, "get_object", stopped_meanwhile)
    table.handle({"group": "g", "command": "true", "inputs": ["in"]}, prepare=broken)
    assert table.queue.calls == ["sent again", "deleted"]
    assert list_sizes(table.s3, "runs/") == {}


def test_a_job_that_was_not_begun_when_the_worker_is_told_to_stop_is_sent_again_as_new_before_the_old_is_deleted(
    table: Table,
) -> None:
    table.handle(prepare=lambda *_: table.stop.announce_end(1000), receives=2)
    assert table.queue.calls == ["sent again", "deleted"]
    assert table.queue.told == [{"tries": "1", "failures": "1"}]
    assert table.record() == {}


def test_a_job_of_an_earlier_run_that_was_given_back_unbegun_is_still_skipped_for_its_files(table: Table) -> None:
    table.settings = replace(table.settings, expected_number_files=1, run="20991231T000000Z")
    put_objects(table.s3, f"App/{JOB}/a")
    table.give_back()
    (told,) = table.queue.told
    table.handle(carried=told, failure=broken)
    assert table.record()["state"] == "done"
    assert table.queue.calls == ["sent again", "deleted", "deleted"]


def test_a_program_that_ends_well_after_the_worker_was_told_to_stop_is_published(table: Table) -> None:
    table.handle(failure=lambda *_: table.stop.announce_end(1000))
    assert table.record()["state"] == "done"
    assert table.queue.calls == ["deleted"]


def test_a_job_that_is_interrupted_goes_back_before_its_record_is_written_since_s3_may_hang(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    before: list[str] = []

    def hang(*_: Any) -> bool:
        before.extend(table.queue.calls)
        raise EndpointConnectionError(endpoint_url="s3")

    monkeypatch.setattr(outcomes, "write_record", hang)
    assert table.interrupt() == {}
    assert before == ["sent again", "deleted"]


def test_a_program_that_is_ended_since_time_is_up_is_recorded_as_interrupted_and_not_as_failed(table: Table) -> None:
    record = table.interrupt()
    assert (record["state"], record["reason_class"]) == ("interrupted", "interrupted")
    assert table.queue.calls == ["sent again", "deleted"]
    assert table.queue.told == [{"tries": "1", "failures": "0"}]
    assert table.heard == []


def test_a_message_that_cannot_be_sent_again_is_left_to_its_lease(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_: Any) -> None:
        raise EndpointConnectionError(endpoint_url="sqs")

    monkeypatch.setattr(table.queue, "send_message", refuse)
    table.handle(prepare=lambda *_: table.stop.announce_end(1000))
    assert table.queue.calls == []


@pytest.mark.parametrize(
    ("receives", "hours", "minutes", "calls"),
    [
        (2, 10, 100, ["sent again", "deleted"]),  # 2 hours are left: too few for its time limit and the upload
        (2, 10, 80, ["deleted"]),
        (2, 0.6, 660, ["sent again", "deleted"]),
        (1, 10, 660, ["deleted"]),  # its first receive was just now: this machine's clock is wrong
        (1, 0, 1e6, ["deleted"]),
    ],
)
def test_a_message_too_old_for_its_jobs_time_limit_is_sent_again_as_new(
    table: Table, receives: int, hours: float, minutes: float, calls: list[str]
) -> None:
    message = {"group": "g", "command": "true", "timeout_minutes": minutes}
    table.handle(message, receives=receives, first=hours)
    assert table.queue.calls == calls
    if len(calls) == 2:
        assert table.queue.told == [{"tries": "1", "failures": "1"}]
        assert table.record(job_id(message)) == {}
