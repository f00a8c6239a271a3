"""Copies the end of a failed container's output to CloudWatch Logs, where ECS's log driver `awslogs` would write it.

The whole output is in a file on this computer. Only the end of a failed one is copied, because that is what commands
read to explain the failure.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from distributed_something.localcloud.base.layout import CloudLayout

MAX_COPIED_BYTES = 16 * 1024

LogCopy = Callable[[str, dict[str, Any], str], None]
"""Function that copies a failed task's log, given its region, its container's definition, and its ID."""

log = logging.getLogger(__name__)


def no_copy(_region: str, _container: dict[str, Any], _task_id: str) -> None:
    """Copy nothing."""


class TaskLogCopier:
    """Copies the ends of containers' outputs.

    `build_logs_client`: called with a region's name when it is first needed. `now`: seconds since 1970.
    """

    def __init__(
        self, layout: CloudLayout, build_logs_client: Callable[[str], Any], now: Callable[[], float] = time.time
    ) -> None:
        self._layout, self._build_logs_client, self._now = layout, build_logs_client, now

    def copy_log(self, region: str, container: dict[str, Any], task_id: str) -> None:
        """Copy the end of the output of a task's `container`, whose definition says where the log belongs.

        Errors are only logged, because the local cloud must continue.
        """
        configuration = container.get("logConfiguration") or {}
        options = configuration.get("options") or {}
        prefix = options.get("awslogs-stream-prefix")
        if configuration.get("logDriver") != "awslogs" or not prefix or not options.get("awslogs-group"):
            return
        stream = {"logGroupName": options["awslogs-group"], "logStreamName": f"{prefix}/{container['name']}/{task_id}"}
        try:
            lines = self._read_last_lines(task_id)
            if lines:
                self._write_lines(self._build_logs_client(region), stream, lines)
        except Exception as error:  # for example, the log group was deleted
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
        with suppress(logs.exceptions.ResourceAlreadyExistsException):
            logs.create_log_stream(**stream)
        at = int(self._now() * 1000)
        logs.put_log_events(**stream, logEvents=[{"timestamp": at, "message": line} for line in lines])
