"""Retries transfers: defines which errors are temporary, how long to wait before each retry, and when to give up.

A transfer ends early if its `check` raises an exception. `check` is called before each attempt, whenever bytes arrive,
and, inside `check_requests`, before each HTTP request, because botocore repeats a request up to seven times by itself.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from botocore.exceptions import ClientError, ParamValidationError

from distributed_something.worker.job.failures import AWS_ERRORS, get_error_code

RETRY_PAUSES_SECONDS = (1, 5, 25)  # in addition to the retries that botocore makes within each call
# Codes of temporary S3 and KMS errors with an HTTP status below 500: too many requests, or a request that was late,
# incomplete, or damaged, or whose signature was too old. Source: "Error responses" in the S3 API reference.
_TRANSIENT_CODES = {
    "RequestTimeout",
    "IncompleteBody",
    "BadDigest",
    "XAmzContentSHA256Mismatch",
    "NoSuchUpload",
    "SlowDown",
    "RequestLimitExceeded",
    "RequestTimeTooSkewed",
    "RequestExpired",
    "ExpiredToken",
}
_TRANSIENT_STATUSES = {409, 429}  # HTTP: a conflict with another request in progress; too many requests
_T = TypeVar("_T")
_requests = threading.local()  # `check`: what `check_requests` set in this thread


class IncompleteTransfer(Exception):
    """A transfer that ended before all bytes arrived."""


TRANSFER_ERRORS = (*AWS_ERRORS, ConnectionError, TimeoutError, IncompleteTransfer)


def is_transient_error(error: Exception) -> bool:
    """Return whether a retry may succeed."""
    if not isinstance(error, ClientError):
        return not isinstance(error, ParamValidationError)  # an invalid bucket name, which botocore never sends
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    code = get_error_code(error)
    return status >= 500 or status in _TRANSIENT_STATUSES or code in _TRANSIENT_CODES or "Throttl" in code


def add_deadline(
    check: Callable[[], None], end: float, now: Callable[[], float], build_error: Callable[[], Exception]
) -> Callable[[], None]:
    """Return a check that calls `check` and raises an error from `end` on. `end` is a time on the clock `now`."""

    def check_with_deadline() -> None:
        check()
        if now() >= end:
            raise build_error()

    return check_with_deadline


@contextmanager
def check_requests(check: Callable[[], None]) -> Iterator[None]:
    """Call `check` before each HTTP request that this thread sends with a client that `watch_requests` prepared."""
    previous = getattr(_requests, "check", None)
    _requests.check = check
    try:
        yield
    finally:
        _requests.check = previous


def watch_requests(s3: Any) -> None:
    """Prepare an S3 client for `check_requests`. Preparing it again has no effect."""
    s3.meta.events.register("before-send.s3", _check_request, unique_id="check-requests")


def _check_request(**_: Any) -> None:
    if (check := getattr(_requests, "check", None)) is not None:
        check()


def retry_transient_errors(
    transfer: Callable[[], _T], check: Callable[[], None], sleep: Callable[[float], None] = time.sleep
) -> _T:
    """Call `transfer` and return its result. After a temporary error, retry it with increasingly long pauses.

    `check` is called before each call and may raise an exception to end the retries.
    """
    for pause in RETRY_PAUSES_SECONDS:
        try:
            check()
            return transfer()
        except TRANSFER_ERRORS as error:
            check()  # if botocore wrapped an error that `check` raised, raise the original error
            if not is_transient_error(error):
                raise
        sleep_with_checks(pause, check, sleep)
    return transfer()


def sleep_with_checks(seconds: int, check: Callable[[], None], sleep: Callable[[float], None]) -> None:
    """Sleep, calling `check` every second."""
    for _ in range(seconds):
        check()
        sleep(1.0)
