"""Setup's exact requests for the two queues: whose a dead-letter queue is, what may be changed, and AWS's errors."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from distributed_something.aws.sqs import QueueUrls, ensure_queues
from distributed_something.core.config_settings import Settings
from distributed_something.core.errors import CloudError, InputError
from tests.support.fakes import (
    DEAD_URL,
    MISSING_QUEUE,
    QUEUE_URL,
    SETTINGS,
    ExactClients,
    FakeTime,
    expect_exact_calls,
)

DEAD_ARN = "arn:aws:sqs:us-east-1:123456789012:AppDead"
QUEUE_ARN = "arn:aws:sqs:us-east-1:123456789012:AppQueue"
OTHER_URL = QUEUE_URL.replace("AppQueue", "OtherQueue")
TAGS = {"app": "App", "owner": "lab"}
COMMON = {"MessageRetentionPeriod": "1209600", "SqsManagedSseEnabled": "true"}
# A queue that someone made by hand, with SQS's defaults.
BY_HAND = {"MessageRetentionPeriod": "345600", "SqsManagedSseEnabled": "false", "QueueArn": DEAD_ARN}
NO_TARGET = "Value {…} for parameter RedrivePolicy is invalid. Reason: Dead letter target does not exist."


@pytest.fixture
def aws() -> Iterator[ExactClients]:
    with expect_exact_calls() as aws:
        yield aws


def run_ensure_queues(aws: ExactClients, time: FakeTime | None = None, **constants: Any) -> QueueUrls:
    settings = Settings.model_validate(SETTINGS.model_dump() | constants)
    return ensure_queues(aws.clients.sqs, settings, TAGS, (time or FakeTime()).sleep)


def list_writes(aws: ExactClients) -> list[str]:
    return [call for call in aws.calls if not call.partition(".")[2].startswith(("Get", "List"))]


def expect_dead_letter_queue(
    aws: ExactClients, *, tags: dict[str, str], sources: list[str], attributes: dict[str, str] | None = None
) -> None:
    """Expect the lookup of a dead-letter queue with these tags, source queues, and attributes."""
    aws.expect_call("sqs.get_queue_url", {"QueueName": "AppDead"}, QueueUrl=DEAD_URL)
    aws.expect_call("sqs.list_queue_tags", {"QueueUrl": DEAD_URL}, **({"Tags": tags} if tags else {}))
    request: dict[str, Any] = {"QueueUrl": DEAD_URL, "MaxResults": 1000}
    aws.expect_call("sqs.list_dead_letter_source_queues", request, queueUrls=sources)
    request = {"QueueUrl": DEAD_URL, "AttributeNames": ["All"]}
    aws.expect_call("sqs.get_queue_attributes", request, Attributes=attributes or BY_HAND)


def expect_missing_queue(aws: ExactClients, name: str) -> None:
    aws.expect_error("sqs.get_queue_url", MISSING_QUEUE, request={"QueueName": name})


def expect_job_queue_creation(aws: ExactClients, receives: str = "4") -> None:
    redrive = json.dumps({"deadLetterTargetArn": DEAD_ARN, "maxReceiveCount": receives})
    attributes = COMMON | {
        "VisibilityTimeout": "120", "ReceiveMessageWaitTimeSeconds": "20", "RedrivePolicy": redrive
    }  # fmt: skip
    request = {"QueueName": "AppQueue", "Attributes": attributes, "tags": TAGS}
    aws.expect_call("sqs.create_queue", request, QueueUrl=QUEUE_URL)


def expect_arn(aws: ExactClients) -> None:
    request = {"QueueUrl": DEAD_URL, "AttributeNames": ["QueueArn"]}
    aws.expect_call("sqs.get_queue_attributes", request, Attributes={"QueueArn": DEAD_ARN})


# How often SQS delivers a message


@pytest.mark.parametrize(("retries", "receives"), [(1, "2"), (10, "11"), (1000, "1000")])
def test_sqs_delivers_a_job_once_more_than_its_program_may_run_up_to_the_maximum_of_sqs(
    aws: ExactClients, retries: int, receives: str
) -> None:
    for name in ("AppDead", "AppQueue"):
        expect_missing_queue(aws, name)
    request = {"QueueName": "AppDead", "Attributes": COMMON, "tags": TAGS}
    aws.expect_call("sqs.create_queue", request, QueueUrl=DEAD_URL)
    expect_arn(aws)
    expect_job_queue_creation(aws, receives)

    assert run_ensure_queues(aws, JOB_RETRIES=retries) == QueueUrls(QUEUE_URL, DEAD_URL)


# Whose the dead-letter queue is


def test_an_untagged_queue_that_other_queues_use_gets_the_tag_shared_and_nothing_else_is_changed(
    aws: ExactClients,
) -> None:
    expect_dead_letter_queue(aws, tags={}, sources=[OTHER_URL])
    expect_missing_queue(aws, "AppQueue")
    aws.expect_call("sqs.tag_queue", {"QueueUrl": DEAD_URL, "Tags": {"app": "shared"}})
    expect_job_queue_creation(aws)
    expect_arn(aws)

    assert run_ensure_queues(aws) == QueueUrls(QUEUE_URL, DEAD_URL, is_dead_letter_queue_shared=True)
    assert list_writes(aws) == ["sqs.TagQueue", "sqs.CreateQueue"]


@pytest.mark.parametrize("sources", [[], [QUEUE_URL]])
def test_an_untagged_queue_that_no_other_queue_uses_is_adopted(aws: ExactClients, sources: list[str]) -> None:
    expect_dead_letter_queue(aws, tags={"lab": "north"}, sources=sources)
    expect_missing_queue(aws, "AppQueue")
    aws.expect_call("sqs.tag_queue", {"QueueUrl": DEAD_URL, "Tags": TAGS})
    aws.expect_error("sqs.set_queue_attributes", "AccessDenied", "the tag is not known everywhere yet")
    aws.expect_call("sqs.set_queue_attributes", {"QueueUrl": DEAD_URL, "Attributes": COMMON})
    expect_job_queue_creation(aws)

    assert not run_ensure_queues(aws).is_dead_letter_queue_shared


@pytest.mark.parametrize(
    ("owner", "sources"), [("shared", []), ("shared", [QUEUE_URL]), ("Other", []), ("Other", [OTHER_URL]),
                           ("App", [QUEUE_URL, OTHER_URL])]
)  # fmt: skip
def test_a_queue_that_is_not_this_apps_alone_is_used_as_it_is(
    aws: ExactClients, owner: str, sources: list[str]
) -> None:
    expect_dead_letter_queue(aws, tags={"app": owner}, sources=sources)
    expect_missing_queue(aws, "AppQueue")
    expect_job_queue_creation(aws)
    expect_arn(aws)

    assert run_ensure_queues(aws).is_dead_letter_queue_shared
    assert list_writes(aws) == ["sqs.CreateQueue"]


def test_all_pages_of_source_queues_are_read(aws: ExactClients) -> None:
    aws.expect_call("sqs.get_queue_url", QueueUrl=DEAD_URL)
    aws.expect_call("sqs.list_queue_tags", Tags={"app": "App"})
    request: dict[str, Any] = {"QueueUrl": DEAD_URL, "MaxResults": 1000}
    aws.expect_call("sqs.list_dead_letter_source_queues", request, queueUrls=[QUEUE_URL], NextToken="next")
    request = request | {"NextToken": "next"}
    aws.expect_call("sqs.list_dead_letter_source_queues", request, queueUrls=[OTHER_URL])
    aws.expect_call("sqs.get_queue_attributes", Attributes=BY_HAND)
    expect_missing_queue(aws, "AppQueue")
    expect_job_queue_creation(aws)
    expect_arn(aws)

    assert run_ensure_queues(aws).is_dead_letter_queue_shared


# Queues that cannot be used


@pytest.mark.parametrize(
    ("attributes", "problem"),
    [
        ({"RedrivePolicy": json.dumps({"deadLetterTargetArn": DEAD_ARN.replace("App", "Other"), "maxReceiveCount": 3})},
         "the queue AppDead is a job queue: it has a dead-letter queue itself, OtherDead"),
        ({"RedriveAllowPolicy": '{"redrivePermission": "denyAll"}'},
         "the redrive allow policy of the queue AppDead does not let it be a dead-letter queue"),
        ({"RedriveAllowPolicy": json.dumps(
            {"redrivePermission": "byQueue", "sourceQueueArns": [QUEUE_ARN.replace("App", "Other")]})},
         "the redrive allow policy of the queue AppDead does not include AppQueue"),
    ],
)  # fmt: skip
def test_a_queue_that_cannot_receive_failed_jobs_is_refused_before_anything_is_changed(
    aws: ExactClients, attributes: dict[str, str], problem: str
) -> None:
    expect_dead_letter_queue(aws, tags={"app": "Other"}, sources=[OTHER_URL], attributes=BY_HAND | attributes)

    with pytest.raises(InputError, match=f"config: SQS_DEAD_LETTER_QUEUE: {problem}; choose another name"):
        run_ensure_queues(aws)
    assert list_writes(aws) == []


@pytest.mark.parametrize(
    "policy", [{"redrivePermission": "allowAll"}, {"redrivePermission": "byQueue", "sourceQueueArns": [QUEUE_ARN]}]
)
def test_a_redrive_allow_policy_that_includes_the_job_queue_is_accepted(
    aws: ExactClients, policy: dict[str, Any]
) -> None:
    attributes = BY_HAND | {"RedriveAllowPolicy": json.dumps(policy)}
    expect_dead_letter_queue(aws, tags={"app": "shared"}, sources=[], attributes=attributes)
    expect_missing_queue(aws, "AppQueue")
    expect_job_queue_creation(aws)
    expect_arn(aws)

    assert run_ensure_queues(aws).dead_letter_url == DEAD_URL


@pytest.mark.parametrize(
    ("owner", "problem"),
    [("Other", "belongs to the app Other"), ("shared", "is a dead-letter queue that several apps share")],
)
def test_a_job_queue_that_is_not_this_apps_is_refused(aws: ExactClients, owner: str, problem: str) -> None:
    expect_missing_queue(aws, "AppDead")
    aws.expect_call("sqs.get_queue_url", {"QueueName": "AppQueue"}, QueueUrl=QUEUE_URL)
    aws.expect_call("sqs.list_queue_tags", {"QueueUrl": QUEUE_URL}, Tags={"app": owner})

    with pytest.raises(InputError, match=f"config: SQS_QUEUE_NAME: the queue AppQueue {problem}"):
        run_ensure_queues(aws)
    assert list_writes(aws) == []


def test_without_permission_to_tag_the_shared_queue_setup_fails_and_creates_nothing(aws: ExactClients) -> None:
    expect_dead_letter_queue(aws, tags={}, sources=[OTHER_URL])
    expect_missing_queue(aws, "AppQueue")
    aws.expect_error("sqs.tag_queue", "AccessDenied")

    with pytest.raises(CloudError, match="setting up the dead-letter queue AppDead: AccessDenied"):
        run_ensure_queues(aws)


# Two setups at the same time, and a service that is not consistent yet


def test_a_queue_that_another_apps_setup_has_just_created_with_other_attributes_is_shared(aws: ExactClients) -> None:
    time = FakeTime()
    for name in ("AppDead", "AppQueue"):
        expect_missing_queue(aws, name)
    aws.expect_error("sqs.create_queue", "QueueAlreadyExists")
    expect_dead_letter_queue(aws, tags={"app": "Other"}, sources=[])
    expect_job_queue_creation(aws)
    expect_arn(aws)

    assert run_ensure_queues(aws, time).is_dead_letter_queue_shared
    assert time.slept == [2.0]


def test_setup_waits_until_a_new_queue_is_known_everywhere(aws: ExactClients) -> None:
    time = FakeTime()
    for name in ("AppDead", "AppQueue"):
        expect_missing_queue(aws, name)
    aws.expect_call("sqs.create_queue", QueueUrl=DEAD_URL)
    aws.expect_error("sqs.get_queue_attributes", MISSING_QUEUE)
    expect_arn(aws)
    aws.expect_error("sqs.create_queue", "InvalidParameterValue", NO_TARGET)
    expect_job_queue_creation(aws)

    assert run_ensure_queues(aws, time) == QueueUrls(QUEUE_URL, DEAD_URL)
    assert time.slept == [1.0, 1.0]


def test_setup_fails_if_another_apps_cleanup_deletes_the_queue_meanwhile(aws: ExactClients) -> None:
    expect_dead_letter_queue(aws, tags={"app": "Other"}, sources=[])
    expect_missing_queue(aws, "AppQueue")
    expect_job_queue_creation(aws)
    aws.expect_error("sqs.get_queue_attributes", MISSING_QUEUE)

    message = "another app deleted the dead-letter queue AppDead while setup was running — run setup again"
    with pytest.raises(CloudError, match=message):
        run_ensure_queues(aws)


def test_a_queue_that_is_deleted_during_the_lookup_is_created_again(aws: ExactClients) -> None:
    aws.expect_call("sqs.get_queue_url", {"QueueName": "AppDead"}, QueueUrl=DEAD_URL)
    aws.expect_call("sqs.list_queue_tags", {"QueueUrl": DEAD_URL}, Tags={"app": "App"})
    aws.expect_error("sqs.list_dead_letter_source_queues", MISSING_QUEUE)
    expect_missing_queue(aws, "AppQueue")
    aws.expect_error("sqs.create_queue", "AWS.SimpleQueueService.QueueDeletedRecently")
    aws.expect_call("sqs.create_queue", QueueUrl=DEAD_URL)
    expect_arn(aws)
    expect_job_queue_creation(aws)

    assert run_ensure_queues(aws) == QueueUrls(QUEUE_URL, DEAD_URL)
