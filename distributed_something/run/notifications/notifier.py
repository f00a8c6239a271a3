"""Sends each notification of a run at most once, whichever monitor is first.

A monitor that wants to send a notification first creates a small document in the bucket, on the condition that it does
not exist. If that fails, or if SNS does not accept the message, the notification is not sent: it must not delay a run
or make it fail.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from distributed_something.core.errors import AWSError, format_lookup_error, get_error_code
from distributed_something.core.text import format_one_line, format_row
from distributed_something.observe.documents.journals import JournalReader
from distributed_something.observe.snapshot import RunSnapshot
from distributed_something.results.causes import FailureGroup, group_failures
from distributed_something.results.job_counter import build_failed_job
from distributed_something.run.monitor.budget import CostStage, classify_cost
from distributed_something.run.monitor.history import RunHistory
from distributed_something.run.monitor.policy import has_every_job_failed
from distributed_something.run.monitor.unusable import is_every_machine_unusable
from distributed_something.run.notifications.messages import (
    Message,
    NothingWorksCause,
    NotificationKind,
    RunEndFacts,
    build_cost_message,
    build_end_message,
    build_failure_message,
    build_nothing_works_message,
)

if TYPE_CHECKING:
    from distributed_something.aws.clients import Clients
    from distributed_something.core.monitor_file import MonitorFile

MAX_FAILURES_READ = 1_000  # failed jobs that are grouped for the first notification
# S3's errors if another monitor has created the document, or is creating it.
_TAKEN_CODES = ("PreconditionFailed", "412", "ConditionalRequestConflict", "409")


def send_due_notifications(
    clients: Clients, file: MonitorFile, snapshot: RunSnapshot, history: RunHistory, journals: JournalReader
) -> tuple[RunHistory, tuple[str, ...]]:
    """Send what is due during a run. Return the history with it, and a line about each notification.

    The history only saves requests: what is in it is not tried again.
    """
    totals, builders = snapshot.totals, dict[NotificationKind, Callable[[], Message]]()
    if file.MONITOR_NOTIFY and totals.failed:
        builders[NotificationKind.FAILURE] = lambda: build_failure_message(file, totals, _find_failures(journals))
    if file.MONITOR_NOTIFY and classify_cost(history.cost, file.MONITOR_MAX_COST) is not CostStage.FAR:
        builders[NotificationKind.COST] = lambda: build_cost_message(file, totals, history.cost)
    due = {kind: build for kind, build in builders.items() if kind.value not in history.notified}
    lines = [send_notification(clients, file, kind, build) for kind, build in due.items()]
    notified = (*history.notified, *(kind.value for kind in due))
    return replace(history, notified=notified), tuple(filter(None, lines))


def notify_nothing_works(clients: Clients, file: MonitorFile, snapshot: RunSnapshot, history: RunHistory) -> str:
    """Send the notification that the run was stopped because nothing works. Return a line about it."""
    if has_every_job_failed(snapshot):
        cause = NothingWorksCause.EVERY_JOB_FAILED
    elif is_every_machine_unusable(snapshot, history):
        cause = NothingWorksCause.NO_MACHINE
    elif history.unstarted_since is not None:
        cause = NothingWorksCause.NO_CONTAINER
    else:
        cause = NothingWorksCause.NO_SUCCESS
    kind = NotificationKind.NOTHING_WORKS
    return send_notification(clients, file, kind, lambda: build_nothing_works_message(file, cause))


def notify_end(clients: Clients, file: MonitorFile, facts: RunEndFacts) -> str:
    """Send the notification about the end of the run. Return a line about it."""
    return send_notification(clients, file, NotificationKind.END, lambda: build_end_message(file, facts))


def send_notification(clients: Clients, file: MonitorFile, kind: NotificationKind, build: Callable[[], Message]) -> str:
    """Send the message that `build` returns, unless a monitor has sent this kind already. Errors are not raised.

    Return a line for the log; "" if there is nothing to say.
    """
    if not file.MONITOR_NOTIFY:
        return ""
    try:
        if not _claim_notification(clients, file, kind):
            return ""
        message = build()
        clients.impatient_sns.publish(TopicArn=file.MONITOR_NOTIFY, Subject=message.subject, Message=message.text)
    except Exception as error:  # even a bug must not end the monitor, which would leave the machines without one
        reason = format_lookup_error(error) if isinstance(error, AWSError) else f"{type(error).__name__}: {error}"
        text = f"of {kind.value}: {format_one_line(reason)}; check tells more about NOTIFY"
        return format_row("not notified", text)
    return format_row("notified", message.subject)


def _claim_notification(clients: Clients, file: MonitorFile, kind: NotificationKind) -> bool:
    """Return whether this monitor is the one that sends the notification. Other AWS errors are not caught."""
    try:
        clients.impatient_s3.put_object(
            Bucket=file.MONITOR_BUCKET_NAME, Key=file.keys.notification(kind.value), IfNoneMatch="*",
            Body=json.dumps({"kind": kind.value, "topic": file.MONITOR_NOTIFY}).encode(),
        )  # fmt: skip
    except ClientError as error:
        if get_error_code(error) not in _TAKEN_CODES:
            raise
        return False
    return True


def _find_failures(journals: JournalReader) -> FailureGroup | None:
    """Return the largest group among some of the failed jobs; None if no journal lists one yet."""
    lines: Iterator[dict[str, object]] = islice(journals.iter_failures(), MAX_FAILURES_READ)
    groups = group_failures([build_failed_job(line) for line in lines])
    return groups[0] if groups else None
