"""Tests for the hook `deliver`, which sends results elsewhere, instead of the bucket or beside it."""

from __future__ import annotations

import json
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from distributed_something.worker.attempt.done_document import read_done_document
from distributed_something.worker.hooks import hook_calls
from distributed_something.worker.hooks.delivery import Delivery, describe_delivery, list_results
from distributed_something.worker.job.job import Folders, Job
from distributed_something.worker.job.message.job_template import job_from_message
from distributed_something.worker.job.run_keys import AppKeys
from distributed_something.worker.machine.clock import Clock
from tests.worker.attempt.attempt_harness import JOB_ID, MESSAGE, AttemptHarness, build_message

MESSAGE_WITH_FILES = MESSAGE | {"command": "printf x > {output_dir}/a; touch {output_dir}/b.tmp", "shell": True}


class Store:
    """A place outside AWS: it keeps what `deliver` sends, in a dictionary."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.calls = 0

    def deliver(self, job: Job, folders: Folders) -> list[Delivery]:
        self.calls += 1
        deliveries = []
        for name, path in list_results(job, folders).items():
            self.files[f"{job.id}/{name}"] = path.read_bytes()
            deliveries.append(describe_delivery("store", name, path))
        return deliveries


def make_undelivered_job(*arguments: Any) -> Job:
    """Return a job whose results only `deliver` sends."""
    return job_from_message(*arguments, upload_results=False)


def list_keys(harness: AttemptHarness, prefix: str = "App/") -> list[str]:
    page = harness.s3.list_objects_v2(Bucket="ours", Prefix=prefix)
    return [entry["Key"] for entry in page.get("Contents", [])]


def skip_pauses(harness: AttemptHarness) -> None:
    harness.clock = Clock(sleep=lambda seconds: None)


def test_results_go_only_where_deliver_sends_them(harness: AttemptHarness) -> None:
    store = Store()
    message = MESSAGE_WITH_FILES | {"leave_out": ["*.tmp"], "expected_files": 1}
    harness.handle(message, make_job=make_undelivered_job, deliver=store.deliver)
    (record,) = harness.recorded
    digest = "sha256:2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"
    assert record["delivered"] == [{"place": "store", "name": "a", "size": 1, "checksum": digest}]
    assert (record["state"], record["outputs"], record["bytes_out"]) == ("done", [], 1)
    assert record["output_location"] == "store"
    assert store.files == {f"{record['job']}/a": b"x"}
    assert list_keys(harness) == []
    assert harness.queue.calls == ["deleted"]


def test_results_are_delivered_before_they_are_uploaded(harness: AttemptHarness) -> None:
    uploaded: list[list[str]] = []
    store = Store()

    def deliver(job: Job, folders: Folders) -> list[Delivery]:
        uploaded.append(list_keys(harness))
        return store.deliver(job, folders)

    harness.handle(deliver=deliver)
    record = harness.read_record()
    assert uploaded == [[]]
    assert [file["name"] for file in record["delivered"]] == ["a"]
    assert [file["key"] for file in record["outputs"]] == list_keys(harness) == [f"App/{JOB_ID}/a"]
    assert record["output_location"] == f"s3://ours/App/{JOB_ID}"


def test_a_later_run_skips_a_job_whose_results_were_delivered_unless_there_are_too_few(harness: AttemptHarness) -> None:
    store = Store()
    message = MESSAGE_WITH_FILES | {"leave_out": ["*.tmp"]}
    harness.handle(message, make_job=make_undelivered_job, deliver=store.deliver)
    job = harness.recorded[0]["job"]
    harness.replace_settings(RUN="20991231T000000Z")
    harness.handle(message, make_job=make_undelivered_job, deliver=store.deliver, message_id="message-2")
    skipped = harness.read_record(job)
    assert (skipped["state"], skipped["outputs"]) == ("skipped", [])
    assert [file["name"] for file in skipped["delivered"]] == ["a"]
    assert store.calls == 1
    harness.replace_settings(RUN="20991232T000000Z")
    stricter = message | {"expected_files": 2, "command": message["command"].replace("b.tmp", "b")}
    harness.handle(stricter, make_job=make_undelivered_job, deliver=store.deliver, message_id="message-3")
    assert store.calls == 2  # one file had been delivered, and two are expected now


def test_a_message_that_is_delivered_twice_is_delivered_once_if_the_first_attempt_has_ended(
    harness: AttemptHarness,
) -> None:
    store = Store()
    for receives in (1, 2):
        harness.handle(make_job=make_undelivered_job, deliver=store.deliver, receives=receives)
    assert store.calls == 1
    assert harness.queue.calls == ["deleted", "deleted"]


def test_an_attempt_delivers_nothing_if_another_attempt_finished_the_job_meanwhile(harness: AttemptHarness) -> None:
    store, other = Store(), Store()
    handler = harness.build_handler({"make_job": make_undelivered_job, "deliver": store.deliver})
    attempt = handler.take_message(build_message(), harness.lease_clock())
    assert handler.begin_attempt(attempt)
    assert handler.run_attempt(attempt)
    second = harness.build_handler({"make_job": make_undelivered_job, "deliver": other.deliver})
    other_attempt = second.take_message(build_message(receives=2), harness.lease_clock())
    assert second.begin_attempt(other_attempt)
    assert second.run_attempt(other_attempt)
    second.finish_attempt(other_attempt)
    handler.finish_attempt(attempt)
    assert (store.calls, other.calls) == (0, 1)
    assert harness.read_record()["attempts"] == 2


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ConnectionResetError("connection reset"), "connection reset"),
        (TimeoutError(), "TimeoutError"),
        (
            subprocess.CalledProcessError(1, ["/usr/bin/rclone", "--pass=s3cret"], stderr=b"x\nquota exceeded\n"),
            "rclone ended with exit code 1: quota exceeded",
        ),
        (subprocess.TimeoutExpired("scp a b", 60.0), "scp did not end within 60 s"),
    ],
)  # fmt: skip
def test_a_delivery_that_fails_for_a_while_is_repeated_without_the_program(
    harness: AttemptHarness, error: Exception, reason: str
) -> None:
    skip_pauses(harness)
    store, errors = Store(), [error, error]

    def deliver(job: Job, folders: Folders) -> list[Delivery]:
        if errors:
            raise errors.pop()
        return store.deliver(job, folders)

    harness.handle(make_job=make_undelivered_job, deliver=deliver)
    assert (harness.read_record()["state"], harness.read_record()["attempts"]) == ("done", 1)
    assert store.calls == 1

    errors += [error] * 4
    harness.handle(MESSAGE | {"n": 1}, make_job=make_undelivered_job, deliver=deliver)
    record = harness.recorded[-1]
    assert (record["state"], record["reason_class"]) == ("failed", "delivery")
    assert record["reason"] == f"the results could not be delivered: {reason}"
    assert harness.queue.calls == ["deleted", "returned"]
    assert errors == []


@pytest.mark.parametrize(
    ("returned", "reason"),
    [
        (None, "deliver() in generic-worker.py returned a value of type NoneType, not a list of Delivery objects"),
        ([{"place": "x"}], "deliver() in generic-worker.py returned a list with something else"),
        ([Delivery("p", "n", -1, "")], "deliver() in generic-worker.py returned a list with something else"),
        ([Delivery("p", Path("n"), 1, "")], "deliver() in generic-worker.py returned a list with something else"),  # type: ignore[arg-type]
    ],
)  # fmt: skip
def test_what_deliver_returns_must_be_deliveries(harness: AttemptHarness, returned: Any, reason: str) -> None:
    harness.handle(make_job=make_undelivered_job, deliver=lambda *_: returned)
    record = harness.read_record()
    assert (record["state"], record["reason_class"]) == ("failed", "worker code")
    assert record["reason"].startswith(reason)


def test_a_job_fails_if_deliver_sends_fewer_files_than_expected(harness: AttemptHarness) -> None:
    harness.handle(MESSAGE | {"expected_files": 1}, make_job=make_undelivered_job, deliver=lambda *_: [])
    record = harness.recorded[-1]
    assert (record["reason"], record["reason_class"]) == ("0 of 1 expected files delivered", "delivery")


def test_a_job_that_nothing_would_publish_fails_before_its_program_runs(harness: AttemptHarness) -> None:
    harness.handle(make_job=make_undelivered_job)
    record = harness.read_record()
    assert (record["state"], record["reason_class"], record["program_started"]) == ("failed", "worker code", None)
    assert "passes no deliver hook" in record["reason"]


def test_a_failed_job_is_not_delivered(harness: AttemptHarness) -> None:
    store = Store()
    harness.handle(failure=lambda *_: "no", deliver=store.deliver)
    assert (harness.read_record()["state"], store.calls) == ("failed", 0)


def test_deliver_may_take_as_long_as_a_transfer_and_then_the_container_ends(
    harness: AttemptHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hook_calls, "CHECK_SECONDS", 0.01)
    harness.replace_settings(HOOK_SECONDS="1", MAX_TRANSFER_MINUTES="0.005")
    end = threading.Event()
    harness.handle(make_job=make_undelivered_job, deliver=lambda *_: end.wait())
    end.set()
    assert harness.read_record()["reason"] == "the hook deliver() in generic-worker.py did not end within 0.3 seconds"
    assert harness.stop.is_announced


def test_only_the_files_of_the_job_can_be_delivered(harness: AttemptHarness) -> None:
    store = Store()
    message = MESSAGE | {"command": ["ln", "-s", "/etc/passwd", "{output_dir}/a"]}
    harness.handle(message, make_job=make_undelivered_job, deliver=store.deliver)
    record = harness.recorded[-1]
    assert record["reason"] == "the output 'a' is a link to a path outside the job's folder"
    assert store.files == {}


def test_the_done_document_names_what_was_delivered(harness: AttemptHarness) -> None:
    harness.handle(make_job=make_undelivered_job, deliver=Store().deliver)
    document = read_done_document(harness.context, JOB_ID)
    assert document is not None
    assert (document.results, [file.name for file in document.delivered]) == ([], ["a"])
    text = harness.s3.get_object(Bucket="ours", Key=AppKeys("App").done(JOB_ID))["Body"].read()
    assert json.loads(text)["delivered"][0]["place"] == "store"
