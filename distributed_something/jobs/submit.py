"""`run.py submitJob`: once every job is checked, those that SQS does not have yet are sent.

What SQS acknowledged is written to a journal beside the job file, so that an interrupted submission goes on with
`--resume` where it stopped. A job is sent twice only if the process dies between SQS's answer and the journal's
line; the worker makes that harmless.
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
    """A job file that was checked, and the journal of those of its jobs that SQS has."""

    job_file: JobFile
    plan: SubmissionPlan
    journal: SubmissionJournal


class SubmissionInterruption(UserFacingError):
    """Ctrl-C in the middle of sending: `sent` of `total` jobs are sent."""

    exit_code = 130

    def __init__(self, sent: int, total: int) -> None:
        super().__init__("interrupted")
        self.sent, self.total = sent, total

    def __str__(self) -> str:
        return f"{self.problem}: {format_submission_progress(self.sent, self.total)}"


class SubmissionError(CloudError):
    """AWS refused in the middle of sending: `cause` says why, and `sent` of `total` jobs are sent."""

    def __init__(self, cause: CloudError, sent: int, total: int) -> None:
        super().__init__(cause.problem, cause.remedy, action=cause.action, code=cause.code)
        self.cause, self.sent, self.total = cause, sent, total

    def __str__(self) -> str:
        return f"{self.cause}; {format_submission_progress(self.sent, self.total)}"


class ChangedTableError(UserFacingError):
    """The jobs that were sent are not those that were checked."""

    def __init__(self, path: Path) -> None:
        super().__init__("its table changed while its jobs were sent; not all of them were checked")
        self.path = path

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}"


def submit_jobs(
    settings: Settings,
    clients: Clients,
    submission: Submission,
    clock: Clock,
    *,
    progress: ProgressCallback,
    say: Callable[[str], None],
) -> int:
    """Brings the `upload` folders up, sends every job that the journal does not hold; how many were sent now."""
    journal, total = submission.journal, submission.plan.count
    url = require_job_queue(settings, clients)
    journal.open(submission.plan, url)
    before = journal.done
    try:
        upload_folders(clients.s3, settings.AWS_BUCKET, submission.job_file.uploads, say)
        send_all_batches(clients.sqs, url, _iter_unsent_jobs(submission), journal, progress, clock.sleep)
    except KeyboardInterrupt:
        raise SubmissionInterruption(journal.done, total) from None
    except CloudError as error:
        raise SubmissionError(error, journal.done, total) from error
    finally:
        _note_submitted_count(clients.sqs, url, journal.done - before, say)
        journal.close()
        if journal.done in (0, total):
            journal.remove()  # nothing to go on with
    return journal.done - before


def format_submission_progress(sent: int, total: int) -> str:
    """Return how far an interrupted submission came, and how it goes on."""
    if sent == total:
        return f"but all {total:,} jobs are sent"
    how = "with --resume goes on" if sent else "begins anew"
    return f"{sent:,} of {total:,} jobs are sent; the same command {how}"


def _iter_unsent_jobs(submission: Submission) -> Iterator[NumberedMessage]:
    """The jobs that the journal does not hold; raises ChangedTableError at the end where they are not those that were
    checked."""
    whole = hashlib.sha256()
    for number, body in enumerate(submission.job_file.bodies()):
        whole.update(body.encode())
        if not submission.journal.is_sent(number):
            yield number, body
    if whole.hexdigest() != submission.plan.digest:
        raise ChangedTableError(submission.job_file.path)


def _note_submitted_count(sqs: SQSClient, url: str, sent: int, say: Callable[[str], None]) -> None:
    """Tells the monitor how many jobs there are; without it only its view of «done» is poorer."""
    if not sent:
        return
    try:
        add_submitted_count(sqs, url, sent)
    except AWSError:
        say("note: the count of jobs could not be put on the queue; monitor will count from what it sees")
