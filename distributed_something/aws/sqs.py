"""The job queue and its dead-letter queue in SQS.

Several apps may share a dead-letter queue, and it may be older than all of them. The tag `app` says to whom it belongs:

- this app's name: `setup` created or adopted it. Cleanup may delete it when no other queue uses it.
- another app's name: that app's cleanup deletes it. `setup` leaves it as it is.
- `shared`: it had no tag, and queues other than the app's used it already. `setup` added the tag, because permissions
  depend on it, and no app ever changes or deletes the queue.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from botocore.exceptions import ClientError

from distributed_something.aws.clients import Clients
from distributed_something.aws.retry import none_if_missing, retry_until_consistent
from distributed_something.core.errors import CloudError, InputError, get_error_code, translate_aws_errors
from distributed_something.core.names import SHARED_APP

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

    from distributed_something.core.config_settings import Settings


MESSAGE_RETENTION_SECONDS = 14 * 24 * 3600  # SQS's maximum, so that jobs survive a long run or a vacation
RACE_PAUSE_SECONDS = 2.0  # how long SQS may take to return a queue that someone else has just created
MAX_RECEIVE_COUNT = 1000  # SQS's maximum in a redrive policy
# SQS's maximum for a message with its attributes. Queues that are older than August 2025 keep their limit of 256 KiB.
MAX_MESSAGE_BYTES = 1024 * 1024
SOURCE_QUEUES_PER_CALL = 1000  # SQS's maximum for ListDeadLetterSourceQueues
MISSING_QUEUE_CODES = {"AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist"}
# SQS blocks the name of a deleted queue for 60 s.
_DELETED_RECENTLY_CODES = ("AWS.SimpleQueueService.QueueDeletedRecently", "QueueDeletedRecently")
_NAME_TAKEN_CODES = {"QueueAlreadyExists", "QueueNameExists"}  # a queue with this name has other attributes
# SQS needs a second to know a new queue everywhere. The code is the same for every invalid value.
_MISSING_TARGET_ERROR = ("InvalidParameterValue", "Dead letter target does not exist")


@dataclass(frozen=True)
class QueueUrls:
    """The URLs of an app's job queue and its dead-letter queue.

    `is_dead_letter_queue_shared`: whether the dead-letter queue is not this app's alone.
    """

    url: str
    dead_letter_url: str
    is_dead_letter_queue_shared: bool = False


@dataclass(frozen=True)
class DeadLetterUse:
    """Who uses a dead-letter queue.

    `owner`: its tag `app`, or "" if it has none. `other_sources`: the names of the queues, other than the app's job
    queue, whose messages SQS moves to it.
    """

    owner: str
    other_sources: tuple[str, ...] = ()

    def is_only_of(self, app: str) -> bool:
        """Return whether the queue belongs to the app and no other queue uses it."""
        return self.owner == app != SHARED_APP and not self.other_sources


class _QueueLookup(NamedTuple):
    """An existing queue. `tags`: the tags to add so that permissions apply to it; empty if it has the tag `app`."""

    url: str
    tags: Mapping[str, str]


class _DeadLetterLookup(NamedTuple):
    """An existing dead-letter queue, the tags to add to it, its attributes, and whether `setup` may change them."""

    url: str
    tags: Mapping[str, str]
    attributes: Mapping[str, str]
    is_own: bool


def ensure_queues(
    sqs: SQSClient, settings: Settings, tags: Mapping[str, str], sleep: Callable[[float], None]
) -> QueueUrls:
    """Create both queues with these tags, or update their settings. A shared dead-letter queue is not changed.

    The redrive policy permits one receive more than JOB_RETRIES: if the worker is killed in every attempt, the last
    receiver records this and runs nothing, instead of SQS moving the message without any record.

    Raise InputError, before changing anything, if the job queue belongs to another app, or if the dead-letter queue
    cannot receive its failed jobs. Raise CloudError if a call fails.
    """
    with translate_aws_errors("looking for the queues"):
        dead_letter_lookup = _look_up_dead_letter_queue(sqs, settings, tags)
        lookup = _look_up_job_queue(sqs, settings, tags)
    common = {"MessageRetentionPeriod": str(MESSAGE_RETENTION_SECONDS), "SqsManagedSseEnabled": "true"}
    with translate_aws_errors(f"setting up the dead-letter queue {settings.SQS_DEAD_LETTER_QUEUE}"):
        dead_letters = _ensure_dead_letter_queue(sqs, settings, dead_letter_lookup, common, tags, sleep)
    receives = min(settings.JOB_RETRIES + 1, MAX_RECEIVE_COUNT)
    redrive = {"deadLetterTargetArn": dead_letters.attributes["QueueArn"], "maxReceiveCount": str(receives)}
    own = {
        "VisibilityTimeout": str(settings.SQS_MESSAGE_VISIBILITY),
        "ReceiveMessageWaitTimeSeconds": "20",
        "RedrivePolicy": json.dumps(redrive),
    }
    with translate_aws_errors(f"setting up the queue {settings.SQS_QUEUE_NAME}"):
        url = _ensure_job_queue(sqs, settings.SQS_QUEUE_NAME, lookup, common | own, tags, sleep)
    if not dead_letters.is_own:
        _require_dead_letter_queue(sqs, settings, dead_letters.url)
    return QueueUrls(url, dead_letters.url, not dead_letters.is_own)


def find_dead_letter_use(sqs: SQSClient, url: str, job_queue: str) -> DeadLetterUse | None:
    """Return who uses the dead-letter queue at `url`, besides the queue with the name `job_queue`.

    Return None if the dead-letter queue does not exist. Other AWS errors are not caught.
    """
    return none_if_missing(partial(_read_dead_letter_use, sqs, url, job_queue), *MISSING_QUEUE_CODES)  # type: ignore[no-any-return]


def list_source_queues(sqs: SQSClient, url: str) -> list[str]:
    """Return the URLs of the queues whose messages SQS moves to the queue at `url`. AWS errors are not caught."""
    paginator = sqs.get_paginator("list_dead_letter_source_queues")
    pages = paginator.paginate(QueueUrl=url, PaginationConfig={"PageSize": SOURCE_QUEUES_PER_CALL})
    return [source for page in pages for source in page.get("queueUrls", [])]


def parse_queue_name(url: str) -> str:
    """Return the queue's name from its URL or its ARN."""
    return re.split("[/:]", url)[-1]


