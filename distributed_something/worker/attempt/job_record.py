"""Job records: one JSON object per job in S3, stored next to the job's log. All reports are based on these records."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from distributed_something.worker.attempt.context import WorkerContext
from distributed_something.worker.attempt.record_content import (
    DONE_STATE,
    FAILED_STATE,
    INTERRUPTED_STATE,
    SKIPPED_STATE,
)
from distributed_something.worker.job.failures import LostLease, UploadError
from distributed_something.worker.job.worker_settings import Settings
from distributed_something.worker.logs.capped_log import CappedLog
from distributed_something.worker.stored_record import read_stored_record
from distributed_something.worker.transfer.s3_file import (
    build_write_condition,
    is_precondition_error,
    upload_open_file,
)

# Workers recognize a claim by this text, so it must be the same in all versions.
CLAIM_REASON = "its worker is lost, or still replaces what an earlier attempt left"
BUSY_REASON = "other workers keep changing the job's record"
MAX_WRITE_ATTEMPTS = 5
MAX_EARLIER_ATTEMPTS = 20  # the newest ones are kept
MAX_OTHER_SUBMISSIONS = 100
_SHORT_FORM_KEYS = (
    "state",
    "reason",
    "reason_class",
    "exit_code",
    "machine",
    "container",
    "started",
    "ended",
    "seconds",
)
_SUBMISSION_KEYS = ("message_id", "state", "ended", "sent", "submission")


def build_record_key(settings: Settings, job: str) -> str:
    """Return the key of the job's record in the app's bucket."""
    return settings.keys.record(job)


def build_record_address(settings: Settings, job: str) -> str:
    """Return the s3:// address of the job's record."""
    return f"s3://{settings.aws_bucket}/{build_record_key(settings, job)}"


def read_record(context: WorkerContext, job: str) -> dict[str, Any] | None:
    """Return the job's record, or None if it does not exist or is not a JSON object."""
    return _read_record_and_etag(context, job)[0]


def _read_record_and_etag(context: WorkerContext, job: str) -> tuple[dict[str, Any] | None, str | None]:
    settings = context.settings
    return read_stored_record(context.s3, settings.aws_bucket, build_record_key(settings, job))


def is_record_done(record: dict[str, Any] | None) -> bool:
    """Return whether the record says that the job's results are in S3, from this run or an earlier one."""
    return record is not None and record.get("state") in (DONE_STATE, SKIPPED_STATE)


def is_submission_done(record: dict[str, Any] | None, message_id: str) -> bool:
    """Return whether the record says that the job is done, and is about the same submission of the job.

    A job that was submitted a second time has another message ID. Records from older workers have none.
    """
    return is_record_done(record) and (record or {}).get("message_id") in (None, message_id)


def find_final_failure(record: dict[str, Any] | None, message_id: str) -> str | None:
    """Return why the job failed, if the record says that it failed for good and is about the same submission."""
    if record is None or (record.get("state"), record.get("final")) != (FAILED_STATE, True):
        return None
    return f"{record.get('reason_class')}: {record.get('reason')}" if record.get("message_id") == message_id else None


def claim_job_results(context: WorkerContext, record: dict[str, Any]) -> bool:
    """Record that this attempt replaces an earlier attempt's files, and return False if the job is already done.

    From then on, a late record from the earlier attempt is rejected, because it would describe files that no longer
    exist. Raise UploadError if the record cannot be written.
    """
    for _ in range(MAX_WRITE_ATTEMPTS):
        existing, etag = _read_record_and_etag(context, record["job"])
        if is_submission_done(existing, record["message_id"]):
            return False
        claim = add_history(record, existing) | {"log": None}
        if _put_record(context, record["job"], _encode_record(claim), etag):
            return True
    raise UploadError(BUSY_REASON)


def write_record(
    context: WorkerContext, record: dict[str, Any], log: Path, has_own_results: Callable[[], bool] = lambda: False,
    check: Callable[[], None] = lambda: None,
) -> dict[str, Any] | None:  # fmt: skip
    """Write the job's log and record, or return None if another attempt's record must be kept.

    Return what the journal needs: the record with the job's history, and the stored object's ETag as `record_etag`.

    The other record is kept if it says that the job is done, or if this attempt was interrupted and a later attempt has
    already written a record. That of another submission of the job is kept only if it describes the results that are
    now in S3. Conditional writes keep late requests from overwriting such a record. If a job was skipped
    because this run has done it, its record is kept too, and a line about the skipped submission is added to it.

    `has_own_results()` returns whether the results in S3 came from this attempt; if so, this attempt's record replaces
    the other one. `check` can end the upload of the log by raising an exception. Raise LostLease if another attempt has
    claimed the results, and UploadError if the record cannot be written.
    """
    job, existing, etag, is_log_stored = record["job"], None, None, False
    if record["state"] != DONE_STATE or record["attempts"] > 1:
        existing, etag = _read_record_and_etag(context, job)
    for _ in range(MAX_WRITE_ATTEMPTS):
        with_history = add_history(record, existing)
        stored = _add_skip(existing, record) if _is_skip_of_done_job(record, existing) else with_history
        if stored is with_history:
            if _has_precedence(existing, record, has_own_results):
                return None
            _check_claim(existing, record)
            if not is_log_stored:
                _store_log(context, record, log, check)
                is_log_stored = True
        elif stored is None:
            return None  # the message was delivered again
        body = _encode_record(stored)
        if new_etag := _put_record(context, job, body, etag):
            return with_history | {"record_etag": new_etag}
        existing, etag = _read_record_and_etag(context, job)
        if existing == json.loads(body):  # this attempt wrote it, but the response was lost
            return with_history | {"record_etag": etag}
    raise UploadError(BUSY_REASON)


