"""One stream of CloudWatch Logs, sent to by watchtower, made harmless.

watchtower batches events and sends them from a thread of its own. What it leaves open is added here: a failure never
raises and is said once, nothing is lost while AWS refuses (its thread waits, and the caller sees that the queue is not
taken), closing never waits, and a stream whose time is over ends within one call to AWS.
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

# https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_PutLogEvents.html: a call holds 10,000 events
# and 1,048,576 bytes, 26 a event included. Smaller here: a batch is in memory about four times over while it is sent.
MAX_BATCH_EVENTS, MAX_BATCH_BYTES = 10_000, 1_048_576
BATCH_EVENTS, BATCH_BYTES = 2_000, 512 * 1024
# The same page: an event holds 1 MB; it was 256 KiB until 2025 and still is where watchtower cuts. A character has at
# most 4 bytes in UTF-8, so that so many always fit and no character is cut.
MAX_EVENT_CHARACTERS = 64_000
# https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_CreateLogStream.html: no ':' and no '*'.
MAX_STREAM_NAME_CHARACTERS = 512
SEND_INTERVAL_SECONDS = 5  # how long watchtower collects events before it sends them
FIRST_RETRY_SECONDS, MAX_RETRY_SECONDS = 5.0, 60.0  # between calls while AWS refuses them
_INVALID_REQUEST_CODES = {"InvalidParameterException", "ValidationException"}  # a batch that no other try makes better


class LogBackoff:
    """What streams of one container know together of AWS's refusals: how long to wait, and what was said already."""

    def __init__(
        self, what: str, first_pause: float = FIRST_RETRY_SECONDS, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """`what`: whose logs they are, for the one line a kind of refusal in the container's log."""
        self._what, self._first_pause, self._monotonic = what, first_pause, monotonic
        self._pause, self._until = first_pause, 0.0
        self._said: set[str] = set()
        self._lock = threading.Lock()

    @property
    def seconds_left(self) -> float:
        """How long nothing should be tried; 0 without trouble."""
        return max(0.0, self._until - self._monotonic())

    def note_failure(self, error: Exception) -> None:
        """A call failed: the next ones wait, longer each time. Calls that fail together count as one."""
        with self._lock:
            if not self.seconds_left:
                self._until = self._monotonic() + self._pause
                self._pause = min(self._pause * 2, MAX_RETRY_SECONDS)
        self.log_once(error)

    def log_once(self, error: Exception) -> None:
        """Writes a kind of error to the container's log, once."""
        kind = get_error_code(error)
        with self._lock:
            if kind in self._said:
                return
            self._said.add(kind)
        logging.getLogger("worker").warning("%s may be missing in CloudWatch (said once): %s", self._what, error)

    def reset_pause(self) -> None:
        """A call went well."""
        self._pause, self._until = self._first_pause, 0.0


class LogStream:
    """A stream that is made by its first event. It may exist already: then it goes on."""

    def __init__(self, logs_client: Any, group: str, name: str, backoff: LogBackoff) -> None:
        self._client = _RetryingClient(logs_client, backoff)
        self._handler: Any = _load_watchtower().CloudWatchLogHandler(
            log_group_name=group,
            log_stream_name=build_stream_name(name).replace("{", "{{").replace("}", "}}"),  # watchtower formats it
            boto3_client=self._client,
            create_log_group=False,
            send_interval=SEND_INTERVAL_SECONDS,
            max_batch_size=BATCH_BYTES,
            max_batch_count=BATCH_EVENTS,
        )
        self._handler.FLUSH_TIMEOUT = 0  # close() does not wait; join() does
        self._last = 0.0

    def send(self, text: str, when: float) -> None:
        """Queues one event; `when` in seconds since 1970, never before the last one's. Only of one thread at a time."""
        self._last = max(self._last, when)
        record = logging.makeLogRecord({"msg": text[:MAX_EVENT_CHARACTERS] or " ", "created": self._last})
        self._handler.emit(record)

    @property
    def waiting_events(self) -> int:
        """Events that watchtower's thread has not taken yet."""
        return sum(queue.qsize() for queue in list(self._handler.queues.values()))

    @property
    def is_incomplete(self) -> bool:
        """Whether AWS refused some of the events for good."""
        return self._client.incomplete

    @property
    def is_running(self) -> bool:
        """Whether its thread still runs."""
        return any(thread.is_alive() for thread in self._handler.threads)

    def close(self) -> None:
        """No more events: its thread sends what it has and ends. Returns at once."""
        self._handler.close()

    def give_up(self) -> None:
        """Waits no more for better times: from the first call that fails, all the rest is dropped."""
        self._client.hurry.set()

    def join(self, seconds: float) -> bool:
        """Waits for its thread's end, at most so long; whether it ended."""
        end = time.monotonic() + seconds
        for thread in self._handler.threads:
            thread.join(max(0.0, end - time.monotonic()))
        return not self.is_running


class _RetryingClient:
    """What watchtower takes for a client of AWS: it knows one call, which always seems to go well."""

    def __init__(self, logs_client: Any, backoff: LogBackoff) -> None:
        self._aws, self._backoff = logs_client, backoff
        self.hurry = threading.Event()
        self.incomplete = False
        self._dropping = False

    def put_log_events(self, **request: Any) -> dict[str, Any]:
        """Returns when AWS has the batch, or when it never will."""
        while not self._dropping:
            self.hurry.wait(self._backoff.seconds_left)
            try:
                self.incomplete |= "rejectedLogEventsInfo" in self._put_events(request)
            except Exception as error:  # a log's failure is not a job's, whatever it is
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
            self.incomplete = True
            self._backoff.log_once(error)
            return
        self._backoff.note_failure(error)
        if self.hurry.is_set():
            self._dropping = self.incomplete = True


@cache
def _load_watchtower() -> Any:
    """Loaded when there is something to send. It warns of each failure anew; here LogBackoff says it, once."""
    import watchtower

    warnings.filterwarnings("ignore", category=watchtower.WatchtowerWarning)
    return watchtower


def build_stream_name(name: str) -> str:
    """`name` as AWS takes it for a stream."""
    return re.sub(r"[:*]", "-", name)[:MAX_STREAM_NAME_CHARACTERS] or "-"


def _is_invalid_request(error: Exception) -> bool:
    return isinstance(error, ParamValidationError) or get_error_code(error) in _INVALID_REQUEST_CODES
