"""A job that fills the disk beside one that does not, on a small file system that is really full."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from distributed_something.worker.job.job_id import job_id
from distributed_something.worker.program import program
from distributed_something.worker.program.disk_guard import (
    MAX_UNCOUNTED_ATTEMPTS,
    DiskAmount,
    DiskGuard,
    DiskSpace,
    read_disk_space,
)
from distributed_something.worker.program.launcher import LauncherPool
from tests.worker.attempt.attempt_harness import AttemptHarness, build_message

DISK_MB = 64
# Ignores SIGTERM, so that the disk stays full for a moment.
FLOOD = {"group": "flood", "command": "trap '' TERM; yes > big; sleep 600", "shell": True}
# Waits until the disk is full, and then needs a little of it. (A byte would still fit into a page of a file.)
QUIET_COMMAND = "while head -c 5000 /dev/zero >> small; do sleep 0.01; done 2>/dev/null; exit 7"
FULL_DISK = DiskSpace(DiskAmount(0, 0), DiskAmount(700_000_000, 0))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("only root on Linux can mount a small disk")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def crowded(s3: Any, small_disk: Path, launcher: LauncherPool) -> AttemptHarness:
    return AttemptHarness(s3, small_disk, launcher)


def test_the_flood_fails_with_the_right_reason_and_the_quiet_job_loses_no_attempt(
    crowded: AttemptHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program, "GRACE_SECONDS", 1.0)
    quiet = {"group": "quiet", "command": QUIET_COMMAND, "shell": True}
    handler = crowded.build_handler({"failure": lambda job, folders, result: f"exit code {result.exit_code}"})

    def run(message: dict[str, Any]) -> dict[str, Any]:
        attempt = handler.take_message(build_message(message), crowded.lease_clock())
        if handler.begin_attempt(attempt) and handler.run_attempt(attempt):
            handler.finish_attempt(attempt)
        return crowded.read_record(job_id(message))

    with ThreadPoolExecutor(2) as slots:
        quiet_record, flood_record = slots.map(run, (quiet, FLOOD))
    assert (flood_record["state"], flood_record["reason_class"]) == ("failed", "disk")
    assert flood_record["reason"].startswith("wrote ")
    assert "MB; the disk is full (" in flood_record["reason"]
    assert (quiet_record["state"], quiet_record["reason_class"]) == ("interrupted", "disk")
    assert quiet_record["reason"] == "another job filled the disk (exit code 7)"
    assert {"failures": "0", "tries": "1", "first_id": "message-1"} in crowded.queue.sent_attributes
    assert list(crowded.settings.work_dir.iterdir()) == []


def test_a_program_that_writes_on_is_stopped_before_the_disk_is_full(crowded: AttemptHarness) -> None:
    slow = "while :; do head -c 1000000 /dev/zero >> big; sleep 0.01; done"
    message = {"group": "slow flood", "command": slow, "shell": True}
    crowded.handle(message)
    record = crowded.read_record(job_id(message))
    assert (record["exit_code"], record["reason_class"]) == (-15, "disk")
    assert record["reason"].endswith("MB; the disk is full (the worker stopped the program)")


def test_a_log_that_fills_the_disk_counts_as_written_by_its_job(crowded: AttemptHarness) -> None:
    message = {"group": "loud", "command": "yes"}
    crowded.handle(message, failure=lambda job, folders, result: f"exit code {result.exit_code}")
    record = crowded.read_record(job_id(message))
    assert (record["state"], record["reason_class"]) == ("failed", "disk")
    assert record["reason"].startswith("wrote ")


def test_a_failure_on_a_disk_that_something_else_filled_counts_only_after_several_attempts(
    harness: AttemptHarness,
) -> None:
    harness.disk = DiskGuard(lambda: FULL_DISK)
    message = {"group": "g", "command": "exit 7", "shell": True}
    harness.handle(message, failure=lambda *_: "exit code 7")
    record = harness.read_record(job_id(message))
    assert record["reason"] == "the disk was full, but not because of this job (exit code 7)"
    assert (record["state"], harness.queue.calls, harness.callback_calls) == (
        "interrupted",
        ["sent again", "deleted"],
        [],
    )
    harness.handle(message, failure=lambda *_: "exit code 7", attributes={"tries": str(MAX_UNCOUNTED_ATTEMPTS)})
    assert harness.read_record(job_id(message))["state"] == "failed"


def test_a_full_disk_does_not_excuse_a_missing_input_or_a_time_limit(harness: AttemptHarness) -> None:
    harness.disk = DiskGuard(lambda: FULL_DISK)
    missing = {"group": "g", "command": "true", "inputs": ["gone.tif"]}
    slow = {"group": "g", "command": "sleep 60", "timeout_minutes": 0.001}
    for message, reason_class in ((missing, "missing input"), (slow, "time-out")):
        harness.handle(message)
        record = harness.read_record(job_id(message))
        assert (record["state"], record["reason_class"]) == ("failed", reason_class)


def test_a_job_that_fails_with_room_on_the_disk_keeps_its_reason(harness: AttemptHarness, tmp_path: Path) -> None:
    space = read_disk_space(tmp_path)
    little = DiskAmount(400 * 1024 * 1024, 100_000)  # too little to take another job, but not full
    harness.disk = DiskGuard(lambda: space._replace(free=little))
    message = {"group": "g", "command": "exit 7", "shell": True}
    harness.handle(message, failure=lambda *_: "exit code 7")
    assert harness.read_record(job_id(message))["reason"] == "exit code 7"
