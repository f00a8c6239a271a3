"""Reads what the run's containers report: their pauses from the bucket and their last log lines from CloudWatch.

If they do not start, ECS reports why.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from distributed_something.aws.cloudwatch_logs import list_log_streams
from distributed_something.aws.ecs import describe_service
from distributed_something.core.aws_errors import is_harmless_stop
from distributed_something.core.failures.remedies import REPETITION, Remedy, format_remedy
from distributed_something.core.monitor_file import MonitorFile
from distributed_something.observe.service import ServiceState, StoppedTask, list_stopped_tasks, parse_service_events
from distributed_something.worker import RunKeys, build_machine_log_group, list_paused_containers, mask_lines

if TYPE_CHECKING:
    from mypy_boto3_logs import CloudWatchLogsClient
    from mypy_boto3_s3 import S3Client

    from distributed_something.aws.clients import Clients

MAX_LOG_STREAMS = 50
MAX_LOG_LINES = 5
MAX_EMPTY_LOG_PAGES = 5  # pages of a stream that are read until one has any lines
BLOCKED_PROTECTION_CODE = "DEPLOYMENT_BLOCKED"
_PASSING_REFUSAL = f"{REPETITION}: what blocks protection, such as a deployment of the service, usually ends by itself"
DENIED_PROTECTION_REMEDY = Remedy(
    "run setupAWS, which lets the containers' role use ecs:UpdateTaskProtection",
    ", and then setup, which gives the containers this role",
)
SURPLUS_PROTECTION_REMEDY = Remedy(
    "",
    "wait: more containers are protected than the service should have; the monitor raises its count to theirs, or some"
    " of them end their jobs",
    _PASSING_REFUSAL,
)
BLOCKED_PROTECTION_REMEDY = Remedy(
    "",
    "wait: a deployment, such as after setup, exchanges the containers, and those with jobs are exchanged only when"
    " their jobs have ended; new containers take jobs",
    _PASSING_REFUSAL,
)
OTHER_PROTECTION_REMEDY = Remedy(
    "",
    "wait: the container asks again every minute; if this persists, look up ECS's reason in AWS's documentation",
    _PASSING_REFUSAL,
)
MAX_FAILED_TASKS_READ = 3  # whose logs are read, until one of them has lines


@dataclass(frozen=True)
class PausedMachine:
    """A machine whose worker takes no jobs, and the reason.

    `since`: when jobs had failed so often that it paused (seconds since 1970); None if it pauses for another reason.
    `protection`: ECS's code ("" if it has none) if it pauses because ECS refuses to protect it from scale-in, and
    `refused_since` the time of the first refusal.
    """

    machine: str
    reason: str
    since: float | None = None
    protection: str | None = None
    refused_since: float | None = None

    @property
    def is_denied(self) -> bool:
        """Whether the containers' role may not protect them, which does not change by itself."""
        return self.protection is not None and "AccessDenied" in self.protection


@dataclass(frozen=True)
class LogTail:
    """Time of the machines' newest log line (`at`, seconds since 1970) and the last lines of one container."""

    at: float
    lines: tuple[str, ...] = ()


@dataclass(frozen=True)
class StartFailure:
    """Why a run's containers do not start.

    `kind`, `message`, and `exit_codes`: ECS's report about the newest container that failed or, if none was even
    started, the newest event of the service; empty if ECS reports nothing. `lines`: the last lines of a container's
    log. `started`: how many containers started and stopped again.
    """

    kind: str = ""
    message: str = ""
    exit_codes: tuple[int, ...] = ()
    lines: tuple[str, ...] = ()
    started: int = 0


def find_start_failure(clients: Clients, file: MonitorFile) -> StartFailure:
    """Return why the run's containers do not start, as far as AWS knows it. AWS errors are not caught."""
    cluster, service = file.MONITOR_ECS_CLUSTER, file.names.service
    start = file.MONITOR_START_TIME / 1000
    if tasks := select_failed_tasks(list_stopped_tasks(clients.ecs, cluster, service), start):
        lines = read_failed_task_lines(clients.logs, file.MONITOR_LOG_GROUP_NAME, file.MONITOR_APP_NAME, tasks)
        started = sum(bool(task.exit_codes) for task in tasks)  # a container that never started has no exit code
        return StartFailure(tasks[0].kind, tasks[0].message, tasks[0].exit_codes, lines, started)
    events = [
        event for event in parse_service_events(describe_service(clients.ecs, cluster, service)) if event.at >= start
    ]
    newest = max(events, key=lambda event: event.at, default=None)
    return StartFailure(newest.kind, newest.message) if newest else StartFailure()


def find_worker_crash(clients: Clients, file: MonitorFile) -> StartFailure | None:
    """Return how the newest container died whose worker was not stopped; None if ECS knows of none.

    AWS errors are not caught.
    """
    tasks = list_stopped_tasks(clients.ecs, file.MONITOR_ECS_CLUSTER, file.names.service)
    died = [task for task in select_failed_tasks(tasks, file.MONITOR_START_TIME / 1000) if any(task.exit_codes)]
    if not died:
        return None
    lines = read_failed_task_lines(clients.logs, file.MONITOR_LOG_GROUP_NAME, file.MONITOR_APP_NAME, died)
    return StartFailure(died[0].kind, died[0].message, died[0].exit_codes, lines)


