"""The summary of a run: a text for people and the same numbers as JSON, saved beside the run's records."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from distributed_something.core.errors import is_missing_object
from distributed_something.core.text import format_count, format_duration, format_row
from distributed_something.results.job_counter import FailedJob, OverwrittenFiles
from distributed_something.results.outcome import MAX_RECORDS_READ, RunOutcome

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from distributed_something.core.monitor_file import MonitorFile

MAX_FAILURES_SHOWN = 20
MAX_FAILURE_LINES_SHOWN = 5


@dataclass(frozen=True)
class RunSummary:
    """The end of a run, as it is saved.

    `reason`: why the run ended, such as "run" if no jobs were left. `is_clean`: whether everything that the run created
    was removed or kept on purpose. `is_complete`: whether every job is done. `text`: what was printed.
    """

    reason: str
    is_clean: bool
    is_complete: bool
    text: str


@dataclass(frozen=True)
class DeadLetters:
    """The messages in a dead-letter queue at the end of a run, and how many of them are older than the run.

    `older`: None if unknown.
    """

    queue: str
    count: int
    older: int | None


def save_run_summary(s3: S3Client, file: MonitorFile, summary: RunSummary, outcome: RunOutcome | None) -> None:
    """Save the summary in the bucket, unless the run already has one. AWS errors are not caught.

    A summary that says that something could not be removed or read is replaced.
    """
    earlier = find_run_summary(s3, file)
    if earlier is not None and earlier.is_clean:
        return
    document = {"app": file.MONITOR_APP_NAME, "run": file.run, "reason": summary.reason, "clean": summary.is_clean,
                "complete": summary.is_complete, "jobs": _build_counts(outcome)}  # fmt: skip
    for key, body, kind in (
        (file.keys.summary, f"{summary.text}\n", "text/plain; charset=utf-8"),
        (file.keys.summary_data, json.dumps(document, indent=1), "application/json"),  # last: it says that both exist
    ):
        s3.put_object(Bucket=file.MONITOR_BUCKET_NAME, Key=key, Body=body.encode(), ContentType=kind)


def find_run_summary(s3: S3Client, file: MonitorFile) -> RunSummary | None:
    """Return the summary that was saved at the end of the run, or None if there is none. AWS errors are not caught."""
    try:
        texts = [
            s3.get_object(Bucket=file.MONITOR_BUCKET_NAME, Key=key)["Body"].read().decode()
            for key in (file.keys.summary_data, file.keys.summary)
        ]
        document = json.loads(texts[0])
    except ClientError as error:
        if is_missing_object(error):
            return None
        raise
    except ValueError:
        return None
    if not isinstance(document, dict):
        return None
    flags = (document.get("clean") is True, document.get("complete") is True)
    return RunSummary(str(document.get("reason")), *flags, texts[1].rstrip("\n"))


def format_run_outcome(outcome: RunOutcome, file: MonitorFile, seconds: float, letters: DeadLetters | None) -> str:
    """Return the text about the run's jobs. `seconds`: how long the run took."""
    counts = outcome.counts
    lines = [format_row("jobs done", f"{counts.done:,}")]
    if counts.already_there:
        lines.append(format_row("already there", f"{counts.already_there:,}{_format_age(outcome.result_times)}"))
    lines.append(format_row("jobs failed", f"{counts.failed:,}"))
    if outcome.left:
        lines.append(format_row("in the queue", f"{outcome.left:,}"))
    if outcome.unrecorded:
        lines.append(format_row("no record", f"{outcome.unrecorded:,} (neither ended nor in the queue)"))
    if counts.repeated:
        lines.append(format_row("", f"and {format_count(counts.repeated, 'failure')} of jobs that were sent again"))
    if outcome.unread:
        what = f"{outcome.unread:,} records that no journal mentions; only {MAX_RECORDS_READ:,} of them were read"
        lines.append(format_row("not counted", what))
    lines += [
        format_row("time", format_duration(seconds)),
        format_row("machines", outcome.machines),
        format_row("records, logs", f"s3://{file.MONITOR_BUCKET_NAME}/{file.keys.jobs}"),
    ]
    lines += _format_overwritten_files(outcome.overwritten)
    lines += _format_dead_letters(letters)
    for failed in outcome.failures[:MAX_FAILURES_SHOWN]:
        lines += _format_failed_job(failed)
    if counts.failed > MAX_FAILURES_SHOWN:
        more = format_count(counts.failed - MAX_FAILURES_SHOWN, "more failed job")
        lines.append(f"… and {more}; see their records")
    return "\n".join(lines)


def _format_age(times: tuple[float, float] | None) -> str:
    """Return when the results that were already there were written."""
    if times is None:
        return ""
    oldest, newest = (f"{datetime.fromtimestamp(time, UTC):%Y-%m-%d %H:%M}" for time in times)
    return f" (results from {oldest} UTC)" if oldest == newest else f" (results from {oldest} to {newest} UTC)"


def _format_overwritten_files(files: OverwrittenFiles) -> list[str]:
    if not files.count:
        return []
    count = format_count(files.count, "file")
    more = files.count - len(files.names)
    lines = [format_row("overwritten", f"{count}, written by several jobs; the last job's content remains:")]
    lines += [format_row("", name) for name in files.names]
    return [*lines, format_row("", f"… and {format_count(more, 'more file')}")] if more else lines


def _format_dead_letters(letters: DeadLetters | None) -> list[str]:
    if letters is None or not letters.count:
        return []
    older = "" if not letters.older else f", {min(letters.older, letters.count):,} of them older than this run"
    return [format_row("dead letters", f"{letters.count:,} in {letters.queue}{older}")]


def _format_failed_job(failed: FailedJob) -> list[str]:
    attempts = f" (after {format_count(failed.attempts, 'attempt')})" if failed.attempts else ""
    lines = [format_row("failed", f"{failed.job}: {failed.reason}{attempts}")]
    lines += [format_row("", f"| {line}") for line in failed.last_lines[-MAX_FAILURE_LINES_SHOWN:]]
    return [*lines, format_row("", f"log: {failed.log}")] if failed.log else lines


def _build_counts(outcome: RunOutcome | None) -> dict[str, Any] | None:
    """Return the counts for the JSON document; None if the records could not be read."""
    if outcome is None:
        return None
    counts = outcome.counts
    return {
        "submitted": outcome.submitted, "done": counts.done, "already_there": counts.already_there,
        "failed": counts.failed, "repeated": counts.repeated, "left": outcome.left, "unrecorded": outcome.unrecorded,
        "unread": outcome.unread, "overwritten_files": outcome.overwritten.count,
    }  # fmt: skip
