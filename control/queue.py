"""The job queue and its dead-letter queue in SQS."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from botocore.exceptions import ClientError

from control.errors import InputError, code_of, doing
from control.steps import NOT_YET_TAGGED, or_none, patiently

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

    from control.settings import Settings

RETENTION_SECONDS = 14 * 24 * 3600  # SQS's longest: a job must outlive a long run and a holiday
REUSE_WAIT_SECONDS = 60  # SQS refuses a queue's name for 60 s after its deletion
_COUNTS = [f"ApproximateNumberOfMessages{name}" for name in ("", "NotVisible", "Delayed")]
SUBMITTED_TAG = "jobs_submitted"
_MISSING = {"AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist"}
_DELETED_RECENTLY = {"AWS.SimpleQueueService.QueueDeletedRecently", "QueueDeletedRecently"}


@dataclass(frozen=True)
class Queues:
    """The URLs of the two queues of an app."""

    url: str
    dead_letter_url: str


@dataclass(frozen=True)
class Counts:
    """SQS's approximate counts of one queue; they settle up to a minute after the last change."""

    waiting: int
    running: int

    @property
    def jobs(self) -> int:
        return self.waiting + self.running


class _Found(NamedTuple):
    """A queue as it was found; `url` is None where there is none. One made by hand has no tag `app`."""

    name: str
    url: str | None
    tagged: bool


def ensure(sqs: SQSClient, settings: Settings, marks: Mapping[str, str], sleep: Callable[[float], None]) -> Queues:
    """Makes both queues with these tags or brings their settings up to date; raises InputError, before anything is
    changed, where one is another app's."""
    with doing("looking for the queues"):
        found_dead, found = (_look(sqs, settings, key) for key in ("SQS_DEAD_LETTER_QUEUE", "SQS_QUEUE_NAME"))
    common = {"MessageRetentionPeriod": str(RETENTION_SECONDS), "SqsManagedSseEnabled": "true"}
    with doing(f"making the dead-letter queue {settings.SQS_DEAD_LETTER_QUEUE}"):
        dead = _ensure_one(sqs, found_dead, common, marks, sleep)
        arn = sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    redrive = {"deadLetterTargetArn": arn, "maxReceiveCount": str(settings.JOB_RETRIES)}
    own = {
        "VisibilityTimeout": str(settings.SQS_MESSAGE_VISIBILITY),
        "ReceiveMessageWaitTimeSeconds": "20",
        "RedrivePolicy": json.dumps(redrive),
    }
    with doing(f"making the queue {settings.SQS_QUEUE_NAME}"):
        return Queues(_ensure_one(sqs, found, common | own, marks, sleep), dead)


def find(sqs: SQSClient, name: str) -> str | None:
    """The URL of the queue of exactly this name, None where there is none."""
    try:
        return sqs.get_queue_url(QueueName=name)["QueueUrl"]
    except ClientError as error:
        if code_of(error) in _MISSING:
            return None
        raise


def is_missing(error: BaseException) -> bool:
    """Whether AWS says that the queue does not exist."""
    return code_of(error) in _MISSING


def counts(sqs: SQSClient, url: str) -> Counts:
    """How many jobs wait (delayed ones too) and how many are held by workers."""
    return _counts_in(sqs.get_queue_attributes(QueueUrl=url, AttributeNames=_COUNTS)["Attributes"])  # type: ignore[arg-type]


def counts_and_dead_letter_name(sqs: SQSClient, url: str) -> tuple[Counts, str | None]:
    """The queue's counts and the name of the dead-letter queue that it feeds, in one call."""
    wanted = [*_COUNTS, "RedrivePolicy"]
    found = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=wanted)["Attributes"]  # type: ignore[arg-type]
    return _counts_in(found), _dead_letter_name_in(found)


def counts_and_making(sqs: SQSClient, url: str) -> tuple[Counts, float]:
    """The queue's counts and when it was made (seconds since 1970), in one call."""
    wanted = [*_COUNTS, "CreatedTimestamp"]
    found = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=wanted)["Attributes"]  # type: ignore[arg-type]
    return _counts_in(found), float(found["CreatedTimestamp"])


