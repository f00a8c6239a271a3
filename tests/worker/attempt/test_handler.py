"""The stages of an attempt: hooks, inputs, commands, time limits, and the conditions for success."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from distributed_something.worker.attempt.context import WorkerContext
from distributed_something.worker.attempt.handler import UPLOAD_RESERVE_SECONDS
from distributed_something.worker.attempt.lease import MAX_LEASE_SECONDS
from distributed_something.worker.job.checks import EXIT_CODE_ACCEPTED, usual_failure
from distributed_something.worker.job.failures import Failed
from distributed_something.worker.job.job import BadMessage, Folders, Job
from distributed_something.worker.job.job_id import job_id
from distributed_something.worker.job.message.job_template import job_from_message
from distributed_something.worker.job.program_result import Result
from distributed_something.worker.job.worker_settings import Settings
from distributed_something.worker.machine.clock import Clock
from distributed_something.worker.program.memory import OomKills
from tests.support.fakes import FakeTime
from tests.support.objects import put_objects
from tests.worker.attempt.attempt_harness import HOUR, MESSAGE, AttemptHarness, build_message, failing_hook


def exiting_hook(*_: Any) -> Any:
    """Exit the process, as a hook might."""
    sys.exit(3)


def build_clock(*times: float) -> Callable[[], float]:
    """Return a clock that shows these times in order, then keeps showing the last one."""
    remaining = list(times)
    return lambda: remaining.pop(0) if len(remaining) > 1 else remaining[0]


@pytest.mark.parametrize(
    ("failure", "reason"), [(failing_hook, "KeyError: 'image'"), (exiting_hook, "raised SystemExit(3)")]
)
@pytest.mark.parametrize("hook", ["make_job", "prepare", "failure"])
def test_an_error_in_a_hook_fails_one_attempt_and_is_recorded(
    harness: AttemptHarness, hook: str, failure: Callable[..., Any], reason: str
) -> None:
    harness.handle(**{hook: failure})
    record = harness.read_record()
    assert record["reason"].endswith(reason)
    assert record["reason_class"] == "worker code"
    assert harness.queue.calls == ["returned"]


def test_a_message_that_a_hook_rejects_moves_to_the_dead_letter_queue_with_a_valid_reason(
    harness: AttemptHarness,
) -> None:
    def reject_message(*_: Any) -> Job:
        raise BadMessage("no \0 well\n")

    harness.handle(make_job=reject_message)
    assert harness.queue.calls == ["sent to the dead-letter queue", "deleted"]
    assert harness.queue.sent_attributes == [{"reason": "no ? well?"}]


@pytest.mark.parametrize("read_key", [lambda message: message["plate"], lambda message: message["group"]["plate"]])
def test_a_message_that_lacks_a_key_that_a_hook_needs_moves_to_the_dead_letter_queue_at_once(
    harness: AttemptHarness, read_key: Callable[[Any], Any]
) -> None:
    harness.handle({"group": {}, "command": "true"}, make_job=lambda message, *_: read_key(message))
    assert harness.queue.calls == ["sent to the dead-letter queue", "deleted"]
    assert harness.queue.sent_attributes == [{"reason": "the message has no `plate`"}]


def test_prepare_can_fetch_inputs_that_are_listed_in_a_fetched_file(harness: AttemptHarness) -> None:
    put_objects(harness.s3, "table.csv", "images/a.tif", "images/b.tif")

    def prepare(job: Job, folders: Folders) -> None:
        assert (folders.input_dir / "table.csv").exists()
        folders.fetch({f"images/{name}.tif": f"tif/{name}.tif" for name in "ab"})
        assert (folders.input_dir / "tif" / "a.tif").read_text() == "images/a.tif"

    message = {"group": "g", "command": "cp -r {input_dir}/tif {output_dir}", "inputs": ["table.csv"]}
    harness.handle(message, prepare=prepare)
    record = harness.read_record(job_id(message))
    assert record["bytes_in"] == len("table.csv" + "images/a.tif" + "images/b.tif")
    assert [output["key"].rpartition("/")[2] for output in record["outputs"]] == ["a.tif", "b.tif"]


def test_the_record_lists_all_inputs_including_those_that_prepare_fetches(harness: AttemptHarness) -> None:
    keys = ("table.csv", "images/a.tif", "images/b.tif")
    put_objects(harness.s3, *keys)
    message = {"group": "g", "command": "true", "inputs": ["table.csv"]}
    harness.handle(message, prepare=lambda job, folders: folders.fetch(["images/"]))
    etags = [harness.s3.head_object(Bucket="ours", Key=key)["ETag"] for key in keys]
    assert harness.read_record(job_id(message))["inputs"] == [
        {"address": f"s3://ours/{key}", "etag": etag, "size": len(key)} for key, etag in zip(keys, etags, strict=True)
    ]


def test_the_reason_names_a_missing_input_that_prepare_tries_to_fetch(harness: AttemptHarness) -> None:
    harness.handle(prepare=lambda job, folders: folders.fetch(["images/gone.tif"]))
    record = harness.read_record()
    assert record["reason"] == "the input s3://ours/images/gone.tif does not exist (NoSuchKey)"
    assert record["reason_class"] == "missing input"


@pytest.mark.parametrize(
    ("key", "address", "missing"),
    [
        ("inputs", "images/gone.tif", "s3://ours/images/gone.tif"),
        ("inputs", "images/gone/", "s3://ours/images/gone/"),
        ("inputs", f"images/{'long' * 50}/gone.tif", f"s3://ours/images/{'long' * 50}/gone.tif"),
        ("inputs", "s3://no-such-bucket-anywhere/gone.tif", None),
        ("shared_inputs", "images/gone.tif", "s3://ours/images/gone.tif"),
        ("shared_inputs", "images/gone/", "s3://ours/images/gone/"),
    ],
)
def test_the_record_has_the_whole_address_of_an_input_that_an_upload_would_create(
    harness: AttemptHarness, key: str, address: str, missing: str | None
) -> None:
    message = {"group": "g", "command": "true", key: [address]}
    harness.handle(message)
    record = harness.read_record(job_id(message))
    assert (record["reason_class"], record["missing_input"]) == ("missing input", missing)


def test_prepare_can_end_an_attempt_with_a_reason(harness: AttemptHarness) -> None:
    def prepare(job: Job, folders: Folders) -> None:
        raise Failed("a.tif is cut off", "bad input")

    harness.handle(prepare=prepare)
    record = harness.read_record()
    assert (record["reason"], record["reason_class"]) == ("a.tif is cut off", "bad input")
    assert record["exit_code"] is None


def test_only_prepare_can_fetch_more_inputs(harness: AttemptHarness) -> None:
    harness.handle(failure=lambda job, folders, result: folders.fetch(["images/a.tif"]))
    assert harness.read_record()["reason"] == "RuntimeError: folders.fetch can be called only in prepare()"


def test_files_that_match_a_leave_out_pattern_are_not_uploaded(harness: AttemptHarness) -> None:
    command = "cd {output_dir} && mkdir logs sub && touch done done.csv a.tmp logs/a logs/b sub/done sub/logs sub/a.tmp"
    message = {"group": "g", "leave_out": ["done", "logs/*", "*.tmp"], "command": command, "shell": True}
    harness.handle(message)
    record = harness.read_record(job_id(message))
    keys = [output["key"].partition(job_id(message) + "/")[2] for output in record["outputs"]]
    assert keys == ["done.csv", "sub/logs"]


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("rmdir {output_dir}; ln -s {other} {output_dir}", "/output' with a link, so its results cannot be uploaded"),
        ("cd ..; mv $OLDPWD old; ln -s {other} $OLDPWD", "' with a link, so its results cannot be uploaded"),
        ("touch {output_dir}/a; rm $PWD.log; ln -s {other}/secret $PWD.log", "replaced its log with a link"),
        ("ln -s {other}/secret {output_dir}/a", "the output 'a' is a link to a path outside the job's folder"),
        ("ln -s {other} {output_dir}/a", "the output 'a' is a link to a path outside the job's folder"),
    ],
)
@pytest.mark.parametrize("is_shared", [False, True])
def test_nothing_outside_the_jobs_folder_is_uploaded_in_place_of_its_results(
    harness: AttemptHarness, tmp_path: Path, command: str, reason: str, is_shared: bool
) -> None:
    other = tmp_path / "other"
    (other / "output").mkdir(parents=True)
    for path in (other / "secret", other / "output" / "secret"):
        path.write_text("TopSecret")
    group, location = {"other": str(other)}, f"results/{is_shared}"
    message = {"group": group, "command": command, "shell": True, "keep_failed": True, "output_location": location}
    harness.handle(message | ({"shared_location": True} if is_shared else {}))
    record = harness.read_record(job_id(message | ({"shared_location": True} if is_shared else {})))
    assert record["state"] == "failed"
    assert reason in record["reason"]
    objects = harness.s3.list_objects_v2(Bucket="ours")["Contents"]
    bodies = [harness.s3.get_object(Bucket="ours", Key=item["Key"])["Body"].read() for item in objects]
    assert not [body for body in bodies if b"TopSecret" in body]


def test_results_are_uploaded_from_an_output_folder_that_the_program_creates(harness: AttemptHarness) -> None:
    def make_job(message: dict[str, Any], folders: Folders, settings: Settings) -> Job:
        output_dir = folders.root / "plate.zarr"
        command = [
            "sh",
            "-c",
            f"mkdir {output_dir} && echo 1 > {output_dir}/chunk && touch {folders.output_dir}/not-this",
        ]
        return job_from_message(
            message, folders, settings, command=command, output_dir=output_dir, output_location="p.zarr"
        )

    harness.handle(make_job=make_job)
    assert [output["key"] for output in harness.read_record()["outputs"]] == ["p.zarr/chunk"]


@pytest.mark.parametrize(("expected", "state"), [(1, "done"), (2, "failed")])
def test_expected_files_are_counted_in_the_jobs_own_output_folder(
    harness: AttemptHarness, expected: int, state: str
) -> None:
    def make_job(message: dict[str, Any], folders: Folders, settings: Settings) -> Job:
        output_dir = folders.root / "plate.zarr"
        command = [
            "sh",
            "-c",
            f"mkdir {output_dir} && touch {output_dir}/chunk {folders.output_dir}/a {folders.output_dir}/b",
        ]
        return job_from_message(
            message, folders, settings, command=command, output_dir=output_dir, expected_files=expected
        )

    harness.handle(make_job=make_job, failure=usual_failure)
    assert harness.read_record()["state"] == state


def test_several_commands_run_one_after_another_and_share_a_record_and_a_log(harness: AttemptHarness) -> None:
    steps = [
        ["sh", "-c", "sleep 0.2; echo one; echo 1 > {output_dir}/a"],
        ["sh", "-c", "sleep 0.2; cat {output_dir}/a"],
    ]
    message = {"group": "g", "command": steps}
    harness.handle(message)
    record = harness.read_record(job_id(message))
    assert record["exit_code"] == 0
    assert record["program_seconds"] > 0.4
    log = harness.s3.get_object(Bucket="ours", Key=record["log"].removeprefix("s3://ours/"))["Body"].read()
    assert log == b"one\n1\n"


def test_no_command_runs_after_one_that_fails(harness: AttemptHarness) -> None:
    def failure(job: Job, folders: Folders, result: Result) -> str:
        return f"exit code {result.exit_code}, {len(list(folders.output_dir.iterdir()))} files"

    message = {"group": "g", "command": [["false"], ["touch", "{output_dir}/a"]]}
    harness.handle(message, failure=failure)
    record = harness.read_record(job_id(message))
    assert record["reason"] == "exit code 1, 0 files"


@pytest.mark.parametrize(
    ("verdict", "reason"),
    [(None, "exit code 3"), ("no well", "no well"), (EXIT_CODE_ACCEPTED, None)],
    ids=["no objection", "a reason", "accepted"],
)
def test_a_program_that_ends_with_another_exit_code_than_0_has_failed_unless_the_hook_accepts_it(
    harness: AttemptHarness, verdict: str | None, reason: str | None
) -> None:
    message = {"group": "g", "command": "touch {output_dir}/a; exit 3", "shell": True}
    harness.handle(message, failure=lambda *_: verdict)
    record = harness.read_record(job_id(message))
    assert record["reason"] == reason
    assert record["state"] == ("failed" if reason else "done")
    assert record["exit_code"] == 3


def test_a_hook_that_accepts_any_exit_code_accepts_0_too(harness: AttemptHarness) -> None:
    harness.handle(failure=lambda *_: EXIT_CODE_ACCEPTED)
    assert harness.read_record()["state"] == "done"


def test_the_time_limit_applies_to_all_commands_together(harness: AttemptHarness) -> None:
    message = {"group": "g", "command": [["sleep", "0.6"]] * 20, "timeout_minutes": 1 / 60}
    harness.handle(message)
    record = harness.read_record(job_id(message))
    assert record["reason_class"] == "time-out"
    assert record["program_seconds"] < 6


def test_a_program_is_stopped_before_its_lease_ends_even_if_a_hook_allows_more_time(
    harness: AttemptHarness,
) -> None:
    limit = MAX_LEASE_SECONDS - UPLOAD_RESERVE_SECONDS
    harness.lease_clock = lambda: 1000.0
    harness.clock = Clock(
        monotonic=build_clock(0, 0, limit, limit + 1)
    )  # when the fetch starts, when the program does, at the first check, and from then on
    message = {"group": "g", "command": "sleep 60"}
    harness.handle(message, make_job=lambda *args: replace(job_from_message(*args), timeout_seconds=1e9))
    record = harness.read_record(job_id(message))
    assert (record["reason_class"], record["reason"]) == ("time-out", "the program ran longer than 689 minutes")
    assert record["program_seconds"] == limit + 1
    assert 11 * HOUR < limit < 12 * HOUR - UPLOAD_RESERVE_SECONDS


def test_a_record_contains_the_start_and_end_times_of_its_attempt(harness: AttemptHarness) -> None:
    time = FakeTime(0)
    harness.clock = Clock(now=time.now)
    harness.handle(prepare=lambda *_: time.sleep(90.5))
    record = harness.read_record()
    assert (record["started"], record["ended"]) == ("1970-01-01T00:00:00.000Z", "1970-01-01T00:01:30.500Z")
    assert record["seconds"] == 90.5


def test_the_seconds_of_an_attempt_do_not_include_the_time_in_which_it_waited_for_a_slot(
    harness: AttemptHarness,
) -> None:
    time = FakeTime(0)
    harness.clock = Clock(now=time.now)
    harness.handle(prepare=lambda *_: time.sleep(1.5), wait=lambda: time.sleep(20))
    record = harness.read_record()
    assert (record["started"], record["ended"]) == ("1970-01-01T00:00:00.000Z", "1970-01-01T00:00:21.500Z")
    assert record["seconds"] == 1.5


def test_out_of_memory_is_detected_if_the_kernels_kill_count_rises_while_the_program_runs(
    harness: AttemptHarness, tmp_path: Path
) -> None:
    counts = tmp_path / "memory.events"
    counts.write_text("oom_kill 1\n")
    harness.oom_kills = OomKills(tmp_path)
    classes = []
    for command in (f"echo oom_kill 3 > {counts}; exit 9", "exit 9"):
        message = {"group": "g", "command": command, "shell": True}
        harness.handle(message, failure=lambda *_: "exit code 9")
        classes.append(harness.read_record(job_id(message))["reason_class"])
    assert classes == ["out of memory", "program"]


@pytest.mark.parametrize(
    ("exit_code", "reason_class"), [(1, "program"), (9, "program"), (137, "out of memory"), (-9, "out of memory")]
)
def test_beside_other_programs_a_kill_counts_only_for_a_job_that_was_killed(
    harness: AttemptHarness, tmp_path: Path, exit_code: int, reason_class: str
) -> None:
    harness.settings = replace(harness.settings, docker_cores=4)
    counts = tmp_path / "memory.events"
    counts.write_text("oom_kill 1\n")
    harness.oom_kills = OomKills(tmp_path)
    end = f"exit {exit_code}" if exit_code > 0 else "kill -9 $$"
    message = {"group": "g", "command": f"echo oom_kill 2 > {counts}; {end}", "shell": True}
    harness.handle(message, failure=usual_failure)
    record = harness.read_record(job_id(message))
    assert (record["reason_class"], record["exit_code"]) == (reason_class, exit_code)


def test_a_neighbors_failure_does_not_take_the_kill_away_from_the_job_that_was_killed(
    harness: AttemptHarness, tmp_path: Path
) -> None:
    harness.settings = replace(harness.settings, docker_cores=2)
    counts = tmp_path / "memory.events"
    counts.write_text("oom_kill 1\n")
    harness.oom_kills = OomKills(tmp_path)
    handler = harness.build_handler({"failure": usual_failure})
    commands = ("exit 3", f"echo oom_kill 2 > {counts}; kill -9 $$")
    attempts = [
        handler.take_message(build_message({"group": "g", "command": command, "shell": True}), harness.lease_clock())
        for command in commands
    ]
    for attempt in attempts:
        assert handler.begin_attempt(attempt)
        assert handler.run_attempt(attempt)
    for attempt in attempts:
        handler.finish_attempt(attempt)
    neighbor, killed = (harness.read_record(attempt.name) for attempt in attempts)
    assert (neighbor["reason"], neighbor["reason_class"]) == ("exit code 3", "program")
    assert killed["reason_class"] == "out of memory"


def test_a_script_with_windows_line_ends_is_explained_if_the_shell_could_not_start_it(harness: AttemptHarness) -> None:
    command = "printf '#!/bin/sh\\r\\necho hello\\r\\n' > run.sh; chmod +x run.sh; ./run.sh"
    message = {"group": "g", "command": command, "shell": True}
    harness.handle(message, failure=usual_failure)
    record = harness.read_record(job_id(message))
    assert record["exit_code"] in (126, 127)
    assert record["telling_line"].startswith("run.sh has Windows line ends")  # not the shell's "not found"
    assert record["last_lines"][0] == record["telling_line"]
    assert "run.sh has Windows line ends, so the system looks for the interpreter '/bin/sh\\r'" in record["reason"]


def test_a_failure_is_reported_with_the_last_line_that_the_program_printed(harness: AttemptHarness) -> None:
    harness.handle(
        {"group": "g", "command": "echo no such well >&2; exit 3", "shell": True}, failure=lambda *_: "exit 3"
    )
    assert harness.callback_calls == ["exit 3: no such well: program"]


def test_a_failure_is_reported_without_the_secrets_that_the_program_printed(harness: AttemptHarness) -> None:
    harness.handle({"group": "g", "command": "echo DB_PASSWORD=geheim >&2; exit 3", "shell": True})
    assert harness.callback_calls == ["exit code 3: ***: program"]


def test_a_job_whose_folder_cannot_be_created_is_returned_at_once_with_reason_class_machine(
    harness: AttemptHarness, tmp_path: Path
) -> None:
    tmp_path.rmdir()
    harness.handle()
    assert harness.queue.calls == ["returned"]
    assert harness.read_record()["reason_class"] == "machine"
    (failure,) = harness.callback_calls
    assert failure.startswith("this machine: [Errno 2] No such file")
    assert failure.endswith(": machine")


def test_a_job_with_one_result_takes_three_requests_and_on_another_server_a_listing_more(
    harness: AttemptHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(WorkerContext, "get_s3", lambda context, endpoint: context.s3)
    requests: list[str] = []
    harness.s3.meta.events.register("before-call.s3", lambda model, **_: requests.append(model.name))
    harness.handle()
    assert requests == ["ListObjectsV2", "PutObject", "PutObject"]
    requests.clear()
    harness.handle(MESSAGE | {"group": "other", "output_endpoint": "https://s3.example.org"})
    assert requests == ["ListObjectsV2", "PutObject", "ListObjectsV2", "PutObject"]


def test_a_job_that_is_already_done_is_skipped_with_two_requests(harness: AttemptHarness) -> None:
    harness.handle()
    requests: list[str] = []
    harness.s3.meta.events.register("before-call.s3", lambda model, **_: requests.append(model.name))
    harness.handle()
    assert requests == ["ListObjectsV2", "GetObject"]
    harness.handle(receives=2)
    assert requests[2:] == ["GetObject"]


def test_an_attempt_knows_when_its_inputs_began_to_be_fetched(harness: AttemptHarness) -> None:
    harness.clock = Clock(now=build_clock(1000.0, 1007.0))
    assert harness.begin_attempt().fetch_started == 1007.0
    assert harness.begin_attempt({"group": "g", "command": ["{no_such_value}"]}).fetch_started is None


def test_the_programs_times_are_read_from_the_containers_clock(harness: AttemptHarness) -> None:
    results: list[Result] = []
    harness.clock = Clock(now=lambda: 2000.0)
    harness.handle(failure=lambda job, folders, result: results.append(result))
    assert [(result.started, result.ended) for result in results] == [(2000.0, 2000.0)]
