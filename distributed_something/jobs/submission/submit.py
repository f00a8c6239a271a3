"""`run.py submitJob`: checks every job, and then sends the jobs that SQS has not acknowledged yet.

Acknowledged jobs are written to a journal next to the job file, so that `--resume` can continue an interrupted
submission. A document in the bucket says how many jobs were sent (see `core/submission.py`). A job is sent twice only
if the process dies between SQS's response and the line in the journal; workers handle duplicate messages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from distributed_something.aws.clients import Clients
from distributed_something.aws.s3 import read_s3_time
from distributed_something.aws.sqs import MAX_MESSAGE_BYTES, read_message_limit, require_job_queue
from distributed_something.core.clock import Clock
from distributed_something.core.errors import (
    AWSError,
    CloudError,
    InputError,
    InputProblems,
    UserFacingError,
    translate_aws_errors,
)
from distributed_something.core.submission import RetryList, SubmissionDocument, build_submission_time
from distributed_something.core.text import format_count, format_row, format_wrapped_row
from distributed_something.jobs.job_file import RESERVED_BYTES, JobFile
from distributed_something.jobs.submission.document import DocumentWriter
from distributed_something.jobs.submission.input_files import keep_input_files
from distributed_something.jobs.submission.journal import SubmissionJournal
from distributed_something.jobs.submission.plan import SubmissionPlan, read_file_state
from distributed_something.jobs.submission.retry import RetryBatch, RetrySource, select_sent_jobs, write_retry_list
from distributed_something.jobs.submission.send_batches import (
    AttributeBuilder,
    MessageAttributes,
    NumberedMessage,
    ProgressCallback,
    iter_message_batches,
    send_all_batches,
)
from distributed_something.jobs.submission.waiting_jobs import WaitingJobRemover, describe_other_jobs
from distributed_something.jobs.uploads.upload_folders import upload_folders
from distributed_something.worker import AGAIN_ATTRIBUTE, SUBMISSION_ATTRIBUTE

if TYPE_CHECKING:
    from distributed_something.core.config_settings import Settings


@dataclass(frozen=True)
class Submission:
    """A checked job file, and the journal of the jobs that SQS has already acknowledged.

    `job_file`: or the messages that `retry` sends; then, `retry` says which jobs they repeat. `again`: whether results
    that are older than this submission do not count. `replace`: whether to remove the waiting jobs from the queue
    first. `git_commit`: of the project's folder, for the submission's document. `whole`: the plan of the entire Job
    file if `job_file` has only the jobs of its canary. `notes`: to print once it is certain that jobs will be sent.
    `already_there`: how many jobs have results, as far as that is known. `unchanged_notes`: to print if the jobs are
    the same as earlier ones, and the upload changes no file either.
    """

    job_file: JobFile | RetrySource
    plan: SubmissionPlan
    journal: SubmissionJournal
    again: bool = False
    replace: bool = False
    git_commit: str | None = None
    retry: RetryBatch | None = None
    whole: SubmissionPlan | None = None
    notes: tuple[str, ...] = ()
    already_there: int = 0
    unchanged_notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The Job file's name, for the submission's document."""
        return self.retry.name if self.retry else self.job_file.path.name

    @property
    def path(self) -> str:
        """The Job file as the user typed it; "" for messages that `retry` repeats unchanged."""
        return "" if isinstance(self.job_file, RetrySource) else str(self.job_file.path)

    @property
    def input_files(self) -> list[Path]:
        """The Job file and its table, unless that has changed since it was read; none for messages that `retry` repeats
        unchanged."""
        if isinstance(self.job_file, RetrySource):
            return []
        table = self.job_file.groups.file
        return [self.job_file.path, *([table] if table and not self.has_changed_table else [])]

    @property
    def has_changed_table(self) -> bool:
        """Whether the table is no longer the one whose jobs were checked, and will be sent."""
        table = None if isinstance(self.job_file, RetrySource) else self.job_file.groups.file
        return read_file_state(table) != self.plan.table

    @property
    def is_resumable(self) -> bool:
        """Whether `--resume` continues the submission; otherwise, the same command does."""
        return self.retry is None


