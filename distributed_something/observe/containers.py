"""Reads what the run's containers report: their pauses from the bucket and their last log lines from CloudWatch."""

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
    """A machine whose worker takes no jobs, and the reason."""

    machine: str
    reason: str


@dataclass(frozen=True)
class LogTail:
    """Time of the machines' newest log line (`at`, seconds since 1970) and the last lines of one container."""

    at: float
    lines: tuple[str, ...] = ()


def list_paused_machines(s3: S3Client, bucket: str, keys: RunKeys, now: float) -> tuple[PausedMachine, ...]:
    """Return the newest containers that are paused at `now` because several jobs failed in a row or the disk is full.

    Lists the bucket's files about pauses and reads at most five of them. AWS errors are not caught.
    """
    documents = list_paused_containers(s3, bucket, keys, now)
    return tuple(PausedMachine(document["machine"], document["reason"]) for document in documents)


def format_paused_machine(paused: PausedMachine) -> str:
    """Return the line that the monitor uses to report the pause."""
    return f"{paused.machine} takes no jobs: {paused.reason}"


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


def _list_last_lines(logs: CloudWatchLogsClient, group: str, stream: str) -> tuple[str, ...]:
    events: Any = logs.get_log_events(
        logGroupName=group, logStreamName=stream, limit=MAX_LOG_LINES, startFromHead=False
    )["events"]
    return tuple(str(event["message"]).rstrip() for event in events)
