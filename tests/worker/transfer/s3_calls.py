"""Helpers for the transfer tests that record S3 requests and make them fail."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from botocore.exceptions import ClientError

from distributed_something.worker.job.failures import LostLease

# The error code and HTTP status of each temporary error.
TRANSIENT_ERRORS = [
    ("ThrottlingException", 400), ("KMS.ThrottlingException", 400), ("TooManyRequests", 429),
    ("RequestLimitExceeded", 400), ("OperationAborted", 409), ("ConditionalRequestConflict", 409),
    ("RequestTimeTooSkewed", 403), ("RequestExpired", 400), ("ExpiredToken", 400), ("SlowDown", 503),
]  # fmt: skip


class Calls:
    """Records the names of all requests that a client sends. `respond` can raise an error to stop a request."""

    def __init__(self, s3: Any, respond: Callable[[str], None] = lambda name: None) -> None:
        self.names: list[str] = []
        self._respond = respond
        s3.meta.events.register("before-call.s3", self._record_request)

    def _record_request(self, model: Any, **_: Any) -> None:
        self.names.append(model.name)
        self._respond(model.name)

    def count(self, name: str) -> int:
        return self.names.count(name)


def no_sleep(seconds: float) -> None:
    """Return at once instead of sleeping."""


def never_sleep(seconds: float) -> None:
    """Fail the test, because the error must not be retried."""
    raise AssertionError(f"the code slept for {seconds} s, although the error is not temporary")


def build_s3_error(code: str, status: int) -> ClientError:
    """Return an error from S3 with this code and HTTP status."""
    response = {"Error": {"Code": code, "Message": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(response, "PutObject")  # type: ignore[arg-type]


def fail_first_calls(count: int, name: str, error: Exception) -> Callable[[str], None]:
    """Return a `respond` function that raises `error` for the first `count` requests with this name."""
    errors = [error] * count

    def respond(request_name: str) -> None:
        if request_name == name and errors:
            raise errors.pop()

    return respond


class ShortLease:
    """A `check` that raises LostLease after the given number of calls."""

    def __init__(self, calls: int) -> None:
        self.remaining_calls = calls

    def __call__(self) -> None:
        self.remaining_calls -= 1
        if self.remaining_calls < 0:
            raise LostLease
