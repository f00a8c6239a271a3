"""Handles expected AWS errors: a change is not visible everywhere yet, or a resource does not exist.

AWS returns before a new resource, tag, or role is known to all of its servers, and it refuses some changes while
another change is in progress. botocore does not retry such errors. It retries throttled and failed calls (see
`clients.py`), but gives up after a few seconds, which is not enough while many machines and monitors call AWS.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from botocore.exceptions import ClientError

from distributed_something.core.errors import (
    THROTTLING_CODES,
    get_error_code,
    get_error_message,
    is_access_denied,
)

# Pauses between attempts, two minutes in all: a role usually works everywhere after 10 s, and a service that was
# deleted keeps its name while it drains.
RETRY_PAUSE_SECONDS = (1.0, 2.0, 2.0, 5.0, 5.0, 5.0, 5.0, 5.0, *[10.0] * 9)
RETRY_SECONDS = sum(RETRY_PAUSE_SECONDS)
# An error code or, for codes that AWS also uses for lasting errors, the code and a part of AWS's message.
ExpectedError = str | tuple[str, str]


def retry_until_consistent(
    call: Callable[[], Any], *expected: ExpectedError, until_allowed: bool = False, sleep: Callable[[float], None]
) -> Any:
    """Return what `call` returns. Retry it for RETRY_SECONDS while it is throttled or fails with an expected error.

    `until_allowed`: also retry while access is denied, because the permission depends on a tag that was just set. An
    error that persists is not caught.
    """
    for pause in RETRY_PAUSE_SECONDS:
        try:
            return call()
        except ClientError as error:
            is_denied_for_now = until_allowed and is_access_denied(error)
            if not is_denied_for_now and not _is_expected(error, (*THROTTLING_CODES, *expected)):
                raise
            sleep(pause)
    return call()


def _is_expected(error: ClientError, expected: tuple[ExpectedError, ...]) -> bool:
    code, message = get_error_code(error), get_error_message(error)
    pairs = (item if isinstance(item, tuple) else (item, "") for item in expected)
    return any(code == expected_code and phrase in message for expected_code, phrase in pairs)


def none_if_missing(call: Callable[[], Any], *codes: str) -> Any:
    """Return what `call` returns, or None if it fails with one of the error codes. Other errors are not caught."""
    try:
        return call()
    except ClientError as error:
        if get_error_code(error) in codes:
            return None
        raise
