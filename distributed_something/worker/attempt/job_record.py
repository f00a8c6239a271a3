"""Job records: one JSON object per job in S3, stored next to the job's log. All reports are based on these records."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from distributed_something.worker.attempt.attempt import Attempt
from distributed_something.worker.attempt.context import WorkerContext
from distributed_something.worker.job.failures import LostLease, UploadError, is_missing_object
from distributed_something.worker.job.worker_settings import Settings
from distributed_something.worker.machine.times import build_utc_timestamp
from distributed_something.worker.program.processors import use_all_processors
from distributed_something.worker.program.program import read_last_lines
from distributed_something.worker.transfer.s3_file import (
    LARGE_FILE_BYTES,
    build_write_condition,
    is_precondition_error,
    upload_file_parts,
    upload_whole_file,
)

DONE_STATE, FAILED_STATE, INTERRUPTED_STATE = "done", "failed", "interrupted"
# Workers recognize a claim by this text, so it must be the same in all versions.
CLAIM_REASON = "its worker is lost, or still replaces what an earlier attempt left"
BUSY_REASON = "other workers keep changing the job's record"
MAX_WRITE_ATTEMPTS = 5
MAX_PARALLEL_LOG_PARTS = 4


def build_record_key(settings: Settings, job: str) -> str:
    """Return the key of the job's record in the app's bucket."""
    return settings.keys.record(job)


def build_record_address(settings: Settings, job: str) -> str:
    """Return the s3:// address of the job's record."""
    return f"s3://{settings.aws_bucket}/{build_record_key(settings, job)}"


def build_log_key(settings: Settings, attempt: Attempt) -> str:
    """Return the key of the attempt's log in the app's bucket.

    Each attempt has its own key, so that overlapping attempts do not overwrite each other's logs; the record contains
    the log's address.
    """
    return settings.keys.log(attempt.name, f"{attempt.number}-{attempt.token}")


def read_record(context: WorkerContext, job: str) -> dict[str, Any] | None:
    """Return the job's record, or None if it does not exist or is not a JSON object."""
    return _read_record_and_etag(context, job)[0]


def _read_record_and_etag(context: WorkerContext, job: str) -> tuple[dict[str, Any] | None, str | None]:
    """Return the job's record and its ETag."""
    settings = context.settings
    try:
        response = context.s3.get_object(Bucket=settings.aws_bucket, Key=build_record_key(settings, job))
        body = response["Body"].read()
    except ClientError as error:
        if is_missing_object(error):
            return None, None
        raise
    try:
        record = json.loads(body)
    except ValueError:
        record = None  # workers write only complete records, so no worker wrote this
    return record if isinstance(record, dict) else None, response.get("ETag")


def is_record_done(record: dict[str, Any] | None, superseded: dict[str, Any] | None = None) -> bool:
    """Return whether the record says that the job's results are in S3.

    `superseded`: a record that does not count, because its results do not satisfy the current message.
    """
    return record is not None and record.get("state") == DONE_STATE and record != superseded


def claim_job_results(context: WorkerContext, record: dict[str, Any], superseded: dict[str, Any] | None = None) -> bool:
    """Record that this attempt replaces an earlier attempt's files, and return False if the job is already done.

    From then on, a late record from the earlier attempt is rejected, because it would describe files that no longer
    exist. `superseded` is a record that does not count as done. Raise UploadError if the record cannot be written.
    """
    for _ in range(MAX_WRITE_ATTEMPTS):
        existing, etag = _read_record_and_etag(context, record["job"])
        if is_record_done(existing, superseded):
            return False
        if _put_record(context, record["job"], json.dumps(record | {"log": None}, indent=1).encode(), etag):
            return True
    raise UploadError(BUSY_REASON)


