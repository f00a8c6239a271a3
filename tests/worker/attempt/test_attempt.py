"""The counts of earlier attempts and failures in a message."""

from __future__ import annotations

from typing import Any

import pytest

from distributed_something.worker.attempt.attempt import Attempt, build_message_attributes, read_attempt_counts


def build_message(receives: object = "1", **counts: object) -> dict[str, Any]:
    attributes = {name: {"StringValue": count} for name, count in counts.items()}
    return {"Attributes": {"ApproximateReceiveCount": receives}, "MessageAttributes": attributes}


def test_earlier_receives_count_as_attempts_and_failures() -> None:
    assert read_attempt_counts(build_message("3")) == (2, 2)


def test_the_counts_in_an_interrupted_jobs_message_are_added() -> None:
    assert read_attempt_counts(build_message("2", tries="4", failures="1")) == (5, 2)


@pytest.mark.parametrize("count", ["", "-1", "many", "9" * 5000, None])
def test_counts_that_are_not_numbers_are_ignored(count: object) -> None:
    assert read_attempt_counts(build_message("1", tries=count, failures=count)) == (0, 0)


@pytest.mark.parametrize(("has_started", "attempts"), [(True, 5), (False, 4)])
def test_an_interruption_does_not_count_as_a_failure_and_counts_as_an_attempt_only_if_the_program_started(
    has_started: bool, attempts: int
) -> None:
    nothing: Any = None
    attempt = Attempt({}, nothing, nothing, earlier_attempts=4, failures=1, started=0, has_started=has_started)
    message = {"Attributes": {"ApproximateReceiveCount": "1"}, "MessageAttributes": build_message_attributes(attempt)}
    assert read_attempt_counts(message) == (attempts, 1)
