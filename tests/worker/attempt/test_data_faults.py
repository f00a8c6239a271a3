"""Tests for faults in a job's data: the job fails at once, its program does not run, and the machine is not blamed."""

from __future__ import annotations

from typing import Any

import pytest

from distributed_something.worker.job.checks import missing_files, usual_failure
from distributed_something.worker.job.job_id import job_id
from tests.support.objects import put_objects
from tests.worker.attempt.attempt_harness import MESSAGE, AttemptHarness, build_message


def build_input_message(inputs: Any) -> dict[str, Any]:
    return MESSAGE | {"inputs": inputs}


@pytest.mark.parametrize("check_if_done", ["True", "False"])
@pytest.mark.parametrize("own", [{}, {"shared_location": True, "output_location": "all"}])
def test_a_missing_output_bucket_is_found_before_the_program_runs(
    harness: AttemptHarness, own: dict[str, Any], check_if_done: str
) -> None:
    message = MESSAGE | {"output_bucket": "missing"} | own
    harness.replace_settings(CHECK_IF_DONE_BOOL=check_if_done)
    harness.handle(message)
    record = harness.read_record(job_id(message))
    reason = "the output bucket missing does not exist; create it, or correct `output_bucket`"
    assert (record["reason"], record["reason_class"], record["final"]) == (reason, "bad data", True)
    assert record["program_started"] is None
    assert harness.queue.calls == ["sent to the dead-letter queue", "deleted"]


def test_an_output_bucket_is_looked_up_once_for_a_container_and_not_if_it_was_listed(harness: AttemptHarness) -> None:
    harness.replace_settings(CHECK_IF_DONE_BOOL="False")
    requests: list[str] = []
    harness.s3.meta.events.register("before-call.s3.HeadBucket", lambda model, **_: requests.append(model.name))
    handler = harness.build_handler({})
    for number in range(3):
        attempt = handler.take_message(build_message(MESSAGE | {"group": f"g{number}"}), harness.lease_clock())
        assert handler.begin_attempt(attempt)
        handler.return_attempt(attempt)
    assert requests == ["HeadBucket"]
    harness.replace_settings(CHECK_IF_DONE_BOOL="True")
    harness.handle()
    assert harness.read_record()["state"] == "done"
    assert requests == ["HeadBucket"]


@pytest.mark.parametrize(
    ("keys", "inputs", "reason"),
    [
        (["c/a", "c/a/b"], ["c/"], "the inputs s3://ours/c/a and s3://ours/c/a/b cannot both be stored"),
        (
            ["p/" + 300 * "n"],
            ["p/"],
            f"the input s3://ours/p/{48 * 'n'}…{60 * 'n'} cannot be stored as a file (File name too long)",
        ),
        (["p/x"], {"p/x": "d/" * 2000 + "x"}, "the input s3://ours/p/x cannot be stored as a file"),
        (["p/x"], {"p/x": "../x"}, "would be written outside the job's folder"),
        (["p/x"], {"p/x": "a\0b"}, "cannot be stored as a file: its name contains a null byte; rename it"),
    ],
)
def test_an_input_that_no_disk_can_store_is_the_jobs_fault(
    harness: AttemptHarness, keys: list[str], inputs: Any, reason: str
) -> None:
    put_objects(harness.s3, *keys)
    message = build_input_message(inputs)
    harness.handle(message)
    record = harness.read_record(job_id(message))
    assert reason in record["reason"]
    assert "\n" not in record["reason"]
    assert "machine" not in record["reason"]
    assert (record["reason_class"], record["final"]) == ("bad data", True)
    assert harness.queue.calls == ["sent to the dead-letter queue", "deleted"]


def test_an_archived_input_is_the_jobs_fault(harness: AttemptHarness) -> None:
    harness.s3.put_object(Bucket="ours", Key="in/a", Body=b"a", StorageClass="DEEP_ARCHIVE")
    message = build_input_message(["in/a"])
    harness.handle(message)
    record = harness.read_record(job_id(message))
    assert record["reason"].startswith("the input s3://ours/in/a is archived (DEEP_ARCHIVE); restore it")
    assert (record["reason_class"], record["final"]) == ("bad data", True)


