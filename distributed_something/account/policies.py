"""The policies of the account's roles and of its bucket, built by pure functions. Users' are in `user_policies.py`.

The roles are one set an account, not one an app: an app is a name that a scientist invents in her config, and making a
role for it would need an administrator each time. What keeps an app's machines from the rest of the account is the
tag `app`, which all that `setup` and `startCluster` make carries, or a fixed part of a name where AWS knows no tags.
Regions are left open in roles, which are the account's in all regions. Buckets have a policy of their own each.
"""

from __future__ import annotations

from typing import Any

from distributed_something.account.policy_documents import (
    APP_TAG_CONDITION,
    PolicyDocument,
    allow_actions,
    allow_role_passing,
    build_document,
    get_ec2_service_name,
    localize_service_name,
)
from distributed_something.account.statements import (
    REMAINING_RESOURCE_ACTIONS,
    allow_alarm_deletion,
    allow_cluster_deletion,
    allow_cluster_reading,
    allow_fleet_deletion,
    allow_fleet_reading,
    allow_image_pull,
    allow_log_export,
    allow_log_writing,
    allow_queue_reading,
    allow_rule_deletion,
    list_launch_arns,
)
from distributed_something.core.names import (
    EXPORT_PREFIX,
    INSTANCE_ROLE,
    MONITOR_FUNCTION,
    MONITOR_PREFIX,
    AwsAccount,
)
from distributed_something.worker import RUNS_PREFIX


def build_instance_policy(place: AwsAccount) -> PolicyDocument:
    """What ECS's agent does on a machine: join a cluster, tell how its tasks are, pull their image, write their log.

    Images and logs are in the execution role too: which of the two roles the agent uses depends on its version.
    """
    return build_document(
        allow_actions("FindEcs", "ecs:DiscoverPollEndpoint"),
        allow_actions(
            "JoinCluster",
            "ecs:DeregisterContainerInstance", "ecs:RegisterContainerInstance", "ecs:SubmitAttachmentStateChanges",
            "ecs:SubmitContainerStateChange", "ecs:SubmitTaskStateChange",
            on=place.arn("ecs", "cluster/*"),
        ),
        allow_actions(
            "ServeCluster", "ecs:Poll", "ecs:StartTelemetrySession", "ecs:UpdateContainerInstancesState",
            on=place.arn("ecs", "container-instance/*/*"),
        ),
        *allow_image_pull(place),
    )  # fmt: skip


def build_execution_policy(place: AwsAccount) -> PolicyDocument:
    """What ECS does for a container before it runs: pull its image from this account's ECR, open its log."""
    return build_document(*allow_image_pull(place))


def build_fleet_policy(place: AwsAccount) -> PolicyDocument:
    """What a Spot Fleet does: start machines with `ecsInstanceRole`, tag them, end its own."""
    return build_document(
        allow_actions("Look", "ec2:DescribeImages", "ec2:DescribeInstanceStatus", "ec2:DescribeSubnets"),
        allow_actions("Start", "ec2:RequestSpotInstances", "ec2:RunInstances", on=list_launch_arns(place)),
        allow_actions(
            "TagMachines", "ec2:CreateTags",
            on=[
                place.arn("ec2", f"{kind}/*")
                for kind in ("instance", "network-interface", "spot-instances-request", "volume")
            ],
        ),
        allow_actions(
            "EndItsOwn", "ec2:TerminateInstances", on=place.arn("ec2", "instance/*"),
            when={"Null": {"ec2:ResourceTag/aws:ec2spot:fleet-request-id": "false"}},
        ),
        allow_role_passing([place.role(INSTANCE_ROLE)], [get_ec2_service_name(place)]),
    )  # fmt: skip


def build_task_policy(place: AwsAccount) -> PolicyDocument:
    """What the worker does in its container, its buckets left out: see `build_task_bucket_policy`."""
    return build_document(
        allow_actions(
            "TakeJobs",
            "sqs:ChangeMessageVisibility", "sqs:DeleteMessage", "sqs:ReceiveMessage", "sqs:SendMessage",
            on=place.arn("sqs", "*"), when=APP_TAG_CONDITION,
        ),
        allow_log_writing(place),
        allow_actions("KeepTask", "ecs:GetTaskProtection", "ecs:UpdateTaskProtection", on=place.arn("ecs", "task/*/*")),
        allow_actions(
            "IdleAlarm", "cloudwatch:PutMetricAlarm", on=place.arn("cloudwatch", "alarm:*_i-*"),
            when={"ForAllValues:StringLike": {
                "cloudwatch:AlarmActions": [f"arn:{place.partition}:automate:*:ec2:terminate"]}},
        ),
        allow_actions("TagAlarm", "cloudwatch:TagResource", on=place.arn("cloudwatch", "alarm:*_i-*")),
    )  # fmt: skip