def find_queue(sqs: SQSClient, name: str) -> str | None:
    """Return the queue's URL, or None if it does not exist. Other AWS errors are not caught."""
    try:
        return sqs.get_queue_url(QueueName=name)["QueueUrl"]
    except ClientError as error:
        if get_error_code(error) in MISSING_QUEUE_CODES:
            return None
        raise


def is_missing_queue_error(error: BaseException) -> bool:
    """Return whether AWS reported that the queue does not exist."""
    return get_error_code(error) in MISSING_QUEUE_CODES


def _look_up_job_queue(sqs: SQSClient, settings: Settings, tags: Mapping[str, str]) -> _QueueLookup | None:
    """Return the job queue, or None if it does not exist. Raise InputError if it belongs to another app."""
    name = settings.SQS_QUEUE_NAME
    url = find_queue(sqs, name)
    response = none_if_missing(lambda: sqs.list_queue_tags(QueueUrl=url), *MISSING_QUEUE_CODES) if url else None
    if url is None or response is None:  # SQS may still return the URL of a queue that was just deleted
        return None
    owner = response.get("Tags", {}).get("app")
    if owner and owner != settings.APP_NAME:
        problem = f"the queue {name} belongs to the app {owner}"
        if owner == SHARED_APP:
            problem = f"the queue {name} is a dead-letter queue that several apps share"
        raise InputError("config", "SQS_QUEUE_NAME", problem, "choose another name")
    return _QueueLookup(url, {} if owner else tags)


