"""Tests for observing a queue, including a queue that was deleted a moment ago."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from distributed_something.observe.queue import QueueCounts, QueueState, count_jobs, observe_queue
from distributed_something.worker import ForeignResponseError
from tests.support.fakes import MISSING_QUEUE, QUEUE_ATTRIBUTES, QUEUE_URL, ExactClients, expect_exact_calls


@pytest.fixture
def aws() -> Iterator[ExactClients]:
    with expect_exact_calls() as stubbed_aws:
        yield stubbed_aws


def prepare_queue(aws: ExactClients, **attributes: Any) -> None:
    aws.expect_call("sqs.get_queue_url", {"QueueName": "AppQueue"}, QueueUrl=QUEUE_URL)
    query = {"QueueUrl": QUEUE_URL, "AttributeNames": QUEUE_ATTRIBUTES}
    aws.expect_call("sqs.get_queue_attributes", query, Attributes=attributes)


def test_delayed_messages_count_as_waiting_jobs(aws: ExactClients) -> None:
    counts = dict(zip(QUEUE_ATTRIBUTES, ("5", "3", "2"), strict=False))
    redrive = '{"deadLetterTargetArn": "arn:aws:sqs:us-east-1:123456789012:AppDead", "maxReceiveCount": "3"}'
    prepare_queue(aws, **counts, CreatedTimestamp="1795430700", RedrivePolicy=redrive)
    queue = observe_queue(aws.clients.sqs, "AppQueue")
    assert queue == QueueState(QUEUE_URL, QueueCounts(7, 3), 1_795_430_700.0, "AppDead")
    assert (queue.name, queue.counts.jobs) == ("AppQueue", 10)


def test_a_queue_may_have_no_jobs_and_no_dead_letter_queue(aws: ExactClients) -> None:
    prepare_queue(aws, **dict.fromkeys(QUEUE_ATTRIBUTES[:3], "0"), CreatedTimestamp="1795430700")
    queue = observe_queue(aws.clients.sqs, "AppQueue")
    assert queue == QueueState(QUEUE_URL, QueueCounts(0, 0), 1_795_430_700.0, None)


@pytest.mark.parametrize("missing", QUEUE_ATTRIBUTES[:3])
def test_a_response_without_a_count_is_an_error_and_no_empty_queue(aws: ExactClients, missing: str) -> None:
    counts = dict.fromkeys(set(QUEUE_ATTRIBUTES[:3]) - {missing}, "0")
    prepare_queue(aws, **counts, CreatedTimestamp="1795430700")
    with pytest.raises(ForeignResponseError, match=missing):
        count_jobs(aws.clients.sqs, "AppQueue")


def test_attributes_of_a_missing_queue_are_not_requested(aws: ExactClients) -> None:
    aws.expect_error("sqs.get_queue_url", MISSING_QUEUE)
    assert observe_queue(aws.clients.sqs, "AppQueue") is None


def test_a_deleted_queue_whose_url_still_exists_has_no_state_and_no_jobs(aws: ExactClients) -> None:
    for observe in (observe_queue, count_jobs):
        aws.expect_call("sqs.get_queue_url", {"QueueName": "AppQueue"}, QueueUrl=QUEUE_URL)
        aws.expect_error("sqs.get_queue_attributes", MISSING_QUEUE)
        assert not observe(aws.clients.sqs, "AppQueue")


@pytest.mark.parametrize("name", [None, ""])
def test_an_empty_queue_name_means_no_jobs_and_needs_no_call(aws: ExactClients, name: str | None) -> None:
    assert count_jobs(aws.clients.sqs, name) == 0
    assert aws.calls == []


def test_other_aws_errors_are_raised(aws: ExactClients) -> None:
    aws.expect_call("sqs.get_queue_url", {"QueueName": "AppQueue"}, QueueUrl=QUEUE_URL)
    aws.expect_error("sqs.get_queue_attributes", "AccessDenied")
    with pytest.raises(ClientError, match="AccessDenied"):
        observe_queue(aws.clients.sqs, "AppQueue")