def add_history(record: dict[str, Any], existing: dict[str, Any] | None) -> dict[str, Any]:
    """Return the record with what the job's existing record says about earlier attempts and about other submissions."""
    return record | {
        "earlier_attempts": _list_earlier_attempts(record, existing or {}),
        "other_submissions": _list_other_submissions(record, existing or {}),
    }


def _list_earlier_attempts(record: dict[str, Any], existing: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the earlier attempts of the record's submission in short form, oldest first.

    An attempt that left no trace, because its worker was lost, has the state "unknown".
    """
    known: dict[int, dict[str, Any]] = {}
    if existing.get("message_id") == record["message_id"]:
        entries = [*(existing.get("earlier_attempts") or ()), {"attempt": existing.get("attempts"), **existing}]
        known = {entry["attempt"]: entry for entry in entries if isinstance(entry.get("attempt"), int)}
    # Another container writes the record of an attempt whose worker was lost; that attempt may have left a trace.
    has_trace = record["attempts"] in known and known[record["attempts"]].get("started") != record["started"]
    numbers = range(max(1, record["attempts"] - MAX_EARLIER_ATTEMPTS), record["attempts"] + has_trace)
    return [
        {"attempt": number, **{key: known[number].get(key) for key in _SHORT_FORM_KEYS}}
        if number in known
        else {"attempt": number, "state": "unknown"}
        for number in numbers
    ]


def _list_other_submissions(record: dict[str, Any], existing: dict[str, Any]) -> list[dict[str, Any]]:
    """Return how the job's other submissions in this run ended, oldest first.

    Otherwise, the end of one that the existing record is about would be lost if its container was killed before it
    wrote its journal.
    """
    others = list(existing.get("other_submissions") or ())
    if existing.get("final") and existing.get("message_id") != record["message_id"]:
        others.append({key: existing.get(key) for key in _SUBMISSION_KEYS})
    return others[-MAX_OTHER_SUBMISSIONS:]


def _is_skip_of_done_job(record: dict[str, Any], existing: dict[str, Any] | None) -> bool:
    """Return whether a job was submitted again in the run that did it."""
    return record["state"] == SKIPPED_STATE and (existing or {}).get("state") == DONE_STATE


def _add_skip(existing: dict[str, Any] | None, skip: dict[str, Any]) -> dict[str, Any] | None:
    """Return the record of a job that was done, with another submission of the job that was skipped.

    Return None if the record already mentions this submission.
    """
    others = list((existing or {}).get("other_submissions") or ())
    if any(other.get("message_id") == skip["message_id"] for other in others):
        return None
    others.append({key: skip.get(key) for key in _SUBMISSION_KEYS})
    return (existing or {}) | {"other_submissions": others[-MAX_OTHER_SUBMISSIONS:]}


def _encode_record(record: dict[str, Any]) -> bytes:
    """Return the record as JSON with a line for each key.

    json.dumps(indent=1) would take several times as long, because it is not written in C.
    """
    lines = (f" {json.dumps(key)}: {json.dumps(value)}" for key, value in record.items())
    return ("{\n" + ",\n".join(lines) + "\n}").encode()


def _put_record(context: WorkerContext, job: str, body: bytes, etag: str | None) -> str | None:
    """Write the record if the stored record has `etag` (None: if none is stored).

    Return the new ETag, or None if the record was not written.
    """
    location = {"Bucket": context.settings.aws_bucket, "Key": build_record_key(context.settings, job)}
    condition = build_write_condition(etag)
    try:
        response = context.s3.put_object(**location, Body=body, ContentType="application/json", **condition)
    except ClientError as error:
        if not is_precondition_error(error):
            raise
        return None
    return str(response["ETag"])


def _has_precedence(
    existing: dict[str, Any] | None, record: dict[str, Any], has_own_results: Callable[[], bool]
) -> bool:
    if existing is None:
        return False
    if existing.get("message_id") not in (None, record["message_id"]):  # of another submission of the job
        has_files = record["state"] == DONE_STATE and bool(record.get("outputs"))
        return has_files and existing.get("state") == DONE_STATE and not has_own_results()
    if record["state"] == INTERRUPTED_STATE:
        is_later = existing.get("attempts", 0) > record["attempts"]
        if is_later or (existing.get("final") and not is_record_done(existing)):
            return True
    return is_record_done(existing) and not has_own_results()


def _check_claim(existing: dict[str, Any] | None, record: dict[str, Any]) -> None:
    if record["state"] != DONE_STATE or existing is None or existing.get("reason") != CLAIM_REASON:
        return
    if any(existing.get(name) != record.get(name) for name in ("machine", "container", "started")):
        raise LostLease


def _store_log(context: WorkerContext, record: dict[str, Any], log: Path, check: Callable[[], None]) -> None:
    if record["log"] is None:
        return
    bucket = context.settings.aws_bucket
    key = record["log"].removeprefix(f"s3://{bucket}/")
    with log.open("rb") as file:
        upload_open_file(context.s3, CappedLog(file), bucket, key, check)