def _look_up_dead_letter_queue(sqs: SQSClient, settings: Settings, tags: Mapping[str, str]) -> _DeadLetterLookup | None:
    """Return the dead-letter queue, or None if it does not exist.

    Raise InputError if it cannot receive failed jobs from this app's job queue.
    """
    url = find_queue(sqs, settings.SQS_DEAD_LETTER_QUEUE)
    use = find_dead_letter_use(sqs, url, settings.SQS_QUEUE_NAME) if url else None
    read_attributes = partial(sqs.get_queue_attributes, QueueUrl=url or "", AttributeNames=["All"])
    response = none_if_missing(read_attributes, *MISSING_QUEUE_CODES) if use else None
    if url is None or use is None or response is None:
        return None
    attributes = response["Attributes"]
    if problem := _find_dead_letter_problem(settings, attributes):
        remedy = "choose another name, or a new one: setup creates it"
        raise InputError("config", "SQS_DEAD_LETTER_QUEUE", problem, remedy)
    if not use.owner:
        use = DeadLetterUse(SHARED_APP if use.other_sources else settings.APP_NAME, use.other_sources)
        tags = {"app": SHARED_APP} if use.other_sources else tags
        return _DeadLetterLookup(url, tags, attributes, use.is_only_of(settings.APP_NAME))
    return _DeadLetterLookup(url, {}, attributes, use.is_only_of(settings.APP_NAME))


def _find_dead_letter_problem(settings: Settings, attributes: Mapping[str, str]) -> str:
    """Return why the queue with these attributes cannot be the app's dead-letter queue, or "" if it can."""
    name = settings.SQS_DEAD_LETTER_QUEUE
    if target := json.loads(attributes.get("RedrivePolicy") or "{}").get("deadLetterTargetArn"):
        other = parse_queue_name(target)
        return f"the queue {name} is a job queue: it has a dead-letter queue itself, {other}"
    policy = json.loads(attributes.get("RedriveAllowPolicy") or "{}")
    job_queue_arn = f"{attributes['QueueArn'].rpartition(':')[0]}:{settings.SQS_QUEUE_NAME}"
    if policy.get("redrivePermission") == "denyAll":
        return f"the redrive allow policy of the queue {name} does not let it be a dead-letter queue"
    if policy.get("redrivePermission") == "byQueue" and job_queue_arn not in policy.get("sourceQueueArns", []):
        return f"the redrive allow policy of the queue {name} does not include {settings.SQS_QUEUE_NAME}"
    return ""


def _read_dead_letter_use(sqs: SQSClient, url: str, job_queue: str) -> DeadLetterUse:
    owner = sqs.list_queue_tags(QueueUrl=url).get("Tags", {}).get("app", "")
    names = [parse_queue_name(source) for source in list_source_queues(sqs, url)]
    return DeadLetterUse(owner, tuple(name for name in names if name != job_queue))


def _ensure_dead_letter_queue(
    sqs: SQSClient, settings: Settings, lookup: _DeadLetterLookup | None, attributes: dict[str, str],
    tags: Mapping[str, str], sleep: Callable[[float], None],
) -> _DeadLetterLookup:  # fmt: skip
    """Return the dead-letter queue after creating it, or after adding tags and changing attributes where permitted."""
    if lookup is None:
        try:
            url = _create_queue(sqs, settings.SQS_DEAD_LETTER_QUEUE, attributes, tags, sleep)
        except ClientError as error:
            if get_error_code(error) not in _NAME_TAKEN_CODES:
                raise
            sleep(RACE_PAUSE_SECONDS)  # another app's setup has just created it
            lookup = _look_up_dead_letter_queue(sqs, settings, tags)
            if lookup is None:
                raise
        else:
            read_arn = partial(sqs.get_queue_attributes, QueueUrl=url, AttributeNames=["QueueArn"])
            response = retry_until_consistent(read_arn, *MISSING_QUEUE_CODES, sleep=sleep)
            return _DeadLetterLookup(url, {}, response["Attributes"], is_own=True)
    if lookup.tags:
        sqs.tag_queue(QueueUrl=lookup.url, Tags=lookup.tags)
    if lookup.is_own:
        _update_attributes(sqs, lookup.url, lookup.attributes, attributes, is_tag_new=bool(lookup.tags), sleep=sleep)
    return lookup


