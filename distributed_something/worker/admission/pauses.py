"""What a run's containers report to each other and to the monitor: which of them are paused, and which finish jobs.

Pauses are read from the health documents that the containers write to S3, and finished jobs from their journals.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

from distributed_something.worker.job.run_keys import RunKeys

MAX_PAUSE_DOCUMENTS = 5  # only the newest documents are read: enough for a report, with few requests
MAX_JOURNALS_READ = 10
FIRST_LINE_BYTES = 4096  # a journal's first line has about 500 bytes
MAX_PAUSE_AGE_SECONDS = 25 * 60.0  # a pause lasts 20 minutes, so an older document is from a container that has ended


def list_paused_containers(s3: Any, bucket: str, keys: RunKeys, now: float) -> list[dict[str, Any]]:
    """Return the newest health documents of containers that are paused at `now` (seconds since 1970).

    Each document has at least the strings `machine`, `container`, and `reason`. The function lists the documents once
    and reads at most MAX_PAUSE_DOCUMENTS of them. AWS errors are not caught.
    """
    return [document for document in _read_documents(s3, bucket, keys, now) if _is_paused(document, now)]


def is_other_machine_failing(s3: Any, bucket: str, keys: RunKeys, machine: str, now: float) -> bool:
    """Return whether jobs fail in a row on a machine other than `machine`. AWS errors are not caught.

    A pause because of a full disk, which has no end, does not count.
    """
    documents = [document for document in _read_documents(s3, bucket, keys, now) if document.get("machine") != machine]
    return any(
        document.get("jobs_at_fault") is True or (_is_paused(document, now) and document.get("until") is not None)
        for document in documents
    )


def is_other_machine_working(s3: Any, bucket: str, keys: RunKeys, machine: str, now: float) -> bool:
    """Return whether a container on a machine other than `machine` runs and has done jobs. AWS errors are not caught.

    Only the newest journals are read, so the answer may be no although another machine works.
    """
    entries = _choose_newest(_iter_entries(s3, bucket, keys.journals), now, MAX_JOURNALS_READ)
    lines = (_read_first_line(s3, bucket, entry["Key"]) for entry in entries)
    return any(
        line.get("machine") != machine and line.get("ended") is not True and line.get("done")
        for line in lines
        if line is not None
    )


def _iter_entries(s3: Any, bucket: str, prefix: str) -> Iterator[dict[str, Any]]:
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        yield from page.get("Contents", [])


def _choose_newest(entries: Iterable[dict[str, Any]], now: float, count: int) -> list[dict[str, Any]]:
    """Return S3's entries for the newest `count` objects that are not too old, newest first."""
    fresh = [entry for entry in entries if now - entry["LastModified"].timestamp() < MAX_PAUSE_AGE_SECONDS]
    return sorted(fresh, key=lambda entry: entry["LastModified"], reverse=True)[:count]


def _read_first_line(s3: Any, bucket: str, key: str) -> dict[str, Any] | None:
    response = s3.get_object(Bucket=bucket, Key=key, Range=f"bytes=0-{FIRST_LINE_BYTES - 1}")
    return _parse_document(response["Body"].read().partition(b"\n")[0])


def _read_documents(s3: Any, bucket: str, keys: RunKeys, now: float) -> list[dict[str, Any]]:
    entries = _iter_entries(s3, bucket, keys.machines)
    health = (entry for entry in entries if keys.find_machine(entry["Key"]) is None)
    newest = _choose_newest(health, now, MAX_PAUSE_DOCUMENTS)
    documents = (_parse_document(s3.get_object(Bucket=bucket, Key=entry["Key"])["Body"].read()) for entry in newest)
    return [document for document in documents if document is not None]


def _parse_document(body: bytes) -> dict[str, Any] | None:
    try:
        document = json.loads(body)
    except ValueError:
        return None
    return document if isinstance(document, dict) else None


def _is_paused(document: dict[str, Any], now: float) -> bool:
    if not all(isinstance(document.get(key), str) for key in ("machine", "container", "reason")):
        return False
    try:
        until = datetime.fromisoformat(document["until"]) if document.get("until") else None
    except (TypeError, ValueError):
        return False
    return document.get("state") == "paused" and (until is None or until > datetime.fromtimestamp(now, UTC))
