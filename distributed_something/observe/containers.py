"""What the run's containers say about themselves: pauses in the bucket, and the last lines in CloudWatch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from distributed_something.worker import RunKeys, build_machine_log_group, list_paused_containers

if TYPE_CHECKING:
    from mypy_boto3_logs import CloudWatchLogsClient
    from mypy_boto3_s3 import S3Client

MAX_LOG_STREAMS = 50
MAX_LOG_LINES = 5


@dataclass(frozen=True)
class PausedMachine:
    """A machine whose worker takes no jobs, and why."""

    machine: str
    reason: str


@dataclass(frozen=True)
class LogTail:
    """The newest line that the run's machines logged (seconds since 1970), and the last lines of a container."""

    at: float
    lines: tuple[str, ...] = ()


def list_paused_machines(s3: S3Client, bucket: str, keys: RunKeys, now: float) -> tuple[PausedMachine, ...]:
    """Return what the newest containers say that take no jobs at `now`: theirs failed in a row, or their disk is full.

    One listing and at most five reads. Raises AWS's errors.
    """
    found = list_paused_containers(s3, bucket, keys, now)
    return tuple(PausedMachine(document["machine"], document["reason"]) for document in found)


def format_paused_machine(paused: PausedMachine) -> str:
    """Return the pause as the monitor shows it."""
    return f"{paused.machine} takes no jobs: {paused.reason}"


def find_log_tail(logs: CloudWatchLogsClient, log_group_name: str, app: str) -> LogTail | None:
    """Return the newest sign of life of the app's machines, and the last lines of the container that wrote last; None
    where none wrote. Raises AWS's errors."""
    group = build_machine_log_group(log_group_name)
    try:
        streams: Any = logs.describe_log_streams(
            logGroupName=group, orderBy="LastEventTime", descending=True, limit=MAX_LOG_STREAMS
        )["logStreams"]
    except logs.exceptions.ResourceNotFoundException:
        return None
    written = [stream for stream in streams if "lastEventTimestamp" in stream]
    if not written:
        return None
    newest = max(stream["lastEventTimestamp"] for stream in written) / 1000
    own = [stream["logStreamName"] for stream in written if stream["logStreamName"].startswith(f"{app}/")]
    return LogTail(newest, _list_last_lines(logs, group, own[0]) if own else ())


def _list_last_lines(logs: CloudWatchLogsClient, group: str, stream: str) -> tuple[str, ...]:
    events: Any = logs.get_log_events(
        logGroupName=group, logStreamName=stream, limit=MAX_LOG_LINES, startFromHead=False
    )["events"]
    return tuple(str(event["message"]).rstrip() for event in events)
