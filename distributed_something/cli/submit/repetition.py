"""What `submitJob` says about jobs that it has sent before."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from distributed_something.cli.context import Context, ExitCode
from distributed_something.core.text import (
    LABEL_COLUMNS,
    TERMINAL_COLUMNS,
    format_count,
    format_row,
    format_wrapped_lines,
    shorten_start,
)

if TYPE_CHECKING:
    from distributed_something.core.submission import SubmissionDocument
    from distributed_something.jobs.submission.plan import SubmissionPlan
    from distributed_something.observe.queue import QueueState


def confirm_repetition(context: Context, job_file: Path, plan: SubmissionPlan) -> None:
    """Ask before sending jobs that may still wait in the queue. End the command unless the answer is yes.

    Raise InputError if there is no terminal to ask in.
    """
    from distributed_something.core.errors import InputError

    repeated = _find_repetition(context, job_file, plan)
    if repeated is None:
        return
    problem, again = _describe_repetition(*repeated, plan), "again" if _is_repetition(repeated[0], plan) else "as well"
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        remedy = f"add --yes to send them {again}, or --replace to remove the waiting jobs first"
        raise InputError(job_file, "", problem, remedy)
    lines = format_wrapped_lines(f"{shorten_start(str(job_file))}: {problem}.", "", "", TERMINAL_COLUMNS)
    context.console.print_progress("\n".join(lines))
    if not click.confirm(f"Send them {again}?", default=False, err=True):
        context.console.print_progress("nothing was sent")
        raise SystemExit(ExitCode.INPUT)


def _is_repetition(document: SubmissionDocument, plan: SubmissionPlan) -> bool:
    """Return whether the submission had the same jobs, rather than only the same Job file."""
    return bool({plan.digest, plan.jobs_digest} & {document.digest, document.jobs_digest} - {""})


def _describe_repetition(document: SubmissionDocument, queue: QueueState, plan: SubmissionPlan) -> str:
    began = _format_start(document)
    if document.ended is None:
        sent = f"another submitJob began to send its jobs at {began} and has not reported its end"
    else:
        jobs = f"{document.count:,} of its {format_count(plan.count, 'job')}"
        jobs = f"its {format_count(plan.count, 'job')}" if document.count == plan.count else jobs
        sent = f"{jobs} {'was' if plan.count == 1 else 'were'} already sent at {began}"
    if document.ended is not None and document.canary_of and not _is_repetition(document, plan):
        sent = f"a canary of {format_count(document.count, 'job')} was sent at {began}"
    elif document.ended is not None and not _is_repetition(document, plan):
        jobs, verb = format_count(document.count, "job"), "was" if document.count == 1 else "were"
        sent = f"it has changed since {jobs} of it {verb} sent at {began}"
    waiting = queue.counts.jobs  # may be 0 if the jobs were sent just now
    return f"{sent}, and the queue still has {format_count(waiting, 'job')}" if waiting else sent


def _format_start(document: SubmissionDocument) -> str:
    return datetime.fromtimestamp(document.began, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _find_repetition(
    context: Context, job_file: Path, plan: SubmissionPlan
) -> tuple[SubmissionDocument, QueueState] | None:
    """Return the earlier submission of the same jobs or file, if they may still wait, and the state of the queue."""
    from distributed_something.observe.documents.submissions import find_repeated_submission
    from distributed_something.observe.queue import SETTLING_SECONDS

    queue, submissions, now = _list_submissions(context)
    if queue is None:
        return None
    settling_seconds = 0.0 if context.local else SETTLING_SECONDS  # the local cloud's counts are exact
    digests = frozenset({plan.digest, plan.jobs_digest})
    document = find_repeated_submission(submissions, queue, digests, now, settling_seconds, str(job_file))
    return None if document is None else (document, queue)


def format_unchanged_file(context: Context, job_file: Path, plan: SubmissionPlan) -> list[str]:
    """Return a note if `--replace` sends the very jobs again that it replaces."""
    from distributed_something.core.submission import is_same_path

    _, submissions, _ = _list_submissions(context)
    same = [document for document in submissions if is_same_path(document.job_file_path, str(job_file))]
    if not same or same[-1].digest != plan.digest:
        return []
    text = (
        f"{shorten_start(str(job_file))} makes the same jobs as at {_format_start(same[-1])}, which they replace. Jobs"
    )
    text += " that failed will probably fail in the same way, unless something else was corrected."
    return format_wrapped_lines(text, format_row("note", ""), " " * LABEL_COLUMNS, TERMINAL_COLUMNS)


def _list_submissions(context: Context) -> tuple[QueueState | None, list[SubmissionDocument], float]:
    """Return the queue, the submissions to it, oldest first, and AWS's time. No queue if it or they cannot be read."""
    from distributed_something.aws.s3 import read_s3_time
    from distributed_something.core.errors import AWSError, format_lookup_error, translate_aws_errors
    from distributed_something.observe.documents.submissions import list_queue_submissions
    from distributed_something.observe.queue import observe_queue

    clients, settings = context.clients, context.settings
    with translate_aws_errors(f"looking for the queue {settings.SQS_QUEUE_NAME}"):
        queue = observe_queue(clients.sqs, settings.SQS_QUEUE_NAME)
    bucket, now = settings.AWS_BUCKET, datetime.now(UTC).timestamp()
    if queue is None:
        return None, [], now  # submit_jobs reports that the queue is missing
    try:
        now = read_s3_time(clients.s3, bucket, now)
        return queue, list_queue_submissions(clients.s3, bucket, settings.APP_NAME, queue, now), now
    except AWSError as error:
        context.console.print_progress(f"note: earlier submissions cannot be read ({format_lookup_error(error)})")
        return None, [], now
