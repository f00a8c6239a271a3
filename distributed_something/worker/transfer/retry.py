"""Which failures of a transfer may pass, and how often and when it is tried again."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from botocore.exceptions import ClientError, ParamValidationError

from distributed_something.worker.job.failures import AWS_ERRORS, get_error_code

RETRY_PAUSES_SECONDS = (1, 5, 25)  # seconds between tries, each of which is botocore's own tries already
# Refusals by S3, or by KMS behind it, with a status below 500 that say nothing against the next try: what arrived was
# late, cut or garbled, or signed too long ago. Source: «Error responses», S3's API reference.
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
_TRANSIENT_STATUSES = {409, 429}  # HTTP: in conflict with another request that is under way; too many requests
_T = TypeVar("_T")


class IncompleteTransfer(Exception):
    """A connection ended before all bytes had come."""


TRANSFER_ERRORS = (*AWS_ERRORS, ConnectionError, TimeoutError, IncompleteTransfer)


def is_transient_error(error: Exception) -> bool:
    """Whether another try may go better."""
    if not isinstance(error, ClientError):
        return not isinstance(error, ParamValidationError)  # a bucket's name that cannot be: nothing was sent
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    code = get_error_code(error)
    return status >= 500 or status in _TRANSIENT_STATUSES or code in _TRANSIENT_CODES or "Throttl" in code


def retry_transient_errors(
    work: Callable[[], _T], check: Callable[[], None], sleep: Callable[[float], None] = time.sleep
) -> _T:
    """What `work` returns, tried again with pauses that grow while what AWS says may pass."""
    for pause in RETRY_PAUSES_SECONDS:
        try:
            check()
            return work()
        except TRANSFER_ERRORS as error:
            check()  # botocore wraps what a body raises: it may be check's own
            if not is_transient_error(error):
                raise
        sleep_with_checks(pause, check, sleep)
    return work()


def sleep_with_checks(seconds: int, check: Callable[[], None], sleep: Callable[[float], None]) -> None:
    """Sleeps, asking `check` each second."""
    for _ in range(seconds):
        check()
        sleep(1.0)
