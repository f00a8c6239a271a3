"""Tests for what hooks may not do: hang, set an ID of their own, or set an output folder outside the job's folder."""

from __future__ import annotations

import errno
import socket
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from distributed_something.worker.hooks import hook_calls
from distributed_something.worker.job.checks import EXIT_CODE_ACCEPTED, missing_files
from distributed_something.worker.job.job import Folders, Job
from distributed_something.worker.job.job_id import job_id
from distributed_something.worker.job.message.job_template import job_from_message
from distributed_something.worker.machine.clock import Clock
from tests.support.objects import list_sizes
from tests.worker.attempt.attempt_harness import JOB_ID, MESSAGE, AttemptHarness

Hang = Any
OUTSIDE = "is outside the job's folder; use a folder"
WITH_INPUTS = "whose inputs would be uploaded as results; use a folder of its own"


@pytest.fixture
def hang(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hang]:
    """A hook that never ends during the test."""
    monkeypatch.setattr(hook_calls, "CHECK_SECONDS", 0.01)
    end = threading.Event()
    yield lambda *_: end.wait()
    end.set()


def build_fast_clock(step: float) -> Clock:
    """Return a clock that is `step` seconds later each time it is read."""
    seconds = iter(range(10**9))
    return Clock(monotonic=lambda: step * next(seconds))


@pytest.mark.parametrize("name", ["make_job", "prepare", "failure"])
def test_a_hook_that_hangs_fails_its_attempt_and_ends_the_container_after_running_programs(
    harness: AttemptHarness, hang: Hang, name: str
) -> None:
    if name != "failure":
        harness.clock = build_fast_clock(400)
        harness.handle(**{name: hang})
    else:  # the program must run before the clock is fast
        harness.replace_settings(HOOK_SECONDS="1")
        harness.handle(**{name: hang})
    record = harness.read_record()
    limit = "10 minutes" if name != "failure" else "1 second"
    assert record["reason"] == f"the hook {name}() in generic-worker.py did not end within {limit}"
    assert (record["state"], record["reason_class"], record["final"]) == ("failed", "worker code", False)
    assert harness.queue.calls == ["returned"]
    assert harness.stop.is_announced
    assert not harness.stop.is_due  # running programs may end


@pytest.mark.parametrize("name", ["make_job", "prepare", "failure"])
@pytest.mark.parametrize(
    ("error", "reason_class"),
    [
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "counts.csv"), "worker code"),
        (PermissionError(errno.EACCES, "Permission denied", "/root/x"), "worker code"),
        (NotADirectoryError(errno.ENOTDIR, "Not a directory", "a/b"), "worker code"),
        (OSError("cannot identify image file"), "worker code"),  # raised by Pillow
        (OSError(errno.EIO, "Input/output error"), "machine"),
        (OSError(errno.EMFILE, "Too many open files"), "machine"),
        (ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"), "machine"),
        (socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"), "machine"),
    ],
)
def test_an_error_that_a_hook_raises_is_the_hooks_unless_the_machine_lacks_something(
    harness: AttemptHarness, name: str, error: OSError, reason_class: str
) -> None:
    def raise_error(*_: Any) -> None:
        raise error

    harness.handle(**{name: raise_error})
    record = harness.read_record()
    assert (record["state"], record["reason_class"]) == ("failed", reason_class)
    assert str(error) in record["reason"]


def test_an_error_of_a_fetch_stays_what_it_is_when_it_passes_through_a_hook() -> None:
    def fetch() -> None:
        raise FileNotFoundError("the job's folder is gone")

    call = hook_calls.HookCall("prepare", 60, time.monotonic)
    with pytest.raises(FileNotFoundError):
        call.run(call.exclude_time(fetch), lambda: None, hook_calls.HookThreads().start)


@pytest.mark.parametrize("name", ["make_job", "prepare", "failure"])
@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
def test_a_hook_that_would_end_the_worker_fails_its_attempt_and_is_named(
    harness: AttemptHarness, name: str, error: BaseException
) -> None:
    def end_worker(*_: Any) -> None:
        raise error

    harness.handle(**{name: end_worker})
    record = harness.read_record()
    assert record["reason"] == f"the hook {name}() in generic-worker.py raised {error!r}"
    assert (record["state"], record["reason_class"]) == ("failed", "worker code")


def test_a_job_whose_hook_hangs_returns_to_the_queue_when_the_container_stops(
    harness: AttemptHarness, hang: Hang
) -> None:
    def stop_and_hang(*_: Any) -> None:
        harness.stop.announce_end(60)
        hang()

    harness.handle(prepare=stop_and_hang)
    assert harness.queue.calls == ["sent again", "deleted"]
    assert harness.queue.sent_attributes[0]["failures"] == "0"


def test_the_time_in_which_prepare_fetches_inputs_does_not_count(
    harness: AttemptHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hook_calls, "CHECK_SECONDS", 0.01)
    harness.s3.put_object(Bucket="ours", Key="in/a", Body=b"a")
    now = [0.0]
    harness.clock = Clock(monotonic=lambda: now[0])
    polled = threading.Event()
    real_get_object = harness.s3.get_object

    def get_object(**arguments: Any) -> Any:
        if arguments["Key"] == "in/a":
            now[0] += 3600
            polled.wait(0.2)  # the runner checks several times in the meantime
        return real_get_object(**arguments)

    monkeypatch.setattr(harness.s3, "get_object", get_object)
    harness.handle(prepare=lambda job, folders: folders.fetch(["in/a"]))
    assert harness.read_record()["state"] == "done"


