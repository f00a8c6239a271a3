"""Journals and records of a run, as workers write them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import boto3
from moto import mock_aws

from distributed_something.core.monitor_file import MonitorFile
from distributed_something.core.submission import SubmissionDocument
from distributed_something.observe.documents.submissions import SubmissionReader
from distributed_something.worker.container.journal import TOTAL_KEYS, build_journal_line

START = datetime(2026, 11, 23, 10, 45, tzinfo=UTC).timestamp()


class RunDocuments:
    """The documents of one run in a bucket. `s3` may be replaced."""

    def __init__(self, s3: Any, file: MonitorFile) -> None:
        self.s3, self._file = s3, file

    def put(self, name: str, body: bytes) -> str:
        """Write an object below the run's `jobs/`, and return its ETag."""
        return self.put_object(f"{self._file.keys.jobs}{name}", body)

    def put_object(self, key: str, body: bytes) -> str:
        return str(self.s3.put_object(Bucket=self._file.MONITOR_BUCKET_NAME, Key=key, Body=body)["ETag"])

    def end_job(self, job: str, state: str = "done", *, final: bool = True, **more: Any) -> dict[str, Any]:
        """Write the record of a job that ended, and return it as the journal gets it, with its ETag."""
        record = {
            "job": job, "state": state, "final": final, "attempts": 1, "message_id": f"id-{job}", "reason": None,
            "ended": "2026-11-23T10:50:00.000Z", "last_lines": [], "log": None, **more,
        }  # fmt: skip
        return record | {"record_etag": self.put(f"{job}.json", json.dumps(record).encode())}

    def write_journal(self, container: str, *records: dict[str, Any], number: int = 1, **totals: Any) -> None:
        """Write one object of a container's journal with a line for each record."""
        counts = {name: 0 for name in (*TOTAL_KEYS.values(), "attempts", "running", "slots")}
        for record in records:
            counts["attempts"] += 1
            if record["final"]:
                counts[TOTAL_KEYS[record["state"]]] += 1
        first = {"container": container, "machine": "i-1", **counts, "ended": True, **totals}
        lines = [first, *map(build_journal_line, records)]
        body = "".join(f"{json.dumps(line)}\n" for line in lines).encode()
        self.put_object(self._file.keys.journal(container, number), body)


def build_program_line(job: str, start: float, seconds: float, state: str = "done", **more: Any) -> dict[str, Any]:
    """Return a journal's line for a program that ran for `seconds` from `start` on (seconds since 1970)."""

    def format_time(time: float) -> str:
        return datetime.fromtimestamp(time, UTC).isoformat(timespec="milliseconds")

    return {
        "job": job, "state": state, "final": state != "interrupted", "attempts": 1, "message_id": job, "slot": 0,
        "machine": "i-1", "container": "c-1", "slots": 2, "started": format_time(start - 1),
        "fetch_started": format_time(start - 1), "program_started": format_time(start),
        "program_ended": format_time(start + seconds), "ended": format_time(start + seconds + 1), **more,
    }  # fmt: skip


def list_submissions(
    s3: Any, bucket: str, app: str, since: float = 0.0, now: float = START
) -> list[SubmissionDocument]:
    """Return the app's submissions that began at `since` or later, as a new reader finds them."""
    return SubmissionReader(s3, bucket, app).list_submissions(since, now)


class CountingS3:
    """An S3 client that remembers the GetObject requests."""

    def __init__(self, s3: Any) -> None:
        self._s3 = s3
        self.reads: list[dict[str, Any]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._s3, name)

    def get_object(self, **request: Any) -> Any:
        self.reads.append(request)
        return self._s3.get_object(**request)


@contextmanager
def emulated_run(file: MonitorFile) -> Iterator[RunDocuments]:
    """Yield the documents of a run in an emulated bucket, which is empty at first. Its client is a CountingS3."""
    with mock_aws():
        s3: Any = boto3.client("s3", "us-east-1", aws_access_key_id="test", aws_secret_access_key="test")
        s3.create_bucket(Bucket=file.MONITOR_BUCKET_NAME)
        yield RunDocuments(CountingS3(s3), file)
