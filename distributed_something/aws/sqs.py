"""The job queue and its dead-letter queue in SQS."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from botocore.exceptions import ClientError

from distributed_something.aws.clients import Clients
from distributed_something.aws.retry import none_if_missing, retry_until_consistent
from distributed_something.core.errors import CloudError, InputError, get_error_code, translate_aws_errors

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

    from distributed_something.core.config_settings import Settings


MESSAGE_RETENTION_SECONDS = 14 * 24 * 3600  # SQS's maximum, so that jobs survive a long run or a vacation
QUEUE_NAME_REUSE_SECONDS = 60  # how long SQS blocks the name of a deleted queue
_MISSING_QUEUE_CODES = {"AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist"}
_DELETED_RECENTLY_CODES = {"AWS.SimpleQueueService.QueueDeletedRecently", "QueueDeletedRecently"}


@dataclass(frozen=True)
class QueueUrls:
    """The URLs of an app's job queue and its dead-letter queue."""

    url: str
    dead_letter_url: str


class _QueueLookup(NamedTuple):
    """The result of a queue lookup: `url` is None if the queue does not exist.

    `is_tagged`: whether the queue has the tag `app`. A queue that was created by hand does not have it.
    """

    name: str
    url: str | None
    is_tagged: bool


def ensure_queues(
    sqs: SQSClient, settings: Settings, tags: Mapping[str, str], sleep: Callable[[float], None]
) -> QueueUrls:
    """Create both queues with these tags, or update their settings.

    Raise InputError, before changing anything, if one of the queues belongs to another app. Raise CloudError if a call
    fails.
    """
    with translate_aws_errors("looking for the queues"):
        dead_letter_lookup = _look_up_queue(sqs, settings, "SQS_DEAD_LETTER_QUEUE")
        lookup = _look_up_queue(sqs, settings, "SQS_QUEUE_NAME")
    common = {"MessageRetentionPeriod": str(MESSAGE_RETENTION_SECONDS), "SqsManagedSseEnabled": "true"}
    with translate_aws_errors(f"setting up the dead-letter queue {settings.SQS_DEAD_LETTER_QUEUE}"):
        dead_letter_url = _ensure_queue(sqs, dead_letter_lookup, common, tags, sleep)
        response = sqs.get_queue_attributes(QueueUrl=dead_letter_url, AttributeNames=["QueueArn"])
    redrive = {"deadLetterTargetArn": response["Attributes"]["QueueArn"], "maxReceiveCount": str(settings.JOB_RETRIES)}
    own = {
        "VisibilityTimeout": str(settings.SQS_MESSAGE_VISIBILITY),
        "ReceiveMessageWaitTimeSeconds": "20",
        "RedrivePolicy": json.dumps(redrive),
    }
    with translate_aws_errors(f"setting up the queue {settings.SQS_QUEUE_NAME}"):
        return QueueUrls(_ensure_queue(sqs, lookup, common | own, tags, sleep), dead_letter_url)


def find_queue(sqs: SQSClient, name: str) -> str | None:
    """Return the queue's URL, or None if it does not exist. Other AWS errors are not caught."""
    try:
        return sqs.get_queue_url(QueueName=name)["QueueUrl"]
    except ClientError as error:
        if get_error_code(error) in _MISSING_QUEUE_CODES:
            return None
        raise


def is_missing_queue_error(error: BaseException) -> bool:
    """Return whether AWS reported that the queue does not exist."""
    return get_error_code(error) in _MISSING_QUEUE_CODES


def _look_up_queue(sqs: SQSClient, settings: Settings, key: str) -> _QueueLookup:
    """Look up the queue that the config names under `key`. Raise InputError if it belongs to another app."""
    name = getattr(settings, key)
    url = find_queue(sqs, name)
    response = none_if_missing(lambda: sqs.list_queue_tags(QueueUrl=url), *_MISSING_QUEUE_CODES) if url else None
    if response is None:  # SQS may still return the URL of a queue that was just deleted
        return _QueueLookup(name, None, is_tagged=False)
    owner = response.get("Tags", {}).get("app")
    if owner and owner != settings.APP_NAME:
        raise InputError("config", key, f"the queue {name} belongs to the app {owner}", "choose another name")
    return _QueueLookup(name, url, is_tagged=bool(owner))


def _ensure_queue(
    sqs: SQSClient,
    lookup: _QueueLookup,
    attributes: dict[str, str],
    tags: Mapping[str, str],
    sleep: Callable[[float], None],
) -> str:
    url = lookup.url
    if url is None:
        return _create_queue(sqs, lookup.name, attributes, tags, sleep)
    if not lookup.is_tagged:  # tag the queue first, because all other permissions depend on the tag
        sqs.tag_queue(QueueUrl=url, Tags=tags)
    current = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    changed: Any = {key: value for key, value in attributes.items() if not _is_same_attribute(current.get(key), value)}  # type: ignore[call-overload]
    if changed:
        set_changed = partial(sqs.set_queue_attributes, QueueUrl=url, Attributes=changed)
        retry_until_consistent(set_changed, until_allowed=not lookup.is_tagged, sleep=sleep)
    return url


def _create_queue(
    sqs: SQSClient, name: str, attributes: dict[str, str], tags: Mapping[str, str], sleep: Callable[[float], None]
) -> str:
    pause = 5.0
    for _ in range(int(QUEUE_NAME_REUSE_SECONDS / pause) + 2):
        try:
            return sqs.create_queue(QueueName=name, Attributes=attributes, tags=tags)["QueueUrl"]  # type: ignore[arg-type]
        except ClientError as error:
            if get_error_code(error) not in _DELETED_RECENTLY_CODES:
                raise
            sleep(pause)
    return sqs.create_queue(QueueName=name, Attributes=attributes, tags=tags)["QueueUrl"]  # type: ignore[arg-type]


def _is_same_attribute(current: str | None, requested: str) -> bool:
    """Return whether both values mean the same. SQS may return a redrive policy with other spacing or with numbers."""
    if current is None or not requested.startswith("{"):
        return current == requested
    return bool({key: str(value) for key, value in json.loads(current).items()} == json.loads(requested))


def require_job_queue(clients: Clients, settings: Settings) -> str:
    """Return the job queue's URL. Raise CloudError if the queue does not exist: `setup` must create it."""
    with translate_aws_errors(f"looking for the queue {settings.SQS_QUEUE_NAME}"):
        url = find_queue(clients.sqs, settings.SQS_QUEUE_NAME)
    if url is None:
        raise CloudError(f"the queue {settings.SQS_QUEUE_NAME} does not exist: run setup first")
    return url
