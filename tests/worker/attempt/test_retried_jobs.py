"""Jobs that `retry` sent again: their records say which job they repeat, also after an interruption."""

from __future__ import annotations

from typing import Any

import pytest

from distributed_something.worker.job.job_id import job_id
from tests.worker.attempt.attempt_harness import JOB_ID, MESSAGE, AttemptHarness

RUN = "20261123T104500Z"


@pytest.mark.parametrize(("attributes", "expected"), [
    ({}, None),
    ({"retry_of": RUN, "retry_job": "old-1234567890"}, {"run": RUN, "job": "old-1234567890"}),
    ({"retry_of": RUN}, {"run": RUN, "job": JOB_ID}),
])  # fmt: skip
def test_a_record_says_which_job_it_repeats(
    harness: AttemptHarness, attributes: dict[str, str], expected: dict[str, str] | None
) -> None:
    harness.handle(attributes=attributes)
    assert harness.read_record()["retry_of"] == expected


def test_a_record_says_since_when_results_count(harness: AttemptHarness) -> None:
    harness.handle(attributes={"again_since": "2026-11-23T10:45:00.000Z"})
    assert harness.read_record()["again_since"] == "2026-11-23T10:45:00.000Z"


def test_a_record_says_which_submission_made_the_message_and_a_script_has_none(harness: AttemptHarness) -> None:
    harness.handle(attributes={"submission": "20261123T104500.123Z"})
    assert harness.read_record()["submission"] == "20261123T104500.123Z"
    assert harness.recorded[-1]["submission"] == "20261123T104500.123Z"
    harness.handle({**MESSAGE, "group": "other"})
    assert harness.recorded[-1]["submission"] == ""


def test_a_job_that_is_sent_again_after_an_interruption_keeps_these_attributes(harness: AttemptHarness) -> None:
    attributes = {"retry_of": RUN, "retry_job": "old-1", "again_since": "2026-11-23T10:45:00.000Z"}
    attributes["submission"] = "20261123T104500.123Z"
    harness.handle(prepare=lambda *_: harness.stop.announce_end(1000), attributes=attributes)
    (sent,) = harness.queue.sent_attributes
    assert sent.items() >= attributes.items()


def test_a_hook_that_changes_the_message_does_not_change_the_record(harness: AttemptHarness) -> None:
    """Otherwise, `retry` would send another message, and the job would have another ID."""

    def change_message(message: dict[str, Any], *_: Any) -> Any:
        message["group"] = "other"
        raise ValueError("no such group")

    harness.handle(make_job=change_message)
    assert harness.read_record()["message"] == MESSAGE
    assert job_id(harness.read_record()["message"]) == JOB_ID
