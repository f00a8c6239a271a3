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


MESSAGE_RETENTION_SECONDS = 14 * 24 * 3600  # SQS's longest: a job must outlive a long run and a holiday
QUEUE_NAME_REUSE_SECONDS = 60  # SQS refuses a queue's name for 60 s after its deletion
SUBMITTED_JOBS_TAG = "jobs_submitted"
_MISSING_QUEUE_CODES = {"AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist"}
_DELETED_RECENTLY_CODES = {"AWS.SimpleQueueService.QueueDeletedRecently", "QueueDeletedRecently"}


@dataclass(frozen=True)
class QueueUrls:
    """The URLs of the two queues of an app."""

    url: str
    dead_letter_url: str


class _QueueLookup(NamedTuple):
    """A queue as it was found; `url` is None where there is none. One made by hand has no tag `app`."""

    name: str
    url: str | None
    tagged: bool


def ensure_queues(
    sqs: SQSClient, settings: Settings, marks: Mapping[str, str], sleep: Callable[[float], None]
) -> QueueUrls:
    """Makes both queues with these tags or brings their settings up to date; raises InputError, before anything is
    changed, where one is another app's."""
    with translate_aws_errors("looking for the queues"):
        found_dead, found = (_look_up_queue(sqs, settings, key) for key in ("SQS_DEAD_LETTER_QUEUE", "SQS_QUEUE_NAME"))
    common = {"MessageRetentionPeriod": str(MESSAGE_RETENTION_SECONDS), "SqsManagedSseEnabled": "true"}
    with translate_aws_errors(f"making the dead-letter queue {settings.SQS_DEAD_LETTER_QUEUE}"):
        dead = _ensure_queue(sqs, found_dead, common, marks, sleep)
        arn = sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    redrive = {"deadLetterTargetArn": arn, "maxReceiveCount": str(settings.JOB_RETRIES)}
    own = {
        "VisibilityTimeout": str(settings.SQS_MESSAGE_VISIBILITY),
        "ReceiveMessageWaitTimeSeconds": "20",
        "RedrivePolicy": json.dumps(redrive),
    }
    with translate_aws_errors(f"making the queue {settings.SQS_QUEUE_NAME}"):
        return QueueUrls(_ensure_queue(sqs, found, common | own, marks, sleep), dead)


def find_queue(sqs: SQSClient, name: str) -> str | None:
    """The URL of the queue of exactly this name, None where there is none."""
    try:
        return sqs.get_queue_url(QueueName=name)["QueueUrl"]
    except ClientError as error:
        if get_error_code(error) in _MISSING_QUEUE_CODES:
            return None
        raise


def is_missing_queue_error(error: BaseException) -> bool:
    """Whether AWS says that the queue does not exist."""
    return get_error_code(error) in _MISSING_QUEUE_CODES


def find_submitted_count(sqs: SQSClient, url: str) -> int | None:
    """How many jobs were ever sent to this queue, as `submitJob` notes it; None where nobody did, or where the queue is
    gone."""
    answer = none_if_missing(partial(sqs.list_queue_tags, QueueUrl=url), *_MISSING_QUEUE_CODES) or {}
    noted = answer.get("Tags", {}).get(SUBMITTED_JOBS_TAG, "")
    return int(noted) if noted.isdigit() else None


def add_submitted_count(sqs: SQSClient, url: str, more: int) -> None:
    """Adds `more` to the count that lies on the queue as a tag, and so goes with it."""
    sqs.tag_queue(QueueUrl=url, Tags={SUBMITTED_JOBS_TAG: str((find_submitted_count(sqs, url) or 0) + more)})


def _look_up_queue(sqs: SQSClient, settings: Settings, key: str) -> _QueueLookup:
    """The queue that the config names under `key`; raises InputError where it is another app's."""
    name = getattr(settings, key)
    url = find_queue(sqs, name)
    answer = none_if_missing(lambda: sqs.list_queue_tags(QueueUrl=url), *_MISSING_QUEUE_CODES) if url else None
    if answer is None:  # SQS still gives the URL of a queue that was deleted a moment ago
        return _QueueLookup(name, None, tagged=False)
    owner = answer.get("Tags", {}).get("app")
    if owner and owner != settings.APP_NAME:
        raise InputError("config", key, f"the queue {name} belongs to the app {owner}", "choose another name")
    return _QueueLookup(name, url, tagged=bool(owner))


def _ensure_queue(
    sqs: SQSClient,
    found: _QueueLookup,
    attributes: dict[str, str],
    tags: Mapping[str, str],
    sleep: Callable[[float], None],
) -> str:
    url = found.url
    if url is None:
        return _create_queue(sqs, found.name, attributes, tags, sleep)
    if not found.tagged:  # first, as the rights to all else ask for the tag
        sqs.tag_queue(QueueUrl=url, Tags=tags)
    current = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    changed: Any = {key: value for key, value in attributes.items() if not _is_same_attribute(current.get(key), value)}  # type: ignore[call-overload]
    if changed:
        set_changed = partial(sqs.set_queue_attributes, QueueUrl=url, Attributes=changed)
        retry_until_consistent(set_changed, until_allowed=not found.tagged, sleep=sleep)
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


def _is_same_attribute(current: str | None, wanted: str) -> bool:
    """Equal as SQS means it: a redrive policy may come back with other spacing and with numbers for texts."""
    if current is None or not wanted.startswith("{"):
        return current == wanted
    return bool({k: str(v) for k, v in json.loads(current).items()} == json.loads(wanted))


def require_job_queue(settings: Settings, clients: Clients) -> str:
    """The job queue's URL; raises CloudError where `setup` has not made it."""
    with translate_aws_errors(f"looking for the queue {settings.SQS_QUEUE_NAME}"):
        url = find_queue(clients.sqs, settings.SQS_QUEUE_NAME)
    if url is None:
        raise CloudError(f"the queue {settings.SQS_QUEUE_NAME} does not exist: run setup first")
    return url
