"""Checks the exact parameters of the AWS calls that the calling packages' own tests do not check.

The tests use botocore's Stubber, which also checks each request against botocore's model of the call. The models do not
contain all limits and allowed values, so `tests/support/limits.py` adds them. `test_least_privilege` runs a scenario
with every call that the code makes, and checks each request against both.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from botocore.response import StreamingBody

from distributed_something.account.bucket import (
    LIFECYCLE_DENIED_ADVICE,
    LIFECYCLE_RULE,
    plan_bucket_policy,
    plan_bucket_policy_removal,
    plan_lifecycle_rule,
    plan_lifecycle_rule_removal,
)
from distributed_something.account.lambda_function import (
    build_function_configuration,
    plan_monitor_function,
    plan_monitor_permission,
    plan_monitor_removal,
)
from distributed_something.account.policies import build_log_export_statements
from distributed_something.account.policy_documents import build_trust_policy
from distributed_something.account.roles import (
    MADE_BY_TAGS,
    RoleSpec,
    plan_profile_removal,
    plan_role,
    plan_service_linked_role,
)
from distributed_something.account.setup_aws import Buckets, apply_step, build_roles, plan_security_group_removals
from distributed_something.account.step import SetupStep
from distributed_something.aws.ecs import build_placement_constraints, find_task_roles
from distributed_something.aws.instance_types import find_quota_class, read_quota_value
from distributed_something.aws.sqs import QueueUrls
from distributed_something.aws.task_definition import build_task_definition
from distributed_something.core.config_settings import Settings
from distributed_something.core.errors import CloudError
from distributed_something.core.monitor_file import build_monitor_file
from distributed_something.core.names import MONITOR_FUNCTION, AwsAccount
from distributed_something.core.submission import SubmissionDocument, build_submission
from distributed_something.core.tags import build_tags
from distributed_something.diagnose.check.lookups import Lookups
from distributed_something.fleet.launch_plan import build_launch_plan
from distributed_something.fleet.request import build_fleet_request
from distributed_something.jobs.submission.document import DocumentWriter
from distributed_something.jobs.submission.send_batches import send_batch
from distributed_something.jobs.submission.waiting_jobs import DELETE_ATTEMPTS, WaitingJobRemover
from distributed_something.jobs.uploads.upload_folders import upload_folders
from distributed_something.observe.queue_resources import iter_tagged_queues
from distributed_something.observe.resources import iter_dashboard_bodies, iter_ecs_resources
from distributed_something.observe.service import list_stopped_tasks
from distributed_something.results.command_line import CommandLine
from distributed_something.results.outcome import load_run_outcome
from distributed_something.run.dashboard import build_dashboard
from distributed_something.run.monitor.history import build_history_key
from distributed_something.run.schedule import (
    build_rule_request,
    build_targets_request,
    check_auto_monitor,
    ensure_monitor_rule,
)
from distributed_something.worker import RunKeys
from distributed_something.worker.admission.closing import is_run_closed
from distributed_something.worker.attempt.acknowledge import MessageDeleter
from distributed_something.worker.attempt.attempt import MESSAGE_ATTRIBUTES, Attempt
from distributed_something.worker.attempt.context import WorkerContext
from distributed_something.worker.attempt.lease import LeaseKeeper
from distributed_something.worker.attempt.outcomes import AttemptFinisher, OutcomeCallbacks
from distributed_something.worker.container.intake import JobIntake
from distributed_something.worker.job.job import Folders
from distributed_something.worker.job.worker_settings import read_worker_settings
from distributed_something.worker.machine.idle_alarm import build_alarm_request
from distributed_something.worker.transfer.s3_file import UPLOAD_PART_BYTES, build_write_condition, upload_file_parts
from tests.support.account import create_clients
from tests.support.fakes import (
    ANY,
    DEAD_URL,
    MONITOR_FILE,
    QUEUE_URL,
    RUN,
    SETTINGS,
    START,
    ExactClients,
    FakeBucket,
    FakeTime,
    expect_exact_calls,
)
from tests.support.limits import find_request_problems

ACCOUNT = AwsAccount("123456789012", "us-east-1")


@pytest.fixture
def aws() -> Iterator[ExactClients]:
    with expect_exact_calls() as aws:
        yield aws


def apply_setup_step(step: SetupStep) -> None:
    """Apply the change that a step of setupAWS has planned."""
    assert step.apply is not None
    step.apply()


# setupAWS


def test_a_role_with_a_different_trust_and_policy_is_corrected(aws: ExactClients) -> None:
    role_spec = RoleSpec(
        "r", "ec2.amazonaws.com", {"distributed-something": {"Version": "2012-10-17", "Statement": []}}
    )
    role: Any = {"Path": "/", "RoleName": "r", "RoleId": "A" * 16, "Arn": ACCOUNT.role("role-of-a-name"),
                 "CreateDate": "2026-11-23", "AssumeRolePolicyDocument": "{}", "Tags": MADE_BY_TAGS}  # fmt: skip
    aws.expect_call("iam.get_role", {"RoleName": "r"}, Role=role)
    policy = {"RoleName": "r", "PolicyName": "distributed-something"}
    aws.expect_call("iam.get_role_policy", policy, PolicyDocument="{}", **policy)
    trust = json.dumps(build_trust_policy("ec2.amazonaws.com"))
    aws.expect_call("iam.update_assume_role_policy", {"RoleName": "r", "PolicyDocument": trust})
    document = '{"Version":"2012-10-17","Statement":[]}'
    aws.expect_call("iam.put_role_policy", policy | {"PolicyDocument": document})

    step = plan_role(aws.clients.iam, role_spec, FakeTime().sleep)

    apply_setup_step(step)


def test_the_role_is_removed_from_the_profile_before_the_profile_is_deleted(aws: ExactClients) -> None:
    role: Any = {"Path": "/", "RoleName": "r", "RoleId": "A" * 16, "Arn": ACCOUNT.role("role-of-a-name"),
                 "CreateDate": "2026-11-23"}  # fmt: skip
    profile = {"Path": "/", "InstanceProfileName": "p", "InstanceProfileId": "A" * 16,
               "Arn": ACCOUNT.profile("p" * 20), "CreateDate": "2026-11-23", "Roles": [role],
               "Tags": MADE_BY_TAGS}  # fmt: skip
    aws.expect_call("iam.get_instance_profile", {"InstanceProfileName": "p"}, InstanceProfile=profile)
    aws.expect_call("iam.remove_role_from_instance_profile", {"InstanceProfileName": "p", "RoleName": "r"})
    aws.expect_call("iam.delete_instance_profile", {"InstanceProfileName": "p"})

    (step,) = plan_profile_removal(aws.clients.iam, "p")

    apply_setup_step(step)


def test_a_service_linked_role_that_aws_has_just_created_does_not_count_as_an_error(aws: ExactClients) -> None:
    aws.expect_error("iam.get_role", "NoSuchEntity", request={"RoleName": "AWSServiceRoleForECS"})
    request = {"AWSServiceName": "ecs.amazonaws.com"}
    aws.expect_error(
        "iam.create_service_linked_role", "InvalidInput", "has been taken in this account", request=request
    )

    step = plan_service_linked_role(aws.clients.iam, "AWSServiceRoleForECS", "ecs.amazonaws.com")

    apply_setup_step(step)


def test_the_function_update_is_retried_while_aws_applies_the_previous_change(aws: ExactClients) -> None:
    time, code = FakeTime(), b"PK"
    old_configuration = {"CodeSha256": "older", "Timeout": 3}
    tags = {"made-by": "distributed-something"}
    aws.expect_call(
        "lambda_.get_function", {"FunctionName": MONITOR_FUNCTION}, Configuration=old_configuration, Tags=tags
    )
    aws.expect_call("lambda_.update_function_configuration", build_function_configuration(ACCOUNT))
    code_update = {"FunctionName": MONITOR_FUNCTION, "ZipFile": code}
    aws.expect_error("lambda_.update_function_code", "ResourceConflictException", request=code_update)
    aws.expect_call("lambda_.update_function_code", code_update)

    step = plan_monitor_function(aws.clients, ACCOUNT, code, time.sleep)

    apply_setup_step(step)
    assert len(time.slept) == 1


def test_a_permission_for_other_rules_is_replaced(aws: ExactClients) -> None:
    aws.expect_call(
        "lambda_.get_function", {"FunctionName": MONITOR_FUNCTION}, Tags={"made-by": "distributed-something"}
    )
    old_policy = json.dumps({"Statement": [{"Sid": "distributed-something-rules"}]})
    aws.expect_call("lambda_.get_policy", {"FunctionName": MONITOR_FUNCTION}, Policy=old_policy)
    aws.expect_call(
        "lambda_.remove_permission", {"FunctionName": MONITOR_FUNCTION, "StatementId": "distributed-something-rules"}
    )
    permission = {
        "FunctionName": MONITOR_FUNCTION, "StatementId": "distributed-something-rules",
        "Action": "lambda:InvokeFunction", "Principal": "events.amazonaws.com",
        "SourceArn": "arn:aws:events:us-east-1:123456789012:rule/distributed-something-*",
    }  # fmt: skip
    aws.expect_call("lambda_.add_permission", permission)

    step = plan_monitor_permission(aws.clients, ACCOUNT, FakeTime().sleep)

    apply_setup_step(step)


def test_the_function_and_its_log_group_are_deleted_only_if_they_have_our_tag(aws: ExactClients) -> None:
    group = f"/aws/lambda/{MONITOR_FUNCTION}"
    arn = f"arn:aws:logs:us-east-1:123456789012:log-group:{group}"
    aws.expect_call(
        "lambda_.get_function", {"FunctionName": MONITOR_FUNCTION}, Tags={"made-by": "distributed-something"}
    )
    first_page = {"logGroupNamePrefix": group}
    aws.expect_call(
        "logs.describe_log_groups", first_page, logGroups=[{"logGroupName": f"{group}-2"}], nextToken="more"
    )
    log_groups = [{"logGroupName": group, "arn": f"{arn}:*"}]
    aws.expect_call("logs.describe_log_groups", first_page | {"nextToken": "more"}, logGroups=log_groups)
    aws.expect_call("logs.list_tags_for_resource", {"resourceArn": arn}, tags={"made-by": "distributed-something"})
    aws.expect_call("lambda_.delete_function", {"FunctionName": MONITOR_FUNCTION})
    aws.expect_call("logs.delete_log_group", {"logGroupName": group})

    for step in list(plan_monitor_removal(aws.clients)):
        apply_setup_step(step)


def test_the_bucket_policy_is_added_and_removed(aws: ExactClients) -> None:
    bucket, statements = {"Bucket": "app-bucket"}, build_log_export_statements(ACCOUNT, "app-bucket")
    policy = json.dumps({"Version": "2012-10-17", "Statement": statements})
    aws.expect_error("s3.get_bucket_policy", "NoSuchBucketPolicy", request=bucket)
    aws.expect_call("s3.put_bucket_policy", bucket | {"Policy": policy})
    aws.expect_call("s3.get_bucket_policy", bucket, Policy=policy)
    aws.expect_call("s3.delete_bucket_policy", bucket)

    apply_setup_step(plan_bucket_policy(aws.clients, ACCOUNT, "app-bucket", FakeTime().sleep))
    (removal,) = plan_bucket_policy_removal(aws.clients, ACCOUNT, "app-bucket", FakeTime().sleep)
    apply_setup_step(removal)


def add_and_remove_lifecycle_rule(aws: ExactClients) -> None:
    apply_setup_step(plan_lifecycle_rule(aws.clients, "app-bucket", FakeTime().sleep))
    (removal,) = plan_lifecycle_rule_removal(aws.clients, "app-bucket", FakeTime().sleep)
    apply_setup_step(removal)


def test_the_rule_for_incomplete_uploads_is_added_and_removed_and_other_rules_are_kept(aws: ExactClients) -> None:
    bucket, size_setting = {"Bucket": "app-bucket"}, {"TransitionDefaultMinimumObjectSize": "varies_by_storage_class"}
    old_rule = {"ID": "old", "Prefix": "logs/", "Status": "Enabled", "Expiration": {"Days": 30}}
    # S3 rejects a configuration that mixes "Prefix" and "Filter", so setupAWS converts the old rule.
    converted_rule = {"ID": "old", "Filter": {"Prefix": "logs/"}, "Status": "Enabled", "Expiration": {"Days": 30}}
    both_rules = [converted_rule, LIFECYCLE_RULE]
    aws.expect_call("s3.get_bucket_lifecycle_configuration", bucket, Rules=[old_rule], **size_setting)
    aws.expect_call(
        "s3.put_bucket_lifecycle_configuration",
        bucket | size_setting | {"LifecycleConfiguration": {"Rules": both_rules}},
    )
    aws.expect_call("s3.get_bucket_lifecycle_configuration", bucket, Rules=both_rules, **size_setting)
    aws.expect_call(
        "s3.put_bucket_lifecycle_configuration",
        bucket | size_setting | {"LifecycleConfiguration": {"Rules": [converted_rule]}},
    )

    add_and_remove_lifecycle_rule(aws)


@pytest.mark.parametrize("failing_call", ["get", "put"])
def test_setup_continues_without_the_lifecycle_rule_if_a_permission_is_missing(
    aws: ExactClients, failing_call: str
) -> None:
    """The usual cause is a bucket that belongs to another account. Runs work without the rule."""
    code = "AccessDenied" if failing_call == "get" else "NoSuchLifecycleConfiguration"
    aws.expect_error("s3.get_bucket_lifecycle_configuration", code)
    if failing_call == "put":
        aws.expect_error("s3.put_bucket_lifecycle_configuration", "AccessDenied")

    row = apply_step(plan_lifecycle_rule(aws.clients, "app-bucket", FakeTime().sleep))

    assert (row.state, row.note) == ("not done", LIFECYCLE_DENIED_ADVICE)


def test_removal_continues_if_the_lifecycle_rules_cannot_be_read_or_the_bucket_does_not_exist(
    aws: ExactClients,
) -> None:
    aws.expect_error("s3.get_bucket_lifecycle_configuration", "AccessDenied")
    (removal,) = plan_lifecycle_rule_removal(aws.clients, "app-bucket", FakeTime().sleep)
    assert (removal.row.state, removal.apply) == ("not done", None)
    aws.expect_error("s3.get_bucket_lifecycle_configuration", "NoSuchBucket")
    assert list(plan_lifecycle_rule_removal(aws.clients, "app-bucket", FakeTime().sleep)) == []


def test_any_other_failure_to_write_the_lifecycle_rules_is_reported_as_an_error(aws: ExactClients) -> None:
    aws.expect_error("s3.get_bucket_lifecycle_configuration", "NoSuchLifecycleConfiguration")
    aws.expect_error("s3.put_bucket_lifecycle_configuration", "MalformedXML")
    with pytest.raises(CloudError, match="setting up: bucket rule app-bucket: MalformedXML"):
        apply_step(plan_lifecycle_rule(aws.clients, "app-bucket", FakeTime().sleep))


def test_the_lifecycle_configuration_is_deleted_if_our_rule_is_the_only_one(aws: ExactClients) -> None:
    bucket = {"Bucket": "app-bucket"}
    aws.expect_error("s3.get_bucket_lifecycle_configuration", "NoSuchLifecycleConfiguration", request=bucket)
    aws.expect_call(
        "s3.put_bucket_lifecycle_configuration", bucket | {"LifecycleConfiguration": {"Rules": [LIFECYCLE_RULE]}}
    )
    aws.expect_call("s3.get_bucket_lifecycle_configuration", bucket, Rules=[LIFECYCLE_RULE])
    aws.expect_call("s3.delete_bucket_lifecycle", bucket)

    add_and_remove_lifecycle_rule(aws)


@pytest.mark.parametrize(
    ("rule", "is_sufficient"),
    [
        ({"Filter": {}, "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 3}}, True),
        ({"Prefix": "", "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7}}, True),
        ({"Filter": {"Prefix": ""}, "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 30}}, False),
        ({"Filter": {"Prefix": "a/"}, "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 3}}, False),
        ({"Filter": {"Prefix": ""}, "Expiration": {"Days": 3}}, False),
        ({"Filter": {}, "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 3}, "Status": "Disabled"}, False),
    ],
)
def test_no_rule_is_added_if_an_existing_rule_does_the_same(
    aws: ExactClients, rule: dict[str, Any], is_sufficient: bool
) -> None:
    rules = [{"ID": "existing", "Status": "Enabled"} | rule]
    aws.expect_call("s3.get_bucket_lifecycle_configuration", {"Bucket": "app-bucket"}, Rules=rules)
    assert (plan_lifecycle_rule(aws.clients, "app-bucket", FakeTime().sleep).apply is None) == is_sufficient


def test_security_groups_on_all_pages_are_deleted(aws: ExactClients) -> None:
    request = {"Filters": [{"Name": "tag:made-by", "Values": ["distributed-something"]}]}
    group = {"GroupId": "sg-1", "Tags": [{"Key": "made-by", "Value": "distributed-something"}]}
    aws.expect_call("ec2.describe_security_groups", request, SecurityGroups=[], NextToken="more")
    aws.expect_call("ec2.describe_security_groups", request | {"NextToken": "more"}, SecurityGroups=[group])
    aws.expect_call("ec2.delete_security_group", {"GroupId": "sg-1"})

    (step,) = plan_security_group_removals(aws.clients)

    apply_setup_step(step)


# container roles


TASK_ROLES = ("distributed-something-task", "distributed-something-execution")


def build_role_response(name: str) -> dict[str, Any]:
    return {"Path": "/", "RoleName": name, "RoleId": "A" * 16, "Arn": ACCOUNT.role(name), "CreateDate": "2026-11-23"}


def test_containers_use_the_roles_that_setup_aws_created(aws: ExactClients) -> None:
    for name in TASK_ROLES:
        aws.expect_call("iam.get_role", {"RoleName": name}, Role=build_role_response(name))

    assert find_task_roles(aws.clients.iam, aws.clients.ecs, "AppTask") == {
        "taskRoleArn": "arn:aws:iam::123456789012:role/distributed-something-task",
        "executionRoleArn": "arn:aws:iam::123456789012:role/distributed-something-execution",
    }


def test_containers_use_their_machines_role_if_setup_aws_was_never_run(aws: ExactClients) -> None:
    for name in TASK_ROLES:
        aws.expect_error("iam.get_role", "NoSuchEntity", request={"RoleName": name})

    assert find_task_roles(aws.clients.iam, aws.clients.ecs, "AppTask") == {}


@pytest.mark.parametrize("missing", [0, 1])
def test_a_single_missing_task_role_is_refused_since_the_other_would_not_be_used(
    aws: ExactClients, missing: int
) -> None:
    for number, name in enumerate(TASK_ROLES):
        if number == missing:
            aws.expect_error("iam.get_role", "NoSuchEntity", request={"RoleName": name})
        else:
            aws.expect_call("iam.get_role", {"RoleName": name}, Role=build_role_response(name))

    with pytest.raises(CloudError, match=f"the role {TASK_ROLES[missing]} does not exist.*run setupAWS again"):
        find_task_roles(aws.clients.iam, aws.clients.ecs, "AppTask")


@pytest.mark.parametrize("code", ["AccessDenied", "AccessDeniedException"])
def test_a_login_without_iam_get_role_uses_the_roles_of_the_latest_task_definition(
    aws: ExactClients, code: str
) -> None:
    roles = dict(zip(("taskRoleArn", "executionRoleArn"), map(ACCOUNT.role, TASK_ROLES), strict=True))
    aws.expect_error("iam.get_role", code, request={"RoleName": TASK_ROLES[0]})
    aws.expect_call("ecs.describe_task_definition", {"taskDefinition": "AppTask"}, taskDefinition=roles)

    assert find_task_roles(aws.clients.iam, aws.clients.ecs, "AppTask") == roles


@pytest.mark.parametrize("registered", [{}, {"taskRoleArn": ACCOUNT.role("other")}])
def test_a_login_without_iam_get_role_is_refused_if_no_task_definition_has_the_roles(
    aws: ExactClients, registered: dict[str, str]
) -> None:
    """Without roles, the containers could not be protected, and would have the rights of their machine."""
    aws.expect_error("iam.get_role", "AccessDenied", request={"RoleName": TASK_ROLES[0]})
    aws.expect_call("ecs.describe_task_definition", {"taskDefinition": "AppTask"}, taskDefinition=registered)

    with pytest.raises(CloudError, match=r"without the permission iam:GetRole.*ask your administrator"):
        find_task_roles(aws.clients.iam, aws.clients.ecs, "AppTask")


def test_any_other_failure_to_read_a_task_role_is_reported_as_an_error(aws: ExactClients) -> None:
    aws.expect_error("iam.get_role", "ServiceFailure", request={"RoleName": TASK_ROLES[0]})

    with pytest.raises(CloudError, match="distributed-something-task"):
        find_task_roles(aws.clients.iam, aws.clients.ecs, "AppTask")


# submitJob and startCluster


class FakeJournal:
    """A submission journal that only collects the numbers of the jobs sent."""

    def __init__(self) -> None:
        self.sent_numbers: list[int] = []

    def add(self, numbers: list[int]) -> None:
        self.sent_numbers += numbers


def test_only_messages_that_sqs_throttled_are_sent_again(aws: ExactClients) -> None:
    time, journal = FakeTime(), FakeJournal()
    entries = [{"Id": "0", "MessageBody": "a"}, {"Id": "1", "MessageBody": "b"}]
    successful = [{"Id": "0", "MessageId": "m", "MD5OfMessageBody": "x"}]
    failed = [{"Id": "1", "Code": "RequestThrottled", "SenderFault": False}]
    request = {"QueueUrl": QUEUE_URL, "Entries": entries}
    aws.expect_call("sqs.send_message_batch", request, Successful=successful, Failed=failed)
    retry = {"QueueUrl": QUEUE_URL, "Entries": entries[1:]}
    aws.expect_call("sqs.send_message_batch", retry, Successful=[successful[0] | {"Id": "1"}], Failed=[])

    batch: Any = [(0, "a"), (1, "b")]
    send_batch(aws.clients.sqs, QUEUE_URL, batch, journal, time.sleep)  # type: ignore[arg-type]

    assert journal.sent_numbers == [0, 1]


def test_messages_of_submitjob_again_have_an_attribute(aws: ExactClients) -> None:
    attributes = {"again_since": {"DataType": "String", "StringValue": "2026-11-23T10:45:00.000Z"}}
    entries = [{"Id": "0", "MessageBody": "a", "MessageAttributes": attributes}]
    successful = [{"Id": "0", "MessageId": "m", "MD5OfMessageBody": "x"}]
    request = {"QueueUrl": QUEUE_URL, "Entries": entries}
    aws.expect_call("sqs.send_message_batch", request, Successful=successful, Failed=[])
    journal: Any = FakeJournal()

    send_batch(aws.clients.sqs, QUEUE_URL, [(0, "a")], journal, FakeTime().sleep, lambda _: attributes)


DOCUMENT = SubmissionDocument("App", "AppQueue", "20261123T104500.123Z", "job.json", "digest", 60)


def expect_document(aws: ExactClients, document: SubmissionDocument, code: str = "", **condition: str) -> None:
    """Expect that this submission document is written, and return the error `code` if it is not empty."""
    request = {
        "Bucket": "app-bucket", "Key": f"runs/App/submissions/{document.time}.json", "Body": build_submission(document),
        "ContentType": "application/json", **condition,
    }  # fmt: skip
    if code:
        aws.expect_error("s3.put_object", code, request=request)
    else:
        aws.expect_call("s3.put_object", request)


@pytest.mark.parametrize(
    ("code", "stored"),
    [("PreconditionFailed", replace(DOCUMENT, job_file="b.json")), ("ConditionalRequestConflict", None)],
)
def test_a_submission_that_begins_in_the_same_millisecond_as_another_one_uses_the_next(
    aws: ExactClients, code: str, stored: SubmissionDocument | None
) -> None:
    expect_document(aws, DOCUMENT, code, IfNoneMatch="*")
    expect_stored_document(aws, stored)
    expect_document(aws, replace(DOCUMENT, time="20261123T104500.124Z"), IfNoneMatch="*")

    begun = DocumentWriter(aws.clients.s3, "app-bucket", FakeTime().clock, 0.0).begin(DOCUMENT)

    assert begun.time == "20261123T104500.124Z"


def test_a_submission_whose_first_response_was_lost_keeps_its_document(aws: ExactClients) -> None:
    """botocore repeats the request by itself, and S3 then says that the key is occupied."""
    expect_document(aws, DOCUMENT, "PreconditionFailed", IfNoneMatch="*")
    expect_stored_document(aws, DOCUMENT)

    assert DocumentWriter(aws.clients.s3, "app-bucket", FakeTime().clock, 0.0).begin(DOCUMENT) == DOCUMENT


def expect_stored_document(aws: ExactClients, document: SubmissionDocument | None) -> None:
    """Expect a lookup of the document at DOCUMENT's key, which is not there if `document` is None."""
    request = {"Bucket": "app-bucket", "Key": f"runs/App/submissions/{DOCUMENT.time}.json"}
    if document is None:
        aws.expect_error("s3.get_object", "NoSuchKey", request=request)
        return
    body = build_submission(document)
    aws.expect_call("s3.get_object", request, Body=StreamingBody(BytesIO(body), len(body)))


