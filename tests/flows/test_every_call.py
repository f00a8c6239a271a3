"""Calls of AWS, held to their exact parameters, that the tests of their own packages do not hold.

botocore's Stubber is told what to expect, so that the request is also checked against botocore's model of the call.
What the models do not say, limits and words, is in `limits`. `test_least_privilege` plays a whole story that makes
every call that there is in the code, and holds each request against both.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

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
from distributed_something.aws.ecs import build_placement_constraints, find_task_roles
from distributed_something.aws.instance_types import find_quota_class, read_quota_value
from distributed_something.aws.s3 import upload_folders
from distributed_something.aws.sqs import QueueUrls, add_submitted_count
from distributed_something.aws.task_definition import build_task_definition
from distributed_something.core.config_settings import Settings
from distributed_something.core.errors import CloudError
from distributed_something.core.monitor_file import build_monitor_file
from distributed_something.core.names import MONITOR_FUNCTION, AwsAccount
from distributed_something.core.tags import build_tags
from distributed_something.diagnose.check.lookups import Lookups
from distributed_something.fleet.launch_plan import build_launch_plan
from distributed_something.fleet.request import build_fleet_request
from distributed_something.jobs.send_batches import send_batch
from distributed_something.observe.resources import iter_dashboard_bodies, iter_ecs_resources, iter_tagged_queues
from distributed_something.observe.service import list_stopped_tasks
from distributed_something.results.records import summarize_records
from distributed_something.run.dashboard import build_dashboard
from distributed_something.run.monitor.history import build_history_key
from distributed_something.run.schedule import build_rule_request, build_targets_request, ensure_monitor_rule
from distributed_something.worker import RunKeys
from distributed_something.worker.admission.closing import is_run_closed
from distributed_something.worker.attempt.acknowledge import MessageDeleter
from distributed_something.worker.attempt.attempt import ATTEMPTS_ATTRIBUTE, FAILURES_ATTRIBUTE, Attempt
from distributed_something.worker.attempt.context import WorkerContext
from distributed_something.worker.attempt.lease import LeaseKeeper
from distributed_something.worker.attempt.outcomes import AttemptFinisher, OutcomeCallbacks
from distributed_something.worker.container.intake import JobIntake
from distributed_something.worker.job.job import Folders
from distributed_something.worker.job.worker_settings import read_worker_settings
from distributed_something.worker.machine.idle_alarm import build_alarm_request
from distributed_something.worker.transfer.s3_file import PART_BYTES, build_write_condition, upload_file_parts
from tests.support.account import new_clients
from tests.support.fakes import (
    ANY,
    DEAD_URL,
    MONITOR_FILE,
    QUEUE_URL,
    RUN,
    SETTINGS,
    START,
    Exact,
    FakeBucket,
    FakeTime,
    exact,
)
from tests.support.limits import faults

PLACE = AwsAccount("123456789012", "us-east-1")
NAME = MONITOR_FUNCTION


@pytest.fixture
def aws() -> Iterator[Exact]:
    with exact() as made:
        yield made


# setupAWS


def test_a_role_whose_trust_and_policy_differ_is_put_right(aws: Exact) -> None:
    wanted = RoleSpec("r", "ec2.amazonaws.com", {"distributed-something": {"Version": "2012-10-17", "Statement": []}})
    role: Any = {"Path": "/", "RoleName": "r", "RoleId": "A" * 16, "Arn": PLACE.role("role-of-a-name"),
                 "CreateDate": "2026-11-23", "AssumeRolePolicyDocument": "{}", "Tags": MADE_BY_TAGS}  # fmt: skip
    aws.answer("iam.get_role", {"RoleName": "r"}, Role=role)
    named = {"RoleName": "r", "PolicyName": "distributed-something"}
    aws.answer("iam.get_role_policy", named, PolicyDocument="{}", **named)
    trust = json.dumps(build_trust_policy("ec2.amazonaws.com"))
    aws.answer("iam.update_assume_role_policy", {"RoleName": "r", "PolicyDocument": trust})
    document = '{"Version":"2012-10-17","Statement":[]}'
    aws.answer("iam.put_role_policy", named | {"PolicyDocument": document})

    step = plan_role(aws.clients.iam, wanted)

    assert step.act is not None
    step.act()


def test_the_profile_goes_after_the_role_in_it(aws: Exact) -> None:
    role: Any = {"Path": "/", "RoleName": "r", "RoleId": "A" * 16, "Arn": PLACE.role("role-of-a-name"),
                 "CreateDate": "2026-11-23"}  # fmt: skip
    found = {"Path": "/", "InstanceProfileName": "p", "InstanceProfileId": "A" * 16, "Arn": PLACE.profile("p" * 20),
             "CreateDate": "2026-11-23", "Roles": [role], "Tags": MADE_BY_TAGS}  # fmt: skip
    aws.answer("iam.get_instance_profile", {"InstanceProfileName": "p"}, InstanceProfile=found)
    aws.answer("iam.remove_role_from_instance_profile", {"InstanceProfileName": "p", "RoleName": "r"})
    aws.answer("iam.delete_instance_profile", {"InstanceProfileName": "p"})

    (step,) = plan_profile_removal(aws.clients.iam, "p")

    assert step.act is not None
    step.act()


def test_a_service_linked_role_that_the_service_has_just_made_is_no_error(aws: Exact) -> None:
    aws.refuse("iam.get_role", "NoSuchEntity", wanted={"RoleName": "AWSServiceRoleForECS"})
    wanted = {"AWSServiceName": "ecs.amazonaws.com"}
    aws.refuse("iam.create_service_linked_role", "InvalidInput", "has been taken in this account", wanted=wanted)

    step = plan_service_linked_role(aws.clients.iam, "AWSServiceRoleForECS", "ecs.amazonaws.com")

    assert step.act is not None
    step.act()


def test_the_function_is_brought_up_to_date_while_its_last_change_is_still_made(aws: Exact) -> None:
    time, code = FakeTime(), b"PK"
    has = {"CodeSha256": "older", "Timeout": 3}
    aws.answer(
        "lambda_.get_function", {"FunctionName": NAME}, Configuration=has, Tags={"made-by": "distributed-something"}
    )
    settings = build_function_configuration(PLACE)
    aws.answer("lambda_.update_function_configuration", settings)
    new = {"FunctionName": NAME, "ZipFile": code}
    aws.refuse("lambda_.update_function_code", "ResourceConflictException", wanted=new)
    aws.answer("lambda_.update_function_code", new)

    step = plan_monitor_function(aws.clients, PLACE, code, time.sleep)

    assert step.act is not None
    step.act()
    assert len(time.slept) == 1


def test_a_permission_of_other_rules_is_replaced(aws: Exact) -> None:
    aws.answer("lambda_.get_function", {"FunctionName": NAME}, Tags={"made-by": "distributed-something"})
    old = json.dumps({"Statement": [{"Sid": "distributed-something-rules"}]})
    aws.answer("lambda_.get_policy", {"FunctionName": NAME}, Policy=old)
    aws.answer("lambda_.remove_permission", {"FunctionName": NAME, "StatementId": "distributed-something-rules"})
    wanted = {
        "FunctionName": NAME, "StatementId": "distributed-something-rules", "Action": "lambda:InvokeFunction",
        "Principal": "events.amazonaws.com",
        "SourceArn": "arn:aws:events:us-east-1:123456789012:rule/distributed-something-*",
    }  # fmt: skip
    aws.answer("lambda_.add_permission", wanted)

    step = plan_monitor_permission(aws.clients, PLACE)

    assert step.act is not None
    step.act()


def test_function_and_log_group_are_deleted_where_they_are_ours(aws: Exact) -> None:
    group = f"/aws/lambda/{NAME}"
    arn = f"arn:aws:logs:us-east-1:123456789012:log-group:{group}"
    aws.answer("lambda_.get_function", {"FunctionName": NAME}, Tags={"made-by": "distributed-something"})
    first = {"logGroupNamePrefix": group}
    aws.answer("logs.describe_log_groups", first, logGroups=[{"logGroupName": f"{group}-2"}], nextToken="more")
    found = [{"logGroupName": group, "arn": f"{arn}:*"}]
    aws.answer("logs.describe_log_groups", first | {"nextToken": "more"}, logGroups=found)
    aws.answer("logs.list_tags_for_resource", {"resourceArn": arn}, tags={"made-by": "distributed-something"})
    aws.answer("lambda_.delete_function", {"FunctionName": NAME})
    aws.answer("logs.delete_log_group", {"logGroupName": group})

    for step in list(plan_monitor_removal(aws.clients)):
        assert step.act is not None
        step.act()


def test_the_buckets_policy_is_merged_written_and_taken_away(aws: Exact) -> None:
    bucket, ours = {"Bucket": "app-bucket"}, build_log_export_statements(PLACE, "app-bucket")
    written = json.dumps({"Version": "2012-10-17", "Statement": ours})
    aws.refuse("s3.get_bucket_policy", "NoSuchBucketPolicy", wanted=bucket)
    aws.answer("s3.put_bucket_policy", bucket | {"Policy": written})
    aws.answer("s3.get_bucket_policy", bucket, Policy=written)
    aws.answer("s3.delete_bucket_policy", bucket)

    made = plan_bucket_policy(aws.clients, PLACE, "app-bucket")
    assert made.act is not None
    made.act()
    (ended,) = plan_bucket_policy_removal(aws.clients, PLACE, "app-bucket")
    assert ended.act is not None
    ended.act()


def add_and_end_the_rule(aws: Exact) -> None:
    made = plan_lifecycle_rule(aws.clients, "app-bucket")
    assert made.act is not None
    made.act()
    (ended,) = plan_lifecycle_rule_removal(aws.clients, "app-bucket")
    assert ended.act is not None
    ended.act()


def test_the_rule_for_incomplete_uploads_is_added_and_taken_away_and_the_buckets_others_stay(aws: Exact) -> None:
    bucket, smallest = {"Bucket": "app-bucket"}, {"TransitionDefaultMinimumObjectSize": "varies_by_storage_class"}
    theirs = {"ID": "old", "Prefix": "logs/", "Status": "Enabled", "Expiration": {"Days": 30}}
    kept = {"ID": "old", "Filter": {"Prefix": "logs/"}, "Status": "Enabled", "Expiration": {"Days": 30}}
    both = [kept, LIFECYCLE_RULE]  # S3 refuses both forms in one configuration
    aws.answer("s3.get_bucket_lifecycle_configuration", bucket, Rules=[theirs], **smallest)
    aws.answer("s3.put_bucket_lifecycle_configuration", bucket | smallest | {"LifecycleConfiguration": {"Rules": both}})
    aws.answer("s3.get_bucket_lifecycle_configuration", bucket, Rules=both, **smallest)
    aws.answer(
        "s3.put_bucket_lifecycle_configuration", bucket | smallest | {"LifecycleConfiguration": {"Rules": [kept]}}
    )

    add_and_end_the_rule(aws)


@pytest.mark.parametrize("refused", ["get", "put"])
def test_where_the_buckets_rules_may_not_be_changed_that_is_a_line_and_no_error(aws: Exact, refused: str) -> None:
    """A bucket of another account, mostly. All before it is made; runs do without the rule."""
    code = "AccessDenied" if refused == "get" else "NoSuchLifecycleConfiguration"
    aws.refuse("s3.get_bucket_lifecycle_configuration", code)
    if refused == "put":
        aws.refuse("s3.put_bucket_lifecycle_configuration", "AccessDenied")

    row = apply_step(plan_lifecycle_rule(aws.clients, "app-bucket"))

    assert (row.state, row.note) == ("left", LIFECYCLE_DENIED_ADVICE)


def test_where_the_buckets_rules_may_not_be_read_their_end_is_a_line_and_no_error(aws: Exact) -> None:
    aws.refuse("s3.get_bucket_lifecycle_configuration", "AccessDenied")
    (ended,) = plan_lifecycle_rule_removal(aws.clients, "app-bucket")
    assert (ended.row.state, ended.act) == ("left", None)
    aws.refuse("s3.get_bucket_lifecycle_configuration", "NoSuchBucket")
    assert list(plan_lifecycle_rule_removal(aws.clients, "app-bucket")) == []


def test_another_refusal_of_the_buckets_rules_is_an_error(aws: Exact) -> None:
    aws.refuse("s3.get_bucket_lifecycle_configuration", "NoSuchLifecycleConfiguration")
    aws.refuse("s3.put_bucket_lifecycle_configuration", "MalformedXML")
    with pytest.raises(CloudError, match="setting up: bucket rule app-bucket: MalformedXML"):
        apply_step(plan_lifecycle_rule(aws.clients, "app-bucket"))


def test_where_the_rule_is_the_only_one_all_are_made_and_deleted(aws: Exact) -> None:
    bucket = {"Bucket": "app-bucket"}
    aws.refuse("s3.get_bucket_lifecycle_configuration", "NoSuchLifecycleConfiguration", wanted=bucket)
    aws.answer(
        "s3.put_bucket_lifecycle_configuration", bucket | {"LifecycleConfiguration": {"Rules": [LIFECYCLE_RULE]}}
    )
    aws.answer("s3.get_bucket_lifecycle_configuration", bucket, Rules=[LIFECYCLE_RULE])
    aws.answer("s3.delete_bucket_lifecycle", bucket)

    add_and_end_the_rule(aws)


@pytest.mark.parametrize(
    ("theirs", "enough"),
    [
        ({"Filter": {}, "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 3}}, True),
        ({"Prefix": "", "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7}}, True),
        ({"Filter": {"Prefix": ""}, "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 30}}, False),
        ({"Filter": {"Prefix": "a/"}, "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 3}}, False),
        ({"Filter": {"Prefix": ""}, "Expiration": {"Days": 3}}, False),
        ({"Filter": {}, "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 3}, "Status": "Disabled"}, False),
    ],
)
def test_a_rule_of_the_buckets_own_that_does_the_same_is_enough(
    aws: Exact, theirs: dict[str, Any], enough: bool
) -> None:
    rules = [{"ID": "theirs", "Status": "Enabled"} | theirs]
    aws.answer("s3.get_bucket_lifecycle_configuration", {"Bucket": "app-bucket"}, Rules=rules)
    assert (plan_lifecycle_rule(aws.clients, "app-bucket").act is None) == enough


def test_security_groups_of_all_pages_are_deleted(aws: Exact) -> None:
    wanted = {"Filters": [{"Name": "tag:made-by", "Values": ["distributed-something"]}]}
    group = {"GroupId": "sg-1", "Tags": [{"Key": "made-by", "Value": "distributed-something"}]}
    aws.answer("ec2.describe_security_groups", wanted, SecurityGroups=[], NextToken="more")
    aws.answer("ec2.describe_security_groups", wanted | {"NextToken": "more"}, SecurityGroups=[group])
    aws.answer("ec2.delete_security_group", {"GroupId": "sg-1"})

    (step,) = plan_security_group_removals(aws.clients)

    assert step.act is not None
    step.act()


# Roles of containers


TASK_ROLES = ("distributed-something-task", "distributed-something-execution")


def role_answer(name: str) -> dict[str, Any]:
    return {"Path": "/", "RoleName": name, "RoleId": "A" * 16, "Arn": PLACE.role(name), "CreateDate": "2026-11-23"}


def test_containers_get_the_roles_that_setup_aws_made(aws: Exact) -> None:
    for name in TASK_ROLES:
        aws.answer("iam.get_role", {"RoleName": name}, Role=role_answer(name))

    assert find_task_roles(aws.clients.iam) == {
        "taskRoleArn": "arn:aws:iam::123456789012:role/distributed-something-task",
        "executionRoleArn": "arn:aws:iam::123456789012:role/distributed-something-execution",
    }


@pytest.mark.parametrize("code", ["NoSuchEntity", "AccessDenied"])
def test_without_setup_aws_or_the_right_to_look_containers_take_their_machines_role(aws: Exact, code: str) -> None:
    aws.refuse("iam.get_role", code, wanted={"RoleName": TASK_ROLES[0]})

    assert find_task_roles(aws.clients.iam) == {}


def test_one_role_alone_is_not_used(aws: Exact) -> None:
    aws.answer("iam.get_role", {"RoleName": TASK_ROLES[0]}, Role=role_answer(TASK_ROLES[0]))
    aws.refuse("iam.get_role", "NoSuchEntity", wanted={"RoleName": TASK_ROLES[1]})

    assert find_task_roles(aws.clients.iam) == {}


def test_a_failure_that_says_nothing_of_the_roles_is_told(aws: Exact) -> None:
    aws.refuse("iam.get_role", "ServiceFailure", wanted={"RoleName": TASK_ROLES[0]})

    with pytest.raises(CloudError, match="distributed-something-task"):
        find_task_roles(aws.clients.iam)


# submitJob and startCluster


class Journal:
    """What is noted of a submission."""

    def __init__(self) -> None:
        self.sent: list[int] = []

    def add(self, numbers: list[int]) -> None:
        self.sent += numbers


def test_what_sqs_throttles_in_a_batch_is_sent_again_and_nothing_else(aws: Exact) -> None:
    time, journal = FakeTime(), Journal()
    entries = [{"Id": "0", "MessageBody": "a"}, {"Id": "1", "MessageBody": "b"}]
    done = [{"Id": "0", "MessageId": "m", "MD5OfMessageBody": "x"}]
    failed = [{"Id": "1", "Code": "RequestThrottled", "SenderFault": False}]
    first = {"QueueUrl": QUEUE_URL, "Entries": entries}
    aws.answer("sqs.send_message_batch", first, Successful=done, Failed=failed)
    then = {"QueueUrl": QUEUE_URL, "Entries": entries[1:]}
    aws.answer("sqs.send_message_batch", then, Successful=[done[0] | {"Id": "1"}], Failed=[])

    batch: Any = [(0, "a"), (1, "b")]
    send_batch(aws.clients.sqs, QUEUE_URL, batch, journal, time.sleep)  # type: ignore[arg-type]

    assert journal.sent == [0, 1]


def test_the_count_of_jobs_is_added_to_the_queues_tag(aws: Exact) -> None:
    aws.answer("sqs.list_queue_tags", {"QueueUrl": QUEUE_URL}, Tags={"app": "App", "jobs_submitted": "5"})
    aws.answer("sqs.tag_queue", {"QueueUrl": QUEUE_URL, "Tags": {"jobs_submitted": "12"}})

    add_submitted_count(aws.clients.sqs, QUEUE_URL, 7)


def test_a_folder_is_brought_up_file_by_file(aws: Exact, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    aws.answer("s3.list_objects_v2", {"Bucket": "app-bucket", "Prefix": "in"}, Contents=[])
    wanted = {"Bucket": "app-bucket", "Key": "in/a.txt", "Body": ANY, "ChecksumAlgorithm": "CRC32"}
    aws.answer("s3.put_object", wanted)

    upload_folders(aws.clients.s3, "app-bucket", {tmp_path: "in"}, lambda _: None)


def test_the_auto_monitor_is_woken_once_a_minute(aws: Exact) -> None:
    rule = {
        "Name": "distributed-something-App", "ScheduleExpression": "rate(1 minute)", "State": "ENABLED",
        "Description": f"Watches the run {RUN} of App.", "Tags": [{"Key": "app", "Value": "App"}],
    }  # fmt: skip
    aws.answer("events.put_rule", rule, RuleArn="arn")
    event = (
        '{"bucket": "app-bucket", "key": "monitors/AppSpotFleetRequestId.json", "rule": "distributed-something-App"}'
    )
    target = {"Id": "auto-monitor", "Arn": PLACE.function, "Input": event}
    wanted = {"Rule": "distributed-something-App", "Targets": [target]}
    aws.answer("events.put_targets", wanted, FailedEntryCount=0, FailedEntries=[])

    ensure_monitor_rule(aws.clients, MONITOR_FILE, PLACE, {"app": "App"})


# check and why


def test_quotas_are_asked_by_their_code(aws: Exact) -> None:
    wanted = {"ServiceCode": "ec2", "QuotaCode": "L-34B43A08"}
    aws.answer("service_quotas.get_service_quota", wanted, Quota={"Value": 5.0})
    standard = find_quota_class("m5.large")

    assert standard is not None
    assert read_quota_value(aws.clients.service_quotas, standard) == 5.0


def test_stopped_tasks_are_asked_for_their_reasons(aws: Exact) -> None:
    wanted = {"cluster": "app-cluster", "serviceName": "AppService", "desiredStatus": "STOPPED", "maxResults": 100}
    aws.answer("ecs.list_tasks", wanted, taskArns=["task-1"])
    aws.answer("ecs.describe_tasks", {"cluster": "app-cluster", "tasks": ["task-1"]}, tasks=[{"stopCode": "X"}])

    assert [task.kind for task in list_stopped_tasks(aws.clients.ecs, "app-cluster", "AppService")] == ["X"]


def test_what_a_fleet_file_names_is_looked_up_by_filters(aws: Exact) -> None:
    """Named outright, one that is not there would refuse the whole call."""
    specification = {
        "KeyName": "key", "ImageId": "ami-1", "NetworkInterfaces": [{"SubnetId": "subnet-1", "Groups": ["sg-1"]}],
        "BlockDeviceMappings": [{"DeviceName": "/dev/xvdb", "Ebs": {"SnapshotId": "snap-1"}}],
    }  # fmt: skip
    fleet = {"LaunchSpecifications": [specification]}
    looked = Lookups(SETTINGS, aws.clients, datetime(2026, 11, 23, tzinfo=UTC), fleet)
    subnet = {"SubnetId": "subnet-1", "VpcId": "vpc-1"}
    aws.answer("ec2.describe_subnets", by("subnet-id", "subnet-1"), Subnets=[subnet])
    aws.answer("ec2.describe_route_tables", by("vpc-id", "vpc-1"), RouteTables=[{"RouteTableId": "rtb-1"}])
    aws.answer("ec2.describe_security_groups", by("group-id", "sg-1"), SecurityGroups=[{"GroupId": "sg-1"}])
    aws.answer("ec2.describe_key_pairs", by("key-name", "key"), KeyPairs=[{"KeyName": "key"}])
    aws.answer(
        "ec2.describe_images", by("image-id", "ami-1") | {"IncludeDeprecated": True}, Images=[{"ImageId": "ami-1"}]
    )
    aws.answer("ec2.describe_snapshots", by("snapshot-id", "snap-1"), Snapshots=[{"SnapshotId": "snap-1"}])

    assert looked.routes.value == {"rtb-1": {"RouteTableId": "rtb-1"}}
    for found in (looked.groups, looked.keys, looked.images, looked.snapshots):
        assert len(found.value) == 1


def by(name: str, value: str) -> dict[str, Any]:
    return {"Filters": [{"Name": name, "Values": [value]}]}


# Clean-up


def test_all_queues_and_clusters_are_listed_page_by_page(aws: Exact) -> None:
    aws.answer("sqs.list_queues", {"MaxResults": 1000}, QueueUrls=[], NextToken="more")
    aws.answer("sqs.list_queues", {"MaxResults": 1000, "NextToken": "more"}, QueueUrls=[])
    aws.answer("ecs.list_clusters", {}, clusterArns=[], nextToken="more")
    aws.answer("ecs.list_clusters", {"nextToken": "more"}, clusterArns=[])

    assert list(iter_tagged_queues(aws.clients.sqs)) == list(iter_ecs_resources(aws.clients.ecs)) == []


def test_a_dashboard_that_goes_between_two_calls_is_no_error(aws: Exact) -> None:
    entries = [{"DashboardName": "A"}, {"DashboardName": "B"}]
    aws.answer("cloudwatch.list_dashboards", {}, DashboardEntries=entries)
    aws.refuse("cloudwatch.get_dashboard", "ResourceNotFound", wanted={"DashboardName": "A"})
    aws.answer("cloudwatch.get_dashboard", {"DashboardName": "B"}, DashboardBody="{}")

    assert list(iter_dashboard_bodies(aws.clients.cloudwatch)) == [("B", "{}")]


def test_failed_jobs_are_looked_at_and_left_in_their_queue(aws: Exact) -> None:
    aws.answer("s3.list_objects_v2", {"Bucket": "app-bucket", "Prefix": f"runs/App/{RUN}/jobs/"}, Contents=[])
    aws.answer("sqs.get_queue_url", {"QueueName": "AppDead"}, QueueUrl=DEAD_URL)
    counted = {"ApproximateNumberOfMessages": "2"}
    aws.answer("sqs.get_queue_attributes", {"QueueUrl": DEAD_URL, "AttributeNames": ANY}, Attributes=counted)
    wanted = {"QueueUrl": DEAD_URL, "MaxNumberOfMessages": 10, "VisibilityTimeout": 60, "WaitTimeSeconds": 1,
              "MessageAttributeNames": ["All"]}  # fmt: skip
    message = {"MessageId": "m", "ReceiptHandle": "r", "Body": "no JSON"}
    aws.answer("sqs.receive_message", wanted, Messages=[message])
    aws.answer("sqs.receive_message", wanted)
    back = {"QueueUrl": DEAD_URL, "Entries": [{"Id": "0", "ReceiptHandle": "r", "VisibilityTimeout": 0}]}
    aws.answer("sqs.change_message_visibility_batch", back, Successful=[], Failed=[])

    summary = summarize_records(aws.clients, MONITOR_FILE, "AppDead")

    assert (summary.dead, [failed.job for failed in summary.failed]) == (2, ["message m"])


# The worker


ENVIRONMENT = {"APP_NAME": "App", "RUN": RUN, "SQS_QUEUE_URL": QUEUE_URL, "SQS_DEAD_LETTER_QUEUE_URL": DEAD_URL,
               "AWS_BUCKET": "app-bucket"}  # fmt: skip


def ending(aws: Exact, tmp_path: Path, *, retries: int) -> tuple[AttemptFinisher, Attempt]:
    settings = read_worker_settings(ENVIRONMENT | {"JOB_RETRIES": str(retries), "WORK_DIR": str(tmp_path)})
    now = FakeTime().now
    keeper = LeaseKeeper(aws.clients.sqs, QUEUE_URL, 60, now)
    callbacks = OutcomeCallbacks(lambda _: None, lambda *_: None)
    context = WorkerContext(settings, aws.clients.sqs, FakeBucket())
    made = AttemptFinisher(context, keeper, callbacks, lambda _: None)
    raw = {"Body": "{}", "ReceiptHandle": "r", "MessageId": "m", "Attributes": {"ApproximateReceiveCount": "1"}}
    return made, Attempt(raw, keeper.add_lease("r", now()), Folders(tmp_path), 0, 0, now())


class OpenGate:
    """Lets every job in."""

    def count_places(self, wanted: int, ahead: int) -> int:
        return wanted + ahead

    def release_probe(self) -> None:
        pass


def test_a_job_is_taken_with_its_lease_and_its_count_of_receives(aws: Exact, tmp_path: Path) -> None:
    wanted = {
        "QueueUrl": QUEUE_URL, "MaxNumberOfMessages": 1, "WaitTimeSeconds": 5, "VisibilityTimeout": 120,
        "MessageSystemAttributeNames": ["ApproximateReceiveCount", "ApproximateFirstReceiveTimestamp"],
        "MessageAttributeNames": [ATTEMPTS_ATTRIBUTE, FAILURES_ATTRIBUTE],
    }  # fmt: skip
    aws.answer("sqs.receive_message", wanted)
    settings = read_worker_settings(ENVIRONMENT | {"WORK_DIR": str(tmp_path)})
    nothing: Any = None
    gate: Any = OpenGate()
    intake = JobIntake(WorkerContext(settings, aws.clients.sqs, nothing), nothing, nothing, gate, FakeTime().now)
    intake.announce_idle_slot(0)

    intake.run_round(nothing)


def test_a_job_that_failed_goes_back_to_the_queue_at_once(aws: Exact, tmp_path: Path) -> None:
    made, attempt = ending(aws, tmp_path, retries=2)
    wanted = {"QueueUrl": QUEUE_URL, "ReceiptHandle": "r", "VisibilityTimeout": 0}
    aws.answer("sqs.change_message_visibility", wanted)

    made.record_failure(attempt, "exit code 1", "exit code")


def test_a_job_that_failed_for_good_is_copied_before_it_is_deleted(aws: Exact, tmp_path: Path) -> None:
    made, attempt = ending(aws, tmp_path, retries=1)
    told = {"reason": {"DataType": "String", "StringValue": "no?such"}}
    aws.answer("sqs.send_message", {"QueueUrl": DEAD_URL, "MessageBody": "{}", "MessageAttributes": told})
    aws.answer("sqs.delete_message", {"QueueUrl": QUEUE_URL, "ReceiptHandle": "r"})

    made.reject_message(attempt, "no\nsuch")

    assert aws.calls == ["sqs.SendMessage", "sqs.DeleteMessage"]


def test_done_jobs_are_deleted_by_tens(aws: Exact) -> None:
    keeper = LeaseKeeper(aws.clients.sqs, QUEUE_URL, 60, FakeTime().now)
    deleter = MessageDeleter(aws.clients.sqs, QUEUE_URL, keeper.release_lease)
    for n in range(11):
        deleter.delete_soon(keeper.add_lease(f"r{n}", 0.0))
    entries = [{"Id": str(n), "ReceiptHandle": f"r{n}"} for n in range(10)]
    gone: Any = {"Successful": [{"Id": str(n)} for n in range(10)], "Failed": []}
    aws.answer("sqs.delete_message_batch", {"QueueUrl": QUEUE_URL, "Entries": entries}, **gone)
    last = [{"Id": "0", "ReceiptHandle": "r10"}]
    aws.answer(
        "sqs.delete_message_batch", {"QueueUrl": QUEUE_URL, "Entries": last}, Successful=[{"Id": "0"}], Failed=[]
    )

    assert deleter.send_all()


def test_whether_the_run_is_closed_is_asked_of_one_object(aws: Exact) -> None:
    aws.refuse("s3.head_object", "404", wanted={"Bucket": "app-bucket", "Key": f"runs/App/{RUN}/closed.json"})

    assert not is_run_closed(aws.clients.s3, "app-bucket", RunKeys("App", RUN))


def test_a_large_file_travels_in_parts_and_takes_no_newer_ones_place(aws: Exact, tmp_path: Path) -> None:
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(PART_BYTES + 1)
    place = {"Bucket": "app-bucket", "Key": "out/large"}
    aws.answer("s3.create_multipart_upload", place | {"ChecksumAlgorithm": "CRC32"}, UploadId="u")
    place |= {"UploadId": "u"}
    parts = [{"PartNumber": n, "ETag": f"e{n}", "ChecksumCRC32": f"c{n}"} for n in (1, 2)]
    for n, told in enumerate(parts, 1):
        wanted = place | {"PartNumber": n, "Body": ANY, "ChecksumAlgorithm": "CRC32"}
        aws.answer("s3.upload_part", wanted, ETag=told["ETag"], ChecksumCRC32=told["ChecksumCRC32"])
    done = place | {"MultipartUpload": {"Parts": parts}, "IfNoneMatch": "*"}
    aws.answer("s3.complete_multipart_upload", done)

    with ThreadPoolExecutor(1) as pool:  # one thread: the stub wants the parts in their order
        upload_file_parts(
            aws.clients.s3, path, "app-bucket", "out/large", lambda: None, pool, **build_write_condition(None)
        )


def test_an_upload_in_parts_that_fails_leaves_nothing_behind(aws: Exact, tmp_path: Path) -> None:
    path = tmp_path / "large"
    path.write_bytes(b"x")
    place = {"Bucket": "app-bucket", "Key": "out/large"}
    aws.answer("s3.create_multipart_upload", place | {"ChecksumAlgorithm": "CRC32"}, UploadId="u")
    place |= {"UploadId": "u"}
    wanted = place | {"PartNumber": 1, "Body": ANY, "ChecksumAlgorithm": "CRC32"}
    aws.refuse("s3.upload_part", "AccessDenied", wanted=wanted)
    aws.answer("s3.abort_multipart_upload", place)

    with ThreadPoolExecutor(1) as pool, pytest.raises(aws.clients.s3.exceptions.ClientError):
        upload_file_parts(aws.clients.s3, path, "app-bucket", "out/large", lambda: None, pool)


# Limits and words that botocore does not look at


LONG = "A" * 80
LONGEST = SETTINGS.model_copy(update={
    "APP_NAME": LONG, "SQS_QUEUE_NAME": "Q" * 80, "SQS_DEAD_LETTER_QUEUE": "D" * 80, "ECS_CLUSTER": "C" * 80,
    "LOG_GROUP_NAME": "L" * 480, "OWNER": "o" * 256, "AWS_BUCKET": "b" * 63, "CLUSTER_MACHINES": 10_000,
    "TASKS_PER_MACHINE": 1, "ON_DEMAND_MACHINES": 0, "MACHINE_PRICE": 1000.0, "EBS_VOL_SIZE": 16_384,
    "MAX_RUN_HOURS": 365 * 24, "CPU_SHARES": 2, "MEMORY": 6, "SQS_MESSAGE_VISIBILITY": 43_200, "JOB_RETRIES": 1000,
    "MACHINE_TYPE": ["m5.large", "m5.xlarge", "c5.large"], "MOUNT_S3": True,
})  # fmt: skip
FLEET = {
    "IamFleetRole": PLACE.role("aws-ec2-spot-fleet-tagging-role"),
    "LaunchSpecifications": [{
        "ImageId": "ami-0123456789abcdef0", "KeyName": "k" * 255,
        "NetworkInterfaces": [{"DeviceIndex": 0, "SubnetId": "subnet-1,subnet-2,subnet-3", "Groups": ["sg-1"]}],
    }],
}  # fmt: skip


def requests(settings: Settings) -> dict[str, dict[str, Any]]:
    """What the builders make of a config, by the call that takes it."""
    start, owner = datetime(2026, 11, 23, 10, 45, tzinfo=UTC), settings.OWNER
    marks = build_tags(settings, owner, RUN)
    run = build_monitor_file(settings, "sfr-0123abcd", START)
    instance, name = "i-0123456789abcdef0", settings.APP_NAME
    plan = build_launch_plan(FLEET, settings, marks, new_clients().ec2)
    fleet, (version,) = build_fleet_request(FLEET, settings, plan, start), plan.versions
    template = version.data
    definition = build_task_definition(settings, QueueUrls(QUEUE_URL, DEAD_URL), RUN, owner)
    body = json.dumps(build_dashboard(settings, run.MONITOR_FLEET_ID))
    roles = {
        f"iam.PutRolePolicy {role.name} {number}": {
            "RoleName": role.name, "PolicyName": policy, "PolicyDocument": json.dumps(document)
        }
        for role in build_roles(PLACE, Buckets(settings.AWS_BUCKET))
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
        "cloudwatch.PutMetricAlarm": build_alarm_request(name, instance, "us-east-1", "aws"),
        "cloudwatch.PutDashboard": {"DashboardName": name, "DashboardBody": body},
        "events.PutRule": build_rule_request(run, marks),
        "events.PutTargets": build_targets_request(run, PLACE.function),
        "lambda.CreateFunction": build_function_configuration(PLACE) | {"Code": {"ZipFile": b"x"}},
        "s3.PutObject closed": {"Bucket": settings.AWS_BUCKET, "Key": run.keys.closed},
        "s3.PutObject history": {"Bucket": settings.AWS_BUCKET, "Key": build_history_key(run)},
    }


@pytest.mark.parametrize("settings", [SETTINGS, LONGEST], ids=["usual", "longest"])
@pytest.mark.parametrize("call", requests(SETTINGS))
def test_what_the_builders_make_is_within_aws_limits(aws: Exact, call: str, settings: Settings) -> None:
    assert faults(*shaped(aws, call, requests(settings)[call])) == []


def shaped(aws: Exact, call: str, request: dict[str, Any]) -> tuple[str, dict[str, Any], Any]:
    service, _, operation = call.split(" ")[0].partition(".")
    client = aws.clients.lambda_ if service == "lambda" else getattr(aws.clients, service)
    return service, request, client.meta.service_model.operation_model(operation).input_shape


@pytest.mark.parametrize(
    ("call", "request_", "told"),
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
def test_what_aws_would_refuse_is_seen(aws: Exact, call: str, request_: dict[str, Any], told: str) -> None:
    if call == "ec2.RequestSpotFleet":
        request_ = {"SpotFleetRequestConfig": {"IamFleetRole": "r", "TargetCapacity": 1} | request_}

    assert any(told in fault for fault in faults(*shaped(aws, call, request_)))
