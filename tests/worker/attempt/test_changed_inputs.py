"""Programs that change a shared input: no job fails because of another one, and the one at fault is found."""

from __future__ import annotations

from typing import Any

import pytest

from distributed_something.worker.attempt.attempt import Attempt
from distributed_something.worker.attempt.handler import JobHandler
from distributed_something.worker.job.checks import usual_failure
from distributed_something.worker.job.job_id import job_id
from distributed_something.worker.program.disk_guard import MAX_UNCOUNTED_ATTEMPTS
from distributed_something.worker.shared_inputs.store import SharedInputs
from tests.support.objects import put_objects
from tests.worker.attempt.attempt_harness import MESSAGE, AttemptHarness, build_message

SHARED = MESSAGE | {"shared_inputs": ["ref/a"], "shell": True}
TAMPER = SHARED | {"group": "tamper", "command": "chmod u+w {shared_dir}/a; echo evil >> {shared_dir}/a"}
CHANGE = "a program in this container has changed the shared input s3://ours/ref/a, which is read-only"
OWN = {"own_shared_inputs": "1"}


@pytest.fixture(autouse=True)
def genome(harness: AttemptHarness) -> None:
    put_objects(harness.s3, "ref/a")


def start_job(harness: AttemptHarness, handler: JobHandler, message: dict[str, Any], **options: Any) -> Attempt:
    attempt = handler.take_message(build_message(message, **options), harness.lease_clock())
    assert handler.begin_attempt(attempt)
    return attempt


def change_file(attempt: Attempt) -> None:
    """Change the shared input, as the program of any job in the container could."""
    path = attempt.folders.shared_dir / "a"
    path.chmod(0o644)
    path.write_text("evil and longer")


@pytest.mark.parametrize(
    "command", ["cat {shared_dir}/a > {output_dir}/a", "exit 3", "kill -9 $$", "touch {output_dir}/b"]
)
def test_a_job_loses_no_attempt_because_another_one_changed_its_shared_input(
    harness: AttemptHarness, command: str
) -> None:
    handler = harness.build_handler({"failure": usual_failure})
    message = SHARED | {"command": command}
    attempt, neighbor = (start_job(harness, handler, message), start_job(harness, handler, TAMPER))
    change_file(neighbor)
    assert handler.run_attempt(attempt)
    handler.finish_attempt(attempt)
    record = harness.read_record(job_id(message))
    assert (record["state"], record["final"]) == ("interrupted", False)
    assert record["reason"].startswith(CHANGE)
    assert harness.queue.calls == ["sent again", "deleted"]
    attributes = harness.queue.sent_attributes[0]
    assert (attributes["failures"], attributes["tries"]) == ("0", "1")
    assert attributes["own_shared_inputs"] == "1"


def test_a_job_is_not_done_with_a_changed_file_that_was_already_fetched_again(harness: AttemptHarness) -> None:
    handler = harness.build_handler({})
    attempt, neighbor = start_job(harness, handler, SHARED), start_job(harness, handler, TAMPER)
    change_file(neighbor)
    harness.s3.delete_object(Bucket="ours", Key="ref/a")
    put_objects(harness.s3, "ref/a")
    third = start_job(harness, handler, SHARED | {"group": "third"})
    handler.return_attempt(third)
    for path in (harness.settings.work_dir).glob("shared-*/*"):
        path.unlink()
    assert handler.run_attempt(attempt)
    handler.finish_attempt(attempt)
    assert harness.read_record(job_id(SHARED))["state"] == "interrupted"


def test_a_job_after_such_an_interruption_has_copies_that_no_other_job_can_change(harness: AttemptHarness) -> None:
    handler = harness.build_handler({})
    message = SHARED | {"command": "cat {shared_dir}/a > {output_dir}/a"}
    neighbor = start_job(harness, handler, TAMPER)
    attempt = start_job(harness, handler, message, attributes=OWN)
    assert (attempt.folders.shared_dir / "a").stat().st_mode & 0o777 == 0o444
    assert sorted(path.name for path in attempt.folders.root.iterdir()) == ["input", "output", "shared"]
    change_file(neighbor)
    assert handler.run_attempt(attempt)
    handler.finish_attempt(attempt)
    key = f"App/{job_id(message)}/a"
    assert harness.s3.get_object(Bucket="ours", Key=key)["Body"].read() == b"ref/a"
    assert [entry["address"] for entry in harness.recorded[0]["inputs"]] == ["s3://ours/ref/a"]


def test_a_program_that_changes_its_own_copy_is_at_fault_and_told_so(harness: AttemptHarness) -> None:
    harness.handle(TAMPER, attributes=OWN)
    record = harness.read_record(job_id(TAMPER))
    reason = "the program has changed the shared input s3://ours/ref/a, which is read-only; copy it first"
    assert (record["state"], record["reason"], record["reason_class"]) == ("failed", reason, "program")
    assert harness.queue.calls == ["returned"]


def test_without_room_for_copies_only_a_few_attempts_do_not_count(
    harness: AttemptHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = harness.build_handler({})
    start_job(harness, handler, SHARED)  # so that nothing must be fetched
    monkeypatch.setattr(SharedInputs, "make_room", lambda *_: False)
    for tries, state in ((MAX_UNCOUNTED_ATTEMPTS - 1, "interrupted"), (MAX_UNCOUNTED_ATTEMPTS, "failed")):
        attempt = start_job(harness, handler, TAMPER, attributes=OWN | {"tries": str(tries)})
        assert handler.run_attempt(attempt)
        handler.finish_attempt(attempt)
        assert harness.recorded[-1]["state"] == state
        put_objects(harness.s3, "ref/a")
        monkeypatch.undo()
        start_job(harness, handler, SHARED | {"group": state})
        monkeypatch.setattr(SharedInputs, "make_room", lambda *_: False)
