"""Which containers of a run pause, as other workers and the monitor read it."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from distributed_something.worker.admission.health import Pause, build_health_document, build_health_key
from distributed_something.worker.admission.pauses import MAX_PAUSE_DOCUMENTS, list_paused_containers
from distributed_something.worker.job.run_keys import RunKeys

KEYS = RunKeys("App", "RUN")


def write(s3: Any, machine: str, body: object) -> float:
    """Puts a document of `machine`; S3's time of it."""
    key = build_health_key(KEYS, machine, "box")
    s3.put_object(Bucket="ours", Key=key, Body=body if isinstance(body, bytes) else json.dumps(body).encode())
    when = s3.head_object(Bucket="ours", Key=key)["LastModified"] + timedelta(seconds=1)
    return float(when.timestamp())


def machines(s3: Any, now: float) -> list[str]:
    return [paused["machine"] for paused in list_paused_containers(s3, "ours", KEYS, now)]


def pause(machine: str, since: float, until: float | None) -> dict[str, Any]:
    return build_health_document(machine, "box", Pause(since, until, "exit code 1", ()), since)


def test_a_container_that_pauses_is_told_as_long_as_it_does(s3: Any) -> None:
    now = write(s3, "i-1", {})
    write(s3, "i-1", pause("i-1", now, now + 60))
    assert machines(s3, now + 59) == ["i-1"]
    assert machines(s3, now + 61) == []


def test_a_full_disk_has_no_end_and_is_told(s3: Any) -> None:
    now = write(s3, "i-1", pause("i-1", 0, None))
    assert machines(s3, now) == ["i-1"]


def test_a_container_that_works_again_is_not_told(s3: Any) -> None:
    now = write(s3, "i-1", build_health_document("i-1", "box", None, 0))
    assert machines(s3, now) == []


def test_the_word_of_a_container_that_has_long_been_silent_is_not_believed(s3: Any) -> None:
    now = write(s3, "i-1", pause("i-1", 0, None))
    assert machines(s3, now + 3600) == []


@pytest.mark.parametrize(
    "nonsense", [b"{", b"[]", {}, {"state": "paused"}, {"machine": "i", "container": "c", "reason": "r", "until": 7}]
)
def test_what_is_no_such_document_is_left_out(s3: Any, nonsense: object) -> None:
    now = write(s3, "i-1", nonsense)
    assert machines(s3, now) == []


def test_of_many_only_the_newest_are_read(s3: Any) -> None:
    now = max(write(s3, f"i-{n}", pause(f"i-{n}", 0, None)) for n in range(3 * MAX_PAUSE_DOCUMENTS))
    assert len(machines(s3, now)) == MAX_PAUSE_DOCUMENTS
