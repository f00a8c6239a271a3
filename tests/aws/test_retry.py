"""Calls that are tried again until AWS's parts agree, and answers that mean that something is missing."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from botocore.exceptions import ClientError

from distributed_something.aws.retry import RETRY_PAUSE_SECONDS, none_if_missing, retry_until_consistent
from tests.support.fakes import FakeTime


def refused(code: str, message: str = "no") -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": message}}, "Call")


def answers(*errors: ClientError) -> Callable[[], str]:
    """A call that is refused with these errors in turn, then succeeds."""
    left = list(errors)

    def call() -> str:
        if left:
            raise left.pop(0)
        return "done"

    return call


def test_a_code_that_means_not_yet_is_waited_for_with_growing_pauses() -> None:
    time = FakeTime()
    call = answers(*[refused("NotReady")] * 3)
    assert retry_until_consistent(call, "NotReady", "Busy", sleep=time.sleep) == "done"
    assert time.slept == list(RETRY_PAUSE_SECONDS[:3])


def test_after_a_minute_the_refusal_is_passed_on() -> None:
    time = FakeTime()
    call = answers(*[refused("NotReady")] * (len(RETRY_PAUSE_SECONDS) + 1))
    with pytest.raises(ClientError, match="NotReady"):
        retry_until_consistent(call, "NotReady", sleep=time.sleep)
    assert 45 <= sum(time.slept) <= 90


@pytest.mark.parametrize(
    "error",
    [
        refused("Invalid", "the value NotReady is wrong"),  # the user's own value, repeated by AWS
        refused("NotReadyAtAll"),
        refused("Invalid", "its role cannot be assumed"),
    ],
)
def test_a_code_is_compared_whole_and_never_looked_for_in_a_message(error: ClientError) -> None:
    time = FakeTime()
    with pytest.raises(ClientError):
        retry_until_consistent(answers(error), "NotReady", sleep=time.sleep)
    assert time.slept == []


def test_a_phrase_is_looked_for_in_the_message_alone() -> None:
    time = FakeTime()
    call = answers(refused("Invalid", "The role cannot be assumed by Lambda."))
    assert retry_until_consistent(call, phrases=["cannot be assumed"], sleep=time.sleep) == "done"
    with pytest.raises(ClientError):
        retry_until_consistent(answers(refused("Invalid")), phrases=["Invalid"], sleep=time.sleep)


@pytest.mark.parametrize("code", ["AccessDenied", "AccessDeniedException", "UnauthorizedOperation"])
def test_a_right_that_depends_on_a_new_tag_is_waited_for_where_that_is_said(code: str) -> None:
    time = FakeTime()
    assert retry_until_consistent(answers(refused(code)), until_allowed=True, sleep=time.sleep) == "done"
    with pytest.raises(ClientError):
        retry_until_consistent(answers(refused(code)), sleep=time.sleep)


def test_what_is_missing_is_none_and_other_refusals_are_passed_on() -> None:
    assert none_if_missing(answers(), "Gone") == "done"
    assert none_if_missing(answers(refused("Gone")), "Gone", "Never") is None
    with pytest.raises(ClientError):
        none_if_missing(answers(refused("Forbidden", "Gone")), "Gone")
