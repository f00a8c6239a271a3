"""The log streams of containers in CloudWatch Logs, as Docker's log driver `awslogs` makes them.

A container whose log group does not exist cannot start, as on AWS. The whole output is in a file on this computer; only
the end of a failed container's output is copied to its stream, because that is what commands read to explain the
failure.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, Protocol

from botocore.exceptions import BotoCoreError, ClientError

from distributed_something.localcloud.base.layout import CloudLayout
from distributed_something.localcloud.play.runners import TaskStartError

MAX_COPIED_BYTES = 16 * 1024
MISSING_GROUP_MESSAGE = (
    "CannotStartContainerError: Error response from daemon: failed to initialize logging driver: failed to create"
    " Cloudwatch log stream: ResourceNotFoundException: The specified log group does not exist."
)

log = logging.getLogger(__name__)


class TaskLogs(Protocol):
    """The log streams of one cloud's tasks. `container` is a container's definition."""

    def open_stream(self, region: str, container: dict[str, Any], task_id: str) -> None:
        """Create the container's log stream. Raise TaskStartError if its log group does not exist."""

    def copy_log(self, region: str, container: dict[str, Any], task_id: str) -> None:
        """Copy the end of a failed container's output to its log stream."""


class NoTaskLogs:
    """Log streams of tests without CloudWatch Logs: nothing is created or copied."""

    def open_stream(self, region: str, container: dict[str, Any], task_id: str) -> None:
        """Create nothing."""

    def copy_log(self, region: str, container: dict[str, Any], task_id: str) -> None:
        """Copy nothing."""


class CloudWatchTaskLogs:
    """Log streams in the emulated CloudWatch Logs.

    `build_logs_client`: called with a region's name when it is first needed. `now`: seconds since 1970.
    """

    def __init__(
        self, layout: CloudLayout, build_logs_client: Callable[[str], Any], now: Callable[[], float] = time.time
    ) -> None:
        self._layout, self._build_logs_client, self._now = layout, build_logs_client, now

    def open_stream(self, region: str, container: dict[str, Any], task_id: str) -> None:
        """Create the container's log stream. Raise TaskStartError if its log group does not exist.

        Other AWS errors are only logged, because the local cloud must continue.
        """
        stream = _name_stream(container, task_id)
        if not stream:
            return
        logs = self._build_logs_client(region)
        try:
            logs.create_log_stream(**stream)
        except logs.exceptions.ResourceAlreadyExistsException:
            return
        except logs.exceptions.ResourceNotFoundException as error:
            raise TaskStartError(MISSING_GROUP_MESSAGE) from error
        except (BotoCoreError, ClientError) as error:
            log.warning("the log stream of task %s could not be created: %s", task_id, error)

    def copy_log(self, region: str, container: dict[str, Any], task_id: str) -> None:
        """Copy the end of the output of a task's `container`, whose definition says where the log belongs.

        AWS errors and those of files are only logged, because the local cloud must continue.
        """
        stream = _name_stream(container, task_id)
        if not stream:
            return
        try:
            lines = self._read_last_lines(task_id)
            if lines:
                self._write_lines(self._build_logs_client(region), stream, lines)
        except (BotoCoreError, ClientError, OSError) as error:  # for example, the log group was deleted
            log.warning("the log of task %s could not be copied: %s", task_id, error)

    def _read_last_lines(self, task_id: str) -> list[str]:
        with (self._layout.task_logs / f"{task_id}.log").open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - MAX_COPIED_BYTES))
            text = file.read().decode(errors="replace")
        lines = text.splitlines()
        complete = lines[1:] if size > MAX_COPIED_BYTES else lines
        return [line for line in complete if line.strip()]

    def _write_lines(self, logs: Any, stream: dict[str, str], lines: list[str]) -> None:
        at = int(self._now() * 1000)
        logs.put_log_events(**stream, logEvents=[{"timestamp": at, "message": line} for line in lines])


def _name_stream(container: dict[str, Any], task_id: str) -> dict[str, str]:
    """Return the log group and the stream of a container with the log driver `awslogs`; empty for other drivers."""
    configuration = container.get("logConfiguration") or {}
    options = configuration.get("options") or {}
    prefix, group = options.get("awslogs-stream-prefix"), options.get("awslogs-group")
    if configuration.get("logDriver") != "awslogs" or not prefix or not group:
        return {}
    return {"logGroupName": group, "logStreamName": f"{prefix}/{container['name']}/{task_id}"}
