"""`run.py submitJob`: checks every job, and then sends the jobs that SQS has not acknowledged yet.

Acknowledged jobs are written to a journal next to the job file, so that `--resume` can continue an interrupted
submission. A job is sent twice only if the process dies between SQS's response and the line in the journal; workers
handle duplicate messages.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from distributed_something.aws.clients import Clients
from distributed_something.aws.s3 import upload_folders
from distributed_something.aws.sqs import add_submitted_count, require_job_queue
from distributed_something.core.clock import Clock
from distributed_something.core.errors import AWSError, CloudError, UserFacingError
from distributed_something.jobs.job_file import JobFile
from distributed_something.jobs.send_batches import NumberedMessage, ProgressCallback, send_all_batches
from distributed_something.jobs.submission_journal import SubmissionJournal
from distributed_something.jobs.submission_plan import SubmissionPlan

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

    from distributed_something.core.config_settings import Settings


@dataclass(frozen=True)
class Submission:
    """A checked job file, and the journal of the jobs that SQS has already acknowledged."""

    job_file: JobFile
    plan: SubmissionPlan
    journal: SubmissionJournal


class SubmissionInterruption(UserFacingError):
    """Raised after Ctrl-C while jobs were being sent: `sent` of `total` jobs were sent."""

    exit_code = 130

    def __init__(self, sent: int, total: int) -> None:
        super().__init__("interrupted")
        self.sent, self.total = sent, total

    def __str__(self) -> str:
        return f"{self.problem}: {format_submission_progress(self.sent, self.total)}"


class SubmissionError(CloudError):
    """Raised after an AWS error, `cause`, while jobs were being sent: `sent` of `total` jobs were sent."""

    def __init__(self, cause: CloudError, sent: int, total: int) -> None:
        super().__init__(cause.problem, cause.remedy, action=cause.action, code=cause.code)
        self.cause, self.sent, self.total = cause, sent, total

    def __str__(self) -> str:
        return f"{self.cause}; {format_submission_progress(self.sent, self.total)}"


class ChangedTableError(UserFacingError):
    """Raised if the jobs sent are not the jobs checked, because their table has changed."""

    def __init__(self, path: Path) -> None:
        super().__init__("its table changed while its jobs were being sent; not all of them were checked")
        self.path = path

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}"


def submit_jobs(
    clients: Clients,
    settings: Settings,
    submission: Submission,
    clock: Clock,
    *,
    progress: ProgressCallback,
    print_progress: Callable[[str], None],
) -> int:
    """Upload the `upload` folders, send every job that is not in the journal, and return how many jobs this call sent.

    Raise InputError if `--resume` is missing or not possible, CloudError if the queue cannot be used, SubmissionError
    if an upload or a send fails, SubmissionInterruption after Ctrl-C, and ChangedTableError if the table has changed.
    """
    journal, total = submission.journal, submission.plan.count
    url = require_job_queue(clients, settings)
    journal.open(submission.plan, url)
    before = journal.done
    try:
        upload_folders(clients.s3, settings.AWS_BUCKET, submission.job_file.uploads, print_progress)
        send_all_batches(clients.sqs, url, _iter_unsent_jobs(submission), journal, progress, clock.sleep)
    except KeyboardInterrupt:
        raise SubmissionInterruption(journal.done, total) from None
    except CloudError as error:
        raise SubmissionError(error, journal.done, total) from error
    finally:
        _add_submitted_count(clients.sqs, url, journal.done - before, print_progress)
        journal.close()
        if journal.done in (0, total):
            journal.remove()  # nothing to resume
    return journal.done - before


def format_submission_progress(sent: int, total: int) -> str:
    """Return how many jobs an interrupted submission sent, and how to continue it."""
    if sent == total:
        return f"but all {total:,} jobs were sent"
    remedy = "add --resume to the command to continue" if sent else "run the command again"
    return f"{sent:,} of {total:,} jobs were sent; {remedy}"


def _iter_unsent_jobs(submission: Submission) -> Iterator[NumberedMessage]:
    """Yield the jobs that are not in the journal.

    Raise ChangedTableError at the end if the jobs have changed since they were checked.
    """
    digest = hashlib.sha256()
    for number, body in enumerate(submission.job_file.iter_bodies()):
        digest.update(body.encode())
        if not submission.journal.is_sent(number):
            yield number, body
    if digest.hexdigest() != submission.plan.digest:
        raise ChangedTableError(submission.job_file.path)


def _add_submitted_count(sqs: SQSClient, url: str, sent: int, print_progress: Callable[[str], None]) -> None:
    """Increase the count of submitted jobs that is stored on the queue.

    The count only makes the monitor's progress display more exact.
    """
    if not sent:
        return
    try:
        add_submitted_count(sqs, url, sent)
    except AWSError:
        print_progress("note: the number of jobs could not be stored on the queue; monitor estimates it from the queue")
