"""The summary of a run, built from the run's records and saved beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from distributed_something.core.errors import translate_aws_errors
from distributed_something.core.monitor_file import MonitorFile
from distributed_something.core.text import format_count, format_duration, format_row
from distributed_something.results.records import FailedJob, RunSummary, build_records_prefix, summarize_records

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from distributed_something.aws.clients import Clients

MAX_FAILURES_SHOWN = 20
MAX_FAILURE_LINES_SHOWN = 5


def load_run_summary(clients: Clients, file: MonitorFile, dead_letter_queue: str) -> RunSummary:
    """Return the outcome of the run. Raise CloudError if its records cannot be read.

    This can take minutes for a large run, so call it only after everything that costs money is stopped.
    """
    with translate_aws_errors("reading the records of the run"):
        return summarize_records(clients, file, dead_letter_queue)


def format_run_end(summary: RunSummary, file: MonitorFile, machines: int, now: float) -> str:
    """Return the text of the summary for a run that ended at `now` (seconds since 1970)."""
    seconds = now - file.MONITOR_START_TIME / 1000
    where = f"s3://{file.MONITOR_BUCKET_NAME}/{build_records_prefix(file)}"
    return format_run_summary(summary, seconds=seconds, machines=machines, records=where)


def save_run_summary(s3: S3Client, file: MonitorFile, text: str) -> None:
    """Save the text of the summary in the bucket. AWS errors are not caught."""
    s3.put_object(
        Bucket=file.MONITOR_BUCKET_NAME,
        Key=file.keys.summary,
        Body=f"{text}\n".encode(),
        ContentType="text/plain; charset=utf-8",
    )


def format_run_summary(summary: RunSummary, *, seconds: float, machines: int, records: str) -> str:
    """Return the text of the summary. `records`: the S3 address of the records and logs."""
    lines = [
        format_row("jobs done", f"{summary.done:,}"),
        format_row("jobs failed", f"{summary.dead:,}"),
        format_row("time", format_duration(seconds)),
        format_row("machines", machines),
        format_row("records, logs", records),
    ]
    for failed in summary.failed[:MAX_FAILURES_SHOWN]:
        lines += _format_failed_job(failed)
    if len(summary.failed) > MAX_FAILURES_SHOWN:
        lines.append(f"… and {summary.dead - MAX_FAILURES_SHOWN:,} more failed jobs; see their records")
    return "\n".join(lines)


def _format_failed_job(failed: FailedJob) -> list[str]:
    attempts = f" (after {format_count(failed.attempts, 'attempt')})" if failed.attempts else ""
    lines = [format_row("failed", f"{failed.job}: {failed.reason}{attempts}")]
    lines += [format_row("", f"| {line}") for line in failed.last_lines[-MAX_FAILURE_LINES_SHOWN:]]
    return [*lines, format_row("", f"log: {failed.log}")] if failed.log else lines
