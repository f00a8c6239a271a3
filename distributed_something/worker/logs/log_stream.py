"""A CloudWatch log stream that can neither fail nor delay the worker.

watchtower batches events and sends them from its own thread. This module adds what watchtower lacks: failures are
logged once and never raised; no event is lost while AWS is unavailable (the thread waits, and the caller sees that the
queue is not drained); closing never waits; and a stream that is given up ends after at most one more call to AWS.

watchtower's handler alone drops a batch after five attempts without a pause, and all later events after any other error
than AWS's own, such as a lost connection. Its queue has no limit, and closing it waits for 30 s.
"""

from __future__ import annotations

import logging
import re
import threading
import time
import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

from botocore.exceptions import ClientError, ParamValidationError

from distributed_something.worker.job.failures import get_error_code

# Limits for one call; AWS adds 26 bytes of overhead per event. Source:
# https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_PutLogEvents.html
MAX_BATCH_EVENTS, MAX_BATCH_BYTES = 10_000, 1_048_576
# The worker sends smaller batches, because during a call a batch takes up about four times its size in memory.
BATCH_EVENTS, BATCH_BYTES = 2_000, 512 * 1024
# AWS has allowed 1 MB per event since 2025, but watchtower still cuts events at the former limit of 256 KiB. A
# character takes at most 4 bytes in UTF-8, so this many characters always fit and none is cut in half.
MAX_EVENT_CHARACTERS = 64_000
# A stream name must not contain ':' or '*'. Source:
# https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_CreateLogStream.html
MAX_STREAM_NAME_CHARACTERS = 512
SEND_INTERVAL_SECONDS = 5  # how long watchtower collects events before it sends them
FIRST_RETRY_SECONDS, MAX_RETRY_SECONDS = 5.0, 60.0  # pause between calls while they keep failing
_INVALID_REQUEST_CODES = {"InvalidParameterException", "ValidationException"}  # retrying cannot help
log = logging.getLogger("worker")