def write_record(
    context: WorkerContext, record: dict[str, Any], log: Path, has_own_results: Callable[[], bool] = lambda: False,
    superseded: dict[str, Any] | None = None,
) -> bool:  # fmt: skip
    """Write the job's log and record, and return False if another attempt's record must be kept.

    The other record is kept if it says that the job is done, or if this attempt was interrupted and a later attempt has
    already written a record. Conditional writes keep late requests from overwriting such a record.

    `has_own_results()` returns whether the results in S3 came from this attempt; if so, this attempt's record replaces
    the other one. So it does if the other one is `superseded`. Raise LostLease if another attempt has claimed the
    results, and UploadError if the record cannot be written.
    """
    body, job, etag = json.dumps(record, indent=1).encode(), record["job"], None
    if record["state"] != DONE_STATE or record["attempts"] > 1:
        existing, etag = _read_record_and_etag(context, job)
        if existing != superseded and _has_precedence(existing, record, has_own_results):
            return False
        _check_claim(existing, record)
    if record["log"] is not None:
        bucket = context.settings.aws_bucket
        _upload_log(context.s3, bucket, record["log"].removeprefix(f"s3://{bucket}/"), log)
    for _ in range(MAX_WRITE_ATTEMPTS):
        if _put_record(context, job, body, etag):
            return True
        existing, etag = _read_record_and_etag(context, job)
        if existing == json.loads(body):
            return True  # this attempt wrote it, but the response was lost
        if existing != superseded and _has_precedence(existing, record, has_own_results):
            return False
        _check_claim(existing, record)
    raise UploadError(BUSY_REASON)


def _put_record(context: WorkerContext, job: str, body: bytes, etag: str | None) -> bool:
    """Write the record if the stored record has `etag` (None: if none is stored), and return whether it was written."""
    location = {"Bucket": context.settings.aws_bucket, "Key": build_record_key(context.settings, job)}
    try:
        context.s3.put_object(**location, Body=body, ContentType="application/json", **build_write_condition(etag))
    except ClientError as error:
        if not is_precondition_error(error):
            raise
        return False
    return True


def _has_precedence(
    existing: dict[str, Any] | None, record: dict[str, Any], has_own_results: Callable[[], bool]
) -> bool:
    if existing is None:
        return False
    if record["state"] == INTERRUPTED_STATE and existing.get("attempts", 0) > record["attempts"]:
        return True
    return is_record_done(existing) and not has_own_results()


def _check_claim(existing: dict[str, Any] | None, record: dict[str, Any]) -> None:
    if record["state"] != DONE_STATE or existing is None or existing.get("reason") != CLAIM_REASON:
        return
    if any(existing.get(name) != record.get(name) for name in ("machine", "started")):
        raise LostLease


def _upload_log(s3: Any, bucket: str, key: str, log: Path) -> None:
    with ThreadPoolExecutor(MAX_PARALLEL_LOG_PARTS, initializer=use_all_processors) as pool:
        large = log.stat().st_size > LARGE_FILE_BYTES
        send = partial(upload_file_parts, pool=pool) if large else upload_whole_file
        send(s3, log, bucket, key, lambda: None)


def build_record(
    context: WorkerContext, attempt: Attempt, state: str, reason: str | None, reason_class: str | None
) -> dict[str, Any]:
    """Return the record for an attempt that ended in `state`.

    Times are in UTC, and sizes are in bytes. `log` is null if the log is empty.
    """
    settings, ended = context.settings, context.clock.now()
    result, log = attempt.result, attempt.folders.log
    has_log = log.exists() and log.stat().st_size > 0
    return {
        "job": attempt.name,
        "state": state,
        "attempts": attempt.number,
        "app": settings.app_name,
        "run": settings.run,
        "machine": settings.machine,
        "image": settings.image,
        "started": build_utc_timestamp(attempt.started),
        "ended": build_utc_timestamp(ended),
        "seconds": round(ended - attempt.started, 3),
        "program_seconds": round(result.seconds, 3) if result else None,
        "exit_code": result.exit_code if result else None,
        "reason": reason,
        "reason_class": reason_class,
        "last_lines": read_last_lines(log) if reason and has_log else [],
        "peak_memory_bytes": result.peak_memory_bytes if result else None,
        "cpu_seconds": round(result.cpu_seconds, 3) if result else None,
        "bytes_in": attempt.bytes_in,
        "bytes_out": sum(output.size for output in attempt.outputs),
        "outputs": [output.build_record_entry() for output in attempt.outputs],
        "log": f"s3://{settings.aws_bucket}/{build_log_key(settings, attempt)}" if has_log else None,
        "message": attempt.message,
    }
