"""Statements that several policies share, so that users and the auto-monitor clean up with the same permissions."""

from __future__ import annotations

from typing import Any

from distributed_something.account.policy_documents import APP_TAG_CONDITION, allow_actions
from distributed_something.core.names import RULE_NAME_PREFIX, AppNames, AwsAccount

ANY_APP = AppNames("*")  # patterns that match the resource names of every app
REMAINING_RESOURCE_ACTIONS = ("ec2:DescribeVolumes", "events:ListRules")  # used by the search for remaining resources


def allow_image_pull(account: AwsAccount) -> list[dict[str, Any]]:
    pull = ("ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer")
    return [
        allow_actions("LogInToEcr", "ecr:GetAuthorizationToken"),
        allow_actions("PullImage", *pull, on=account.arn("ecr", "repository/*")),
        allow_log_writing(account),
    ]


def allow_log_writing(account: AwsAccount) -> dict[str, Any]:
    return allow_actions(
        "WriteLogs",
        "logs:CreateLogStream",
        "logs:PutLogEvents",
        on=account.arn("logs", "log-group:*"),
        when=APP_TAG_CONDITION,
    )


def allow_log_export(account: AwsAccount) -> dict[str, Any]:
    return allow_actions(
        "ExportLogs", "logs:CreateExportTask", on=account.arn("logs", "log-group:*"), when=APP_TAG_CONDITION
    )


def list_launch_arns(account: AwsAccount) -> list[str]:
    """Return the ARNs of everything that is used or created when instances start.

    Images and their snapshots may belong to any account. So may subnets and security groups: an account that shares its
    network owns them, and nobody can use those that are not shared.
    """
    kinds = (
        "instance", "key-pair", "launch-template", "network-interface", "placement-group",
        "spot-instances-request", "volume",
    )  # fmt: skip
    shared = [f"arn:{account.partition}:ec2:*:*:{kind}/*" for kind in ("image", "security-group", "snapshot", "subnet")]
    return [*shared, *(account.arn("ec2", f"{kind}/*") for kind in kinds)]


def allow_fleet_reading(account: AwsAccount) -> dict[str, Any]:
    """Return the permission to read fleets, without a tag condition: fleets that no longer exist have no tags."""
    calls = ("ec2:DescribeSpotFleetInstances", "ec2:DescribeSpotFleetRequestHistory")
    return allow_actions("SeeFleet", *calls, on=account.arn("ec2", "spot-fleet-request/*"))


def allow_queue_reading(account: AwsAccount) -> dict[str, Any]:
    """Return the permission to read queues.

    It has no tag condition: a queue that does not exist has no tags, so AWS would deny access instead of reporting that
    the queue does not exist.
    """
    return allow_actions(
        "SeeQueues",
        "sqs:GetQueueAttributes", "sqs:GetQueueUrl", "sqs:ListDeadLetterSourceQueues", "sqs:ListQueueTags",
        on=account.arn("sqs", "*"),
    )  # fmt: skip


def allow_cluster_reading(account: AwsAccount) -> list[dict[str, Any]]:
    resources = [account.arn("ecs", f"{kind}/*") for kind in ("cluster", "container-instance", "service", "task")]
    return [
        allow_actions(
            "SeeCluster",
            "ecs:DescribeClusters", "ecs:DescribeContainerInstances", "ecs:DescribeServices", "ecs:DescribeTasks",
            "ecs:GetTaskProtection", "ecs:ListContainerInstances",
            on=resources,
        ),
        # AWS authorizes ListTasks on a resource only if the call names a container instance.
        allow_actions("ListEcs", "ecs:ListServices", "ecs:ListTaskDefinitions", "ecs:ListTasks"),
    ]  # fmt: skip


def allow_cluster_deletion(account: AwsAccount) -> list[dict[str, Any]]:
    return [
        allow_actions(
            "EndService",
            "ecs:DeleteCluster",
            "ecs:DeleteService",
            "ecs:UpdateService",
            on=[account.arn("ecs", "cluster/*"), account.arn("ecs", f"service/*/{ANY_APP.service}")],
            when=APP_TAG_CONDITION,
        ),
        allow_actions("EndTask", "ecs:DeregisterTaskDefinition"),  # IAM cannot limit this action to specific resources
        # No condition on the tag `app`: instances have this tag in EC2, but not in ECS.
        allow_actions(
            "DrainMachines", "ecs:UpdateContainerInstancesState", on=account.arn("ecs", "container-instance/*/*")
        ),
    ]


def allow_fleet_deletion(account: AwsAccount) -> list[dict[str, Any]]:
    fleets = account.arn("ec2", "spot-fleet-request/*")
    return [
        allow_actions(
            "EndFleet", "ec2:CancelSpotFleetRequests", "ec2:ModifySpotFleetRequest", on=fleets, when=APP_TAG_CONDITION
        ),
        allow_actions(
            "EndMachines", "ec2:TerminateInstances", on=account.arn("ec2", "instance/*"), when=APP_TAG_CONDITION
        ),
        allow_actions("EndVolumes", "ec2:DeleteVolume", on=account.arn("ec2", "volume/*"), when=APP_TAG_CONDITION),
        allow_actions(
            "EndLaunchTemplate",
            "ec2:DeleteLaunchTemplate",
            on=account.arn("ec2", "launch-template/*"),
            when=APP_TAG_CONDITION,
        ),
    ]


def allow_alarm_deletion(account: AwsAccount) -> list[dict[str, Any]]:
    return [
        allow_actions("SeeAlarms", "cloudwatch:DescribeAlarms", on=account.arn("cloudwatch", "alarm:*")),
        allow_actions("EndAlarms", "cloudwatch:DeleteAlarms", on=account.arn("cloudwatch", "alarm:*_i-*")),
        allow_actions("SeeDashboards", "cloudwatch:ListDashboards"),
        allow_actions("EndDashboard", "cloudwatch:DeleteDashboards", on=build_dashboard_arn(account)),
    ]


def build_dashboard_arn(account: AwsAccount) -> str:
    return account.arn("cloudwatch", "dashboard/*", region="")


def allow_rule_deletion(account: AwsAccount) -> list[dict[str, Any]]:
    rules = account.arn("events", f"rule/{RULE_NAME_PREFIX}*")
    return [allow_actions("EndRule", "events:DeleteRule", "events:RemoveTargets", on=rules)]
