"""Jobs and pauses that are older than the last `submitJob --replace`."""

from __future__ import annotations

from typing import Any

import pytest

from distributed_something.core.submission import build_submission_time
from distributed_something.worker.admission.health import MIN_FAILED_JOBS, ContainerHealth, HealthReporter
from distributed_something.worker.admission.replacement import (
    CHECK_SECONDS,
    ReplacementChecker,
    build_replacement_document,
)
from tests.support.fakes import START

KEY, URL = "runs/App/replaced/AppQueue.json", "https://sqs.us-east-1.amazonaws.com/123456789012/AppQueue"


class Checks:
    """A checker and its clock."""

    def __init__(self, s3: Any) -> None:
        self.now, self._s3 = START, s3
        self.checker = ReplacementChecker(s3, "ours", "App", URL, lambda: self.now)

    def replace_jobs(self, began: float, removed_at: float, key: str = KEY) -> None:
        body = build_replacement_document(build_submission_time(began), build_submission_time(removed_at))
        self._s3.put_object(Bucket="ours", Key=key, Body=body)
        self.now += CHECK_SECONDS


@pytest.fixture
def checks(s3: Any) -> Checks:
    return Checks(s3)


def test_nothing_is_replaced_unless_a_document_says_so(checks: Checks) -> None:
    assert not checks.checker.has_replaced_since(START - 100)
    assert not checks.checker.is_message_replaced(START - 100)
    checks.replace_jobs(START, START + 10, key="runs/App/replaced/Another.json")
    assert not checks.checker.has_replaced_since(START - 100)


def test_messages_that_were_sent_before_the_replacement_are_replaced(checks: Checks) -> None:
    """The computer that replaces them may have another time than SQS, by up to two seconds."""
    checks.replace_jobs(START, START + 10)
    sent = {-60: True, -3: True, -1: False, 0: False, 11: False}
    assert {seconds: checks.checker.is_message_replaced(START + seconds) for seconds in sent} == sent
    assert not checks.checker.is_message_replaced(None)


def test_the_document_is_read_again_after_a_few_seconds(checks: Checks) -> None:
    assert not checks.checker.has_replaced_since(START)
    checks.replace_jobs(START, START + 10)
    checks.now -= 1
    assert not checks.checker.has_replaced_since(START)
    checks.now += 1
    assert checks.checker.has_replaced_since(START)


def test_a_document_that_is_not_valid_or_cannot_be_read_replaces_nothing(checks: Checks, s3: Any) -> None:
    s3.put_object(Bucket="ours", Key=KEY, Body=b"[]")
    assert not checks.checker.has_replaced_since(0.0 + 100)
    s3.put_object(Bucket="ours", Key=KEY, Body=b"{")
    checks.now += CHECK_SECONDS
    assert not checks.checker.has_replaced_since(100)


def test_a_pause_ends_when_its_jobs_are_replaced(checks: Checks) -> None:
    health = ContainerHealth(are_jobs_replaced=checks.checker.has_replaced_since)
    documents: list[dict[str, Any]] = []
    reporter = HealthReporter(health, documents.append, "i-1", "box")
    for n in range(MIN_FAILED_JOBS):
        health.record_failure(f"job-{n}", "exit code 1", "program", START)
    reporter.tick(START)
    reporter.tick(START + 1)
    assert health.count_allowed_jobs(2, START + 1) == 0
    checks.replace_jobs(START + 2, START + 3)
    reporter.tick(START + 4)
    reporter.tick(START + 5)
    assert health.count_allowed_jobs(2, START + 5) == 2
    assert [document["state"] for document in documents] == ["paused", "working"]
    for n in range(MIN_FAILED_JOBS):
        health.record_failure(f"new-{n}", "exit code 1", "program", START + 60)
    reporter.tick(START + 61)
    reporter.tick(START + 62)
    assert health.count_allowed_jobs(2, START + 62) == 0, "the new jobs fail too"
