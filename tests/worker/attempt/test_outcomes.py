"""How an attempt can end, and what happens to its record, its message, and its lease."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from distributed_something.worker.attempt import outcomes
from distributed_something.worker.attempt.job_record import write_record
from distributed_something.worker.container.stop import StopRequest
from distributed_something.worker.job.checks import usual_failure
from distributed_something.worker.job.failures import Interruption, StaleMessage
from distributed_something.worker.job.job import BadMessage, Folders, Job
from distributed_something.worker.job.job_id import job_id
from distributed_something.worker.job.message.job_template import job_from_message
from distributed_something.worker.job.worker_settings import Settings
from tests.support.fakes import build_client_error
from tests.support.objects import list_sizes, put_objects
from tests.worker.attempt.attempt_harness import JOB_ID, MESSAGE, SLOW_MESSAGE, AttemptHarness, failing_hook


def test_a_message_is_deleted_only_after_its_record_is_written(
    harness: AttemptHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise EndpointConnectionError(endpoint_url="s3")

    monkeypatch.setattr(outcomes, "write_record", fail)
    harness.handle()
    assert harness.queue.calls == ["returned"]


def test_a_lease_is_released_before_its_message_is_returned(
    harness: AttemptHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease_counts: list[int] = []
    monkeypatch.setattr(
        harness.queue, "change_message_visibility", lambda **_: lease_counts.append(len(harness.keeper.leases))
    )
    harness.handle(prepare=failing_hook)
    assert lease_counts == [0]


@pytest.mark.parametrize(
    ("code", "status", "calls"),
    [("NoSuchKey", 404, ["sent to the dead-letter queue", "deleted"]), ("AccessDenied", 403, ["returned"])],
)
def test_only_a_missing_input_makes_a_job_fail_for_good_at_its_first_attempt(
    harness: AttemptHarness, monkeypatch: pytest.MonkeyPatch, code: str, status: int, calls: list[str]
) -> None:
    response = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}

    def fail() -> None:
        raise ClientError(response, "GetObject")  # type: ignore[arg-type]

    harness.settings = replace(harness.settings, check_if_done=False)
    message = {"group": "g", "command": "true", "inputs": ["in/a"]}
    get_object = harness.s3.get_object
    monkeypatch.setattr(
        harness.s3, "get_object", lambda **request: fail() if request["Key"] == "in/a" else get_object(**request)
    )
    harness.handle(message)
    assert harness.queue.calls == calls


def test_after_the_last_attempt_a_message_moves_to_the_dead_letter_queue_with_its_reason(
    harness: AttemptHarness,
) -> None:
    harness.handle(failure=lambda *_: "no well", receives=9)
    harness.handle(failure=lambda *_: "no well", receives=10)
    assert harness.queue.calls == ["returned", "sent to the dead-letter queue", "deleted"]
    assert harness.queue.sent_attributes == [{"reason": "program: no well"}]
    assert harness.callback_calls == ["no well: program"] * 2


def test_a_failed_job_leaves_the_queue_even_if_the_dead_letter_queue_was_deleted(
    harness: AttemptHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its record contains its message. Otherwise, it would return for as long as the run lasts."""

    def fail_to_send(**_: Any) -> None:
        raise build_client_error("AWS.SimpleQueueService.NonExistentQueue")

    monkeypatch.setattr(harness.queue, "send_message", fail_to_send)
    harness.handle(failure=lambda *_: "no well", receives=10)
    assert harness.queue.calls == ["deleted"]
    record = harness.read_record()
    assert (record["final"], record["message"]) == (True, MESSAGE)


def test_a_job_that_was_sent_again_and_repeatedly_loses_its_workers_is_not_retried_forever(
    harness: AttemptHarness,
) -> None:
    harness.settings = replace(harness.settings, job_retries=3)
    harness.handle({"group": "one", "command": "true"}, receives=2, attributes={"failures": "1"})
    harness.handle({"group": "other", "command": "true"}, receives=2, attributes={"failures": "2"})
    assert harness.queue.calls == ["deleted", "sent to the dead-letter queue", "deleted"]
    assert harness.queue.sent_attributes == [{"reason": "crash: the worker of the last attempt was lost"}]