def test_a_result_whose_path_is_too_long_is_the_jobs_fault_and_named(harness: AttemptHarness) -> None:
    loop = (
        "cd {output_dir}; i=0; while [ $i -lt 20 ]; do d=$(printf %0250d 0); mkdir $d; cd $d; i=$((i+1)); done; : > x"
    )
    message = MESSAGE | {"command": ["sh", "-c", loop]}
    harness.handle(message)
    record = harness.read_record(job_id(message))
    assert "the output 000" in record["reason"]
    assert (record["reason_class"], record["final"]) == ("bad data", True)


def test_a_job_that_writes_only_files_that_are_left_out_has_too_few(harness: AttemptHarness) -> None:
    message = MESSAGE | {"command": "touch {output_dir}/x.tmp", "leave_out": ["*.tmp"], "expected_files": 1}
    harness.handle(message, failure=usual_failure)
    assert harness.read_record(job_id(message))["reason"] == "0 of 1 expected files written"


DEEP_LOOP = (
    "cd {output_dir}; i=0; while [ $i -lt 20 ]; do d=$(printf %0250d 0); mkdir $d; cd $d; i=$((i+1)); done; : > x"
)


@pytest.mark.parametrize(
    "failure",
    [
        usual_failure,
        lambda job, folders, result: missing_files(folders.output_dir, 1),
        lambda *_: "the hook found none",
    ],
    ids=["usual", "missing_files", "own"],
)
def test_a_result_that_no_hook_can_find_because_its_path_is_too_long_is_named_instead_of_the_hooks_count(
    harness: AttemptHarness, failure: Any
) -> None:
    message = MESSAGE | {"command": ["sh", "-c", DEEP_LOOP], "expected_files": 1}
    harness.handle(message, failure=failure)
    record = harness.read_record(job_id(message))
    assert "the output 000" in record["reason"]
    assert "has a path of" in record["reason"]
    assert (record["reason_class"], record["final"]) == ("bad data", True)


@pytest.mark.parametrize("own", [{}, {"expected_files": 1}])
@pytest.mark.parametrize(
    ("command", "problem"),
    [
        (
            "rm -r {output_dir}",
            "the output folder 'output' does not exist: the program removed it, or did not create it",
        ),
        ("rmdir {output_dir}; : > {output_dir}", "the output folder 'output' is not a folder: the program replaced it"),
    ],
)
def test_the_reason_says_that_the_program_removed_or_replaced_its_output_folder(
    harness: AttemptHarness, command: str, problem: str, own: dict[str, Any]
) -> None:
    message = MESSAGE | {"command": ["sh", "-c", command]} | own
    harness.handle(message, failure=usual_failure)
    record = harness.read_record(job_id(message))
    assert record["reason"] == problem
    assert record["reason_class"] == "program"


def test_an_exit_code_is_the_reason_even_if_the_results_could_not_be_uploaded(harness: AttemptHarness) -> None:
    message = MESSAGE | {"command": ["sh", "-c", "rm -r {output_dir}; exit 3"]}
    harness.handle(message, failure=usual_failure)
    assert harness.read_record(job_id(message))["reason"] == "exit code 3"


@pytest.mark.parametrize("place", ["group", "inputs", "paths"])
def test_a_password_in_an_address_is_refused_and_in_no_record_name_or_journal(
    harness: AttemptHarness, place: str
) -> None:
    address = "https://me:secret@files.example/a.tif"
    own: dict[str, Any] = {
        "group": {"group": {"url": address}, "inputs": ["{url}"]}, "inputs": {"inputs": ["in/a", address]},
        "paths": {"inputs": {address: "a"}},
    }[place]  # fmt: skip
    harness.handle(MESSAGE | own)
    (record,) = harness.recorded
    assert (record["state"], record["reason_class"], record["final"]) == ("failed", "bad message", True)
    assert record["reason"].startswith("the address of an input contains a user name or password, which records")
    keys = [entry["Key"] for entry in harness.s3.list_objects_v2(Bucket="ours")["Contents"]]
    texts = [harness.s3.get_object(Bucket="ours", Key=key)["Body"].read().decode() for key in keys]
    assert "secret" not in repr((keys, texts, harness.recorded))


def test_a_password_in_an_address_that_a_hook_builds_is_not_in_the_reason(harness: AttemptHarness) -> None:
    harness.handle(prepare=lambda job, folders: folders.fetch(["https://me:secret@files.example/a"]))
    record = harness.read_record()
    assert "the input https://***@files.example/a is refused" in record["reason"]
    assert "secret" not in repr(record)