class LogBackoff:
    """The errors logged so far and the pause after a failed call. All of a container's log streams share them."""

    def __init__(
        self, subject: str, first_pause: float = FIRST_RETRY_SECONDS, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """`subject`: what the warning calls the logs, such as "job logs". Each kind of error is logged once."""
        self._subject, self._first_pause, self._monotonic = subject, first_pause, monotonic
        self._pause, self._until = first_pause, 0.0
        self._logged_codes: set[str] = set()
        self._lock = threading.Lock()

    @property
    def seconds_left(self) -> float:
        """Seconds to wait before the next call; 0 if there is no need to wait."""
        return max(0.0, self._until - self._monotonic())

    def note_failure(self, error: Exception) -> None:
        """Make the next calls wait after a failed call, longer each time. Simultaneous failures count as one."""
        with self._lock:
            if not self.seconds_left:
                self._until = self._monotonic() + self._pause
                self._pause = min(self._pause * 2, MAX_RETRY_SECONDS)
        self.log_once(error)

    def log_once(self, error: Exception) -> None:
        """Write the error to the container's log, unless an error of the same kind was logged before."""
        code = get_error_code(error)
        with self._lock:
            if code in self._logged_codes:
                return
            self._logged_codes.add(code)
        message = "%s may be incomplete in CloudWatch (later errors of this kind are not logged): %s"
        log.warning(message, self._subject, error)

    def reset_pause(self) -> None:
        """Note that a call succeeded."""
        self._pause, self._until = self._first_pause, 0.0


class LogStream:
    """A log stream, created by its first event. If a stream with that name exists, events are appended to it."""

    def __init__(self, logs_client: Any, group: str, name: str, backoff: LogBackoff) -> None:
        self._client = _RetryingClient(logs_client, backoff)
        # watchtower treats the stream name as a format string, so braces are doubled.
        self._handler: Any = _load_watchtower().CloudWatchLogHandler(
            log_group_name=group,
            log_stream_name=build_stream_name(name).replace("{", "{{").replace("}", "}}"),
            boto3_client=self._client,
            create_log_group=False,
            send_interval=SEND_INTERVAL_SECONDS,
            max_batch_size=BATCH_BYTES,
            max_batch_count=BATCH_EVENTS,
        )
        self._handler.FLUSH_TIMEOUT = 0  # close() must not wait; join() does
        self._last_time = 0.0

    def send(self, text: str, when: float) -> None:
        """Queue one event. Only one thread may call this at a time.

        `when`: seconds since 1970; if the previous event's time is later, that time is used instead.
        """
        self._last_time = max(self._last_time, when)
        record = logging.makeLogRecord({"msg": text[:MAX_EVENT_CHARACTERS] or " ", "created": self._last_time})
        self._handler.emit(record)

    @property
    def waiting_events(self) -> int:
        """Number of events that watchtower's thread has not taken yet."""
        return sum(queue.qsize() for queue in list(self._handler.queues.values()))

    @property
    def is_incomplete(self) -> bool:
        """Whether any events were dropped or permanently rejected."""
        return self._client.is_incomplete

    @property
    def is_running(self) -> bool:
        """Whether the stream's thread is still running."""
        return any(thread.is_alive() for thread in self._handler.threads)

    def close(self) -> None:
        """Accept no more events, and return at once. The thread sends the queued events and ends."""
        self._handler.close()

    def give_up(self) -> None:
        """Stop retrying: after the next failed call, drop all remaining events."""
        self._client.is_given_up.set()

    def join(self, seconds: float) -> bool:
        """Wait at most `seconds` for the stream's thread, and return whether it has ended."""
        end = time.monotonic() + seconds
        for thread in self._handler.threads:
            thread.join(max(0.0, end - time.monotonic()))
        return not self.is_running


class _RetryingClient:
    """The client that watchtower uses. Its only method retries until it succeeds or is given up, and never raises."""

    def __init__(self, logs_client: Any, backoff: LogBackoff) -> None:
        self._aws, self._backoff = logs_client, backoff
        self.is_given_up = threading.Event()
        self.is_incomplete = False
        self._is_dropping = False

    def put_log_events(self, **request: Any) -> dict[str, Any]:
        """Send the batch, and return once AWS has accepted it or will never accept it."""
        while not self._is_dropping:
            self.is_given_up.wait(self._backoff.seconds_left)
            try:
                self.is_incomplete |= "rejectedLogEventsInfo" in self._put_events(request)
            except Exception as error:  # a log failure must never fail a job
                self._handle_failure(error)
                if _is_invalid_request(error):
                    break
            else:
                self._backoff.reset_pause()
                break
        return {}

    def _put_events(self, request: dict[str, Any]) -> Any:
        try:
            return self._aws.put_log_events(**request)
        except ClientError as error:
            if get_error_code(error) != "ResourceNotFoundException":
                raise
        self._create_stream(logGroupName=request["logGroupName"], logStreamName=request["logStreamName"])
        return self._aws.put_log_events(**request)

    def _create_stream(self, **names: str) -> None:
        try:
            self._aws.create_log_stream(**names)
        except ClientError as error:
            if get_error_code(error) != "ResourceAlreadyExistsException":
                raise

    def _handle_failure(self, error: Exception) -> None:
        if _is_invalid_request(error):
            self.is_incomplete = True
            self._backoff.log_once(error)
            return
        self._backoff.note_failure(error)
        if self.is_given_up.is_set():
            self._is_dropping = self.is_incomplete = True


@cache
def _load_watchtower() -> Any:
    """Import watchtower once there is something to send, and silence its warnings: LogBackoff logs failures."""
    import watchtower

    warnings.filterwarnings("ignore", category=watchtower.WatchtowerWarning)
    return watchtower


def build_stream_name(name: str) -> str:
    """Return `name` with the characters that CloudWatch does not allow in a stream name replaced."""
    return re.sub(r"[:*]", "-", name)[:MAX_STREAM_NAME_CHARACTERS] or "-"


def _is_invalid_request(error: Exception) -> bool:
    return isinstance(error, ParamValidationError) or get_error_code(error) in _INVALID_REQUEST_CODES
