"""The record of a job: one JSON object in S3 with its log beside it. Everything shown later comes from records."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from . import program
from .attempt import Attempt
from .failures import LostLease, UploadFailed
from .processors import use_all
from .settings import Settings
from .times import utc
from .transfer import LARGE_BYTES, is_other, only_if, put, put_parts

DONE, FAILED, INTERRUPTED = "done", "failed", "interrupted"
CLAIM = "its worker is lost, or still replaces what an earlier attempt left"
BUSY = "its record is written by others again and again"
WRITE_TRIES = 5
LOG_PARTS_AT_ONCE = 4


def key_of(settings: Settings, job: str) -> str:
    """Where the record of the job lies in the app's bucket."""
    return f"{settings.records}{job}.json"


def address_of(settings: Settings, job: str) -> str:
    """Where the record lies, as an address."""
    return f"s3://{settings.aws_bucket}/{key_of(settings, job)}"


def log_key_of(settings: Settings, attempt: Attempt) -> str:
    """Where the log of an attempt lies in the app's bucket. Each has a key of its own: two that overlap do not replace
    each other's, and the record names the one that belongs to it."""
    return f"{settings.records}{attempt.name}.{attempt.number}-{attempt.token}.log.txt"


def read(s3: Any, settings: Settings, job: str) -> dict[str, Any] | None:
    """The record that is there; None without one, or with one that is no JSON object."""
    return _read(s3, settings, job)[0]


def _read(s3: Any, settings: Settings, job: str) -> tuple[dict[str, Any] | None, str | None]:
    """The record and its ETag."""
    try:
        answer = s3.get_object(Bucket=settings.aws_bucket, Key=key_of(settings, job))
        body = answer["Body"].read()
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") in ("NoSuchKey", "404"):
            return None, None
        raise
    try:
        record = json.loads(body)
    except ValueError:
        record = None  # nothing that a worker wrote whole
    return record if isinstance(record, dict) else None, answer.get("ETag")


def is_done(record: dict[str, Any] | None) -> bool:
    """Whether the record says that the job's outputs are in S3."""
    return record is not None and record.get("state") == DONE


def claim(s3: Any, settings: Settings, record: dict[str, Any]) -> bool:
    """Notes that this attempt replaces what another left. From then on that one's record is refused, however long it
    was on its way: it would tell of bytes that are no more. False where the job is done."""
    for _ in range(WRITE_TRIES):
        found, etag = _read(s3, settings, record["job"])
        if is_done(found):
            return False
        if _put(s3, settings, record["job"], json.dumps(record | {"log": None}, indent=1).encode(), etag):
            return True
    raise UploadFailed(BUSY)


def write(
    s3: Any, settings: Settings, record: dict[str, Any], log: Path, still_ours: Callable[[], bool] = lambda: False
) -> bool:
    """Writes log and record. False where another must stay: the job is done, or this attempt was interrupted and a
    later one was faster. No other attempt overwrites that record, also none whose request was long on its way.

    `still_ours()`: whether the outputs in S3 are this attempt's. Then it is the other's record that is not true.
    Raises LostLease where another attempt has claimed the outputs.
    """
    body, job, etag = json.dumps(record, indent=1).encode(), record["job"], None
    if record["state"] != DONE or record["attempts"] > 1:
        found, etag = _read(s3, settings, job)
        if _must_stay(found, record, still_ours):
            return False
        _check_claim(found, record)
    if record["log"] is not None:
        _write_log(s3, settings.aws_bucket, record["log"].removeprefix(f"s3://{settings.aws_bucket}/"), log)
    for _ in range(WRITE_TRIES):
        if _put(s3, settings, job, body, etag):
            return True
        found, etag = _read(s3, settings, job)
        if found == json.loads(body):
            return True  # its own: the answer to an earlier request was lost
        if _must_stay(found, record, still_ours):
            return False
        _check_claim(found, record)
    raise UploadFailed(BUSY)


def _put(s3: Any, settings: Settings, job: str, body: bytes, etag: str | None) -> bool:
    """Whether it is written; not so if another record is there than that with `etag`, or than none."""
    key = key_of(settings, job)
    try:
        s3.put_object(
            Bucket=settings.aws_bucket, Key=key, Body=body, ContentType="application/json", **only_if(etag)
        )  # fmt: skip
    except ClientError as error:
        if not is_other(error):
            raise
        return False
    return True


def _must_stay(found: dict[str, Any] | None, record: dict[str, Any], still_ours: Callable[[], bool]) -> bool:
    if found is None:
        return False
    if record["state"] == INTERRUPTED and found.get("attempts", 0) > record["attempts"]:
        return True
    return is_done(found) and not still_ours()


def _check_claim(found: dict[str, Any] | None, record: dict[str, Any]) -> None:
    if record["state"] != DONE or found is None or found.get("reason") != CLAIM:
        return
    if any(found.get(name) != record.get(name) for name in ("machine", "started")):
        raise LostLease


def _write_log(s3: Any, bucket: str, key: str, log: Path) -> None:
    with ThreadPoolExecutor(LOG_PARTS_AT_ONCE, initializer=use_all) as pool:
        large = log.stat().st_size > LARGE_BYTES
        send = partial(put_parts, pool=pool) if large else put
        send(s3, log, bucket, key, lambda: None)


def of(attempt: Attempt, settings: Settings, state: str, reason: str | None, kind: str | None) -> dict[str, Any]:
    """The record of an attempt that ended in `state`. Times in UTC, sizes in bytes, `log` null where it is empty."""
    result, ended, log = attempt.result, time.time(), attempt.folders.log
    has_log = log.exists() and log.stat().st_size > 0
    return {
        "job": attempt.name,
        "state": state,
        "attempts": attempt.number,
        "app": settings.app_name,
        "run": settings.run,
        "machine": settings.machine,
        "image": settings.image,
        "started": utc(attempt.started),
        "ended": utc(ended),
        "seconds": round(ended - attempt.started, 3),
        "program_seconds": round(result.seconds, 3) if result else None,
        "exit_code": result.exit_code if result else None,
        "reason": reason,
        "reason_class": kind,
        "last_lines": program.last_lines(log) if reason and has_log else [],
        "peak_memory_bytes": result.peak_memory_bytes if result else None,
        "cpu_seconds": round(result.cpu_seconds, 3) if result else None,
        "bytes_in": attempt.bytes_in,
        "bytes_out": sum(output.size for output in attempt.outputs),
        "outputs": [output.told() for output in attempt.outputs],
        "log": f"s3://{settings.aws_bucket}/{log_key_of(settings, attempt)}" if has_log else None,
        "message": attempt.message,
    }
