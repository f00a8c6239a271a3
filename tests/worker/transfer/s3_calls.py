"""What the tests of transfers note of S3's requests, and what they have it answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from botocore.exceptions import ClientError

from distributed_something.worker.job.failures import LostLease

# What AWS says of something that may go better in a while.
TRANSIENT_REFUSALS = [
    ("ThrottlingException", 400), ("KMS.ThrottlingException", 400), ("TooManyRequests", 429),
    ("RequestLimitExceeded", 400), ("OperationAborted", 409), ("ConditionalRequestConflict", 409),
    ("RequestTimeTooSkewed", 403), ("RequestExpired", 400), ("ExpiredToken", 400), ("SlowDown", 503),
]  # fmt: skip


class Calls:
    """Every request that a client sends, by name; `answer` may raise in its place."""

    def __init__(self, s3: Any, answer: Callable[[str], None] = lambda name: None) -> None:
        self.names: list[str] = []
        self._answer = answer
        s3.meta.events.register("before-call.s3", self._note)

    def _note(self, model: Any, **_: Any) -> None:
        self.names.append(model.name)
        self._answer(model.name)

    def count(self, name: str) -> int:
        return self.names.count(name)


def no_sleep(seconds: float) -> None:
    """For pauses that a test need not wait for."""


def never_sleep(seconds: float) -> None:
    """For a refusal that no other try makes better."""
    raise AssertionError(f"it rests {seconds} s although nothing will pass")


def refused(code: str, status: int) -> ClientError:
    """S3's refusal with this code and this HTTP status."""
    answer = {"Error": {"Code": code, "Message": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(answer, "PutObject")  # type: ignore[arg-type]


def first_times(times: int, name: str, error: Exception) -> Callable[[str], None]:
    """Raises `error` for the first so many requests of that name."""
    left = [error] * times

    def answer(called: str) -> None:
        if called == name and left:
            raise left.pop()

    return answer


class ShortLease:
    """A `check` that raises from its n-th call on."""

    def __init__(self, calls: int) -> None:
        self.left = calls

    def __call__(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise LostLease