@pytest.mark.parametrize("name", ["make_job", "prepare", "failure"])
def test_a_hook_cannot_change_the_jobs_id(harness: AttemptHarness, name: str) -> None:
    def set_id(job: Job, *_: Any) -> None:
        job.id = "A01"

    if name == "make_job":
        harness.handle(make_job=lambda *args: job_from_message(*args, id="A01"))
    else:
        harness.handle(**{name: set_id})
    assert harness.read_record()["state"] == "done"
    metadata = harness.s3.head_object(Bucket="ours", Key=f"App/{JOB_ID}/a")["Metadata"]
    assert metadata["job-id"] == JOB_ID
    assert harness.read_record("A01") == {}


@pytest.mark.parametrize("name", ["make_job", "prepare", "failure"])
@pytest.mark.parametrize(
    ("place", "problem"),
    [
        *((place, OUTSIDE) for place in ("/etc/apt", "../other", "a/../../b", "{root}/../x")),
        *((place, WITH_INPUTS) for place in ("{root}", ".", "a/..", "{root}/input", "shared", "shared/ref")),
    ],
)
def test_a_hook_cannot_set_an_output_folder_outside_the_jobs_folder_or_with_inputs(
    harness: AttemptHarness, name: str, place: str, problem: str
) -> None:

    def set_folder(job: Job, folders: Folders, *_: Any) -> None:
        job.output_dir = Path(place.format(root=folders.root))

    def make_job(message: Any, folders: Folders, settings: Any) -> Job:
        job = job_from_message(message, folders, settings)
        set_folder(job, folders)
        return job

    harness.handle(**({name: make_job} if name == "make_job" else {name: set_folder}))
    record = harness.read_record()
    assert record["reason_class"] == "worker code"
    assert f"{problem} below folders.root" in record["reason"]
    assert record["outputs"] == []


def test_a_program_may_write_its_results_to_a_folder_of_its_own_below_its_inputs(harness: AttemptHarness) -> None:
    message = MESSAGE | {"command": ["sh", "-c", "mkdir input/own; echo a > input/own/a"]}

    def make_job(message: Any, folders: Folders, settings: Any) -> Job:
        job = job_from_message(message, folders, settings)
        job.output_dir = folders.input_dir / "own"
        return job

    harness.handle(message, make_job=make_job)
    (record,) = harness.recorded
    assert record["state"] == "done"
    assert [output["key"].rpartition("/")[2] for output in record["outputs"]] == ["a"]


def test_a_relative_output_folder_is_below_the_jobs_folder(harness: AttemptHarness) -> None:
    message = MESSAGE | {"command": ["sh", "-c", "mkdir own; echo a > own/a"]}

    def make_job(message: Any, folders: Folders, settings: Any) -> Job:
        job = job_from_message(message, folders, settings)
        job.output_dir = Path("own")
        return job

    harness.handle(message, make_job=make_job)
    (record,) = harness.recorded
    assert record["state"] == "done"
    assert [output["size"] for output in record["outputs"]] == [2]


def test_hooks_run_in_the_same_few_threads_and_never_in_one_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hook_calls, "CHECK_SECONDS", 0.01)
    threads, hang, used = hook_calls.HookThreads(), threading.Event(), list[int]()

    def run_hook(hook: Any, limit: float = 60.0) -> None:
        hook_calls.HookCall("prepare", limit, time.monotonic).run(hook, lambda: None, threads.start)

    with pytest.raises(hook_calls.HangingHook):
        run_hook(hang.wait, limit=0.0)
    for _ in range(100):
        run_hook(lambda: used.append(threading.get_ident()))
    assert len(used) == 100
    assert len(set(used)) < 20
    hang.set()
    threads.end()


# Checks between commands


def make_checked_job(message: Any, folders: Folders, settings: Any, check: Any = None) -> Job:
    """Return a job that promises the file `plate` after its first command."""
    checks = [check or (lambda: missing_files(folders.output_dir, 1, "plate"))]
    return job_from_message(message, folders, settings, command_checks=checks)


def test_the_next_command_does_not_run_if_the_promised_output_of_the_first_is_missing(harness: AttemptHarness) -> None:
    commands = [["sh", "-c", "echo unknown option: --x"], ["touch", "{output_dir}/second"]]
    for hooks in ({}, {"failure": lambda *_: EXIT_CODE_ACCEPTED}, {"failure": lambda *_: "0 files written"}):
        message = {"group": "g", "command": commands}
        harness.handle(message, make_job=make_checked_job, **hooks)
        record = harness.read_record(job_id(message))
        assert record["state"] == "failed"
        assert record["reason"] == "0 of 1 expected files match 'plate'"
        assert record["telling_line"] == "unknown option: --x"
        assert list_sizes(harness.s3, "App/") == {}


def test_all_commands_run_if_the_promised_output_exists(harness: AttemptHarness) -> None:
    commands = [["touch", "{output_dir}/plate"], ["rm", "{output_dir}/plate"], ["touch", "{output_dir}/second"]]
    message = {"group": "g", "command": commands}
    harness.handle(message, make_job=make_checked_job)
    record = harness.read_record(job_id(message))
    assert record["state"] == "done"
    assert [output["key"].rpartition("/")[2] for output in record["outputs"]] == ["second"]


def test_a_check_that_raises_an_error_is_the_workers_fault(harness: AttemptHarness) -> None:
    def fail() -> None:
        raise ValueError("no such key")

    commands = [["true"], ["touch", "{output_dir}/second"]]
    message = {"group": "g", "command": commands}
    harness.handle(message, make_job=partial(make_checked_job, check=fail))
    record = harness.read_record(job_id(message))
    assert (record["reason"], record["reason_class"]) == ("ValueError: no such key", "worker code")
