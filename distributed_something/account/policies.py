"""The policies for the account's roles and its bucket. The policies for users are in `user_policies.py`.

All apps in an account share one set of roles. An app is just a name that a scientist chooses in the config; if each app
had its own role, every new app would need an administrator. The policies separate apps from the rest of the account by
the tag `app`, which `setup` and `startCluster` put on everything they create, or by part of the name where AWS does not
support tags. Roles are not tied to a region, so their policies allow every region. Each bucket has its own policy.
"""

from __future__ import annotations

from typing import Any

from distributed_something.account.policy_documents import (
    APP_TAG_CONDITION,
    ONE_APP_CONDITION,
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


def build_instance_policy(account: AwsAccount) -> PolicyDocument:
    """Return the policy for the ECS agent on an instance: join a cluster, report on tasks, pull images, write logs.

    The execution role also has the permissions for images and logs. Which role the agent uses for them depends on its
    version.
    """
    return build_document(
        allow_actions("FindEcs", "ecs:DiscoverPollEndpoint"),
        allow_actions(
            "JoinCluster",
            "ecs:DeregisterContainerInstance", "ecs:RegisterContainerInstance", "ecs:SubmitAttachmentStateChanges",
            "ecs:SubmitContainerStateChange", "ecs:SubmitTaskStateChange",
            on=account.arn("ecs", "cluster/*"),
        ),
        allow_actions(
            "ServeCluster", "ecs:Poll", "ecs:StartTelemetrySession", "ecs:UpdateContainerInstancesState",
            on=account.arn("ecs", "container-instance/*/*"),
        ),
        *allow_image_pull(account),
    )  # fmt: skip


def build_session_policy() -> PolicyDocument:
    """Return the policy that lets the SSM agent on an instance open sessions, and nothing else.

    AWS's own AmazonSSMManagedInstanceCore would also let it read every parameter of the account.
    https://docs.aws.amazon.com/systems-manager/latest/userguide/getting-started-create-iam-instance-profile.html
    """
    channels = [f"ssmmessages:{verb}{kind}Channel" for verb in ("Create", "Open") for kind in ("Control", "Data")]
    return build_document(allow_actions("OpenSessions", "ssm:UpdateInstanceInformation", *channels))


def build_execution_policy(account: AwsAccount) -> PolicyDocument:
    """Return the policy that lets ECS start a container: pull its image from this account's ECR and write its log."""
    return build_document(*allow_image_pull(account))


def build_fleet_policy(account: AwsAccount) -> PolicyDocument:
    """Return the policy that lets Spot Fleets start instances with `ecsInstanceRole`, tag them, and terminate them."""
    return build_document(
        allow_actions("Look", "ec2:DescribeImages", "ec2:DescribeInstanceStatus", "ec2:DescribeSubnets"),
        allow_actions("Start", "ec2:RequestSpotInstances", "ec2:RunInstances", on=list_launch_arns(account)),
        allow_actions(
            "TagMachines", "ec2:CreateTags",
            on=[
                account.arn("ec2", f"{kind}/*")
                for kind in ("instance", "network-interface", "spot-instances-request", "volume")
            ],
        ),
        allow_actions(
            "EndItsOwn", "ec2:TerminateInstances", on=account.arn("ec2", "instance/*"),
            when={"Null": {"ec2:ResourceTag/aws:ec2spot:fleet-request-id": "false"}},
        ),
        allow_role_passing([account.role(INSTANCE_ROLE)], [get_ec2_service_name(account)]),
    )  # fmt: skip


def build_task_policy(account: AwsAccount) -> PolicyDocument:
    """Return the policy for workers, except for access to buckets (see `build_task_bucket_policy`)."""
    return build_document(
        allow_actions(
            "TakeJobs", "sqs:ChangeMessageVisibility", "sqs:DeleteMessage", "sqs:ReceiveMessage",
            on=account.arn("sqs", "*"), when=ONE_APP_CONDITION,
        ),
        # Also to a dead-letter queue that several apps share.
        allow_actions("SendJobs", "sqs:SendMessage", on=account.arn("sqs", "*"), when=APP_TAG_CONDITION),
        allow_log_writing(account),
        allow_actions(
            "KeepTask", "ecs:GetTaskProtection", "ecs:UpdateTaskProtection", on=account.arn("ecs", "task/*/*")
        ),
        allow_actions(
            "IdleAlarm", "cloudwatch:PutMetricAlarm", on=account.arn("cloudwatch", "alarm:*_i-*"),
            when={"ForAllValues:StringLike": {
                "cloudwatch:AlarmActions": [f"arn:{account.partition}:automate:*:ec2:terminate"]}},
        ),
        allow_actions("TagAlarm", "cloudwatch:TagResource", on=account.arn("cloudwatch", "alarm:*_i-*")),
    )  # fmt: skip


def build_task_bucket_policy(account: AwsAccount, bucket: str, *, write: bool) -> PolicyDocument:
    """Return the policy that lets workers list and read a bucket, and write to it if `write`, but delete nothing."""
    statements = [
        allow_actions("List", "s3:ListBucket", on=account.bucket(bucket)),
        allow_actions("Read", "s3:GetObject", on=account.bucket(bucket, "*")),
    ]
    if write:
        statements.append(
            allow_actions("Write", "s3:AbortMultipartUpload", "s3:PutObject", on=account.bucket(bucket, "*"))
        )
    return build_document(*statements)


def build_monitor_policy(account: AwsAccount) -> PolicyDocument:
    """Return the policy that lets the auto-monitor observe a run, scale it down, export its logs, and clean up.

    The policy does not let the auto-monitor pass a role to a service.
    """
    return build_document(
        allow_queue_reading(account),
        allow_actions("EndQueues", "sqs:DeleteQueue", on=account.arn("sqs", "*"), when=ONE_APP_CONDITION),
        *allow_cluster_reading(account),
        *allow_cluster_deletion(account),
        allow_actions(
            "SeeEc2",
            "ec2:DescribeInstances", "ec2:DescribeLaunchTemplates", "ec2:DescribeSpotFleetRequests",
            "ec2:DescribeSpotPriceHistory",
        ),
        allow_fleet_reading(account),
        *allow_fleet_deletion(account),
        *allow_alarm_deletion(account),
        *allow_rule_deletion(account),
        allow_actions("FindLeftovers", *REMAINING_RESOURCE_ACTIONS),
        allow_log_export(account),
        allow_actions(
            "SeeContainerLogs", "logs:GetLogEvents", on=account.arn("logs", "log-group:*"), when=APP_TAG_CONDITION
        ),
        allow_actions(
            "OwnLog", "logs:CreateLogStream", "logs:PutLogEvents",
            on=account.arn("logs", f"log-group:/aws/lambda/{MONITOR_FUNCTION}:*"),
        ),
    )  # fmt: skip


def build_topic_policy(topic: str) -> PolicyDocument:
    """Return the policy that lets the auto-monitor send notifications to a topic (an ARN)."""
    return build_document(allow_actions("Notify", "sns:Publish", on=topic))


def build_monitor_bucket_policy(account: AwsAccount, bucket: str) -> PolicyDocument:
    """Return the policy that lets the auto-monitor access monitor files and the runs' records in the bucket.

    It may also let CloudWatch export logs, but not read them.
    """
    prefixes = [f"{prefix}/*" for prefix in (MONITOR_PREFIX, RUNS_PREFIX)]
    return build_document(
        # Listing covers the entire bucket; with only these prefixes, S3 would return 403, not 404, for missing objects.
        allow_actions("List", "s3:ListBucket", on=account.bucket(bucket)),
        allow_actions(
            "ReadAndWrite", "s3:GetObject", "s3:PutObject", on=[account.bucket(bucket, key) for key in prefixes]
        ),
        # CloudWatch writes the exported logs, but only for a caller who could write them too.
        # https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_CreateExportTask.html
        allow_actions("Export", "s3:PutObject", on=account.bucket(bucket, f"{EXPORT_PREFIX}/*")),
    )


def build_log_export_statements(account: AwsAccount, bucket: str) -> list[dict[str, Any]]:
    """Return the bucket policy statements that let CloudWatch Logs export this account's logs to the bucket.

    Logs can be exported only within a region, so `account` must have the bucket's region.
    https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/S3ExportTasks.html
    """
    principal = {"Service": localize_service_name(f"logs.{account.region}.amazonaws.com", account)}
    same_account = {"aws:SourceAccount": account.account_id}
    source = {"ArnLike": {"aws:SourceArn": account.arn("logs", "log-group:*", account.region)}}
    return [
        {
            "Sid": "DistributedSomethingLogExportLook",
            "Effect": "Allow",
            "Principal": principal,
            "Action": "s3:GetBucketAcl",
            "Resource": account.bucket(bucket),
            "Condition": {"StringEquals": same_account, **source},
        },
        {
            "Sid": "DistributedSomethingLogExportWrite",
            "Effect": "Allow",
            "Principal": principal,
            "Action": "s3:PutObject",
            "Resource": account.bucket(bucket, f"{EXPORT_PREFIX}/*"),
            "Condition": {"StringEquals": same_account | {"s3:x-amz-acl": "bucket-owner-full-control"}, **source},
        },
    ]