class SubmissionInterruption(UserFacingError):
    """Raised after Ctrl-C while jobs were being sent: `sent` of `total` jobs were sent."""

    exit_code = 130

    def __init__(self, sent: int, total: int, *, is_resumable: bool = True) -> None:
        super().__init__("interrupted")
        self.sent, self.total, self.is_resumable = sent, total, is_resumable

    def __str__(self) -> str:
        return f"{self.problem}: {format_submission_progress(self.sent, self.total, is_resumable=self.is_resumable)}"


class SubmissionError(CloudError):
    """Raised after an AWS error, `cause`, while jobs were being sent: `sent` of `total` jobs were sent."""

    def __init__(self, cause: CloudError, sent: int, total: int, *, is_resumable: bool = True) -> None:
        super().__init__(cause.problem, cause.remedy, action=cause.action, code=cause.code)
        self.cause, self.sent, self.total, self.is_resumable = cause, sent, total, is_resumable

    def __str__(self) -> str:
        return f"{self.cause}; {format_submission_progress(self.sent, self.total, is_resumable=self.is_resumable)}"


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

    Raise InputError if `--resume` is missing or not possible, if another process sends this job file, or if a message
    is too large for the queue. Raise CloudError if the queue cannot be used or the submission's document cannot be
    written, SubmissionError if an upload or a send fails, and SubmissionInterruption after Ctrl-C.
    """
    journal, total = submission.journal, submission.plan.count
    journal.lock()
    try:
        url = require_job_queue(clients, settings)
        with translate_aws_errors(f"looking at the queue {settings.SQS_QUEUE_NAME}"):
            max_bytes = read_message_limit(clients.sqs, url)
        _check_message_sizes(submission, settings.SQS_QUEUE_NAME, max_bytes)
        resumed = journal.read(submission.plan, url)
        _check_resumption(submission, resumed)
        for note in (*submission.notes, *_describe_changed_table(submission)):
            print_progress(note)
        before = journal.done
        try:
            _upload_folders(clients, settings.AWS_BUCKET, submission, print_progress)
            queue = _Queue(url, max_bytes)
            _JobSender(clients, settings, submission, clock, queue, print_progress).send_jobs(resumed, progress)
        except KeyboardInterrupt:
            is_resumable = submission.is_resumable
            raise SubmissionInterruption(journal.done, total, is_resumable=is_resumable) from None
        except CloudError as error:
            raise SubmissionError(error, journal.done, total, is_resumable=submission.is_resumable) from error
        return journal.done - before
    finally:
        journal.close()


def _upload_folders(
    clients: Clients, bucket: str, submission: Submission, print_progress: Callable[[str], None]
) -> None:
    """Upload the `upload` folders. If this changes nothing, print the notes about unchanged jobs."""
    if not upload_folders(clients.s3, bucket, submission.job_file.uploads, print_progress):
        for note in submission.unchanged_notes:
            print_progress(note)


def _describe_changed_table(submission: Submission) -> list[str]:
    if not submission.has_changed_table:
        return []
    text = "the table changed after its jobs were checked; what was checked is sent, and no copy of the table is kept"
    return format_wrapped_row("note", text).splitlines()


class _Queue(NamedTuple):
    """The job queue: its URL, and how many bytes a message may have."""

    url: str
    max_bytes: int


class _JobSender:
    """Sends the jobs of one submission to the queue, and keeps its document in the bucket up to date."""

    def __init__(
        self,
        clients: Clients,
        settings: Settings,
        submission: Submission,
        clock: Clock,
        queue: _Queue,
        print_progress: Callable[[str], None],
    ) -> None:
        self._clients, self._settings, self._submission, self._clock = clients, settings, submission, clock
        self._url, self._max_bytes = queue
        self._journal, self._print_progress = submission.journal, print_progress
        offset = read_s3_time(clients.s3, settings.AWS_BUCKET, clock.now()) - clock.now()
        self._writer = DocumentWriter(clients.s3, settings.AWS_BUCKET, clock, offset)

    def send_jobs(self, resumed: SubmissionDocument | None, progress: ProgressCallback) -> None:
        """Send every job that is not in the journal. `resumed`: the document of the interrupted submission, or None."""
        if self._submission.replace:
            self._end_replaced_submission()
        self._document = self._begin_document(resumed)
        self._journal.start(self._submission.plan, self._url, self._document)

        def report_progress(sent: int, total: int) -> None:
            self._writer.update(self._document, self._journal.done)
            progress(sent, total)

        try:
            if self._submission.replace:
                self._replace_jobs()
            self._begin_retry_list(self._document)
            build_attributes, unsent = self._choose_attributes(self._document), _iter_unsent_jobs(self._submission)
            send_all_batches(
                self._clients.sqs, self._url, iter_message_batches(unsent, build_attributes, self._max_bytes),
                self._journal, report_progress, self._clock.sleep, build_attributes,
            )  # fmt: skip
        finally:
            self._end_retry_list(self._document)
            self._end_document(replace(self._document, count=self._journal.done))

    def _end_replaced_submission(self) -> None:
        """Complete the document of an interrupted submission of this file, which this submission replaces."""
        interrupted = self._journal.read_interrupted()
        if interrupted is not None:
            self._end_document(interrupted)

    def _choose_attributes(self, document: SubmissionDocument) -> AttributeBuilder:
        if self._submission.retry is not None:
            return partial(self._submission.retry.build_attributes, document.time)
        attributes = _build_attributes(document)
        return lambda _: attributes

    def _begin_retry_list(self, document: SubmissionDocument) -> None:
        """Write which failed jobs will be sent again, before the first of them is sent."""
        if self._submission.retry is not None:
            with translate_aws_errors("writing which jobs are sent again to the bucket"):
                self._write_retry_list(self._submission.retry, RetryList(document.time, self._submission.retry.jobs))

    def _end_retry_list(self, document: SubmissionDocument) -> None:
        """Remove the jobs that were not sent from the list. If this fails, the journal lets the next `retry` do it."""
        retry, journal = self._submission.retry, self._journal
        if retry is None or journal.done == journal.total:
            return
        with suppress(*AWSError):
            self._write_retry_list(retry, select_sent_jobs(RetryList(document.time, retry.jobs), journal.is_sent))

    def _write_retry_list(self, retry: RetryBatch, retries: RetryList) -> None:
        write_retry_list(self._clients.s3, self._settings.AWS_BUCKET, retry.keys, retries)

    def _begin_document(self, resumed: SubmissionDocument | None) -> SubmissionDocument:
        """Write the submission's document, which says that no job or, after `--resume`, not every job was sent."""
        if resumed is not None:
            document = replace(resumed, count=self._journal.done, ended=None)
            if reason := self._writer.write(document):
                raise CloudError(reason, action="writing the submission to the bucket")
            return document
        submission, settings = self._submission, self._settings
        return self._writer.begin(
            SubmissionDocument(
                app=settings.APP_NAME,
                queue=settings.SQS_QUEUE_NAME,
                time=build_submission_time(self._writer.now),
                job_file=submission.name,
                digest=submission.plan.digest,
                planned=submission.plan.count,
                count=self._journal.done,  # 0, except after an interruption of a version without documents
                git_commit=submission.git_commit,
                again=submission.again,
                replace=submission.replace,
                jobs_digest=submission.plan.jobs_digest,
                path=submission.path,
                retry_of=submission.retry.keys.run if submission.retry else "",
                files=keep_input_files(
                    self._clients.s3, settings.AWS_BUCKET, settings.APP_NAME, submission.input_files
                ),
                canary_of=submission.whole.count if submission.whole else 0,
                canary_digest=submission.whole.digest if submission.whole else "",
                already_there=submission.already_there,
            )
        )

    def _end_document(self, document: SubmissionDocument) -> None:
        if reason := self._writer.write(replace(document, ended=build_submission_time(self._writer.now))):
            self._print_progress(f"note: the number of sent jobs could not be written to the bucket ({reason});")
            self._print_progress("      monitor may show too few jobs")

    def _replace_jobs(self) -> None:
        remover = WaitingJobRemover(self._clients.sqs, self._url, self._clock, self._report_removal)
        try:
            remover.remove_all()
        finally:
            self._document = replace(self._document, removed=remover.removed)
            jobs = format_count(remover.removed, "waiting job")
            self._print_progress(format_row("replace", f"{jobs} removed; running jobs were not stopped"))
            bucket = self._settings.AWS_BUCKET
            for text in describe_other_jobs(self._clients.s3, bucket, self._document, remover.senders):
                self._print_progress(format_wrapped_row("note", text))
        self._document = replace(self._document, replaced=True, replaced_at=build_submission_time(self._writer.now))
        self._journal.write_document(self._document)
        self._writer.write(self._document)
        if reason := self._writer.write_replacement(self._document):
            self._print_progress(f"note: running containers do not know that the jobs were replaced ({reason});")
            self._print_progress("      a replaced job that fails is tried again")

    def _report_removal(self, removed: int) -> None:
        self._document = replace(self._document, removed=removed)
        self._writer.update(self._document, self._document.count)
        self._print_progress(format_row("replace", f"{format_count(removed, 'waiting job')} removed so far"))


