"""Decides what cleanup does with the dead-letter queue.

The queue is a safety net: its messages are the failed jobs, and each failed job's record contains its message too.
Therefore, cleanup deletes the queue only if it belongs to this app alone and the records contain everything in it.
Otherwise, it keeps the queue on purpose, and the cleanup still counts as complete.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from distributed_something.aws.sqs import DeadLetterUse, find_dead_letter_use
from distributed_something.core.names import SHARED_APP
from distributed_something.core.text import format_count
from distributed_something.observe.queue import QueueState, observe_queue
from distributed_something.observe.resources import Resource, ResourceKind, ResourceState
from distributed_something.run.cleanup.report import KeepReason, KeptResource

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

    from distributed_something.core.monitor_file import MonitorFile


def find_kept_dead_letter_queue(
    sqs: SQSClient, run: MonitorFile, queue: QueueState, recorded_failures: int | None
) -> KeptResource | None:
    """Return the queue with the reason for keeping it, or None if cleanup may delete it.

    `recorded_failures`: how many messages the queue may hold; None if any number may be deleted. AWS errors are not
    caught.
    """
    use = find_dead_letter_use(sqs, queue.url, run.MONITOR_QUEUE_NAME)
    if use is None:  # it was deleted in the meantime
        return None
    reason = _find_sharing_reason(use, run.MONITOR_APP_NAME)
    if reason is None and recorded_failures is not None and queue.counts.jobs > recorded_failures:
        reason = KeepReason.FAILED_JOBS
    if reason is None:
        return None
    return KeptResource(ResourceKind.DEAD_LETTER_QUEUE, queue.name, reason, queue.counts.jobs, use.owner)


def iter_dead_letter_queue(sqs: SQSClient, run: MonitorFile, name: str) -> Iterator[Resource]:
    """Yield the run's dead-letter queue if it exists; KEPT if a cleanup without records would keep it."""
    queue = observe_queue(sqs, name)
    if queue is None:
        return
    app, jobs = run.MONITOR_APP_NAME, queue.counts.jobs
    kept = find_kept_dead_letter_queue(sqs, run, queue, recorded_failures=0)
    state = ResourceState.KEPT if kept else ResourceState.REMAINING
    note = f"holds {format_count(jobs, 'failed job')}" if jobs else "empty"
    if kept and kept.reason is not KeepReason.FAILED_JOBS:
        note, app = kept.reason_text, kept.owner
    yield Resource(ResourceKind.QUEUE, queue.name, app, note=note, state=state, id=queue.url)


def _find_sharing_reason(use: DeadLetterUse, app: str) -> KeepReason | None:
    """Return why the queue is not this app's alone, or None if it is."""
    if use.is_only_of(app):
        return None
    if use.owner == SHARED_APP:
        return KeepReason.SHARED_QUEUE
    if not use.owner:
        return KeepReason.OLDER_THAN_APP
    return KeepReason.OTHER_APP if use.owner != app else KeepReason.OTHER_QUEUES
