"""One attempt, stage by stage: hooks, inputs, commands, time limits, and what counts as success."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from distributed_something.worker.attempt.handler import UPLOAD_RESERVE_SECONDS
from distributed_something.worker.attempt.lease import MAX_LEASE_SECONDS
from distributed_something.worker.job.checks import usual_failure
from distributed_something.worker.job.failures import Failed
from distributed_something.worker.job.job import BadMessage, Folders, Job, job_from_message
from distributed_something.worker.job.job_id import job_id
from distributed_something.worker.job.program_result import Result
from distributed_something.worker.job.worker_settings import Settings
from distributed_something.worker.machine.clock import Clock
from distributed_something.worker.program.memory import OomKills
from tests.support.fakes import FakeTime
from tests.support.objects import put_objects
from tests.worker.attempt.table import HOUR, Table, broken


def leaving(*_: Any) -> Any:
    """A hook that ends its process."""
    sys.exit(3)


def clock_showing(*times: float) -> Callable[[], float]:
    """A clock that shows one time after the other, and the last for good."""
    left = list(times)
    return lambda: left.pop(0) if len(left) > 1 else left[0]


@pytest.mark.parametrize(("fault", "reason"), [(broken, "KeyError: 'image'"), (leaving, "SystemExit: 3")])
@pytest.mark.parametrize("hook", ["make_job", "prepare", "failure"])
def test_a_fault_in_a_hook_costs_one_attempt_and_is_told(
    table: Table, hook: str, fault: Callable[..., Any], reason: str
) -> None:
    table.handle(**{hook: fault})
    record = table.record()
    assert (record["reason"], record["reason_class"]) == (reason, "worker code")
    assert table.queue.calls == ["given back"]


def test_a_bad_message_that_a_hook_finds_is_buried_with_a_reason_that_sqs_accepts(table: Table) -> None:
    def refuse(*_: Any) -> Job:
        raise BadMessage("no \0 well\n")

    table.handle(make_job=refuse)
    assert table.queue.calls == ["buried", "deleted"]
    assert table.queue.told == [{"reason": "no ? well?"}]


@pytest.mark.parametrize("ask", [lambda message: message["plate"], lambda message: message["group"]["plate"]])
def test_a_message_without_a_key_that_a_hook_asks_for_is_buried_at_once(
    table: Table, ask: Callable[[Any], Any]
) -> None:
    table.handle({"group": {}, "command": "true"}, make_job=lambda message, *_: ask(message))
    assert table.queue.calls == ["buried", "deleted"]
    assert table.queue.told == [{"reason": "the message has no `plate`"}]


def test_prepare_fetches_what_it_finds_in_a_fetched_file(table: Table) -> None:
    put_objects(table.s3, "table.csv", "images/a.tif", "images/b.tif")

    def prepare(job: Job, folders: Folders) -> None:
        assert (folders.input_dir / "table.csv").exists()
        folders.fetch({f"images/{name}.tif": f"tif/{name}.tif" for name in "ab"})
        assert (folders.input_dir / "tif" / "a.tif").read_text() == "images/a.tif"

    message = {"group": "g", "command": "cp -r {input_dir}/tif {output_dir}", "inputs": ["table.csv"]}
    table.handle(message, prepare=prepare)
    record = table.record(job_id(message))
    assert record["bytes_in"] == len("table.csv" + "images/a.tif" + "images/b.tif")
    assert [output["key"].rpartition("/")[2] for output in record["outputs"]] == ["a.tif", "b.tif"]


def test_a_further_input_that_is_missing_is_named(table: Table) -> None:
    table.handle(prepare=lambda job, folders: folders.fetch(["images/gone.tif"]))
    record = table.record()
    assert record["reason"] == "the input s3://ours/images/gone.tif does not exist (NoSuchKey)"
    assert record["reason_class"] == "missing input"


def test_prepare_can_end_an_attempt_with_a_reason(table: Table) -> None:
    def prepare(job: Job, folders: Folders) -> None:
        raise Failed("a.tif is cut off", "bad input")

    table.handle(prepare=prepare)
    record = table.record()
    assert (record["reason"], record["reason_class"]) == ("a.tif is cut off", "bad input")
    assert record["exit_code"] is None


def test_more_inputs_are_fetched_in_prepare_only(table: Table) -> None:
    table.handle(failure=lambda job, folders, result: folders.fetch(["images/a.tif"]))
    assert table.record()["reason"] == "RuntimeError: folders.fetch can be called only in prepare()"


def test_files_that_are_no_results_are_left_out(table: Table) -> None:
    command = "cd {output_dir} && mkdir logs sub && touch done done.csv a.tmp logs/a logs/b sub/done sub/logs sub/a.tmp"
    message = {"group": "g", "leave_out": ["done", "logs/*", "*.tmp"], "command": command, "shell": True}
    table.handle(message)
    record = table.record(job_id(message))
    keys = [output["key"].partition(job_id(message) + "/")[2] for output in record["outputs"]]
    assert keys == ["done.csv", "sub/logs"]


def test_a_program_that_makes_its_output_folder_itself_has_results_there(table: Table) -> None:
    def make_job(message: dict[str, Any], folders: Folders, settings: Settings) -> Job:
        own = folders.root / "plate.zarr"
        command = ["sh", "-c", f"mkdir {own} && echo 1 > {own}/chunk && touch {folders.output_dir}/not-this"]
        return job_from_message(message, folders, settings, command=command, output_dir=own, output_location="p.zarr")

    table.handle(make_job=make_job)
    assert [output["key"] for output in table.record()["outputs"]] == ["p.zarr/chunk"]


@pytest.mark.parametrize(("expected", "state"), [(1, "done"), (2, "failed")])
def test_expected_files_are_counted_where_the_results_lie(table: Table, expected: int, state: str) -> None:
    def make_job(message: dict[str, Any], folders: Folders, settings: Settings) -> Job:
        own = folders.root / "plate.zarr"
        command = ["sh", "-c", f"mkdir {own} && touch {own}/chunk {folders.output_dir}/a {folders.output_dir}/b"]
        return job_from_message(message, folders, settings, command=command, output_dir=own, expected_files=expected)

    table.handle(make_job=make_job, failure=usual_failure)
    assert table.record()["state"] == state


def test_several_commands_run_one_after_the_other_and_count_together(table: Table) -> None:
    steps = [
        ["sh", "-c", "sleep 0.2; echo one; echo 1 > {output_dir}/a"],
        ["sh", "-c", "sleep 0.2; cat {output_dir}/a"],
    ]
    message = {"group": "g", "command": steps}
    table.handle(message)
    record = table.record(job_id(message))
    assert record["exit_code"] == 0
    assert record["program_seconds"] > 0.4
    log = table.s3.get_object(Bucket="ours", Key=record["log"].removeprefix("s3://ours/"))["Body"].read()
    assert log == b"one\n1\n"


def test_after_a_command_that_fails_no_other_is_run(table: Table) -> None:
    def failure(job: Job, folders: Folders, result: Result) -> str:
        return f"exit code {result.exit_code}, {len(list(folders.output_dir.iterdir()))} files"

    message = {"group": "g", "command": [["false"], ["touch", "{output_dir}/a"]]}
    table.handle(message, failure=failure)
    record = table.record(job_id(message))
    assert record["reason"] == "exit code 1, 0 files"


def test_the_time_limit_is_for_all_commands_together(table: Table) -> None:
    message = {"group": "g", "command": [["sleep", "0.6"]] * 20, "timeout_minutes": 1 / 60}
    table.handle(message)
    record = table.record(job_id(message))
    assert record["reason_class"] == "time-out"
    assert record["program_seconds"] < 6


def test_a_program_is_ended_before_sqs_ends_its_lease_whatever_time_a_hook_gives_it(table: Table) -> None:
    limit = MAX_LEASE_SECONDS - UPLOAD_RESERVE_SECONDS
    table.lease_clock = lambda: 1000.0
    table.clock = Clock(monotonic=clock_showing(0, limit, limit + 1))  # at its start, at a look, and from then on
    message = {"group": "g", "command": "sleep 60"}
    table.handle(message, make_job=lambda *words: replace(job_from_message(*words), timeout_seconds=1e9))
    record = table.record(job_id(message))
    assert (record["reason_class"], record["reason"]) == ("time-out", "it ran longer than 689 minutes")
    assert record["program_seconds"] == limit + 1
    assert 11 * HOUR < limit < 12 * HOUR - UPLOAD_RESERVE_SECONDS


def test_a_record_tells_when_its_attempt_began_and_ended(table: Table) -> None:
    time = FakeTime(0)
    table.clock = Clock(now=time.now)
    table.handle(prepare=lambda *_: time.sleep(90.5))
    record = table.record()
    assert (record["started"], record["ended"]) == ("1970-01-01T00:00:00.000Z", "1970-01-01T00:01:30.500Z")
    assert record["seconds"] == 90.5


def test_out_of_memory_is_what_the_kernel_counted_while_the_program_ran(table: Table, tmp_path: Path) -> None:
    counts = tmp_path / "memory.events"
    counts.write_text("oom_kill 1\n")
    table.oom_kills = OomKills(tmp_path)
    classes = []
    for command in (f"echo oom_kill 3 > {counts}; exit 9", "exit 9"):
        message = {"group": "g", "command": command, "shell": True}
        table.handle(message, failure=lambda *_: "exit code 9")
        classes.append(table.record(job_id(message))["reason_class"])
    assert classes == ["out of memory", "program"]


def test_a_failure_is_told_with_the_last_line_that_the_program_printed(table: Table) -> None:
    table.handle({"group": "g", "command": "echo no such well >&2; exit 3", "shell": True}, failure=lambda *_: "exit 3")
    assert table.heard == ["exit 3: no such well: program"]


def test_a_job_for_which_no_folder_can_be_made_goes_back_at_once_and_its_machine_is_to_blame(
    table: Table, tmp_path: Path
) -> None:
    tmp_path.rmdir()
    table.handle()
    assert table.queue.calls == ["given back"]
    assert table.record()["reason_class"] == "machine"
    (heard,) = table.heard
    assert heard.startswith("this machine: [Errno 2] No such file")
    assert heard.endswith(": machine")


def test_a_job_that_is_done_is_skipped_with_two_requests(table: Table) -> None:
    table.handle()
    asked: list[str] = []
    table.s3.meta.events.register("before-call.s3", lambda model, **_: asked.append(model.name))
    table.handle()
    assert asked == ["ListObjectsV2", "GetObject"]
    table.handle(receives=2)
    assert asked[2:] == ["GetObject"]