def test_files_of_a_failed_attempt_are_uploaded_separately_only_with_keep_failed(harness: AttemptHarness) -> None:
    harness.handle(failure=lambda *_: "no")
    assert not [key for key in list_sizes(harness.s3) if key.endswith("/a")]
    message = MESSAGE | {"keep_failed": True}
    harness.handle(message, failure=lambda *_: "no")
    assert [key for key in list_sizes(harness.s3) if key.endswith("/a")] == [
        f"runs/App/by-hand/jobs/failed/{job_id(message)}/a"
    ]


def test_an_attempt_that_lost_its_lease_uploads_nothing_and_does_not_touch_its_message(harness: AttemptHarness) -> None:
    harness.handle(failure=lambda *_: harness.lose_lease())
    assert harness.queue.calls == []
    assert list_sizes(harness.s3) == {}


@pytest.mark.parametrize("failures", ["0", "9"])
def test_an_attempt_that_loses_its_lease_while_recording_a_failure_does_not_touch_its_message(
    harness: AttemptHarness, monkeypatch: pytest.MonkeyPatch, worker_log: pytest.LogCaptureFixture, failures: str
) -> None:
    def lose_lease_and_write(*args: Any) -> bool:
        harness.lose_lease()
        return write_record(*args)

    monkeypatch.setattr(outcomes, "write_record", lose_lease_and_write)
    harness.handle(failure=lambda *_: "no well", attributes={"failures": failures})
    assert harness.queue.calls == []
    assert "lost lease of g-" in worker_log.text


@pytest.mark.parametrize("end", [BadMessage("no"), Interruption(), StaleMessage()])
def test_a_message_whose_lease_is_lost_is_not_sent_again_and_the_loss_is_logged(
    harness: AttemptHarness, worker_log: pytest.LogCaptureFixture, end: Exception
) -> None:
    def lose(*_: Any) -> None:
        harness.lose_lease()
        raise end

    harness.handle(prepare=lose)
    assert harness.queue.calls == []
    assert "lost lease of g-" in worker_log.text


