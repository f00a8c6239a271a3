"""Observation of a queue: its job counts, its age, and its dead-letter queue, all from one call."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from distributed_something.aws.sqs import find_queue, is_missing_queue_error
from distributed_something.worker import ForeignResponseError

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

SETTLING_SECONDS = 75.0  # SQS documents that its approximate counts settle within a minute
_COUNT_ATTRIBUTES = [f"ApproximateNumberOfMessages{suffix}" for suffix in ("", "NotVisible", "Delayed")]
_ATTRIBUTES: Any = [*_COUNT_ATTRIBUTES, "CreatedTimestamp", "RedrivePolicy"]


@dataclass(frozen=True)
class QueueCounts:
    """SQS's approximate job counts for a queue, which may lag behind changes by up to a minute."""

    waiting: int
    running: int

    @property
    def jobs(self) -> int:
        return self.waiting + self.running


@dataclass(frozen=True)
class QueueState:
    """An existing queue.

    `created`: seconds since 1970. `dead_letter_queue`: the name of its dead-letter queue, or None.
    """

    url: str
    counts: QueueCounts
    created: float
    dead_letter_queue: str | None

    @property
    def name(self) -> str:
        return self.url.rsplit("/", 1)[-1]


def observe_queue(sqs: SQSClient, name: str) -> QueueState | None:
    """Return the state of the queue with exactly this name; None if it does not exist.

    Other AWS errors are not caught.
    """
    url = find_queue(sqs, name)
    return observe_queue_at(sqs, url) if url else None


def observe_queue_at(sqs: SQSClient, url: str) -> QueueState | None:
    """Return the state of the queue at `url`; None if it has been deleted.

    SQS still returns the URL of a queue for about a minute after its deletion. Other AWS errors are not caught.
    """
    try:
        attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=_ATTRIBUTES).get("Attributes", {})
    except ClientError as error:
        if is_missing_queue_error(error):
            return None
        raise
    return QueueState(
        url,
        _parse_counts(attributes),
        float(attributes.get("CreatedTimestamp", 0)),
        _parse_dead_letter_queue(attributes),
    )


def count_jobs(sqs: SQSClient, name: str | None) -> int:
    """Return the number of jobs in the queue with this name; 0 if it does not exist.

    Other AWS errors are not caught.
    """
    queue = observe_queue(sqs, name) if name else None
    return queue.counts.jobs if queue else 0


def find_lease_seconds(sqs: SQSClient, name: str) -> float | None:
    """Return how long a lease of a job lasts that is not extended (SQS_MESSAGE_VISIBILITY); None if it is unknown.

    AWS errors are not caught, except if the queue has been deleted.
    """
    url = find_queue(sqs, name)
    try:
        names: Any = ["VisibilityTimeout"]
        attributes: Any = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"] if url else {}
    except ClientError as error:
        if is_missing_queue_error(error):
            return None
        raise
    return float(attributes["VisibilityTimeout"]) if "VisibilityTimeout" in attributes else None


def _parse_counts(attributes: Mapping[Any, str]) -> QueueCounts:
    """Return the counts; delayed messages count as waiting jobs.

    Raise ForeignResponseError if one is missing: SQS always returns them, and an empty queue is what ends a run.
    """
    if missing := [name for name in _COUNT_ATTRIBUTES if name not in attributes]:
        raise ForeignResponseError(operation="GetQueueAttributes", problem=f"has no {missing[0]}")
    waiting, running, delayed = (int(attributes[name]) for name in _COUNT_ATTRIBUTES)
    return QueueCounts(waiting + delayed, running)


def _parse_dead_letter_queue(attributes: Mapping[Any, str]) -> str | None:
    policy = json.loads(attributes.get("RedrivePolicy") or "{}")
    return str(policy.get("deadLetterTargetArn", "")).rsplit(":", 1)[-1] or None