def submitted(sqs: SQSClient, url: str) -> int | None:
    """How many jobs were ever sent to this queue, as `submitJob` notes it; None where nobody did."""
    noted = sqs.list_queue_tags(QueueUrl=url).get("Tags", {}).get(SUBMITTED_TAG, "")
    return int(noted) if noted.isdigit() else None


def note_submitted(sqs: SQSClient, url: str, more: int) -> None:
    """Adds `more` to the count that lies on the queue as a tag, and so goes with it."""
    sqs.tag_queue(QueueUrl=url, Tags={SUBMITTED_TAG: str((submitted(sqs, url) or 0) + more)})


def dead_letter_name(sqs: SQSClient, url: str) -> str | None:
    """The name of the dead-letter queue that the queue at `url` feeds."""
    found = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["RedrivePolicy"]).get("Attributes", {})
    return _dead_letter_name_in(found)


def _counts_in(attributes: Mapping[Any, str]) -> Counts:
    waiting, running, delayed = (int(attributes.get(name, "0")) for name in _COUNTS)
    return Counts(waiting + delayed, running)


def _dead_letter_name_in(attributes: Mapping[Any, str]) -> str | None:
    policy = json.loads(attributes.get("RedrivePolicy") or "{}")
    return str(policy.get("deadLetterTargetArn", "")).rsplit(":", 1)[-1] or None


def _look(sqs: SQSClient, settings: Settings, key: str) -> _Found:
    """The queue that the config names under `key`; raises InputError where it is another app's."""
    name = getattr(settings, key)
    url = find(sqs, name)
    answer = or_none(lambda: sqs.list_queue_tags(QueueUrl=url), *_MISSING) if url else None
    if answer is None:  # SQS still gives the URL of a queue that was deleted a moment ago
        return _Found(name, None, tagged=False)
    owner = answer.get("Tags", {}).get("app")
    if owner and owner != settings.APP_NAME:
        raise InputError("config", key, f"the queue {name} belongs to the app {owner}", "choose another name")
    return _Found(name, url, tagged=bool(owner))


def _ensure_one(
    sqs: SQSClient, found: _Found, attributes: dict[str, str], tags: Mapping[str, str], sleep: Callable[[float], None]
) -> str:
    url = found.url
    if url is None:
        return _create(sqs, found.name, attributes, tags, sleep)
    if not found.tagged:  # first, as the rights to all else ask for the tag
        sqs.tag_queue(QueueUrl=url, Tags=tags)
    current = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    changed: Any = {key: value for key, value in attributes.items() if not _same(current.get(key), value)}  # type: ignore[call-overload]
    if changed:
        not_yet = () if found.tagged else (NOT_YET_TAGGED,)
        patiently(lambda: sqs.set_queue_attributes(QueueUrl=url, Attributes=changed), *not_yet, sleep=sleep)
    return url


def _create(
    sqs: SQSClient, name: str, attributes: dict[str, str], tags: Mapping[str, str], sleep: Callable[[float], None]
) -> str:
    pause = 5.0
    for _ in range(int(REUSE_WAIT_SECONDS / pause) + 2):
        try:
            return sqs.create_queue(QueueName=name, Attributes=attributes, tags=tags)["QueueUrl"]  # type: ignore[arg-type]
        except ClientError as error:
            if code_of(error) not in _DELETED_RECENTLY:
                raise
            sleep(pause)
    return sqs.create_queue(QueueName=name, Attributes=attributes, tags=tags)["QueueUrl"]  # type: ignore[arg-type]


def _same(current: str | None, wanted: str) -> bool:
    """Equal as SQS means it: a redrive policy may come back with other spacing and with numbers for texts."""
    if current is None or not wanted.startswith("{"):
        return current == wanted
    return bool({k: str(v) for k, v in json.loads(current).items()} == json.loads(wanted))