def test_a_download_is_aborted_when_the_worker_must_stop(
    harness: AttemptHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_objects(harness.s3, "in")
    download = harness.s3.get_object

    def stop_and_download(**request: Any) -> Any:
        harness.stop.announce_end(0)
        return download(**request)

    monkeypatch.setattr(harness.s3, "get_object", stop_and_download)
    harness.handle({"group": "g", "command": "true", "inputs": ["in"]}, prepare=failing_hook)
    assert harness.queue.calls == ["sent again", "deleted"]
    assert list_sizes(harness.s3, "runs/") == {}


def test_a_job_that_has_not_started_when_the_worker_must_stop_is_sent_again_before_its_message_is_deleted(
    harness: AttemptHarness,
) -> None:
    harness.handle(prepare=lambda *_: harness.stop.announce_end(1000), receives=2)
    assert harness.queue.calls == ["sent again", "deleted"]
    assert harness.queue.sent_attributes == [{"tries": "1", "failures": "1", "first_id": "message-1"}]
    assert harness.read_record() == {}


def test_a_job_done_in_an_earlier_run_is_skipped_even_if_it_was_returned_before_it_started(
    harness: AttemptHarness,
) -> None:
    harness.settings = replace(harness.settings, expected_number_files=1, run="20991231T000000Z")
    put_objects(harness.s3, f"App/{JOB_ID}/a")
    harness.return_message()
    (attributes,) = harness.queue.sent_attributes
    harness.handle(attributes=attributes, failure=failing_hook)
    assert harness.read_record()["state"] == "skipped"
    assert harness.queue.calls == ["sent again", "deleted", "deleted"]


def test_the_results_of_a_program_that_succeeds_while_the_worker_stops_are_uploaded(harness: AttemptHarness) -> None:
    harness.handle(failure=lambda *_: harness.stop.announce_end(1000))
    assert harness.read_record()["state"] == "done"
    assert harness.queue.calls == ["deleted"]


def test_an_interrupted_job_is_returned_before_its_record_is_written_because_s3_may_hang(
    harness: AttemptHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls_before_record: list[str] = []

    def hang(*_: Any) -> None:
        calls_before_record.extend(harness.queue.calls)
        raise EndpointConnectionError(endpoint_url="s3")

    monkeypatch.setattr(outcomes, "write_record", hang)
    assert harness.interrupt() == {}
    assert calls_before_record == ["sent again", "deleted"]


def test_a_program_that_is_stopped_with_its_worker_is_recorded_as_interrupted_not_as_failed(
    harness: AttemptHarness,
) -> None:
    record = harness.interrupt()
    assert (record["state"], record["reason_class"]) == ("interrupted", "interrupted")
    assert harness.queue.calls == ["sent again", "deleted"]
    assert harness.queue.sent_attributes == [{"tries": "1", "failures": "0", "first_id": "message-1"}]
    assert harness.callback_calls == []


def test_a_message_that_cannot_be_sent_again_is_not_deleted(
    harness: AttemptHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail_to_send(**_: Any) -> None:
        raise EndpointConnectionError(endpoint_url="sqs")

    monkeypatch.setattr(harness.queue, "send_message", fail_to_send)
    harness.handle(prepare=lambda *_: harness.stop.announce_end(1000))
    assert harness.queue.calls == []


@pytest.mark.parametrize(
    ("receives", "hours", "minutes", "calls"),
    [
        (2, 10, 100, ["sent again", "deleted"]),  # only 2 hours remain, too little for the time limit and the upload
        (2, 10, 80, ["deleted"]),
        (2, 0.6, 660, ["sent again", "deleted"]),
        (1, 10, 660, ["deleted"]),  # never received before, so this machine's clock must be wrong
        (1, 0, 1e6, ["deleted"]),
    ],
)
def test_a_message_that_is_too_old_for_its_jobs_time_limit_is_replaced_by_a_new_one(
    harness: AttemptHarness, receives: int, hours: float, minutes: float, calls: list[str]
) -> None:
    message = {"group": "g", "command": "true", "timeout_minutes": minutes}
    harness.handle(message, receives=receives, hours_since_first=hours)
    assert harness.queue.calls == calls
    if len(calls) == 2:
        assert harness.queue.sent_attributes == [{"tries": "1", "failures": "1", "first_id": "message-1"}]
        assert harness.read_record(job_id(message)) == {}


def test_a_failed_attempt_is_final_only_if_no_other_attempt_follows(harness: AttemptHarness) -> None:
    harness.settings = replace(harness.settings, job_retries=2)
    harness.handle(failure=lambda *_: "no")
    assert not harness.read_record()["final"]
    harness.handle(failure=lambda *_: "no", receives=2)
    record = harness.read_record()
    assert (record["state"], record["final"], record["message"]) == ("failed", True, MESSAGE)
    (earlier,) = record["earlier_attempts"]
    assert (earlier["attempt"], earlier["state"], earlier["reason"]) == (1, "failed", "no")


def test_a_failure_is_the_machines_fault_only_if_the_job_did_not_fail_on_another_machine(
    harness: AttemptHarness,
) -> None:
    for receives, machine in enumerate(("i-1", "i-1", "i-2", "i-1"), start=1):
        harness.settings = replace(harness.settings, machine=machine)
        harness.handle(failure=lambda *_: "no", receives=receives)
    assert harness.callback_calls == ["no: program", "no: program", "failed elsewhere", "failed elsewhere"]


def test_an_interruption_on_another_machine_is_not_a_failure_there(harness: AttemptHarness) -> None:
    harness.settings = replace(harness.settings, machine="i-1")
    harness.interrupt()
    harness.settings, harness.stop = replace(harness.settings, machine="i-2"), StopRequest(time.monotonic)
    harness.handle(SLOW_MESSAGE, prepare=failing_hook, attributes={"tries": "1"})
    assert len(harness.callback_calls) == 1
    assert harness.callback_calls != ["failed elsewhere"]


def test_the_failure_of_a_job_that_retry_sent_says_nothing_about_the_machine(harness: AttemptHarness) -> None:
    harness.handle(failure=lambda *_: "no", attributes={"retry_of": "20261123T104500Z"})
    assert harness.callback_calls == ["failed elsewhere"]


def test_a_job_that_is_sent_again_is_still_known_as_a_retried_one(harness: AttemptHarness) -> None:
    harness.handle(prepare=raise_interruption, attributes={"retry_of": "20261123T104500Z", "again_since": "2026-11-24"})
    assert harness.queue.sent_attributes[0]["retry_of"] == "20261123T104500Z"


def raise_interruption(*_: Any) -> None:
    raise Interruption


def test_a_job_is_not_hidden_longer_than_sqs_allows(harness: AttemptHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    harness.settings = replace(harness.settings, retry_seconds=(36_000,))
    requests: list[dict[str, Any]] = []
    monkeypatch.setattr(harness.queue, "change_message_visibility", lambda **request: requests.append(request))
    message = MESSAGE | {"timeout_minutes": 1}
    harness.handle(message, failure=lambda *_: "no")
    harness.handle(message, failure=lambda *_: "no", receives=2, hours_since_first=10)
    assert requests[0]["VisibilityTimeout"] == 36_000
    assert 0 < requests[1]["VisibilityTimeout"] < 2 * 3600


def test_a_job_that_loses_its_worker_at_every_attempt_has_a_final_record(harness: AttemptHarness) -> None:
    harness.settings = replace(harness.settings, job_retries=2)
    harness.handle(receives=3, prepare=failing_hook)
    record = harness.read_record()
    assert (record["state"], record["final"], record["reason_class"]) == ("failed", True, "crash")
    assert (record["attempts"], record["exit_code"]) == (2, None)
    assert [entry["state"] for entry in record["earlier_attempts"]] == ["unknown"]


def test_the_trace_of_a_lost_last_attempt_is_kept_in_the_final_record(harness: AttemptHarness) -> None:
    harness.settings = replace(harness.settings, job_retries=2)
    harness.handle(failure=lambda *_: "no")
    trace = harness.read_record()
    trace |= {"attempts": 2, "state": "interrupted", "started": "2026-11-23T10:45:00.000Z"}
    harness.s3.put_object(Bucket="ours", Key=harness.settings.keys.record(JOB_ID), Body=json.dumps(trace).encode())
    harness.handle(receives=3, prepare=failing_hook)
    record = harness.read_record()
    assert (record["attempts"], record["reason_class"]) == (2, "crash")
    assert [entry["state"] for entry in record["earlier_attempts"]] == ["unknown", "interrupted"]


def test_a_message_that_returns_after_its_job_failed_for_good_does_not_start_the_program_again(
    harness: AttemptHarness,
) -> None:
    """The worker was lost after it wrote the record and before it moved the message."""
    harness.handle(failure=lambda *_: "no well", receives=10)
    record, reports = harness.read_record(), len(harness.recorded)
    harness.queue.calls.clear()
    harness.handle(receives=11, prepare=failing_hook)
    assert harness.read_record() == record
    assert len(harness.recorded) == reports, "it is counted once"
    assert harness.queue.calls == ["sent to the dead-letter queue", "deleted"]
    assert harness.queue.sent_attributes[-1] == {"reason": "program: no well"}


def test_a_late_record_of_an_interrupted_attempt_does_not_replace_a_final_failure(harness: AttemptHarness) -> None:
    harness.settings = replace(harness.settings, job_retries=1)
    harness.handle(receives=2)
    final = harness.read_record()
    late = final | {"state": "interrupted", "final": False, "started": "2026-11-23T10:45:00.000Z"}
    assert not write_record(harness.context, late, Path("no log"))
    assert harness.read_record() == final


@pytest.mark.parametrize("body", ["not JSON", "[]", '{"command": "true"}'])
def test_a_message_that_cannot_be_read_has_a_final_record_with_its_text(harness: AttemptHarness, body: str) -> None:
    harness.handle(body)
    (key,) = list_sizes(harness.s3, "runs/App/by-hand/jobs/message-")
    record = harness.read_record(key.rpartition("/")[2].removesuffix(".json"))
    assert (record["state"], record["final"], record["reason_class"]) == ("failed", True, "bad message")
    assert record["message"] == body
    assert harness.queue.calls == ["sent to the dead-letter queue", "deleted"]


def test_a_job_fails_for_good_only_if_its_record_can_be_written(
    harness: AttemptHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise EndpointConnectionError(endpoint_url="s3")

    harness.settings = replace(harness.settings, job_retries=1)
    monkeypatch.setattr(outcomes, "write_record", fail)
    harness.handle(failure=lambda *_: "no")
    assert harness.queue.calls == []


def make_quick_job(message: dict[str, Any], folders: Folders, settings: Settings) -> Job:
    return job_from_message(message, folders, settings, command="true")


def test_an_interrupted_attempt_leaves_a_trace_in_the_final_record(harness: AttemptHarness) -> None:
    harness.settings = replace(harness.settings, machine="i-reclaimed")
    harness.interrupt()
    harness.settings = replace(harness.settings, machine="i-2")
    (attributes,) = harness.queue.sent_attributes
    harness.stop = StopRequest(harness.clock.monotonic)
    harness.handle(SLOW_MESSAGE, attributes=attributes, make_job=make_quick_job)
    record = harness.read_record(job_id(SLOW_MESSAGE))
    assert (record["state"], record["final"], record["machine"]) == ("done", True, "i-2")
    (earlier,) = record["earlier_attempts"]
    assert (earlier["state"], earlier["machine"]) == ("interrupted", "i-reclaimed")


def test_every_recorded_attempt_is_reported_once_after_its_record_is_written(harness: AttemptHarness) -> None:
    harness.handle(failure=lambda *_: "no")
    harness.handle(receives=2)
    harness.handle(receives=3)  # a duplicate delivery of a job that is done
    assert [(record["state"], record["attempts"]) for record in harness.recorded] == [("failed", 1), ("done", 2)]


def test_a_second_submission_of_a_job_that_this_run_did_is_reported_as_already_there(harness: AttemptHarness) -> None:
    harness.handle()
    harness.handle(message_id="message-2")
    harness.handle(message_id="message-2", receives=2)  # its message could not be deleted
    assert [record["state"] for record in harness.recorded] == ["done", "skipped"]
    record = harness.read_record()
    assert (record["state"], record["message_id"]) == ("done", "message-1")
    (other,) = record["other_submissions"]
    assert (other["message_id"], other["state"]) == ("message-2", "skipped")
    assert {"sent", "submission"} <= other.keys(), "the end may have been replaced"


def test_the_record_of_a_job_that_failed_and_was_submitted_again_keeps_the_failure(harness: AttemptHarness) -> None:
    """Otherwise, the failure would be lost if its container was killed before it wrote its journal."""
    harness.handle(failure=lambda *_: "no", receives=10)
    harness.handle(failure=lambda *_: "no", message_id="message-2", receives=9)
    harness.handle(message_id="message-2", receives=10)
    record = harness.read_record()
    assert (record["state"], record["message_id"]) == ("done", "message-2")
    assert [(other["message_id"], other["state"]) for other in record["other_submissions"]] == [("message-1", "failed")]


def test_with_the_check_off_a_second_submission_of_a_job_runs_again(harness: AttemptHarness) -> None:
    harness.settings = replace(harness.settings, check_if_done=False)
    harness.handle()
    harness.handle(message_id="message-2")
    assert [record["state"] for record in harness.recorded] == ["done", "done"]
    assert harness.read_record()["message_id"] == "message-2"


def test_a_job_that_was_replaced_is_not_tried_again_if_it_fails(harness: AttemptHarness) -> None:
    harness.is_replaced = lambda sent: True
    harness.handle(failure=lambda *_: "no")
    record = harness.read_record()
    assert (record["state"], record["final"], record["replaced"], record["reason"]) == ("failed", False, True, "no")
    assert harness.queue.calls == ["deleted"]
    assert harness.callback_calls == ["failed elsewhere"]
    assert [line["replaced"] for line in harness.recorded] == [True]


def test_a_replaced_message_that_is_not_valid_is_not_a_dead_letter(harness: AttemptHarness) -> None:
    harness.is_replaced = lambda sent: True
    harness.handle("not JSON")
    assert harness.queue.calls == ["deleted"]


def test_a_replaced_job_that_succeeds_is_done(harness: AttemptHarness) -> None:
    harness.is_replaced = lambda sent: True
    harness.handle()
    assert (harness.read_record()["state"], harness.read_record()["replaced"]) == ("done", False)


@pytest.mark.parametrize(("command", "calls"), [("true", ["sent again", "deleted"]), ("false", ["returned"])])
def test_a_job_returns_at_once_if_its_container_must_stop_before_its_record_is_written(
    harness: AttemptHarness, monkeypatch: pytest.MonkeyPatch, command: str, calls: list[str]
) -> None:
    def stop(*_: Any, **__: Any) -> None:
        raise Interruption

    monkeypatch.setattr(outcomes, "write_record", stop)
    harness.handle({"group": "g", "command": command}, failure=usual_failure)
    assert harness.queue.calls == calls
