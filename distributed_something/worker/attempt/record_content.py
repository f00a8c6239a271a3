"""What a job's record says about an attempt. Users' scripts rely on these keys, so they must not change."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distributed_something.worker.attempt.attempt import Attempt
from distributed_something.worker.attempt.context import WorkerContext
from distributed_something.worker.job.worker_settings import Settings
from distributed_something.worker.machine.times import build_utc_timestamp
from distributed_something.worker.program.explanations.telling_line import add_telling_line, read_telling_line
from distributed_something.worker.program.program import MAX_LAST_LINES, read_last_lines

DONE_STATE, FAILED_STATE, INTERRUPTED_STATE, SKIPPED_STATE = "done", "failed", "interrupted", "skipped"


@dataclass(frozen=True)
class AttemptEnd:
    """How an attempt ended.

    `is_final`: whether this is the end of the job, rather than of one attempt that will be followed by another.
    `is_replaced`: whether no other one follows because `submitJob --replace` has replaced the job.
    """

    state: str
    is_final: bool
    reason: str | None = None
    reason_class: str | None = None
    is_replaced: bool = False


def build_log_key(settings: Settings, attempt: Attempt) -> str:
    """Return the key of the attempt's log in the app's bucket.

    Each attempt has its own key, so that overlapping attempts do not overwrite each other's logs; the record contains
    the log's address.
    """
    return settings.keys.log(attempt.name, f"{attempt.number}-{attempt.token}")


def build_record(context: WorkerContext, attempt: Attempt, end: AttemptEnd) -> dict[str, Any]:
    """Return the record for an attempt.

    Times are in UTC, and sizes are in bytes. `log` is null if the log is empty. `telling_line` is null without a log or
    a reason.
    """
    settings = context.settings
    has_log = attempt.folders.log.exists() and attempt.folders.log.stat().st_size > 0
    return {
        "job": attempt.name,
        "state": end.state,
        "final": end.is_final,
        "replaced": end.is_replaced,
        "attempts": attempt.number,
        "app": settings.app_name,
        "run": settings.run,
        **_describe_place(context, attempt),
        **_describe_times(attempt, context.clock.now()),
        "reason": end.reason,
        "reason_class": end.reason_class,
        **_describe_log(attempt.folders.log if end.reason and has_log else None, attempt.explanation),
        **_describe_program(context, attempt),
        **_describe_files(attempt, is_skipped=end.state == SKIPPED_STATE),
        "earlier_attempts": [],
        "other_submissions": [],
        "log": f"s3://{settings.aws_bucket}/{build_log_key(settings, attempt)}" if has_log else None,
        "retry_of": attempt.retry_of,
        "submission": attempt.submission,
        "again_since": attempt.again_text or None,
        "sent": _build_timestamp(attempt.sent),
        "message_id": attempt.message_id,
        "message": attempt.message or attempt.raw["Body"],
    }


def _describe_place(context: WorkerContext, attempt: Attempt) -> dict[str, Any]:
    is_known = not attempt.is_substitute
    return {
        "machine": context.settings.machine if is_known else None,
        "container": context.facts.container if is_known else None,
        "slot": attempt.slot if is_known else None,
        "image": context.settings.image,
        "image_digest": context.facts.image_digest,
        "worker_version": context.facts.worker_version,
    }


def _describe_times(attempt: Attempt, ended: float) -> dict[str, Any]:
    result = attempt.result
    return {
        "started": build_utc_timestamp(attempt.started),
        "fetch_started": _build_timestamp(attempt.fetch_started),
        "program_started": _build_timestamp(result.started) if result else None,
        "program_ended": _build_timestamp(result.ended) if result else None,
        "ended": build_utc_timestamp(ended),
        "seconds": round(attempt.measure_seconds(ended), 3),
        "program_seconds": round(result.seconds, 3) if result else None,
        "time_limit_seconds": round(attempt.time_limit, 3) if attempt.has_started else None,
    }


def _describe_program(context: WorkerContext, attempt: Attempt) -> dict[str, Any]:
    result = attempt.result
    return {
        "exit_code": result.exit_code if result else None,
        "start_error": attempt.start_error,
        "peak_memory_bytes": result.peak_memory_bytes if result else None,
        "memory_limit_bytes": context.facts.memory_limit_bytes,
        "cpu_seconds": round(result.cpu_seconds, 3) if result else None,
    }


def _describe_files(attempt: Attempt, *, is_skipped: bool) -> dict[str, Any]:
    job = attempt.job
    return {
        "bytes_in": attempt.bytes_in,
        "inputs": [file.build_record_entry() for file in attempt.inputs],
        "bytes_out": 0 if is_skipped else attempt.bytes_out,
        "outputs": [output.build_record_entry() for output in attempt.outputs],
        "delivered": [file.build_record_entry() for file in attempt.delivered],
        "overwritten": attempt.overwritten,
        "results_of": attempt.results_of if is_skipped else None,
        "missing_input": attempt.missing_input,
        "input_endpoint": job.input_endpoint or None if job is not None else None,
        "output_endpoint": job.output_endpoint or None if job is not None else None,
        "output_location": _find_location(attempt),
    }


def _find_location(attempt: Attempt) -> str | None:
    """Return where the job's results are, or None if this is unknown or they are in several places."""
    if attempt.job is None:
        return None
    if attempt.job.upload_results:
        return f"s3://{attempt.job.output_bucket}/{attempt.job.output_location}"
    places = {file.place for file in attempt.delivered}
    return places.pop() if len(places) == 1 else None


def _describe_log(log: Path | None, explanation: str | None) -> dict[str, Any]:
    if log is None:
        return {"telling_line": explanation, "last_lines": []}
    telling = explanation or read_telling_line(log)
    return {"telling_line": telling, "last_lines": add_telling_line(read_last_lines(log), telling, MAX_LAST_LINES)}


def _build_timestamp(seconds: float | None) -> str | None:
    return None if seconds is None else build_utc_timestamp(seconds)