def select_failed_tasks(tasks: Iterable[StoppedTask], start: float) -> list[StoppedTask]:
    """Return the tasks that failed since the run's `start` (seconds since 1970), the newest first."""
    failed = (task for task in tasks if not 0 < task.at < start and not is_harmless_stop(task.kind, task.message))
    return sorted(failed, key=lambda task: task.at, reverse=True)


def read_failed_task_lines(
    logs: CloudWatchLogsClient, log_group_name: str, app: str, tasks: Sequence[StoppedTask]
) -> tuple[str, ...]:
    """Return the last lines of the first of these tasks that printed any. AWS errors are not caught."""
    group = build_machine_log_group(log_group_name)
    tails = (_list_task_log_lines(logs, group, app, task.id) for task in tasks[:MAX_FAILED_TASKS_READ])
    return next(filter(None, tails), ())


def _list_task_log_lines(logs: CloudWatchLogsClient, group: str, app: str, task_id: str) -> tuple[str, ...]:
    """Return the last lines that a task's container printed; none if it has no log stream."""
    try:
        # The task definition sets the prefix and the container's name: both are APP_NAME.
        return _list_last_lines(logs, group, f"{app}/{app}/{task_id}")
    except logs.exceptions.ResourceNotFoundException:
        return ()


def list_paused_machines(s3: S3Client, bucket: str, keys: RunKeys, now: float) -> tuple[PausedMachine, ...]:
    """Return the newest containers that are paused at `now` because jobs failed, the disk is full, or ECS refuses.

    Lists the bucket's files about pauses and reads at most five of them. AWS errors are not caught.
    """
    return tuple(_parse_pause(document) for document in list_paused_containers(s3, bucket, keys, now))


def _parse_pause(document: Mapping[str, Any]) -> PausedMachine:
    """Return the pause. Only one because of failed jobs has a planned end."""
    try:
        since = datetime.fromisoformat(document["since"]).timestamp()
    except (KeyError, TypeError, ValueError):
        since = None
    code, has_end = document.get("protection"), bool(document.get("until"))
    code = str(code) if code is not None else None
    return PausedMachine(
        document["machine"], document["reason"], since if has_end else None, code, None if code is None else since
    )


def format_paused_machine(paused: PausedMachine, service: ServiceState | None) -> str:
    """Return the line that the monitor uses to report the pause, with what to do if ECS refuses protection."""
    remedy = "" if paused.protection is None else f"; {format_remedy(choose_protection_remedy(paused, service))}"
    return f"{paused.machine} takes no jobs: {paused.reason}{remedy}"


def choose_protection_remedy(paused: PausedMachine, service: ServiceState | None) -> Remedy:
    """Return what to do about ECS's refusal to protect a container from scale-in."""
    if paused.is_denied:
        return DENIED_PROTECTION_REMEDY
    if paused.protection == BLOCKED_PROTECTION_CODE and service is not None and service.running > service.desired:
        return SURPLUS_PROTECTION_REMEDY
    if paused.protection == BLOCKED_PROTECTION_CODE:
        return BLOCKED_PROTECTION_REMEDY
    return OTHER_PROTECTION_REMEDY


def find_log_tail(logs: CloudWatchLogsClient, log_group_name: str, app: str) -> LogTail | None:
    """Return the time of the newest log line from any machine and the last lines of the app's most recent container.

    Returns None if there are no log lines. Other AWS errors are not caught.
    """
    group = build_machine_log_group(log_group_name)
    try:
        streams: Any = logs.describe_log_streams(
            logGroupName=group, orderBy="LastEventTime", descending=True, limit=MAX_LOG_STREAMS
        )["logStreams"]
    except logs.exceptions.ResourceNotFoundException:
        return None
    used_streams = [stream for stream in streams if "lastEventTimestamp" in stream]
    if not used_streams:
        return None
    newest = max(stream["lastEventTimestamp"] for stream in used_streams) / 1000
    app_streams = [stream["logStreamName"] for stream in used_streams if stream["logStreamName"].startswith(f"{app}/")]
    return LogTail(newest, _list_last_lines(logs, group, app_streams[0]) if app_streams else ())


def read_worker_lines(logs: CloudWatchLogsClient, log_group_name: str, machine: str) -> tuple[str, ...]:
    """Return the last lines that a worker on the machine wrote to CloudWatch itself; none if it has not.

    AWS errors are not caught.
    """
    streams = list_log_streams(logs, log_group_name, f"{machine}-")
    tails = (_list_last_lines(logs, log_group_name, stream) for stream in streams)
    return next(filter(None, tails), ())


def _list_last_lines(logs: CloudWatchLogsClient, group: str, stream: str) -> tuple[str, ...]:
    """Return the stream's last lines with MASK for secrets, from its newest page with any.

    CloudWatch may return empty pages before it returns the events; the same token twice marks the beginning.
    """
    request: dict[str, Any] = {"logGroupName": group, "logStreamName": stream, "limit": MAX_LOG_LINES}
    token: str | None = None
    for _ in range(MAX_EMPTY_LOG_PAGES):
        response: Any = logs.get_log_events(**request, **({"nextToken": token} if token else {"startFromHead": False}))
        if response["events"] or response.get("nextBackwardToken") in (None, token):
            return mask_lines(str(event["message"]).rstrip() for event in response["events"])
        token = response["nextBackwardToken"]
    return ()
