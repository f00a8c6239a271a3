"""The policies for users, who run every command except setupAWS, and for administrators, who run setupAWS.

setupAWS only prints these policies. An administrator attaches them to people or groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from distributed_something.account.bucket_key import READ_ACTION, WRITE_ACTION
from distributed_something.account.policy_documents import (
    APP_TAG_CONDITION,
    ONE_APP_CONDITION,
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
    DEFAULT_TOPIC,
    EXECUTION_ROLE,
    FLEET_ROLE,
    INSTANCE_ROLE,
    MONITOR_FUNCTION,
    MONITOR_PREFIX,
    MONITOR_ROLE,
    RULE_NAME_PREFIX,
    TASK_ROLE,
    TEST_APP_SUFFIX,
    AwsAccount,
)
from distributed_something.worker import RUNS_PREFIX

CONTROL_TAG_KEYS = ["app", "owner"]  # the tag keys that run.py sets on queues and log groups
SERVICE_LINKED_ROLES = {
    "AWSServiceRoleForEC2Spot": "spot.amazonaws.com",
    "AWSServiceRoleForEC2SpotFleet": "spotfleet.amazonaws.com",
    "AWSServiceRoleForECS": "ecs.amazonaws.com",
    "AWSServiceRoleForCloudWatchEvents": "events.amazonaws.com",  # terminates an instance when its idle alarm fires
}
_DESCRIBED_EC2_RESOURCES = (  # the EC2 resources that run.py looks up
    "Images", "InstanceTypeOfferings", "InstanceTypes", "Instances", "KeyPairs", "LaunchTemplateVersions",
    "LaunchTemplates", "RouteTables", "SecurityGroups", "Snapshots", "SpotFleetRequests", "SpotPriceHistory",
    "Subnets", "Vpcs",
)  # fmt: skip


def build_control_policies(
    account: AwsAccount, buckets: list[str], keys: Sequence[str] = (), topic: str = ""
) -> dict[str, PolicyDocument]:
    """Return the policies that a user needs for every command except setupAWS, keyed by name.

    `keys`: the ARNs of the KMS keys that encrypt the buckets. `topic`: the ARN of the topic that gets notifications, if
    any. There are two policies, because IAM limits a managed
    policy to 6,144 characters.
    """
    return {
        "distributed-something-jobs": _build_control_jobs_policy(account, buckets, keys),
        "distributed-something-machines": _build_control_machines_policy(account, topic),
    }


def build_administrator_policy(account: AwsAccount, buckets: list[str], topic: str = "") -> PolicyDocument:
    """Return the policy that an administrator needs for setupAWS. `topic`: as in `build_control_policies`."""
    return build_document(
        *_allow_role_setup(account),
        allow_actions(
            "Function", *(f"lambda:{action}" for action in (
                "AddPermission", "CreateFunction", "DeleteFunction", "GetFunction", "GetPolicy",
                "ListTags",  # without it, GetFunction returns no tags
                "RemovePermission", "TagResource", "UpdateFunctionCode", "UpdateFunctionConfiguration")),
            on=account.arn("lambda", f"function:{MONITOR_FUNCTION}"),
        ),
        allow_actions(
            "FunctionLog", "logs:CreateLogGroup", "logs:DeleteLogGroup", "logs:ListTagsForResource",
            "logs:PutRetentionPolicy", "logs:TagResource",
            on=account.arn("logs", f"log-group:/aws/lambda/{MONITOR_FUNCTION}*"),
        ),
        allow_actions("FindLog", "logs:DescribeLogGroups"),
        allow_actions("FindKey", "kms:DescribeKey", on=account.arn("kms", "key/*")),
        allow_actions("Bucket", "s3:DeleteBucketPolicy", "s3:GetBucketPolicy", "s3:GetEncryptionConfiguration",
               "s3:GetLifecycleConfiguration", "s3:PutBucketPolicy", "s3:PutLifecycleConfiguration",
               on=[account.bucket(bucket) for bucket in buckets]),
        allow_actions(
            "Topic", *(f"sns:{action}" for action in (
                "CreateTopic", "DeleteTopic", "GetTopicAttributes", "ListSubscriptionsByTopic", "ListTagsForResource",
                "Subscribe", "TagResource")),
            on=topic or account.arn("sns", DEFAULT_TOPIC),
        ),
        allow_actions("FindUse", "ec2:DescribeInstances", "ec2:DescribeSecurityGroups", "ec2:DescribeSpotFleetRequests",
               "events:ListRuleNamesByTarget"),
        allow_actions("EndSecurityGroup", "ec2:DeleteSecurityGroup", on=account.arn("ec2", "security-group/*"),
               when={"StringEquals": {"aws:ResourceTag/made-by": "distributed-something"}}),
    )  # fmt: skip


def _allow_role_setup(account: AwsAccount) -> list[dict[str, Any]]:
    roles = [account.role(name) for name in (EXECUTION_ROLE, FLEET_ROLE, INSTANCE_ROLE, MONITOR_ROLE, TASK_ROLE)]
    linked = [account.role(f"aws-service-role/{service}/{name}") for name, service in SERVICE_LINKED_ROLES.items()]
    return [
        allow_actions(
            "Roles", *(f"iam:{action}" for action in (
                "CreateRole", "DeleteRole", "DeleteRolePolicy", "GetRole", "GetRolePolicy",
                "ListAttachedRolePolicies", "ListInstanceProfilesForRole", "ListRolePolicies", "PutRolePolicy",
                "TagRole", "UpdateAssumeRolePolicy")),
            on=[*roles, *linked],
        ),
        allow_actions(
            "Profile", *(f"iam:{action}" for action in (
                "AddRoleToInstanceProfile", "CreateInstanceProfile", "DeleteInstanceProfile", "GetInstanceProfile",
                "RemoveRoleFromInstanceProfile", "TagInstanceProfile")),
            on=account.profile(INSTANCE_ROLE),
        ),
        allow_actions("ServiceLinkedRoles", "iam:CreateServiceLinkedRole", on=linked),
        # AddRoleToInstanceProfile passes a role without naming a service, so the service cannot be restricted here.
        allow_actions("PassInstanceRole", "iam:PassRole", on=account.role(INSTANCE_ROLE)),
        allow_role_passing([account.role(MONITOR_ROLE)], ["lambda.amazonaws.com"]),
    ]  # fmt: skip


def _build_control_jobs_policy(account: AwsAccount, buckets: list[str], keys: Sequence[str]) -> PolicyDocument:
    return build_document(
        *_allow_queue_use(account),
        *_allow_log_use(account),
        allow_log_export(account),
        *allow_alarm_deletion(account),
        allow_actions(
            "MakeDashboard", "cloudwatch:GetDashboard", "cloudwatch:PutDashboard", on=build_dashboard_arn(account)
        ),
        allow_actions(
            "UseBuckets", "s3:AbortMultipartUpload", "s3:GetBucketPolicy", "s3:GetEncryptionConfiguration",
            "s3:GetObject", "s3:ListBucket", "s3:PutObject",
            on=[account.bucket(bucket, key) for bucket in buckets for key in ("", "*")],
        ),
        # `testRun` removes what it wrote. No real run has such keys: the config refuses an APP_NAME that ends with the
        # suffix. For any bucket, because of IAM's limit.
        allow_actions(
            "EndTestRun", "s3:DeleteObject",
            on=[account.bucket("*", f"{RUNS_PREFIX}/*{TEST_APP_SUFFIX}/*"),
                account.bucket("*", f"{MONITOR_PREFIX}/*{TEST_APP_SUFFIX}*.json")],
        ),
        allow_actions("SeeKeys", "kms:DescribeKey", on=account.arn("kms", "key/*")),
        *([allow_actions("UseKeys", READ_ACTION, WRITE_ACTION, on=list(dict.fromkeys(keys)))] if keys else []),
        allow_actions(
            "MakeRule", "events:PutRule", "events:PutTargets", "events:TagResource",
            on=account.arn("events", f"rule/{RULE_NAME_PREFIX}*"),
        ),
        *allow_rule_deletion(account),
        allow_actions("SeeMonitor", "lambda:GetFunction", on=account.arn("lambda", f"function:{MONITOR_FUNCTION}")),
        allow_actions("FindLeftovers", *REMAINING_RESOURCE_ACTIONS, "ecs:ListClusters", "sqs:ListQueues"),
    )  # fmt: skip


def _allow_queue_use(account: AwsAccount) -> list[dict[str, Any]]:
    queues = account.arn("sqs", "*")
    return [
        allow_queue_reading(account),
        # A queue that has no tag `app` must be tagged first, because all other permissions depend on the tag.
        allow_actions("MakeQueues", "sqs:CreateQueue", "sqs:TagQueue", on=queues, when=_build_tag_condition()),
        allow_actions(
            "UseQueues", "sqs:DeleteMessage", "sqs:DeleteQueue", "sqs:ReceiveMessage", "sqs:SendMessage",
            "sqs:SetQueueAttributes",
            on=queues, when=ONE_APP_CONDITION,
        ),
    ]  # fmt: skip


def _allow_log_use(account: AwsAccount) -> list[dict[str, Any]]:
    groups = account.arn("logs", "log-group:*")
    return [
        allow_actions("MakeLogs", "logs:CreateLogGroup", "logs:TagResource", on=groups, when=_build_tag_condition()),
        allow_actions("SeeLogs", "logs:DescribeLogGroups"),
        allow_actions("SeeLogTags", "logs:ListTagsForResource", on=groups),
        allow_actions(
            "UseLogs", "logs:DeleteLogGroup", "logs:DeleteLogStream", "logs:DescribeLogStreams", "logs:GetLogEvents",
            "logs:PutRetentionPolicy",
            on=groups, when=APP_TAG_CONDITION,
        ),
    ]  # fmt: skip


def _build_tag_condition() -> dict[str, Any]:
    """Return a condition that allows only the tag keys that run.py sets on queues and log groups."""
    return {"ForAllValues:StringEquals": {"aws:TagKeys": CONTROL_TAG_KEYS}}


def _build_control_machines_policy(account: AwsAccount, topic: str) -> PolicyDocument:
    roles = [account.role(name) for name in (EXECUTION_ROLE, FLEET_ROLE, INSTANCE_ROLE, TASK_ROLE)]
    services = [get_ec2_service_name(account), "ecs-tasks.amazonaws.com", "spotfleet.amazonaws.com"]
    return build_document(
        *_allow_cluster_use(account),
        *_allow_fleet_use(account),
        allow_role_passing(roles, services),
        allow_actions(
            "SeeRoles", "iam:GetInstanceProfile", "iam:GetRole", "iam:GetRolePolicy", "iam:SimulatePrincipalPolicy",
            on=[*roles, account.role(MONITOR_ROLE), account.profile(INSTANCE_ROLE)],
        ),
        allow_actions(
            "SeeEcsImage", "ssm:GetParameter",
            on=f"arn:{account.partition}:ssm:*:*:parameter/aws/service/ecs/optimized-ami/*",
        ),
        allow_actions(
            "SeeWorkerImage", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer", on=account.arn("ecr", "repository/*")
        ),
        allow_actions("SeeQuotas", "servicequotas:GetServiceQuota"),
        *([allow_actions("Notify", "sns:GetTopicAttributes", "sns:Publish", on=topic)] if topic else []),
    )  # fmt: skip


def _allow_cluster_use(account: AwsAccount) -> list[dict[str, Any]]:
    return [
        *allow_cluster_reading(account),
        allow_actions("MakeCluster", "ecs:CreateCluster", on=account.arn("ecs", "cluster/*")),
        allow_actions("MakeService", "ecs:CreateService", on=account.arn("ecs", f"service/*/{ANY_APP.service}")),
        allow_actions(
            "MakeTask", "ecs:RegisterTaskDefinition", on=account.arn("ecs", f"task-definition/{ANY_APP.task_family}:*")
        ),
        allow_actions("SeeTask", "ecs:DescribeTaskDefinition"),
        # Includes the tasks, to which ECS copies the tags of the task definition.
        allow_actions(
            "TagEcs", "ecs:TagResource", on=account.arn("ecs", "*"), when={"Null": {"ecs:CreateAction": "false"}}
        ),
        *allow_cluster_deletion(account),
    ]


def _allow_fleet_use(account: AwsAccount) -> list[dict[str, Any]]:
    templates = account.arn("ec2", "launch-template/*")
    created_with_tags = {"StringEquals": {"ec2:CreateAction": [
        "CreateLaunchTemplate", "CreateSecurityGroup", "RequestSpotFleet", "RunInstances",
    ]}}  # fmt: skip
    return [
        allow_actions("SeeEc2", *(f"ec2:Describe{resource}" for resource in _DESCRIBED_EC2_RESOURCES)),
        allow_fleet_reading(account),
        allow_actions(
            "RequestFleet", "ec2:RequestSpotFleet", "ec2:RunInstances",
            on=[*list_launch_arns(account), account.arn("ec2", "spot-fleet-request/*")],
        ),
        allow_actions("TagEc2", "ec2:CreateTags", on=account.arn("ec2", "*/*"), when=created_with_tags),
        allow_actions(
            "MakeSecurityGroup", "ec2:CreateSecurityGroup",
            # The network may belong to another account, which shares it.
            on=[account.arn("ec2", "security-group/*"), f"arn:{account.partition}:ec2:*:*:vpc/*"],
        ),
        allow_actions(
            "AllowSsh", "ec2:AuthorizeSecurityGroupIngress", "ec2:RevokeSecurityGroupIngress",
            on=account.arn("ec2", "security-group/*"),
            when={"StringEquals": {"aws:ResourceTag/made-by": "distributed-something"}},
        ),
        allow_actions("MakeLaunchTemplate", "ec2:CreateLaunchTemplate", on=templates),
        allow_actions("AddVersion", "ec2:CreateLaunchTemplateVersion", on=templates, when=APP_TAG_CONDITION),
        *allow_fleet_deletion(account),
    ]  # fmt: skip