def test_a_submission_document_is_updated_every_ten_seconds_and_errors_do_not_stop_the_submission(
    aws: ExactClients,
) -> None:
    time = FakeTime()
    writer = DocumentWriter(aws.clients.s3, "app-bucket", time.clock, 0.0)
    expect_document(aws, DOCUMENT, IfNoneMatch="*")
    expect_document(aws, replace(DOCUMENT, count=20), "SlowDown")
    expect_document(aws, replace(DOCUMENT, count=30), "AccessDenied")

    writer.begin(DOCUMENT)
    writer.update(DOCUMENT, 10)
    time.sleep(10)
    writer.update(DOCUMENT, 20)

    assert writer.write(replace(DOCUMENT, count=30)) == "needs s3:PutObject"


def test_a_submission_that_cannot_be_recorded_is_an_error(aws: ExactClients) -> None:
    expect_document(aws, DOCUMENT, "AccessDenied", IfNoneMatch="*")
    with pytest.raises(CloudError, match=r"while writing the submission to s3://app-bucket/runs/App/submissions/2026"):
        DocumentWriter(aws.clients.s3, "app-bucket", FakeTime().clock, 0.0).begin(DOCUMENT)


def test_waiting_jobs_are_received_and_deleted_in_batches_until_none_is_left(aws: ExactClients) -> None:
    time = FakeTime()
    receive = {
        "QueueUrl": QUEUE_URL, "MaxNumberOfMessages": 10, "VisibilityTimeout": 60, "WaitTimeSeconds": 1,
        "MessageAttributeNames": ["submission", "retry_of"],
    }  # fmt: skip
    first, second = ({"Id": str(number), "ReceiptHandle": f"r{number}"} for number in (0, 1))
    aws.expect_call("sqs.receive_message", receive, Messages=[{"ReceiptHandle": "r0"}, {"ReceiptHandle": "r1"}])
    failed = [{"Id": "1", "Code": "InternalError", "SenderFault": False}]
    request = {"QueueUrl": QUEUE_URL, "Entries": [first, second]}
    aws.expect_call("sqs.delete_message_batch", request, Successful=[{"Id": "0"}], Failed=failed)
    request = {"QueueUrl": QUEUE_URL, "Entries": [second]}
    aws.expect_call("sqs.delete_message_batch", request, Successful=[{"Id": "1"}], Failed=[])
    aws.expect_call("sqs.receive_message", receive)

    remover = WaitingJobRemover(aws.clients.sqs, QUEUE_URL, time.clock, lambda _: None)
    remover.remove_all(threads=1)

    assert remover.removed == 2
    assert len(time.slept) == 1


