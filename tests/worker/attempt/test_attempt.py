"""What a message tells of earlier attempts at its job."""

from __future__ import annotations

from typing import Any

import pytest

from distributed_something.worker.attempt.attempt import Attempt, build_message_attributes, read_attempt_counts


def received(times: object = "1", **counts: object) -> dict[str, Any]:
    told = {name: {"StringValue": count} for name, count in counts.items()}
    return {"Attributes": {"ApproximateReceiveCount": times}, "MessageAttributes": told}


def test_receives_count_as_tries_and_failures() -> None:
    assert read_attempt_counts(received("3")) == (2, 2)


def test_what_an_interrupted_message_carries_is_added() -> None:
    assert read_attempt_counts(received("2", tries="4", failures="1")) == (5, 2)


@pytest.mark.parametrize("nonsense", ["", "-1", "many", "9" * 5000, None])
def test_counts_that_are_no_numbers_count_as_none(nonsense: object) -> None:
    assert read_attempt_counts(received("1", tries=nonsense, failures=nonsense)) == (0, 0)


@pytest.mark.parametrize(("begun", "tries"), [(True, 5), (False, 4)])
def test_an_interruption_is_no_failure_and_a_try_if_the_program_was_begun(begun: bool, tries: int) -> None:
    nothing: Any = None
    again = build_message_attributes(Attempt({}, nothing, nothing, tries=4, failures=1, started=0, begun=begun))
    assert read_attempt_counts({"Attributes": {"ApproximateReceiveCount": "1"}, "MessageAttributes": again}) == (
        tries,
        1,
    )
