"""Retries until AWS is consistent, and handling of errors for missing resources."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from botocore.exceptions import ClientError

from distributed_something.aws.retry import RETRY_PAUSE_SECONDS, RETRY_SECONDS, none_if_missing, retry_until_consistent
from tests.support.fakes import FakeTime


def build_error(code: str, message: str = "no") -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": message}}, "Call")


def build_call(*errors: ClientError) -> Callable[[], str]:
    """Return a call that fails with these errors in turn, then succeeds."""
    remaining = list(errors)

    def call() -> str:
        if remaining:
            raise remaining.pop(0)
        return "done"

    return call


def test_a_call_is_retried_with_longer_and_longer_pauses_while_it_fails_with_one_of_the_codes() -> None:
    time = FakeTime()
    call = build_call(*[build_error("NotReady")] * 3)
    assert retry_until_consistent(call, "NotReady", "Busy", sleep=time.sleep) == "done"
    assert time.slept == list(RETRY_PAUSE_SECONDS[:3])


def test_the_error_is_raised_after_two_minutes_of_retries() -> None:
    time = FakeTime()
    call = build_call(*[build_error("NotReady")] * (len(RETRY_PAUSE_SECONDS) + 1))
    with pytest.raises(ClientError, match="NotReady"):
        retry_until_consistent(call, "NotReady", sleep=time.sleep)
    assert sum(time.slept) == RETRY_SECONDS == 120


@pytest.mark.parametrize(
    "error",
    [
        build_error("Invalid", "the value NotReady is wrong"),  # AWS's message repeats the user's value
        build_error("NotReadyAtAll"),
        build_error("Invalid", "its role cannot be assumed"),
    ],
)
def test_a_code_must_match_exactly_and_is_not_searched_for_in_the_message(error: ClientError) -> None:
    time = FakeTime()
    with pytest.raises(ClientError):
        retry_until_consistent(build_call(error), "NotReady", sleep=time.sleep)
    assert time.slept == []


@pytest.mark.parametrize(
    ("error", "is_retried"),
    [
        (build_error("Invalid", "The role cannot be assumed by Lambda."), True),
        (build_error("Invalid", "the memory is too small"), False),
        (build_error("Other", "The role cannot be assumed by Lambda."), False),
        (build_error("cannot be assumed", "no"), False),
    ],
)
def test_an_unspecific_code_is_retried_only_with_the_expected_phrase(error: ClientError, is_retried: bool) -> None:
    time, expected = FakeTime(), ("Invalid", "cannot be assumed")
    if is_retried:
        assert retry_until_consistent(build_call(error), expected, sleep=time.sleep) == "done"
    else:
        with pytest.raises(ClientError):
            retry_until_consistent(build_call(error), expected, sleep=time.sleep)
    assert bool(time.slept) == is_retried


@pytest.mark.parametrize(
    "code", ["ThrottlingException", "RequestLimitExceeded", "SlowDown", "TooManyRequestsException"]
)
def test_a_call_that_is_still_throttled_after_botocores_retries_is_retried_for_longer(code: str) -> None:
    time = FakeTime()
    assert retry_until_consistent(build_call(*[build_error(code)] * 4), sleep=time.sleep) == "done"
    assert len(time.slept) == 4


@pytest.mark.parametrize("code", ["AccessDenied", "AccessDeniedException", "UnauthorizedOperation"])
def test_a_denied_call_is_retried_only_with_until_allowed(code: str) -> None:
    time = FakeTime()
    assert retry_until_consistent(build_call(build_error(code)), until_allowed=True, sleep=time.sleep) == "done"
    with pytest.raises(ClientError):
        retry_until_consistent(build_call(build_error(code)), sleep=time.sleep)


def test_the_result_is_none_for_a_missing_resource_and_other_errors_are_raised() -> None:
    assert none_if_missing(build_call(), "Gone") == "done"
    assert none_if_missing(build_call(build_error("Gone")), "Gone", "Never") is None
    with pytest.raises(ClientError):
        none_if_missing(build_call(build_error("Forbidden", "Gone")), "Gone")
