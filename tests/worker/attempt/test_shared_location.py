"""Jobs that share an output location: their done documents, duplicate deliveries, and conflicts."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from distributed_something.worker.attempt.job_record import CLAIM_REASON, build_record_key
from distributed_something.worker.job.job_id import job_id
from distributed_something.worker.job.message.job_template import job_from_message
from tests.support.objects import list_sizes, put_objects
from tests.worker.attempt.attempt_harness import AttemptHarness, InterceptedS3


def build_shared_message(group: str, text: str, name: str = "a") -> dict[str, Any]:
    """Return the message of a job that writes `text` to a file in the shared location `all`."""
    command = f"printf {text} > {{output_dir}}/{name}"
    return {"group": group, "command": command, "shell": True, "output_location": "all", "shared_location": True}


def read_text(harness: AttemptHarness, key: str) -> str:
    return str(harness.s3.get_object(Bucket="ours", Key=key)["Body"].read().decode())


def read_done_document(harness: AttemptHarness, message: dict[str, Any]) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(read_text(harness, f"runs/App/done/{job_id(message)}.json"))
    return document


def start_run(harness: AttemptHarness, run: str) -> None:
    harness.settings = replace(harness.settings, run=run)


def put_done_record(harness: AttemptHarness, message: dict[str, Any], **more: Any) -> None:
    """Put a record of this run that says that another message of the job is done."""
    job, key = job_id(message), build_record_key(harness.settings, job_id(message))
    record = {"job": job, "state": "done", "attempts": 1, "outputs": [], "message_id": "first", **more}
    harness.s3.put_object(Bucket="ours", Key=key, Body=json.dumps(record))


def test_a_job_with_a_shared_location_writes_its_done_document_after_its_results_and_before_its_record(
    harness: AttemptHarness,
) -> None:
    message, keys = build_shared_message("g", "text"), []
    harness.s3 = InterceptedS3(harness.s3, lambda request: keys.append(request["Key"]))
    start_run(harness, "20261123T104500Z")
    harness.handle(message)
    job = job_id(message)
    assert keys == ["all/a", f"runs/App/done/{job}.json", f"runs/App/20261123T104500Z/jobs/{job}.json"]
    document = read_done_document(harness, message)
    assert (document["job"], document["run"]) == (job, "20261123T104500Z")
    assert document["time"].endswith("Z")
    assert document["results"] == harness.read_record(job)["outputs"]
    assert document["results"][0]["key"] == "all/a"


def test_a_job_with_its_own_location_writes_no_done_document_unless_its_implementation_requests_it(
    harness: AttemptHarness,
) -> None:
    harness.handle()
    assert list_sizes(harness.s3, "runs/App/done/") == {}
    harness.handle({"group": "x", "command": "true"}, make_job=partial(job_from_message, has_done_document=True))
    assert len(list_sizes(harness.s3, "runs/App/done/")) == 1


def test_a_failed_job_writes_no_done_document(harness: AttemptHarness) -> None:
    harness.handle(build_shared_message("g", "text"), failure=lambda *_: "no")
    assert list_sizes(harness.s3, "runs/App/done/") == {}


def test_a_conflict_between_two_jobs_fails_the_second_one_for_good(harness: AttemptHarness) -> None:
    first, second = build_shared_message("one", "1"), build_shared_message("two", "2")
    harness.handle(first)
    harness.handle(second)
    record = harness.read_record(job_id(second))
    assert (record["state"], record["reason_class"]) == ("failed", "shared file")
    assert all(job_id(message) in record["reason"] for message in (first, second))
    assert "all/a" in record["reason"]
    assert harness.queue.calls == ["deleted", "sent to the dead-letter queue", "deleted"]
    assert read_text(harness, "all/a") == "1"


def test_an_implementation_may_let_jobs_replace_each_others_files(harness: AttemptHarness) -> None:
    first, second = build_shared_message("one", "1"), build_shared_message("two", "2")
    for message in (first, second):
        harness.handle(message, make_job=partial(job_from_message, may_replace=True))
    assert read_text(harness, "all/a") == "2"
    assert harness.read_record(job_id(first))["overwritten"] == []
    assert harness.read_record(job_id(second))["overwritten"] == [{"key": "all/a", "job": job_id(first)}]


def test_files_in_a_shared_location_never_show_that_a_job_is_done(harness: AttemptHarness) -> None:
    put_objects(harness.s3, "all/x", "all/y")
    start_run(harness, "20991231T000000Z")
    message = build_shared_message("g", "text")
    harness.handle(message)
    assert harness.read_record(job_id(message))["exit_code"] == 0


def test_in_a_later_run_the_done_document_shows_that_the_job_is_done(harness: AttemptHarness) -> None:
    message = build_shared_message("g", "text")
    start_run(harness, "20261123T104500Z")
    harness.handle(message)
    start_run(harness, "20261124T104500Z")
    harness.handle(message)
    record, time = harness.read_record(job_id(message)), read_done_document(harness, message)["time"]
    assert record["state"] == "skipped"
    assert record["results_of"] == {"run": "20261123T104500Z", "modified": time}
    assert [output["key"] for output in record["outputs"]] == ["all/a"]
    assert read_done_document(harness, message)["run"] == "20261123T104500Z"


def test_a_file_that_a_later_runs_job_replaced_is_no_longer_this_jobs_result(harness: AttemptHarness) -> None:
    first, second = build_shared_message("one", "1"), build_shared_message("two", "2")
    start_run(harness, "20261123T104500Z")
    harness.handle(first)
    start_run(harness, "20261124T104500Z")
    harness.handle(second)
    start_run(harness, "20261125T104500Z")
    harness.handle(first)  # runs again, and replaces the older run's file
    assert harness.read_record(job_id(first))["exit_code"] == 0
    assert read_text(harness, "all/a") == "1"


def test_the_result_of_a_job_that_was_skipped_in_this_run_is_not_replaced(harness: AttemptHarness) -> None:
    first, second = build_shared_message("one", "1"), build_shared_message("two", "2")
    start_run(harness, "20261123T104500Z")
    harness.handle(first)
    start_run(harness, "20261124T104500Z")
    harness.handle(first)
    harness.handle(second)
    assert harness.read_record(job_id(second))["reason_class"] == "shared file"
    assert read_text(harness, "all/a") == "1"


def test_a_second_delivery_of_a_finished_message_changes_nothing(harness: AttemptHarness) -> None:
    """The program writes something else each time."""
    message = build_shared_message("g", "$$")
    start_run(harness, "20261123T104500Z")
    harness.handle(message)
    before = read_text(harness, "all/a")
    harness.handle(message)
    harness.handle(message, receives=2)
    assert read_text(harness, "all/a") == before
    assert [record["state"] for record in harness.recorded] == ["done"]


@pytest.mark.parametrize("finished_before", ["the upload", "the claim"])
def test_a_second_delivery_does_not_replace_results_that_are_finished_while_it_runs(
    harness: AttemptHarness, finished_before: str
) -> None:
    message = build_shared_message("g", "text")
    s3, job = harness.s3, job_id(message)

    def finish_elsewhere(*_: Any) -> None:
        metadata = {"job-id": job, "job-run": harness.settings.run}
        s3.put_object(Bucket="ours", Key="all/a", Body="the other's", Metadata=metadata)
        put_done_record(harness, message, message_id="message-1")

    def finish_before_upload(request: dict[str, Any]) -> None:
        if request["Key"] == "all/a":
            finish_elsewhere()

    if finished_before == "the claim":
        harness.s3 = InterceptedS3(s3, finish_before_upload)
        harness.handle(message)
    else:
        harness.handle(message, failure=finish_elsewhere)
    assert read_text(harness, "all/a") == "the other's"
    assert harness.queue.calls == ["deleted"]
    assert harness.read_record(job)["outputs"] == []


def test_an_attempt_claims_an_earlier_attempts_file_before_replacing_it(harness: AttemptHarness) -> None:
    message = build_shared_message("g", "new")
    job = job_id(message)
    metadata = {"job-id": job, "job-run": harness.settings.run}
    harness.s3.put_object(Bucket="ours", Key="all/a", Body=b"half", Metadata=metadata)
    writes: list[Any] = []

    def record_write(request: dict[str, Any]) -> None:
        writes.append((request["Key"].rpartition("/")[2], harness.read_record(job).get("reason")))

    harness.s3 = InterceptedS3(harness.s3, record_write)
    harness.handle(message, receives=2)
    assert read_text(harness, "all/a") == "new"
    assert writes[0] == ("a", None)  # rejected, because the file exists
    assert writes[1] == (f"{job}.json", None)
    assert ("a", CLAIM_REASON) in writes
    assert harness.read_record(job)["state"] == "done"


def test_metadata_names_the_job_and_run_in_a_jobs_own_location_too(harness: AttemptHarness) -> None:
    start_run(harness, "20261123T104500Z")
    harness.handle()
    (key,) = list_sizes(harness.s3, "App/")
    metadata = harness.s3.head_object(Bucket="ours", Key=key)["Metadata"]
    assert metadata == {"job-id": key.split("/")[1], "job-run": "20261123T104500Z"}


# Submitting again within the run


AGAIN = {"again_since": "2026-11-23T10:45:00.000Z"}


@pytest.mark.parametrize("check_if_done", [True, False])
@pytest.mark.parametrize("is_shared", [True, False])
def test_a_job_that_is_submitted_again_replaces_the_results_and_record_of_the_first_message(
    harness: AttemptHarness, is_shared: bool, check_if_done: bool
) -> None:
    harness.settings = replace(harness.settings, check_if_done=check_if_done, run="20200101T104500Z")
    message = build_shared_message("g", "$$") | {"shared_location": is_shared}
    harness.handle(message)
    (output,) = harness.read_record(job_id(message))["outputs"]
    before = read_text(harness, output["key"])
    put_done_record(harness, message, ended="2026-11-23T10:44:59.999Z", outputs=[output])
    harness.handle(message, attributes=AGAIN)
    assert read_text(harness, output["key"]) != before
    assert harness.read_record(job_id(message))["started"] > AGAIN["again_since"]


def test_a_job_that_is_submitted_again_and_fails_is_retried(harness: AttemptHarness) -> None:
    message = build_shared_message("g", "text")
    put_done_record(harness, message, ended="2026-11-23T10:44:59.999Z")
    harness.handle(message, failure=lambda *_: "no", attributes=AGAIN)
    assert harness.read_record(job_id(message))["state"] == "failed"
    assert harness.queue.calls == ["returned"]