def build_task_bucket_policy(place: AwsAccount, bucket: str, *, write: bool) -> PolicyDocument:
    """What the worker does with one bucket. Never deletes."""
    statements = [
        allow_actions("List", "s3:ListBucket", on=place.bucket(bucket)),
        allow_actions("Read", "s3:GetObject", on=place.bucket(bucket, "*")),
    ]
    if write:
        statements.append(
            allow_actions("Write", "s3:AbortMultipartUpload", "s3:PutObject", on=place.bucket(bucket, "*"))
        )
    return build_document(*statements)


def build_monitor_policy(place: AwsAccount) -> PolicyDocument:
    """What the auto-monitor does: look, scale down, export logs, clean up. It passes no role on."""
    return build_document(
        allow_queue_reading(place),
        allow_actions(
            "EndQueues", "sqs:ChangeMessageVisibility", "sqs:DeleteQueue", "sqs:ReceiveMessage",
            on=place.arn("sqs", "*"), when=APP_TAG_CONDITION,
        ),
        *allow_cluster_reading(place),
        *allow_cluster_deletion(place),
        allow_actions(
            "SeeEc2",
            "ec2:DescribeInstances", "ec2:DescribeLaunchTemplates", "ec2:DescribeSpotFleetRequests",
            "ec2:DescribeSpotPriceHistory",
        ),
        allow_fleet_reading(place),
        *allow_fleet_deletion(place),
        *allow_alarm_deletion(place),
        *allow_rule_deletion(place),
        allow_actions("FindLeftovers", *REMAINING_RESOURCE_ACTIONS),
        allow_log_export(place),
        allow_actions(
            "OwnLog", "logs:CreateLogStream", "logs:PutLogEvents",
            on=place.arn("logs", f"log-group:/aws/lambda/{MONITOR_FUNCTION}:*"),
        ),
    )  # fmt: skip


def build_monitor_bucket_policy(place: AwsAccount, bucket: str) -> PolicyDocument:
    """What the auto-monitor reads and writes: monitor files, records, and what it remembers between two ticks."""
    prefixes = [f"{prefix}/*" for prefix in (MONITOR_PREFIX, RUNS_PREFIX)]
    return build_document(
        # Not narrowed to these prefixes: S3 would then answer 403 instead of 404 for an object that is not there.
        allow_actions("List", "s3:ListBucket", on=place.bucket(bucket)),
        allow_actions(
            "ReadAndWrite", "s3:GetObject", "s3:PutObject", on=[place.bucket(bucket, key) for key in prefixes]
        ),
    )


def build_log_export_statements(place: AwsAccount, bucket: str) -> list[dict[str, Any]]:
    """The statements of the bucket's own policy that let CloudWatch Logs export to it, for this account alone.

    The region is the bucket's: logs are exported within a region. https://docs.aws.amazon.com/AmazonCloudWatch/latest/
    logs/S3ExportTasks.html
    """
    principal = {"Service": localize_service_name(f"logs.{place.region}.amazonaws.com", place)}
    ours = {"aws:SourceAccount": place.account}
    source = {"ArnLike": {"aws:SourceArn": place.arn("logs", "log-group:*", place.region)}}
    return [
        {
            "Sid": "DistributedSomethingLogExportLook",
            "Effect": "Allow",
            "Principal": principal,
            "Action": "s3:GetBucketAcl",
            "Resource": place.bucket(bucket),
            "Condition": {"StringEquals": ours, **source},
        },
        {
            "Sid": "DistributedSomethingLogExportWrite",
            "Effect": "Allow",
            "Principal": principal,
            "Action": "s3:PutObject",
            "Resource": place.bucket(bucket, f"{EXPORT_PREFIX}/*"),
            "Condition": {"StringEquals": ours | {"s3:x-amz-acl": "bucket-owner-full-control"}, **source},
        },
    ]
