"""The container's own log, written to standard output and to LOG_GROUP_NAME (by watchtower).

A failure to write this log never stops the worker.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import Any

from distributed_something.worker.job.worker_settings import Settings
from distributed_something.worker.logs.log_stream import LogBackoff, LogStream
from distributed_something.worker.visible_text import make_visible

MAX_WAITING_LINES = 10_000  # queued while AWS is unavailable; further lines go to standard output only


def start_container_log(logs_client: Any, settings: Settings) -> None:
    """Send the worker's log to standard output and, if LOG_GROUP_NAME is set, to CloudWatch."""
    # What no line shows need not be collected ("Optimization" in Python's logging HOWTO).
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logger = logging.getLogger("worker")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    console = logging.StreamHandler(sys.stdout)
    console.setFormatter(VisibleFormatter("%(asctime)s %(levelname)s %(message)s"))
    logger.addHandler(console)
    if settings.log_group_name:
        name = f"{settings.machine}-{os.getpid()}"
        stream = LogStream(logs_client, settings.log_group_name, name, LogBackoff("the container's log"))
        logger.addHandler(CloudWatchHandler(stream))


def stop_container_log(seconds: float) -> None:
    """Send the queued lines within `seconds`. Later lines go to standard output only."""
    logger = logging.getLogger("worker")
    for handler in list(logger.handlers):
        if isinstance(handler, CloudWatchHandler):
            logger.removeHandler(handler)
            handler.end(seconds)


class VisibleFormatter(logging.Formatter):
    """A formatter whose lines are safe in a terminal, because reasons and file names may come from programs."""

    def format(self, record: logging.LogRecord) -> str:
        return "\n".join(map(make_visible, super().format(record).split("\n")))


class CloudWatchHandler(logging.Handler):
    """A logging handler that passes lines to a log stream."""

    def __init__(self, stream: LogStream) -> None:
        super().__init__()
        self.setFormatter(VisibleFormatter())
        self._stream = stream

    def emit(self, record: logging.LogRecord) -> None:
        try:
            if self._stream.waiting_events < MAX_WAITING_LINES:
                self._stream.send(self.format(record), record.created)
        except Exception:  # as in every logging handler: a line that cannot be written must not raise an error
            self.handleError(record)

    def end(self, seconds: float) -> None:
        """Send the queued lines within `seconds`."""
        self._stream.close()
        if not self._stream.join(seconds / 2):
            self._stream.give_up()
            self._stream.join(seconds / 2)