def test_an_error_while_jobs_are_removed_is_raised_with_the_number_removed_so_far(aws: ExactClients) -> None:
    aws.expect_call("sqs.receive_message", Messages=[{"ReceiptHandle": "r0"}])
    aws.expect_call("sqs.delete_message_batch", Successful=[{"Id": "0"}], Failed=[])
    aws.expect_error("sqs.receive_message", "AccessDenied")

    remover = WaitingJobRemover(aws.clients.sqs, QUEUE_URL, FakeTime().clock, lambda _: None)
    with pytest.raises(CloudError, match="while removing waiting jobs: AccessDenied"):
        remover.remove_all(threads=1)
    assert remover.removed == 1


def test_a_job_that_sqs_never_deletes_is_an_error(aws: ExactClients) -> None:
    failed = [{"Id": "0", "Code": "InternalError", "Message": "later", "SenderFault": False}]
    aws.expect_call("sqs.receive_message", Messages=[{"ReceiptHandle": "r0"}])
    for _ in range(DELETE_ATTEMPTS):
        aws.expect_call("sqs.delete_message_batch", Successful=[], Failed=failed)

    remover = WaitingJobRemover(aws.clients.sqs, QUEUE_URL, FakeTime().clock, lambda _: None)
    with pytest.raises(CloudError, match=r"SQS does not delete a job \(later\) — run the command again"):
        remover.remove_all(threads=1)


