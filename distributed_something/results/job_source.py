"""Where a run's jobs came from: a Job file, or earlier runs whose failed jobs `retry` sent again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from distributed_something.aws.s3 import CLOCK_TOLERANCE_SECONDS, read_s3_time
from distributed_something.core.errors import AWSError
from distributed_something.core.submission import SubmissionDocument
from distributed_something.observe.documents.replacements import MAX_MESSAGE_SECONDS
from distributed_something.observe.documents.run_start import list_runs
from distributed_something.observe.documents.submissions import SubmissionReader, count_waiting_jobs
from distributed_something.observe.queue import observe_queue
from distributed_something.results.command_line import JOB_FILE_WORD, CommandLine
from distributed_something.results.summary import find_saved_summary
from distributed_something.worker import RunKeys

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from distributed_something.aws.clients import Clients
    from distributed_something.core.config_settings import Settings
    from distributed_something.core.monitor_file import MonitorFile


@dataclass(frozen=True)
class JobSource:
    """Where the jobs came from that a run had in its queue.

    `job_file`: the Job file that was used last, as the user typed it; "" if unknown. `retried_runs`: if `retry` sent
    all jobs, the runs in which they had failed; otherwise, none. `is_replaced`: whether the jobs that the run left in
    the queue have been replaced since. `canary`: how many jobs the last submission sent with `--canary`; 0 without it.
    `others`: how many other jobs that Job file has, if it has not been submitted without `--canary` since.
    `other_files`: the other Job files whose jobs the run had. `job_files`: the Job file of each submission that used
    one, keyed by its time; messages and records have this time too. `sent`: how many jobs `submitJob` and `retry` sent
    that the run may have had, at most; None if unknown. If it had more, a script sent the others. `again_files`: the
    Job files whose jobs were last sent with `--again`, so that older results do not count.
    """

    job_file: str = ""
    retried_runs: tuple[str, ...] = ()
    is_replaced: bool = False
    canary: int = 0
    others: int = 0
    other_files: tuple[str, ...] = ()
    job_files: Mapping[str, str] = field(default_factory=dict, compare=False)
    sent: int | None = field(default=None, compare=False)
    again_files: frozenset[str] = frozenset()


UNKNOWN_SOURCE = JobSource()


def find_job_source(clients: Clients, file: MonitorFile, until: float, now: float) -> JobSource:
    """Return where the jobs came from that the run had until then (seconds since 1970). AWS errors are not caught.

    This takes a few requests for the run, and two for each earlier run that left jobs in the queue.
    """
    reader = SubmissionReader(clients.s3, file.MONITOR_BUCKET_NAME, file.MONITOR_APP_NAME)
    since = file.MONITOR_START_TIME / 1000 - MAX_MESSAGE_SECONDS
    documents = [item for item in reader.list_submissions(since, now) if item.queue == file.MONITOR_QUEUE_NAME]
    before = [item for item in documents if item.began <= until]
    after = documents[len(before) :]
    last = next((item for item in reversed(before) if item.job_file_path), None)
    source = JobSource(
        last.job_file_path if last else "", (), any(item.replaced for item in after),
        job_files={item.time: item.job_file_path for item in documents if item.job_file_path},
        again_files=frozenset(path for path, item in _list_last_submissions(before).items() if item.again),
    )  # fmt: skip
    boundary = _find_boundary(clients, file, until) if before else 0.0
    submissions = [item for item in before if item.began > boundary]
    # Jobs that were running during a removal count, too, as in the run's own total.
    total = sum(item.sent - item.removed for item in submissions)
    source = replace(source, sent=max(total, count_waiting_jobs(submissions)))
    if any(item.retry_of for item in before) or len({item.job_file_path for item in before} - {""}) > 1:
        own = _drop_replaced(submissions)
        paths = dict.fromkeys(item.job_file_path for item in own if item.sent)
        source = replace(source, other_files=tuple(path for path in paths if path not in ("", source.job_file)))
        if own and all(item.retry_of for item in own):
            return replace(source, retried_runs=tuple(dict.fromkeys(item.retry_of for item in own)))
    if last is None or not last.canary_of:
        return source
    is_sent = any(item.job_file_path == source.job_file and not item.canary_of for item in after)
    return replace(source, canary=last.planned, others=0 if is_sent else last.canary_of - last.planned)


def select_last_job_file(s3: S3Client, settings: Settings, line: CommandLine) -> CommandLine:
    """Return the command line with the Job file that the app used last, if it is not known which one the user means.

    AWS errors are ignored, because the command that the user has just typed does not depend on this.
    """
    if line.job_file != JOB_FILE_WORD:
        return line
    with suppress(*AWSError):
        now = read_s3_time(s3, settings.AWS_BUCKET, 0.0)
        reader = SubmissionReader(s3, settings.AWS_BUCKET, settings.APP_NAME)
        documents = reader.list_submissions(now - MAX_MESSAGE_SECONDS, now)
        paths = [item.job_file_path for item in documents if item.job_file_path]
        return line.select_job_file(paths[-1]) if paths else line
    return line


def _list_last_submissions(documents: Sequence[SubmissionDocument]) -> dict[str, SubmissionDocument]:
    """Return the last submission of each Job file, keyed by its path."""
    return {item.job_file_path: item for item in documents if item.job_file_path}


def _drop_replaced(documents: Sequence[SubmissionDocument]) -> Sequence[SubmissionDocument]:
    """Return the documents from the last one on that removed all waiting jobs."""
    return documents[max((number for number, item in enumerate(documents) if item.replaced), default=0) :]


def _find_boundary(clients: Clients, file: MonitorFile, until: float) -> float:
    """Return since when the run's jobs were submitted (seconds since 1970).

    That is the end of the last run before it that left no jobs in the queue, and not before the queue was created.
    """
    queue = observe_queue(clients.sqs, file.MONITOR_QUEUE_NAME)
    created = queue.created - CLOCK_TOLERANCE_SECONDS - 1 if queue is not None and queue.created <= until else 0.0
    return max([created, *_iter_boundaries(clients.s3, file)])


def _iter_boundaries(s3: S3Client, file: MonitorFile) -> Iterator[float]:
    bucket, app = file.MONITOR_BUCKET_NAME, file.MONITOR_APP_NAME
    runs = list_runs(s3, bucket, app)
    for run in sorted((run for run in runs if run < file.run), reverse=True):
        summary = find_saved_summary(s3, bucket, RunKeys(app, run))
        if summary is None:  # nobody watched it to its end
            yield runs[run]
            return
        if not summary.jobs.get("left"):
            yield summary.saved or runs[run]
            return