def _require_dead_letter_queue(sqs: SQSClient, settings: Settings, url: str) -> None:
    """Raise CloudError if another app's cleanup deleted the dead-letter queue before it was this app's too."""
    name = settings.SQS_DEAD_LETTER_QUEUE
    read_arn = partial(sqs.get_queue_attributes, QueueUrl=url, AttributeNames=["QueueArn"])
    with translate_aws_errors(f"looking for the dead-letter queue {name}"):
        response = none_if_missing(read_arn, *MISSING_QUEUE_CODES)
    if response is None:
        problem = f"another app deleted the dead-letter queue {name} while setup was running"
        raise CloudError(problem, "run setup again")


def _ensure_job_queue(
    sqs: SQSClient, name: str, lookup: _QueueLookup | None, attributes: dict[str, str], tags: Mapping[str, str],
    sleep: Callable[[float], None],
) -> str:  # fmt: skip
    """Create the job queue, or add its tags and correct its attributes. Return its URL."""
    if lookup is None:
        return _create_queue(sqs, name, attributes, tags, sleep)
    if lookup.tags:  # tag the queue first, because all other permissions depend on the tag
        sqs.tag_queue(QueueUrl=lookup.url, Tags=lookup.tags)
    current = sqs.get_queue_attributes(QueueUrl=lookup.url, AttributeNames=["All"])["Attributes"]
    _update_attributes(sqs, lookup.url, current, attributes, is_tag_new=bool(lookup.tags), sleep=sleep)
    return lookup.url


def _update_attributes(
    sqs: SQSClient, url: str, current: Mapping[Any, str], attributes: Mapping[str, str], *, is_tag_new: bool,
    sleep: Callable[[float], None],
) -> None:  # fmt: skip
    changed: Any = {key: value for key, value in attributes.items() if not _is_same_attribute(current.get(key), value)}
    if _parse_message_limit(current) < MAX_MESSAGE_BYTES:
        changed["MaximumMessageSize"] = str(MAX_MESSAGE_BYTES)
    if changed:
        set_changed = partial(sqs.set_queue_attributes, QueueUrl=url, Attributes=changed)
        retry_until_consistent(set_changed, _MISSING_TARGET_ERROR, until_allowed=is_tag_new, sleep=sleep)


def read_message_limit(sqs: SQSClient, url: str) -> int:
    """Return how many bytes a message in the queue may have, with its attributes. AWS errors are not caught."""
    response = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["MaximumMessageSize"])
    return _parse_message_limit(response.get("Attributes", {}))


def _parse_message_limit(attributes: Mapping[Any, str]) -> int:
    return int(attributes.get("MaximumMessageSize", MAX_MESSAGE_BYTES))


def _create_queue(
    sqs: SQSClient, name: str, attributes: dict[str, str], tags: Mapping[str, str], sleep: Callable[[float], None]
) -> str:
    """Create the queue and return its URL. Wait until SQS permits the name again if it was just deleted."""
    create = partial(sqs.create_queue, QueueName=name, Attributes=attributes, tags=tags)  # type: ignore[arg-type]
    response = retry_until_consistent(create, _MISSING_TARGET_ERROR, *_DELETED_RECENTLY_CODES, sleep=sleep)
    return str(response["QueueUrl"])


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
