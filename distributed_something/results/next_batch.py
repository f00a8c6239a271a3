"""The jobs that were sent to a run's queue after the run's end: by `retry`, `submitJob`, or both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from distributed_something.aws.ec2_fleet import find_active_fleet
from distributed_something.aws.s3 import CLOCK_TOLERANCE_SECONDS
from distributed_something.observe.documents.run_start import list_runs
from distributed_something.observe.documents.submissions import SubmissionReader, has_recent_submission
from distributed_something.observe.queue import SETTLING_SECONDS, observe_queue
from distributed_something.results.retry.retry_jobs import load_retry_lists
from distributed_something.results.summary import find_saved_summary
from distributed_something.worker import RunKeys

if TYPE_CHECKING:
    from distributed_something.aws.clients import Clients
    from distributed_something.core.monitor_file import MonitorFile
    from distributed_something.core.submission import SubmissionDocument


@dataclass(frozen=True)
class NextBatch:
    """Jobs that were sent after a run's end and have not ended yet.

    `jobs`: how many jobs the queue holds. `repeated`: the IDs of the run's failed jobs that `retry` sent again among
    them. `is_active`: whether the app has a fleet, which works on them.
    """

    jobs: int
    repeated: frozenset[str] = frozenset()
    is_active: bool = False


def find_next_batch(clients: Clients, file: MonitorFile, ended: float, now: float) -> NextBatch | None:
    """Return the jobs that were sent after the run's end and are still in its queue; None if there are none.

    `ended`, `now`: seconds since 1970. Jobs that a later run, which has also ended, had in its queue are not counted.
    This takes two requests if the queue does not exist or is empty. AWS errors are not caught.
    """
    queue = observe_queue(clients.sqs, file.MONITOR_QUEUE_NAME)
    if queue is None:
        return None
    since = max(queue.created - CLOCK_TOLERANCE_SECONDS - 1, _find_last_end(clients, file, ended))
    reader = SubmissionReader(clients.s3, file.MONITOR_BUCKET_NAME, file.MONITOR_APP_NAME)
    documents = [
        item for item in reader.list_submissions(since, now) if item.queue == queue.name and item.began > since
    ]
    since = max([since, *(item.began - 0.001 for item in documents if item.replaced)])  # these removed what waited
    documents = [item for item in documents if item.began > since]
    if not _may_wait(documents, queue.counts.jobs, now):
        return None
    repeated: set[str] = set()
    if any(item.retry_of == file.run for item in documents):
        for retries in load_retry_lists(clients.s3, file.MONITOR_BUCKET_NAME, file.keys):
            repeated |= retries.jobs.keys() if retries.began > since else set()
    is_active = find_active_fleet(clients.ec2, file.MONITOR_APP_NAME) is not None
    return NextBatch(queue.counts.jobs or sum(item.sent for item in documents), frozenset(repeated), is_active)


def _may_wait(documents: list[SubmissionDocument], jobs: int, now: float) -> bool:
    """Return whether jobs of these submissions may be in the queue, in which SQS counts `jobs`."""
    has_sent = any(item.count or item.ended is None for item in documents)
    return has_sent and (jobs > 0 or has_recent_submission(documents, now, SETTLING_SECONDS))


def _find_last_end(clients: Clients, file: MonitorFile, ended: float) -> float:
    """Return when the last run of the app ended that is not older than this one, in seconds since 1970."""
    bucket, app = file.MONITOR_BUCKET_NAME, file.MONITOR_APP_NAME
    for run in sorted((run for run in list_runs(clients.s3, bucket, app) if run > file.run), reverse=True):
        summary = find_saved_summary(clients.s3, bucket, RunKeys(app, run))
        if summary is not None:
            return summary.ended or summary.saved or ended
    return ended
