"""Tests for the list of paused containers, which other workers and the monitor read."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from distributed_something.worker.admission.health import Pause, build_health_document, build_health_key
from distributed_something.worker.admission.pauses import (
    MAX_PAUSE_DOCUMENTS,
    is_other_machine_failing,
    is_other_machine_working,
    list_paused_containers,
)
from distributed_something.worker.job.run_keys import RunKeys

KEYS = RunKeys("App", "RUN")


def write_document(s3: Any, machine: str, body: object) -> float:
    """Write the health document of a container on `machine`. Return the time one second after S3 stored it."""
    key = build_health_key(KEYS, machine, "box")
    s3.put_object(Bucket="ours", Key=key, Body=body if isinstance(body, bytes) else json.dumps(body).encode())
    modified = s3.head_object(Bucket="ours", Key=key)["LastModified"] + timedelta(seconds=1)
    return float(modified.timestamp())


def list_paused_machines(s3: Any, now: float) -> list[str]:
    return [paused["machine"] for paused in list_paused_containers(s3, "ours", KEYS, now)]


def build_pause_document(machine: str, since: float, until: float | None) -> dict[str, Any]:
    return build_health_document(machine, "box", Pause(since, until, "exit code 1", ()), since)


def test_a_paused_container_is_listed_until_its_pause_ends(s3: Any) -> None:
    now = write_document(s3, "i-1", {})
    write_document(s3, "i-1", build_pause_document("i-1", now, now + 60))
    assert list_paused_machines(s3, now + 59) == ["i-1"]
    assert list_paused_machines(s3, now + 61) == []


def test_a_container_with_a_full_disk_is_listed(s3: Any) -> None:
    now = write_document(s3, "i-1", build_pause_document("i-1", 0, None))
    assert list_paused_machines(s3, now) == ["i-1"]


def test_a_container_that_works_again_is_not_listed(s3: Any) -> None:
    now = write_document(s3, "i-1", build_health_document("i-1", "box", None, 0))
    assert list_paused_machines(s3, now) == []


def test_an_old_document_is_ignored(s3: Any) -> None:
    now = write_document(s3, "i-1", build_pause_document("i-1", 0, None))
    assert list_paused_machines(s3, now + 3600) == []


@pytest.mark.parametrize(
    "body", [b"{", b"[]", {}, {"state": "paused"}, {"machine": "i", "container": "c", "reason": "r", "until": 7}]
)
def test_an_invalid_document_is_ignored(s3: Any, body: object) -> None:
    now = write_document(s3, "i-1", body)
    assert list_paused_machines(s3, now) == []


def test_only_the_newest_documents_are_read_if_there_are_many(s3: Any) -> None:
    now = max(
        write_document(s3, f"i-{n}", build_pause_document(f"i-{n}", 0, None)) for n in range(3 * MAX_PAUSE_DOCUMENTS)
    )
    assert len(list_paused_machines(s3, now)) == MAX_PAUSE_DOCUMENTS


def test_a_machine_fails_too_if_it_is_paused_or_has_ended_its_pause_because_of_the_jobs(s3: Any) -> None:
    now = write_document(s3, "i-1", build_health_document("i-1", "box", None, 0))
    assert not is_other_machine_failing(s3, "ours", KEYS, "i-2", now)
    write_document(s3, "i-1", build_pause_document("i-1", now, now + 60))
    assert is_other_machine_failing(s3, "ours", KEYS, "i-2", now)
    assert not is_other_machine_failing(s3, "ours", KEYS, "i-1", now)
    write_document(s3, "i-1", build_pause_document("i-1", now, None))
    assert not is_other_machine_failing(s3, "ours", KEYS, "i-2", now), "a full disk says nothing about the jobs"
    write_document(s3, "i-1", build_health_document("i-1", "box", None, 0, are_jobs_at_fault=True))
    assert is_other_machine_failing(s3, "ours", KEYS, "i-2", now)


def write_journal(s3: Any, container: str, first_line: dict[str, Any] | bytes) -> float:
    """Write a container's journal with one line. Return the time one second after S3 stored it."""
    key = KEYS.journal(container, 1)
    first = first_line if isinstance(first_line, bytes) else json.dumps(first_line).encode()
    s3.put_object(Bucket="ours", Key=key, Body=first + b'\n{"job": "a"}\n')
    modified = s3.head_object(Bucket="ours", Key=key)["LastModified"] + timedelta(seconds=1)
    return float(modified.timestamp())


@pytest.mark.parametrize(
    ("first_line", "is_working"),
    [
        ({"machine": "i-1", "done": 3, "ended": False}, True),
        ({"machine": "i-1", "done": 0, "ended": False}, False),
        ({"machine": "i-1", "done": 3, "ended": True}, False),
        ({"machine": "i-2", "done": 3, "ended": False}, False),
        (b"{", False),
    ],
)
def test_another_machine_works_if_one_of_its_containers_runs_and_has_done_jobs(
    s3: Any, first_line: dict[str, Any] | bytes, is_working: bool
) -> None:
    write_journal(s3, "own", {"machine": "i-2", "done": 5, "ended": False})
    now = write_journal(s3, "other", first_line)
    assert is_other_machine_working(s3, "ours", KEYS, "i-2", now) == is_working
    assert not is_other_machine_working(s3, "ours", KEYS, "i-2", now + 3600), "it may have been lost since"
