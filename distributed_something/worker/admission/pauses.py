"""Which containers of a run have paused: read from what they wrote to S3, by other workers and by the monitor."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from distributed_something.worker.job.run_keys import RunKeys

MAX_PAUSE_DOCUMENTS = 5  # documents, the newest: enough to tell a person, and for a fixed number of requests
MAX_PAUSE_AGE_SECONDS = 25 * 60.0  # a pause is 20 minutes; what is older is of a container that is gone


def list_paused_containers(s3: Any, bucket: str, keys: RunKeys, now: float) -> list[dict[str, Any]]:
    """The newest documents of containers that pause at `now` (seconds since 1970): one listing, a few reads.

    Each has at least `machine`, `container` and `reason` as texts. Raises AWS's errors.
    """
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=keys.machines)
    listed = [entry for page in pages for entry in page.get("Contents", [])]
    fresh = [entry for entry in listed if now - entry["LastModified"].timestamp() < MAX_PAUSE_AGE_SECONDS]
    newest = sorted(fresh, key=lambda entry: entry["LastModified"], reverse=True)[:MAX_PAUSE_DOCUMENTS]
    read = (_parse_document(s3.get_object(Bucket=bucket, Key=entry["Key"])["Body"].read()) for entry in newest)
    return [document for document in read if document is not None and _is_paused(document, now)]


def _parse_document(body: bytes) -> dict[str, Any] | None:
    try:
        told = json.loads(body)
    except ValueError:
        return None
    texts = ("machine", "container", "reason")
    return told if isinstance(told, dict) and all(isinstance(told.get(key), str) for key in texts) else None


def _is_paused(told: dict[str, Any], now: float) -> bool:
    try:
        until = datetime.fromisoformat(told["until"]) if told.get("until") else None
    except (TypeError, ValueError):
        return False
    return told.get("state") == "paused" and (until is None or until > datetime.fromtimestamp(now, UTC))
