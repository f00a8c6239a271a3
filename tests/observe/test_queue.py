"""What is seen of a queue: from one call, and also where SQS still knows a queue that is gone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from distributed_something.observe.queue import QueueCounts, QueueState, count_jobs, observe_queue
from tests.support.fakes import MISSING_QUEUE, QUEUE_ATTRIBUTES, QUEUE_URL, Exact, exact


@pytest.fixture
def aws() -> Iterator[Exact]:
    with exact() as made:
        yield made


def answer(aws: Exact, **attributes: Any) -> None:
    aws.answer("sqs.get_queue_url", {"QueueName": "AppQueue"}, QueueUrl=QUEUE_URL)
    wanted = {"QueueUrl": QUEUE_URL, "AttributeNames": QUEUE_ATTRIBUTES}
    aws.answer("sqs.get_queue_attributes", wanted, Attributes=attributes)


def test_delayed_messages_are_jobs_that_wait(aws: Exact) -> None:
    counted = dict(zip(QUEUE_ATTRIBUTES, ("5", "3", "2"), strict=False))
    redrive = '{"deadLetterTargetArn": "arn:aws:sqs:us-east-1:123456789012:AppDead", "maxReceiveCount": "3"}'
    answer(aws, **counted, CreatedTimestamp="1795430700", RedrivePolicy=redrive)
    found = observe_queue(aws.clients.sqs, "AppQueue")
    assert found == QueueState(QUEUE_URL, QueueCounts(7, 3), 1_795_430_700.0, "AppDead")
    assert (found.name, found.counts.jobs) == ("AppQueue", 10)


def test_a_queue_without_jobs_and_without_a_dead_letter_queue_is_a_queue(aws: Exact) -> None:
    answer(aws, CreatedTimestamp="1795430700")
    found = observe_queue(aws.clients.sqs, "AppQueue")
    assert found == QueueState(QUEUE_URL, QueueCounts(0, 0), 1_795_430_700.0, None)


def test_where_there_is_no_queue_no_attributes_are_asked_for(aws: Exact) -> None:
    aws.refuse("sqs.get_queue_url", MISSING_QUEUE)
    assert observe_queue(aws.clients.sqs, "AppQueue") is None


def test_a_deleted_queue_whose_url_sqs_still_gives_is_gone_and_holds_no_job(aws: Exact) -> None:
    for look in (observe_queue, count_jobs):
        aws.answer("sqs.get_queue_url", {"QueueName": "AppQueue"}, QueueUrl=QUEUE_URL)
        aws.refuse("sqs.get_queue_attributes", MISSING_QUEUE)
        assert not look(aws.clients.sqs, "AppQueue")


@pytest.mark.parametrize("name", [None, ""])
def test_a_queue_without_a_name_holds_no_job_and_is_not_asked_for(aws: Exact, name: str | None) -> None:
    assert count_jobs(aws.clients.sqs, name) == 0
    assert aws.calls == []


def test_another_refusal_is_an_error(aws: Exact) -> None:
    aws.answer("sqs.get_queue_url", {"QueueName": "AppQueue"}, QueueUrl=QUEUE_URL)
    aws.refuse("sqs.get_queue_attributes", "AccessDenied")
    with pytest.raises(ClientError, match="AccessDenied"):
        observe_queue(aws.clients.sqs, "AppQueue")
