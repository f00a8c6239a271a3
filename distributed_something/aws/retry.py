"""What AWS's parts do not agree about yet, and what it says is missing: both are answers, and no errors.

Throttled and failed calls are repeated by botocore itself (`clients.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from botocore.exceptions import ClientError

from distributed_something.core.errors import get_error_code, get_error_message, is_access_denied

# Seconds between tries while AWS's parts do not agree yet: a new role is known everywhere after some 10 s.
RETRY_PAUSE_SECONDS = (1.0, 2.0, 3.0, 5.0, 5.0, 5.0, 5.0, 5.0, 10.0, 10.0)


def retry_until_consistent(
    call: Callable[[], Any],
    *codes: str,
    phrases: Collection[str] = (),
    until_allowed: bool = False,
    sleep: Callable[[float], None],
) -> Any:
    """Return what `call` returns. Try again for about a minute while AWS refuses it with one of the `codes`.

    `phrases`: parts of AWS's message, for refusals whose code says nothing. `until_allowed`: also try again while the
    right is missing, because it depends on a tag that was set a moment ago.
    """
    for pause in RETRY_PAUSE_SECONDS:
        try:
            return call()
        except ClientError as error:
            not_yet = get_error_code(error) in codes or (until_allowed and is_access_denied(error))
            if not not_yet and not any(phrase in get_error_message(error) for phrase in phrases):
                raise
            sleep(pause)
    return call()


def none_if_missing(call: Callable[[], Any], *missing: str) -> Any:
    """Return what `call` returns; None where AWS answers with one of the codes `missing`."""
    try:
        return call()
    except ClientError as error:
        if get_error_code(error) in missing:
            return None
        raise
