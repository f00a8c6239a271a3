"""Refusals that are not errors: AWS does not know a new resource everywhere yet, or a resource does not exist.

botocore itself retries throttled and failed calls (see `clients.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from botocore.exceptions import ClientError

from distributed_something.core.errors import get_error_code, get_error_message, is_access_denied

# Pauses between attempts until AWS is consistent. A new role, for example, is known everywhere after about 10 s.
RETRY_PAUSE_SECONDS = (1.0, 2.0, 3.0, 5.0, 5.0, 5.0, 5.0, 5.0, 10.0, 10.0)


def retry_until_consistent(
    call: Callable[[], Any],
    *codes: str,
    phrases: Collection[str] = (),
    until_allowed: bool = False,
    sleep: Callable[[float], None],
) -> Any:
    """Return what `call` returns. Retry it for about a minute while AWS refuses it with one of the error codes.

    `phrases`: parts of AWS's message, for refusals whose code is not specific. `until_allowed`: also retry while access
    is denied, because the permission depends on a tag that was just set. Raise AWS's error if it persists.
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
    """Return what `call` returns, or None if AWS refuses it with one of the error codes. Raise all other errors."""
    try:
        return call()
    except ClientError as error:
        if get_error_code(error) in codes:
            return None
        raise
