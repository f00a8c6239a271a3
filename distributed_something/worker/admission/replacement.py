"""Finds out whether `submitJob --replace` has replaced the jobs that waited in the container's queue.

Failures of the old jobs then say nothing about the new ones, so a pause because of them ends. A replaced job that a
worker still had, or that was hidden until its next attempt, is not tried again if it fails.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from botocore.exceptions import ClientError

from distributed_something.worker.job.failures import AWS_ERRORS, is_missing_object
from distributed_something.worker.job.run_keys import AppKeys

CHECK_SECONDS = 5.0  # the document is read at most this often
CLOCK_TOLERANCE_SECONDS = 2.0  # the document has the time of `submitJob`'s computer, if that is about as exact
log = logging.getLogger("worker")


@dataclass(frozen=True)
class Replacement:
    """The last time that the waiting jobs were replaced. Times are in seconds since 1970; 0 if they never were."""

    began: float = 0.0
    removed_at: float = 0.0  # when all waiting jobs had been removed


def build_replacement_document(began: str, removed_at: str) -> bytes:
    """Return the document as JSON. The times are in UTC, such as `20261123T104500.123Z`."""
    return json.dumps({"began": began, "removed_at": removed_at}).encode()


def read_replacement(s3: Any, bucket: str, key: str) -> Replacement:
    """Return what the document says. AWS errors are not caught, except if it does not exist."""
    try:
        document = json.loads(s3.get_object(Bucket=bucket, Key=key)["Body"].read())
        return Replacement(*(datetime.fromisoformat(document[name]).timestamp() for name in ("began", "removed_at")))
    except ClientError as error:
        if is_missing_object(error):
            return Replacement()
        raise
    except (ValueError, KeyError, TypeError):
        return Replacement()


class ReplacementChecker:
    """Says which jobs and pauses are older than the last replacement. `now` returns seconds since 1970."""

    def __init__(self, s3: Any, bucket: str, app: str, queue_url: str, now: Callable[[], float]) -> None:
        self._s3, self._bucket, self._now = s3, bucket, now
        self._key = AppKeys(app).replacement(queue_url.rpartition("/")[2])
        self._lock = threading.Lock()
        self._last, self._read_at = Replacement(), 0.0

    def has_replaced_since(self, since: float) -> bool:
        """Return whether the jobs that failed until `since` (seconds since 1970) were replaced."""
        return self._find_last().removed_at + CLOCK_TOLERANCE_SECONDS > since

    def is_message_replaced(self, sent: float | None) -> bool:
        """Return whether a message that was sent at `sent` (seconds since 1970, or None if unknown) was replaced."""
        return sent is not None and sent < self._find_last().began - CLOCK_TOLERANCE_SECONDS

    def _find_last(self) -> Replacement:
        """Return the last replacement as far as it is known; AWS errors are logged."""
        with self._lock:
            if self._now() - self._read_at >= CHECK_SECONDS:
                self._read_at = self._now()
                try:
                    self._last = read_replacement(self._s3, self._bucket, self._key)
                except AWS_ERRORS as error:
                    log.warning("cannot check whether the waiting jobs were replaced: %s", error)
            return self._last