def test_a_folder_is_uploaded_file_by_file(aws: ExactClients, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    aws.expect_call("s3.list_objects_v2", {"Bucket": "app-bucket", "Prefix": "in"}, Contents=[])
    request = {"Bucket": "app-bucket", "Key": "in/a.txt", "Body": ANY, "ChecksumAlgorithm": "CRC32"}
    aws.expect_call("s3.put_object", request)

    upload_folders(aws.clients.s3, "app-bucket", {tmp_path: "in"}, lambda _: None)


def test_the_auto_monitor_runs_once_a_minute(aws: ExactClients) -> None:
    rule = {
        "Name": "distributed-something-App", "ScheduleExpression": "rate(1 minute)", "State": "ENABLED",
        "Description": f"Watches the run {RUN} of App.", "Tags": [{"Key": "app", "Value": "App"}],
    }  # fmt: skip
    aws.expect_call("events.put_rule", rule, RuleArn="arn")
    event = (
        '{"bucket": "app-bucket", "key": "monitors/AppSpotFleetRequestId.json", "rule": "distributed-something-App"}'
    )
    target = {"Id": "auto-monitor", "Arn": ACCOUNT.function, "Input": event}
    request = {"Rule": "distributed-something-App", "Targets": [target]}
    aws.expect_call("events.put_targets", request, FailedEntryCount=0, FailedEntries=[])

    ensure_monitor_rule(aws.clients, MONITOR_FILE, ACCOUNT, {"app": "App"}, FakeTime().sleep)


def test_an_auto_monitor_that_does_not_exist_is_created_with_the_command_that_is_named(aws: ExactClients) -> None:
    line = CommandLine(options=("--project", "my plates"))
    request = {"FunctionName": ACCOUNT.function}
    aws.expect_error("lambda_.get_function", "ResourceNotFoundException", request=request)
    with pytest.raises(CloudError) as caught:
        check_auto_monitor(aws.clients, ACCOUNT, line)
    assert str(caught.value) == (
        "AUTO_MONITOR is 'True', but this account and region have no auto-monitor — type first: "
        "python run.py --project 'my plates' setupAWS"
    )
    assert caught.value.commands == ("python run.py --project 'my plates' setupAWS",)

    aws.expect_call("lambda_.get_function", request)
    check_auto_monitor(aws.clients, ACCOUNT, line)


# check and why


def test_quotas_are_looked_up_by_code(aws: ExactClients) -> None:
    request = {"ServiceCode": "ec2", "QuotaCode": "L-34B43A08"}
    aws.expect_call("service_quotas.get_service_quota", request, Quota={"Value": 5.0})
    quota_class = find_quota_class("m5.large")

    assert quota_class is not None
    assert read_quota_value(aws.clients.service_quotas, quota_class) == 5.0


def test_the_reasons_why_tasks_stopped_are_read(aws: ExactClients) -> None:
    request = {"cluster": "app-cluster", "serviceName": "AppService", "desiredStatus": "STOPPED", "maxResults": 100}
    aws.expect_call("ecs.list_tasks", request, taskArns=["task-1"])
    aws.expect_call("ecs.describe_tasks", {"cluster": "app-cluster", "tasks": ["task-1"]}, tasks=[{"stopCode": "X"}])

    assert [task.kind for task in list_stopped_tasks(aws.clients.ecs, "app-cluster", "AppService")] == ["X"]


def test_resources_in_a_fleet_file_are_looked_up_with_filters(aws: ExactClients) -> None:
    """If the call listed IDs instead, a single ID that does not exist would make the whole call fail."""
    specification = {
        "KeyName": "key", "ImageId": "ami-1", "NetworkInterfaces": [{"SubnetId": "subnet-1", "Groups": ["sg-1"]}],
        "BlockDeviceMappings": [{"DeviceName": "/dev/xvdb", "Ebs": {"SnapshotId": "snap-1"}}],
    }  # fmt: skip
    fleet = {"LaunchSpecifications": [specification]}
    lookups = Lookups(SETTINGS, aws.clients, datetime(2026, 11, 23, tzinfo=UTC), fleet)
    subnet = {"SubnetId": "subnet-1", "VpcId": "vpc-1"}
    aws.expect_call("ec2.describe_subnets", build_filter("subnet-id", "subnet-1"), Subnets=[subnet])
    aws.expect_call(
        "ec2.describe_route_tables", build_filter("vpc-id", "vpc-1"), RouteTables=[{"RouteTableId": "rtb-1"}]
    )
    aws.expect_call(
        "ec2.describe_security_groups", build_filter("group-id", "sg-1"), SecurityGroups=[{"GroupId": "sg-1"}]
    )
    aws.expect_call("ec2.describe_key_pairs", build_filter("key-name", "key"), KeyPairs=[{"KeyName": "key"}])
    aws.expect_call(
        "ec2.describe_images",
        build_filter("image-id", "ami-1") | {"IncludeDeprecated": True},
        Images=[{"ImageId": "ami-1"}],
    )
    aws.expect_call(
        "ec2.describe_snapshots", build_filter("snapshot-id", "snap-1"), Snapshots=[{"SnapshotId": "snap-1"}]
    )

    assert lookups.routes.value == {"rtb-1": {"RouteTableId": "rtb-1"}}
    for lookup in (lookups.groups, lookups.key_pairs, lookups.images, lookups.snapshots):
        assert len(lookup.value) == 1


def build_filter(name: str, value: str) -> dict[str, Any]:
    return {"Filters": [{"Name": name, "Values": [value]}]}


# cleanup


def test_queues_and_clusters_on_all_pages_are_listed(aws: ExactClients) -> None:
    aws.expect_call("sqs.list_queues", {"MaxResults": 1000}, QueueUrls=[], NextToken="more")
    aws.expect_call("sqs.list_queues", {"MaxResults": 1000, "NextToken": "more"}, QueueUrls=[])
    aws.expect_call("ecs.list_clusters", {}, clusterArns=[], nextToken="more")
    aws.expect_call("ecs.list_clusters", {"nextToken": "more"}, clusterArns=[])

    assert list(iter_tagged_queues(aws.clients.sqs)) == list(iter_ecs_resources(aws.clients.ecs)) == []


def test_a_dashboard_that_is_deleted_between_two_calls_does_not_cause_an_error(aws: ExactClients) -> None:
    entries = [{"DashboardName": "A"}, {"DashboardName": "B"}]
    aws.expect_call("cloudwatch.list_dashboards", {}, DashboardEntries=entries)
    aws.expect_error("cloudwatch.get_dashboard", "ResourceNotFound", request={"DashboardName": "A"})
    aws.expect_call("cloudwatch.get_dashboard", {"DashboardName": "B"}, DashboardBody="{}")

    assert list(iter_dashboard_bodies(aws.clients.cloudwatch)) == [("B", "{}")]


def test_the_outcome_of_a_run_is_read_from_its_journals(aws: ExactClients) -> None:
    prefix, key = f"runs/App/{RUN}/attempts/", f"runs/App/{RUN}/attempts/c-1.jsonl"
    line = {"job": "a", "state": "done", "final": True, "message_id": "m", "ended": "2026-11-23T10:50:00.000Z"}
    first = json.dumps({"container": "c", "machine": "i-1", "done": 1, "ended": True}).encode() + b"\n"
    listing = {"Contents": [{"Key": key, "ETag": '"1"'}]}
    aws.expect_call("s3.list_objects_v2", {"Bucket": "app-bucket", "Prefix": prefix}, **listing)
    body = first + json.dumps(line).encode() + b"\n"
    aws.expect_call("s3.get_object", {"Bucket": "app-bucket", "Key": key}, Body=BytesIO(body))
    aws.expect_call("s3.list_objects_v2", {"Bucket": "app-bucket", "Prefix": prefix}, **listing)

    outcome = load_run_outcome(aws.clients.s3, MONITOR_FILE, submitted=1, left=0)

    assert (outcome.counts.done, outcome.machines, outcome.is_complete) == (1, 1, True)


# the worker


ENVIRONMENT = {"APP_NAME": "App", "RUN": RUN, "SQS_QUEUE_URL": QUEUE_URL, "SQS_DEAD_LETTER_QUEUE_URL": DEAD_URL,
               "AWS_BUCKET": "app-bucket"}  # fmt: skip


def build_finisher(aws: ExactClients, tmp_path: Path, *, retries: int) -> tuple[AttemptFinisher, Attempt]:
    """Return an attempt finisher, and the first attempt at a job for which `retries` attempts are allowed."""
    settings = read_worker_settings(ENVIRONMENT | {"JOB_RETRIES": str(retries), "WORK_DIR": str(tmp_path)})
    now = FakeTime().now
    keeper = LeaseKeeper(aws.clients.sqs, QUEUE_URL, 60, now)
    callbacks = OutcomeCallbacks(lambda _: None, lambda *_: None)
    context = WorkerContext(settings, aws.clients.sqs, FakeBucket())
    finisher = AttemptFinisher(context, keeper, callbacks, lambda _: None)
    message = {"Body": "{}", "ReceiptHandle": "r", "MessageId": "m", "Attributes": {"ApproximateReceiveCount": "1"}}
    return finisher, Attempt(message, keeper.add_lease("r", now()), Folders(tmp_path), 0, 0, now())


class OpenGate:
    """An admission gate that allows every job."""

    def count_allowed_jobs(self, wanted: int, ahead: int) -> int:
        return wanted + ahead

    def release_probe(self) -> None:
        pass


def test_a_job_is_received_with_its_lease_and_its_receive_count(aws: ExactClients, tmp_path: Path) -> None:
    request = {
        "QueueUrl": QUEUE_URL, "MaxNumberOfMessages": 1, "WaitTimeSeconds": 5, "VisibilityTimeout": 120,
        "MessageSystemAttributeNames": ["ApproximateReceiveCount", "ApproximateFirstReceiveTimestamp", "SentTimestamp"],
        "MessageAttributeNames": list(MESSAGE_ATTRIBUTES),
    }  # fmt: skip
    aws.expect_call("sqs.receive_message", request)
    settings = read_worker_settings(ENVIRONMENT | {"WORK_DIR": str(tmp_path)})
    unused: Any = None
    gate: Any = OpenGate()
    intake = JobIntake(WorkerContext(settings, aws.clients.sqs, unused), unused, unused, gate, FakeTime().now)
    intake.announce_idle_slot(0)

    intake.run_round(unused)


@pytest.mark.parametrize(("failures", "seconds"), [(0, 0), (1, 15), (2, 60), (3, 60), (8, 60)])
def test_a_failed_job_stays_hidden_longer_before_each_retry(
    aws: ExactClients, tmp_path: Path, failures: int, seconds: int
) -> None:
    finisher, attempt = build_finisher(aws, tmp_path, retries=10)
    attempt.failures = failures
    request = {"QueueUrl": QUEUE_URL, "ReceiptHandle": "r", "VisibilityTimeout": seconds}
    aws.expect_call("sqs.change_message_visibility", request)

    finisher.record_failure(attempt, "exit code 1", "exit code")


def test_a_rejected_job_is_copied_to_the_dead_letter_queue_before_it_is_deleted(
    aws: ExactClients, tmp_path: Path
) -> None:
    finisher, attempt = build_finisher(aws, tmp_path, retries=1)
    attributes = {"reason": {"DataType": "String", "StringValue": "no?such"}}
    aws.expect_call("sqs.send_message", {"QueueUrl": DEAD_URL, "MessageBody": "{}", "MessageAttributes": attributes})
    aws.expect_call("sqs.delete_message", {"QueueUrl": QUEUE_URL, "ReceiptHandle": "r"})

    finisher.reject_message(attempt, "no\nsuch")

    assert aws.calls == ["sqs.SendMessage", "sqs.DeleteMessage"]


def test_done_jobs_are_deleted_in_batches_of_ten(aws: ExactClients) -> None:
    keeper = LeaseKeeper(aws.clients.sqs, QUEUE_URL, 60, FakeTime().now)
    deleter = MessageDeleter(aws.clients.sqs, QUEUE_URL, keeper.release_lease)
    for number in range(11):
        deleter.delete_soon(keeper.add_lease(f"r{number}", 0.0))
    entries = [{"Id": str(number), "ReceiptHandle": f"r{number}"} for number in range(10)]
    response: Any = {"Successful": [{"Id": str(number)} for number in range(10)], "Failed": []}
    aws.expect_call("sqs.delete_message_batch", {"QueueUrl": QUEUE_URL, "Entries": entries}, **response)
    last_entry = [{"Id": "0", "ReceiptHandle": "r10"}]
    aws.expect_call(
        "sqs.delete_message_batch", {"QueueUrl": QUEUE_URL, "Entries": last_entry}, Successful=[{"Id": "0"}], Failed=[]
    )

    assert deleter.send_all()


def test_one_object_shows_whether_the_run_is_closed(aws: ExactClients) -> None:
    aws.expect_error("s3.head_object", "404", request={"Bucket": "app-bucket", "Key": f"runs/App/{RUN}/closed.json"})

    assert not is_run_closed(aws.clients.s3, "app-bucket", RunKeys("App", RUN))


def test_a_large_file_is_uploaded_in_parts_and_does_not_replace_an_existing_object(
    aws: ExactClients, tmp_path: Path
) -> None:
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(UPLOAD_PART_BYTES + 1)
    target = {"Bucket": "app-bucket", "Key": "out/large"}
    aws.expect_call("s3.create_multipart_upload", target | {"ChecksumAlgorithm": "CRC32"}, UploadId="u")
    target |= {"UploadId": "u"}
    crcs = [zlib.crc32(bytes(UPLOAD_PART_BYTES)), zlib.crc32(bytes(1))]
    checksums = [base64.b64encode(crc.to_bytes(4)).decode() for crc in crcs]
    parts = [{"PartNumber": n, "ETag": f"e{n}", "ChecksumCRC32": checksum} for n, checksum in enumerate(checksums, 1)]
    for part in parts:
        request = target | {name: part[name] for name in ("PartNumber", "ChecksumCRC32")} | {"Body": ANY}
        aws.expect_call("s3.upload_part", request, ETag=part["ETag"], ChecksumCRC32=part["ChecksumCRC32"])
    completion = target | {"MultipartUpload": {"Parts": parts}, "IfNoneMatch": "*"}
    aws.expect_call("s3.complete_multipart_upload", completion)

    with ThreadPoolExecutor(1) as pool:  # a single thread, because the stub expects the parts in order
        upload_file_parts(
            aws.clients.s3, path, "app-bucket", "out/large", lambda: None, pool, **build_write_condition(None)
        )


def test_a_failed_multipart_upload_is_aborted(aws: ExactClients, tmp_path: Path) -> None:
    path = tmp_path / "large"
    path.write_bytes(b"x")
    target = {"Bucket": "app-bucket", "Key": "out/large"}
    aws.expect_call("s3.create_multipart_upload", target | {"ChecksumAlgorithm": "CRC32"}, UploadId="u")
    target |= {"UploadId": "u"}
    request = target | {"PartNumber": 1, "Body": ANY, "ChecksumCRC32": ANY}
    aws.expect_error("s3.upload_part", "AccessDenied", request=request)
    aws.expect_call("s3.abort_multipart_upload", target)

    with ThreadPoolExecutor(1) as pool, pytest.raises(aws.clients.s3.exceptions.ClientError):
        upload_file_parts(aws.clients.s3, path, "app-bucket", "out/large", lambda: None, pool)


# limits and allowed values that botocore does not check


LONGEST_NAME = "A" * 80
LONGEST_SETTINGS = SETTINGS.model_copy(update={
    "APP_NAME": LONGEST_NAME, "SQS_QUEUE_NAME": "Q" * 80, "SQS_DEAD_LETTER_QUEUE": "D" * 80, "ECS_CLUSTER": "C" * 80,
    "LOG_GROUP_NAME": "L" * 480, "OWNER": "o" * 256, "AWS_BUCKET": "b" * 63, "CLUSTER_MACHINES": 10_000,
    "TASKS_PER_MACHINE": 1, "ON_DEMAND_MACHINES": 0, "MACHINE_PRICE": 1000.0, "EBS_VOL_SIZE": 16_384,
    "MAX_RUN_HOURS": 365 * 24, "CPU_SHARES": 2, "MEMORY": 6, "SQS_MESSAGE_VISIBILITY": 43_200, "JOB_RETRIES": 1000,
    "MACHINE_TYPE": ["m5.large", "m5.xlarge", "c5.large"], "MOUNT_S3": True,
})  # fmt: skip
FLEET = {
    "IamFleetRole": ACCOUNT.role("aws-ec2-spot-fleet-tagging-role"),
    "LaunchSpecifications": [{
        "ImageId": "ami-0123456789abcdef0", "KeyName": "k" * 255,
        "NetworkInterfaces": [{"DeviceIndex": 0, "SubnetId": "subnet-1,subnet-2,subnet-3", "Groups": ["sg-1"]}],
    }],
}  # fmt: skip


def build_requests(settings: Settings) -> dict[str, dict[str, Any]]:
    """Return the requests that the builder functions create from a config, keyed by the call's name."""
    start, owner = datetime(2026, 11, 23, 10, 45, tzinfo=UTC), settings.OWNER
    tags = build_tags(settings, owner, RUN)
    monitor_file = build_monitor_file(settings, "sfr-0123abcd", START)
    instance, name = "i-0123456789abcdef0", settings.APP_NAME
    plan = build_launch_plan(create_clients().ec2, settings, FLEET, tags)
    fleet, (version,) = build_fleet_request(settings, FLEET, plan, start), plan.versions
    template = version.data
    definition = build_task_definition(settings, QueueUrls(QUEUE_URL, DEAD_URL), RUN, owner)
    body = json.dumps(build_dashboard(settings, monitor_file.MONITOR_FLEET_ID))
    roles = {
        f"iam.PutRolePolicy {role.name} {number}": {
            "RoleName": role.name, "PolicyName": policy, "PolicyDocument": json.dumps(document)
        }
        for role in build_roles(ACCOUNT, Buckets(settings.AWS_BUCKET))
        for number, (policy, document) in enumerate(role.policies.items())
    }  # fmt: skip
    return roles | {
        "ec2.RequestSpotFleet": {"SpotFleetRequestConfig": fleet},
        "ec2.CreateLaunchTemplate": {"LaunchTemplateName": f"{name}-{RUN}", "LaunchTemplateData": template},
        "ec2.CreateLaunchTemplateVersion": {"ClientToken": f"{name}-{RUN}-50", "LaunchTemplateData": template},
        "ecs.RegisterTaskDefinition": definition,
        "ecs.CreateService": {
            "serviceName": settings.names.service,
            "placementConstraints": build_placement_constraints(name),
        },
        "cloudwatch.PutMetricAlarm": build_alarm_request(name, instance, "us-east-1", "aws", 2),
        "cloudwatch.PutDashboard": {"DashboardName": name, "DashboardBody": body},
        "events.PutRule": build_rule_request(monitor_file, tags),
        "events.PutTargets": build_targets_request(monitor_file, ACCOUNT.function),
        "lambda.CreateFunction": build_function_configuration(ACCOUNT) | {"Code": {"ZipFile": b"x"}},
        "s3.PutObject closed": {"Bucket": settings.AWS_BUCKET, "Key": monitor_file.keys.closed},
        "s3.PutObject history": {"Bucket": settings.AWS_BUCKET, "Key": build_history_key(monitor_file)},
    }


@pytest.mark.parametrize("settings", [SETTINGS, LONGEST_SETTINGS], ids=["usual", "longest"])
@pytest.mark.parametrize("call", build_requests(SETTINGS))
def test_every_request_is_within_the_limits_of_aws(aws: ExactClients, call: str, settings: Settings) -> None:
    assert find_request_problems(*build_fault_arguments(aws, call, build_requests(settings)[call])) == []


def build_fault_arguments(aws: ExactClients, call: str, request: dict[str, Any]) -> tuple[str, dict[str, Any], Any]:
    """Return the arguments for `find_request_problems`: the service, the request, and the request's shape in botocore's
    model.
    """
    service, _, operation = call.split(" ")[0].partition(".")
    client = aws.clients.lambda_ if service == "lambda" else getattr(aws.clients, service)
    return service, request, client.meta.service_model.operation_model(operation).input_shape


@pytest.mark.parametrize(
    ("call", "parameters", "expected"),
    [
        ("ec2.RequestSpotFleet", {"TargetCapacity": -1}, "TargetCapacity: -1.0 is not between"),
        ("ec2.RequestSpotFleet", {"AllocationStrategy": "cheapest"}, "'cheapest' is not one of"),
        ("sqs.ReceiveMessage", {"QueueUrl": "u", "MaxNumberOfMessages": 11}, "11.0 is not between 1 and 10"),
        ("sqs.CreateQueue", {"QueueName": "a b"}, "'a b' does not match"),
        ("sqs.CreateQueue", {"QueueName": "a", "Attributes": {"VisibilityTimeout": "43201"}}, "43201.0 is not between"),
        ("cloudwatch.DeleteAlarms", {"AlarmNames": ["a"] * 101}, "101 entries is not between"),
        ("iam.CreateRole", {"RoleName": "r" * 65, "AssumeRolePolicyDocument": "{}"}, "65 characters is not between"),
        ("events.PutRule", {"Name": "a rule"}, "'a rule' does not match"),
        ("ecs.UpdateContainerInstancesState", {"containerInstances": ["a"] * 11, "status": "DRAINING"}, "11 is not"),
        ("logs.CreateExportTask", {"logGroupName": "a:b", "from": 0, "to": 1, "destination": "b"}, "does not match"),
    ],
)  # fmt: skip
def test_requests_that_aws_would_reject_are_reported(
    aws: ExactClients, call: str, parameters: dict[str, Any], expected: str
) -> None:
    if call == "ec2.RequestSpotFleet":
        parameters = {"SpotFleetRequestConfig": {"IamFleetRole": "r", "TargetCapacity": 1} | parameters}

    assert any(expected in fault for fault in find_request_problems(*build_fault_arguments(aws, call, parameters)))
