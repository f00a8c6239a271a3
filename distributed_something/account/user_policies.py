"""The policies of people, who log in themselves: a user, for every command but setupAWS, and an administrator, for it.

An administrator attaches them to people or groups; nothing in an account refers to them by itself.
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
)
from distributed_something.account.statements import (
    ANY_APP,
    REMAINING_RESOURCE_ACTIONS,
    allow_alarm_deletion,
    allow_cluster_deletion,
    allow_cluster_reading,
    allow_fleet_deletion,
    allow_fleet_reading,
    allow_log_export,
    allow_queue_reading,
    allow_rule_deletion,
    build_dashboard_arn,
    list_launch_arns,
)
from distributed_something.core.names import (
    EXECUTION_ROLE,
    FLEET_ROLE,
    INSTANCE_ROLE,
    MONITOR_FUNCTION,
    MONITOR_ROLE,
    RULE_NAME_PREFIX,
    TASK_ROLE,
    AwsAccount,
)

CONTROL_TAG_KEYS = ["Name", "app", "jobs_submitted", "made-by", "owner", "run"]  # the tag keys that run.py writes
SERVICE_LINKED_ROLES = {
    "AWSServiceRoleForEC2Spot": "spot.amazonaws.com",
    "AWSServiceRoleForEC2SpotFleet": "spotfleet.amazonaws.com",
    "AWSServiceRoleForECS": "ecs.amazonaws.com",
    "AWSServiceRoleForCloudWatchEvents": "events.amazonaws.com",  # ends a machine for its idle alarm
}
_DESCRIBED_EC2_RESOURCES = (  # what run.py asks EC2 to describe
    "Images", "InstanceTypeOfferings", "InstanceTypes", "Instances", "KeyPairs", "LaunchTemplateVersions",
    "LaunchTemplates", "RouteTables", "SecurityGroups", "Snapshots", "SpotFleetRequests", "SpotPriceHistory",
    "Subnets", "Vpcs",
)  # fmt: skip


def build_control_policies(place: AwsAccount, buckets: list[str]) -> dict[str, PolicyDocument]:
    """What a user's own login needs for all commands but setupAWS. An administrator gives it to people or groups.

    By name, two of them, since a managed policy holds 6,144 characters.
    """
    return {
        "distributed-something-jobs": _build_control_jobs_policy(place, buckets),
        "distributed-something-machines": _build_control_machines_policy(place),
    }


def build_administrator_policy(place: AwsAccount, buckets: list[str]) -> PolicyDocument:
    """What setupAWS itself needs."""
    return build_document(
        *_allow_role_setup(place),
        allow_actions(
            "Function", *(f"lambda:{what}" for what in (
                "AddPermission", "CreateFunction", "DeleteFunction", "GetFunction", "GetPolicy",
                "ListTags",  # without it, GetFunction leaves the tags out
                "RemovePermission", "TagResource", "UpdateFunctionCode", "UpdateFunctionConfiguration")),
            on=place.arn("lambda", f"function:{MONITOR_FUNCTION}"),
        ),
        allow_actions(
            "FunctionLog", "logs:CreateLogGroup", "logs:DeleteLogGroup", "logs:ListTagsForResource",
            "logs:PutRetentionPolicy", "logs:TagResource",
            on=place.arn("logs", f"log-group:/aws/lambda/{MONITOR_FUNCTION}*"),
        ),
        allow_actions("FindLog", "logs:DescribeLogGroups"),
        allow_actions("Bucket", "s3:DeleteBucketPolicy", "s3:GetBucketPolicy", "s3:GetLifecycleConfiguration",
               "s3:PutBucketPolicy", "s3:PutLifecycleConfiguration",
               on=[place.bucket(bucket) for bucket in buckets]),
        allow_actions("FindUse", "ec2:DescribeInstances", "ec2:DescribeSecurityGroups", "ec2:DescribeSpotFleetRequests",
               "events:ListRuleNamesByTarget"),
        allow_actions("EndSecurityGroup", "ec2:DeleteSecurityGroup", on=place.arn("ec2", "security-group/*"),
               when={"StringEquals": {"aws:ResourceTag/made-by": "distributed-something"}}),
    )  # fmt: skip


def _allow_role_setup(place: AwsAccount) -> list[dict[str, Any]]:
    roles = [place.role(name) for name in (EXECUTION_ROLE, FLEET_ROLE, INSTANCE_ROLE, MONITOR_ROLE, TASK_ROLE)]
    linked = [place.role(f"aws-service-role/{service}/{name}") for name, service in SERVICE_LINKED_ROLES.items()]
    return [
        allow_actions(
            "Roles", *(f"iam:{what}" for what in (
                "CreateRole", "DeleteRole", "DeleteRolePolicy", "GetRole", "GetRolePolicy",
                "ListAttachedRolePolicies", "ListInstanceProfilesForRole", "ListRolePolicies", "PutRolePolicy",
                "TagRole", "UpdateAssumeRolePolicy")),
            on=[*roles, *linked],
        ),
        allow_actions(
            "Profile", *(f"iam:{what}" for what in (
                "AddRoleToInstanceProfile", "CreateInstanceProfile", "DeleteInstanceProfile", "GetInstanceProfile",
                "RemoveRoleFromInstanceProfile", "TagInstanceProfile")),
            on=place.profile(INSTANCE_ROLE),
        ),
        allow_actions("ServiceLinkedRoles", "iam:CreateServiceLinkedRole", on=linked),
        # Adding a role to an instance profile passes it, with no service to name.
        allow_actions("PassRoles", "iam:PassRole", on=[place.role(INSTANCE_ROLE), place.role(MONITOR_ROLE)]),
    ]  # fmt: skip


def _build_control_jobs_policy(place: AwsAccount, buckets: list[str]) -> PolicyDocument:
    return build_document(
        *_allow_queue_use(place),
        *_allow_log_use(place),
        allow_log_export(place),
        *allow_alarm_deletion(place),
        allow_actions(
            "MakeDashboard", "cloudwatch:GetDashboard", "cloudwatch:PutDashboard", on=build_dashboard_arn(place)
        ),
        allow_actions(
            "UseBuckets", "s3:AbortMultipartUpload", "s3:GetBucketPolicy", "s3:GetObject", "s3:ListBucket",
            "s3:PutObject",
            on=[place.bucket(bucket, key) for bucket in buckets for key in ("", "*")],
        ),
        allow_actions(
            "MakeRule", "events:PutRule", "events:PutTargets", "events:TagResource",
            on=place.arn("events", f"rule/{RULE_NAME_PREFIX}*"),
        ),
        *allow_rule_deletion(place),
        allow_actions("SeeMonitor", "lambda:GetFunction", on=place.arn("lambda", f"function:{MONITOR_FUNCTION}")),
        allow_actions("FindLeftovers", *REMAINING_RESOURCE_ACTIONS, "ecs:ListClusters", "sqs:ListQueues"),
    )  # fmt: skip


def _allow_queue_use(place: AwsAccount) -> list[dict[str, Any]]:
    queues = place.arn("sqs", "*")
    return [
        allow_queue_reading(place),
        # Also what was made by hand is tagged, and has no tag yet; all other rights to it begin with that tag.
        allow_actions("MakeQueues", "sqs:CreateQueue", "sqs:TagQueue", on=queues, when=_build_tag_condition()),
        allow_actions(
            "UseQueues", "sqs:ChangeMessageVisibility", "sqs:DeleteQueue", "sqs:ReceiveMessage", "sqs:SendMessage",
            "sqs:SetQueueAttributes",
            on=queues, when=APP_TAG_CONDITION,
        ),
    ]  # fmt: skip


def _allow_log_use(place: AwsAccount) -> list[dict[str, Any]]:
    groups = place.arn("logs", "log-group:*")
    return [
        allow_actions("MakeLogs", "logs:CreateLogGroup", "logs:TagResource", on=groups, when=_build_tag_condition()),
        allow_actions("SeeLogs", "logs:DescribeLogGroups"),
        allow_actions("SeeLogTags", "logs:ListTagsForResource", on=groups),
        allow_actions(
            "UseLogs", "logs:DeleteLogGroup", "logs:DescribeLogStreams", "logs:GetLogEvents",
            "logs:PutRetentionPolicy",
            on=groups, when=APP_TAG_CONDITION,
        ),
    ]  # fmt: skip


def _build_tag_condition() -> dict[str, Any]:
    """Only the tag keys that run.py writes."""
    return {"ForAllValues:StringEquals": {"aws:TagKeys": CONTROL_TAG_KEYS}}


def _build_control_machines_policy(place: AwsAccount) -> PolicyDocument:
    roles = [place.role(name) for name in (EXECUTION_ROLE, FLEET_ROLE, INSTANCE_ROLE, TASK_ROLE)]
    services = [get_ec2_service_name(place), "ecs-tasks.amazonaws.com", "spotfleet.amazonaws.com"]
    return build_document(
        *_allow_cluster_use(place),
        *_allow_fleet_use(place),
        allow_role_passing(roles, services),
        allow_actions("SeeRoles", "iam:GetInstanceProfile", "iam:GetRole", on=[*roles, place.profile(INSTANCE_ROLE)]),
        allow_actions(
            "SeeEcsImage", "ssm:GetParameter",
            on=f"arn:{place.partition}:ssm:*:*:parameter/aws/service/ecs/optimized-ami/*",
        ),
        allow_actions(
            "SeeWorkerImage", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer", on=place.arn("ecr", "repository/*")
        ),
        allow_actions("SeeQuotas", "servicequotas:GetServiceQuota"),
    )  # fmt: skip


def _allow_cluster_use(place: AwsAccount) -> list[dict[str, Any]]:
    return [
        *allow_cluster_reading(place, "ecs:DescribeTasks", "ecs:ListTasks"),
        allow_actions("MakeCluster", "ecs:CreateCluster", on=place.arn("ecs", "cluster/*")),
        allow_actions("MakeService", "ecs:CreateService", on=place.arn("ecs", f"service/*/{ANY_APP.service}")),
        allow_actions(
            "MakeTask", "ecs:RegisterTaskDefinition", on=place.arn("ecs", f"task-definition/{ANY_APP.task_family}:*")
        ),
        allow_actions("SeeTask", "ecs:DescribeTaskDefinition"),
        allow_actions("TagEcs", "ecs:TagResource", when={"Null": {"ecs:CreateAction": "false"}}),
        *allow_cluster_deletion(place),
    ]


def _allow_fleet_use(place: AwsAccount) -> list[dict[str, Any]]:
    templates = place.arn("ec2", "launch-template/*")
    made_here = {"StringEquals": {"ec2:CreateAction": [
        "CreateLaunchTemplate", "CreateSecurityGroup", "RequestSpotFleet", "RunInstances",
    ]}}  # fmt: skip
    return [
        allow_actions("SeeEc2", *(f"ec2:Describe{what}" for what in _DESCRIBED_EC2_RESOURCES)),
        allow_fleet_reading(place),
        allow_actions("RequestFleet", "ec2:RequestSpotFleet", "ec2:RunInstances", on=list_launch_arns(place)),
        allow_actions("TagEc2", "ec2:CreateTags", on=place.arn("ec2", "*/*"), when=made_here),
        allow_actions(
            "MakeSecurityGroup", "ec2:CreateSecurityGroup",
            on=[place.arn("ec2", "security-group/*"), place.arn("ec2", "vpc/*")],
        ),
        allow_actions("MakeLaunchTemplate", "ec2:CreateLaunchTemplate", on=templates),
        allow_actions("AddVersion", "ec2:CreateLaunchTemplateVersion", on=templates, when=APP_TAG_CONDITION),
        *allow_fleet_deletion(place),
    ]  # fmt: skip
