"""Handles expected AWS errors: a new resource is not available everywhere yet, or a resource does not exist.

botocore itself retries throttled and failed calls (see `clients.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from botocore.exceptions import ClientError

from distributed_something.core.errors import get_error_code, get_error_message, is_access_denied

# Pauses between attempts while AWS is not consistent yet. A new role, for example, takes about 10 s to work everywhere.
RETRY_PAUSE_SECONDS = (1.0, 2.0, 3.0, 5.0, 5.0, 5.0, 5.0, 5.0, 10.0, 10.0)


def retry_until_consistent(
    call: Callable[[], Any],
    *codes: str,
    phrases: Collection[str] = (),
    until_allowed: bool = False,
    sleep: Callable[[float], None],
) -> Any:
    """Return what `call` returns. Retry it for about a minute while it fails with one of the error codes.

    `phrases`: parts of AWS's message, for errors whose code is not specific. `until_allowed`: also retry while access
    is denied, because the permission depends on a tag that was just set. An error that persists is not caught.
    """
    for pause in RETRY_PAUSE_SECONDS:
        try:
            return call()
        except ClientError as error:
            has_retry_code = get_error_code(error) in codes or (until_allowed and is_access_denied(error))
            if not has_retry_code and not any(phrase in get_error_message(error) for phrase in phrases):
                raise
            sleep(pause)
    return call()


def none_if_missing(call: Callable[[], Any], *codes: str) -> Any:
    """Return what `call` returns, or None if it fails with one of the error codes. Other errors are not caught."""
    try:
        return call()
    except ClientError as error:
        if get_error_code(error) in codes:
            return None
        raise
