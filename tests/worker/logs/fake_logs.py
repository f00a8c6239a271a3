"""A fake CloudWatch Logs in this process, and access to the streams that a test creates."""

from __future__ import annotations

import threading
from typing import Any

from botocore.exceptions import ClientError

from distributed_something.worker.logs.log_stream import MAX_BATCH_BYTES, MAX_BATCH_EVENTS, LogBackoff, LogStream

GROUP = "AppLogs"
EVENT_BYTES = 256 * 1024  # CloudWatch's limit for an event until 2025, which watchtower still uses


class FakeLogs:
    """A fake CloudWatch Logs: streams must exist, AWS's limits apply, and a test can make calls fail or hang."""

    def __init__(self) -> None:
        self.streams: dict[str, list[str]] = {}
        self.calls: list[str] = []
        self.error: Exception | None = None
        self.may_respond = threading.Event()  # calls hang until this is set
        self.may_respond.set()

    def put_log_events(self, *, logGroupName: str, logStreamName: str, logEvents: list[dict[str, Any]]) -> Any:
        self._call("put")
        if logStreamName not in self.streams:
            raise build_error("ResourceNotFoundException")
        times = [event["timestamp"] for event in logEvents]
        sizes = [len(event["message"].encode()) for event in logEvents]
        assert times == sorted(times)
        assert 0 < len(logEvents) <= MAX_BATCH_EVENTS
        assert min(sizes) > 0
        assert max(sizes) <= EVENT_BYTES
        assert sum(sizes) + 26 * len(sizes) <= MAX_BATCH_BYTES
        self.streams[logStreamName] += [event["message"] for event in logEvents]
        return {"nextSequenceToken": "1"}

    def create_log_stream(self, *, logGroupName: str, logStreamName: str) -> None:
        self._call("create")
        if logStreamName in self.streams:
            raise build_error("ResourceAlreadyExistsException")
        self.streams[logStreamName] = []

    def _call(self, name: str) -> None:
        self.calls.append(name)
        self.may_respond.wait()
        if self.error:
            raise self.error


class CountingLogs(FakeLogs):
    """A fake that stores only how many bytes it has received."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def put_log_events(self, *, logEvents: list[dict[str, Any]], **names: Any) -> Any:
        super().put_log_events(logEvents=logEvents, **names)
        self.bytes += sum(len(event["message"]) for event in logEvents)
        self.streams[names["logStreamName"]].clear()
        return {}


def build_error(code: str) -> ClientError:
    """Return the AWS error with this code."""
    return ClientError({"Error": {"Code": code, "Message": "test error"}}, "PutLogEvents")


class StreamRecorder:
    """A replacement for LogStream that also stores each stream it creates."""

    def __init__(self) -> None:
        self.streams: list[LogStream] = []

    def __call__(self, logs_client: Any, group: str, name: str, backoff: LogBackoff) -> LogStream:
        self.streams.append(LogStream(logs_client, group, name, backoff))
        return self.streams[-1]