def _check_resumption(submission: Submission, resumed: SubmissionDocument | None) -> None:
    """Raise InputError if the interrupted submission cannot be continued.

    It may still have been removing the waiting jobs for `--replace`. With `--again`, the jobs that it sent must have
    been sent with `--again` too.
    """
    if resumed is not None and resumed.replace and not resumed.replaced:
        problem = "the interrupted submission had not removed all waiting jobs yet"
        raise InputError(submission.job_file.path, "", problem, "use --replace instead of --resume")
    if submission.again and submission.journal.resume and not (resumed and resumed.again):
        problem = "the interrupted submission was started without --again"
        raise InputError(submission.job_file.path, "", problem, "leave out --again, or start over with --replace")


def _check_message_sizes(submission: Submission, queue: str, max_bytes: int) -> None:
    """Raise InputError, which lists all problems, if the queue accepts smaller messages than the job file allows.

    `max_bytes`: the queue's limit. `setup` raises it in a queue that is older than SQS's limit of 1 MiB.
    """
    if max_bytes >= MAX_MESSAGE_BYTES:
        return
    problems, allowed = InputProblems(), max_bytes - RESERVED_BYTES
    for number, body in enumerate(submission.plan.bodies, 1):
        if len(body) > allowed and not problems.is_full:
            problem = f"its message has {len(body):,} bytes, but the queue {queue} accepts only {allowed:,}"
            remedy = f"run setup, which raises the queue's limit of {max_bytes:,} bytes, or shorten it"
            problems.add(InputError(submission.job_file.path, f"job {number}", problem, remedy))
    problems.raise_if_any()


def _build_attributes(document: SubmissionDocument) -> MessageAttributes:
    """Return the attributes of the submission's messages. `--resume` sends the same ones as the first call."""
    texts = {SUBMISSION_ATTRIBUTE: document.time}
    if document.again:
        since = datetime.fromtimestamp(document.began, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        texts[AGAIN_ATTRIBUTE] = since
    return {name: {"DataType": "String", "StringValue": text} for name, text in texts.items()}


def format_submission_progress(sent: int, total: int, *, is_resumable: bool = True) -> str:
    """Return how many jobs an interrupted submission sent, and how to continue it."""
    if sent == total:
        return "but the only job was sent" if total == 1 else f"but all {total:,} jobs were sent"
    remedy = "add --resume to the command to continue" if sent and is_resumable else "run the same command again"
    verb = "was" if total == 1 else "were"
    return f"{sent:,} of {format_count(total, 'job')} {verb} sent; {remedy}"


def _iter_unsent_jobs(submission: Submission) -> Iterator[NumberedMessage]:
    """Yield the jobs that are not in the journal."""
    is_sent = submission.journal.is_sent
    return ((number, body) for number, body in enumerate(submission.plan.bodies) if not is_sent(number))
