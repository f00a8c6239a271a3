"""distributed_something.aws.retry."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from botocore.exceptions import ClientError

from distributed_something.core.errors import get_error_code

# Seconds between tries while AWS's parts do not agree yet: a new role is known everywhere after some 10 s.
RETRY_PAUSE_SECONDS = (1.0, 2.0, 3.0, 5.0, 5.0, 5.0, 5.0, 5.0, 10.0, 10.0)
TAG_NOT_READY_ERROR = "AccessDenied"  # what IAM answers until a tag on which a right depends is known everywhere


def retry_until_consistent(call: Callable[[], Any], *not_yet: str, sleep: Callable[[float], None]) -> Any:
    """What `call` returns, tried again while AWS's refusal holds one of the words `not_yet`."""
    for pause in RETRY_PAUSE_SECONDS:
        try:
            return call()
        except ClientError as error:
            if not any(words in f"{get_error_code(error)} {error}" for words in not_yet):
                raise
            sleep(pause)
    return call()


def none_if_missing(call: Callable[[], Any], *missing: str) -> Any:
    """What `call` returns; None where AWS answers with one of the codes `missing`."""
    try:
        return call()
    except ClientError as error:
        if get_error_code(error) in missing:
            return None
        raise
