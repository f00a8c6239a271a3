"""Two jobs whose implementation gives them the same output location, although neither sets `shared_location`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from distributed_something.worker.job.job import Folders, Job
from distributed_something.worker.job.job_id import job_id
from distributed_something.worker.job.message.job_template import job_from_message
from distributed_something.worker.job.worker_settings import Settings
from distributed_something.worker.program.launcher import LauncherPool
from tests.support.objects import list_sizes
from tests.worker.attempt.attempt_harness import AttemptHarness, InterceptedS3

FIRST, SECOND = (
    {"group": name, "command": f"for f in a; do printf {name} > {{output_dir}}/$f; done", "shell": True}
    for name in ("one", "two")
)


class S3AfterPut(InterceptedS3):
    """An S3 client that calls the hook after each PutObject call that succeeded."""

    def put_object(self, **request: Any) -> Any:
        response = self._s3.put_object(**request)
        self._before_put(request)
        return response


def make_job(message: dict[str, Any], folders: Folders, settings: Settings) -> Job:
    return job_from_message(message, folders, settings, output_location="plate")


@pytest.fixture(autouse=True)
def _start_run(harness: AttemptHarness) -> None:
    """Start a run in the past, so that no file here is older than the run."""
    harness.settings = replace(harness.settings, run="20200101T104500Z")


@pytest.fixture
def other(harness: AttemptHarness, launcher: LauncherPool, tmp_path: Path) -> AttemptHarness:
    """The worker of the second job, in the same run."""
    folder = tmp_path / "other"
    folder.mkdir()
    worker = AttemptHarness(harness.s3, folder, launcher)
    worker.settings = replace(worker.settings, run=harness.settings.run)
    return worker


def run_once(key: str, call: Callable[[], object]) -> Callable[[dict[str, Any]], None]:
    """Return a hook that calls `call` at the first request for `key`."""
    calls: list[Callable[[], object]] = [call]

    def run(request: dict[str, Any]) -> None:
        if request["Key"] == key and calls:
            calls.pop()()

    return run


def read_text(harness: AttemptHarness, key: str = "plate/a") -> str:
    return str(harness.s3.get_object(Bucket="ours", Key=key)["Body"].read().decode())


def count_files(message: dict[str, Any], count: int) -> dict[str, Any]:
    """Return the job that writes `count` files, `a` among them."""
    return message | {"command": str(message["command"]).replace("in a;", f"in {' '.join('abcdef'[:count])};")}


@pytest.mark.parametrize("check_if_done", [True, False])
@pytest.mark.parametrize("count", [1, 3])
def test_a_job_replaces_the_files_that_another_job_uploads_while_it_runs_and_names_them(
    harness: AttemptHarness, other: AttemptHarness, count: int, check_if_done: bool
) -> None:
    first, second = count_files(FIRST, count), count_files(SECOND, count)
    for worker in (harness, other):
        worker.settings = replace(worker.settings, check_if_done=check_if_done)
    harness.handle(first, make_job=make_job, failure=lambda *_: other.handle(second, make_job=make_job))
    assert (harness.queue.calls, other.queue.calls) == (["deleted"], ["deleted"])
    record = harness.read_record(job_id(first))
    assert record["state"] == other.read_record(job_id(second))["state"] == "done"
    keys = [f"plate/{name}" for name in "abc"[:count]]
    assert sorted(entry["key"] for entry in record["overwritten"]) == keys
    assert {entry["job"] for entry in record["overwritten"]} == {job_id(second)}
    assert {read_text(harness, key) for key in keys} == {"one"}


def test_a_job_whose_file_another_job_replaces_before_it_is_recorded_is_done(
    harness: AttemptHarness, other: AttemptHarness
) -> None:
    def finish_second() -> None:
        other.handle(SECOND, make_job=make_job)

    harness.s3 = S3AfterPut(harness.s3, run_once("plate/a", finish_second))
    harness.handle(FIRST, make_job=make_job)
    records = [harness.read_record(job_id(message)) for message in (FIRST, SECOND)]
    assert [record["state"] for record in records] == ["done", "done"]
    assert (harness.queue.calls, other.queue.calls) == (["deleted"], ["deleted"])
    assert [record["overwritten"] for record in records] == [[], [{"key": "plate/a", "job": job_id(FIRST)}]]
    assert read_text(harness) == "two"


def test_a_job_names_the_files_of_an_earlier_job_of_the_run_that_it_replaces(harness: AttemptHarness) -> None:
    for message in (FIRST, SECOND):
        harness.handle(message, make_job=make_job)
    assert harness.read_record(job_id(SECOND))["overwritten"] == [{"key": "plate/a", "job": job_id(FIRST)}]
    assert read_text(harness) == "two"


def test_a_job_replaces_the_files_of_earlier_runs_without_naming_them(harness: AttemptHarness) -> None:
    for run, message in (("20261123T104500Z", FIRST), ("20261124T104500Z", SECOND)):
        harness.settings = replace(harness.settings, run=run)
        harness.handle(message, make_job=make_job)
    assert harness.read_record(job_id(SECOND))["overwritten"] == []
    assert read_text(harness) == "two"


def test_a_job_keeps_the_same_file_of_another_job(harness: AttemptHarness, other: AttemptHarness) -> None:
    same = SECOND | {"command": FIRST["command"]}
    harness.handle(FIRST, make_job=make_job, failure=lambda *_: other.handle(same, make_job=make_job))
    assert harness.read_record(job_id(FIRST))["overwritten"] == []
    assert (harness.queue.calls, read_text(harness)) == (["deleted"], "one")


def test_a_message_that_was_sent_twice_returns_to_the_queue_if_the_other_one_is_uploaded_first(
    harness: AttemptHarness, other: AttemptHarness, worker_log: pytest.LogCaptureFixture
) -> None:
    """Both messages have the same text, so both jobs have the same ID; the program writes something else each time."""
    message = {"group": "g", "command": "printf $$ > {output_dir}/a", "shell": True}

    def finish_other(*_: Any) -> None:
        other.handle(message, make_job=make_job, message_id="message-2")

    harness.handle(message, make_job=make_job, failure=finish_other)
    assert (harness.queue.calls, other.queue.calls) == (["returned"], ["deleted"])
    assert "lost lease" not in worker_log.text
    before = read_text(harness)
    harness.handle(message, make_job=make_job, receives=2)
    assert (harness.queue.calls, read_text(harness)) == (["returned", "deleted"], before)
    assert list_sizes(harness.s3, "plate/") == {"plate/a": len(before)}
