"""The record of a job: one JSON object in S3 with its log beside it. Everything shown later comes from records."""

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
CLAIM_REASON = "its worker is lost, or still replaces what an earlier attempt left"
BUSY_REASON = "its record is written by others again and again"
MAX_WRITE_ATTEMPTS = 5
MAX_PARALLEL_LOG_PARTS = 4


def build_record_key(settings: Settings, job: str) -> str:
    """Where the record of the job lies in the app's bucket."""
    return settings.keys.record(job)


def build_record_address(settings: Settings, job: str) -> str:
    """Where the record lies, as an address."""
    return f"s3://{settings.aws_bucket}/{build_record_key(settings, job)}"


def build_log_key(settings: Settings, attempt: Attempt) -> str:
    """Where the log of an attempt lies in the app's bucket. Each has a key of its own: two that overlap do not replace
    each other's, and the record names the one that belongs to it."""
    return settings.keys.log(attempt.name, f"{attempt.number}-{attempt.token}")


def read_record(context: WorkerContext, job: str) -> dict[str, Any] | None:
    """The record that is there; None without one, or with one that is no JSON object."""
    return _read_record_and_etag(context, job)[0]


def _read_record_and_etag(context: WorkerContext, job: str) -> tuple[dict[str, Any] | None, str | None]:
    """The record and its ETag."""
    settings = context.settings
    try:
        answer = context.s3.get_object(Bucket=settings.aws_bucket, Key=build_record_key(settings, job))
        body = answer["Body"].read()
    except ClientError as error:
        if is_missing_object(error):
            return None, None
        raise
    try:
        record = json.loads(body)
    except ValueError:
        record = None  # nothing that a worker wrote whole
    return record if isinstance(record, dict) else None, answer.get("ETag")


def is_record_done(record: dict[str, Any] | None) -> bool:
    """Whether the record says that the job's outputs are in S3."""
    return record is not None and record.get("state") == DONE_STATE


def claim_job_results(context: WorkerContext, record: dict[str, Any]) -> bool:
    """Notes that this attempt replaces what another left. From then on that one's record is refused, however long it
    was on its way: it would tell of bytes that are no more. False where the job is done."""
    for _ in range(MAX_WRITE_ATTEMPTS):
        found, etag = _read_record_and_etag(context, record["job"])
        if is_record_done(found):
            return False
        if _put_record(context, record["job"], json.dumps(record | {"log": None}, indent=1).encode(), etag):
            return True
    raise UploadError(BUSY_REASON)


def write_record(
    context: WorkerContext, record: dict[str, Any], log: Path, still_ours: Callable[[], bool] = lambda: False
) -> bool:
    """Writes log and record. False where another must stay: the job is done, or this attempt was interrupted and a
    later one was faster. No other attempt overwrites that record, also none whose request was long on its way.

    `still_ours()`: whether the outputs in S3 are this attempt's. Then it is the other's record that is not true.
    Raises LostLease where another attempt has claimed the outputs.
    """
    body, job, etag = json.dumps(record, indent=1).encode(), record["job"], None
    if record["state"] != DONE_STATE or record["attempts"] > 1:
        found, etag = _read_record_and_etag(context, job)
        if _has_precedence(found, record, still_ours):
            return False
        _check_claim(found, record)
    if record["log"] is not None:
        bucket = context.settings.aws_bucket
        _upload_log(context.s3, bucket, record["log"].removeprefix(f"s3://{bucket}/"), log)
    for _ in range(MAX_WRITE_ATTEMPTS):
        if _put_record(context, job, body, etag):
            return True
        found, etag = _read_record_and_etag(context, job)
        if found == json.loads(body):
            return True  # its own: the answer to an earlier request was lost
        if _has_precedence(found, record, still_ours):
            return False
        _check_claim(found, record)
    raise UploadError(BUSY_REASON)


def _put_record(context: WorkerContext, job: str, body: bytes, etag: str | None) -> bool:
    """Whether it is written; not so if another record is there than that with `etag`, or than none."""
    place = {"Bucket": context.settings.aws_bucket, "Key": build_record_key(context.settings, job)}
    try:
        context.s3.put_object(**place, Body=body, ContentType="application/json", **build_write_condition(etag))
    except ClientError as error:
        if not is_precondition_error(error):
            raise
        return False
    return True


def _has_precedence(found: dict[str, Any] | None, record: dict[str, Any], still_ours: Callable[[], bool]) -> bool:
    if found is None:
        return False
    if record["state"] == INTERRUPTED_STATE and found.get("attempts", 0) > record["attempts"]:
        return True
    return is_record_done(found) and not still_ours()


def _check_claim(found: dict[str, Any] | None, record: dict[str, Any]) -> None:
    if record["state"] != DONE_STATE or found is None or found.get("reason") != CLAIM_REASON:
        return
    if any(found.get(name) != record.get(name) for name in ("machine", "started")):
        raise LostLease


def _upload_log(s3: Any, bucket: str, key: str, log: Path) -> None:
    with ThreadPoolExecutor(MAX_PARALLEL_LOG_PARTS, initializer=use_all_processors) as pool:
        large = log.stat().st_size > LARGE_FILE_BYTES
        send = partial(upload_file_parts, pool=pool) if large else upload_whole_file
        send(s3, log, bucket, key, lambda: None)


def build_record(
    context: WorkerContext, attempt: Attempt, state: str, reason: str | None, kind: str | None
) -> dict[str, Any]:
    """The record of an attempt that ended in `state`. Times in UTC, sizes in bytes, `log` null where it is empty."""
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
        "reason_class": kind,
        "last_lines": read_last_lines(log) if reason and has_log else [],
        "peak_memory_bytes": result.peak_memory_bytes if result else None,
        "cpu_seconds": round(result.cpu_seconds, 3) if result else None,
        "bytes_in": attempt.bytes_in,
        "bytes_out": sum(output.size for output in attempt.outputs),
        "outputs": [output.build_record_entry() for output in attempt.outputs],
        "log": f"s3://{settings.aws_bucket}/{build_log_key(settings, attempt)}" if has_log else None,
        "message": attempt.message,
    }
