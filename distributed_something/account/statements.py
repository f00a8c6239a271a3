"""Statements that several policies share: the auto-monitor and a user's own login clean up with the same rights."""

from __future__ import annotations

from typing import Any

from distributed_something.account.policy_documents import APP_TAG_CONDITION, allow_actions
from distributed_something.core.names import RULE_NAME_PREFIX, AppNames, AwsAccount

ANY_APP = AppNames("*")  # the names of every app's resources, as patterns
REMAINING_RESOURCE_ACTIONS = ("ec2:DescribeVolumes", "events:ListRules")  # what else a clean-up looks for


def allow_image_pull(place: AwsAccount) -> list[dict[str, Any]]:
    pull = ("ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer")
    return [
        allow_actions("LogInToEcr", "ecr:GetAuthorizationToken"),
        allow_actions("PullImage", *pull, on=place.arn("ecr", "repository/*")),
        allow_log_writing(place),
    ]


def allow_log_writing(place: AwsAccount) -> dict[str, Any]:
    return allow_actions(
        "WriteLogs",
        "logs:CreateLogStream",
        "logs:PutLogEvents",
        on=place.arn("logs", "log-group:*"),
        when=APP_TAG_CONDITION,
    )


def allow_log_export(place: AwsAccount) -> dict[str, Any]:
    return allow_actions(
        "ExportLogs", "logs:CreateExportTask", on=place.arn("logs", "log-group:*"), when=APP_TAG_CONDITION
    )


def list_launch_arns(place: AwsAccount) -> list[str]:
    """What a fleet and its machines are started from, and become; images and their snapshots may be public."""
    kinds = (
        "instance", "key-pair", "launch-template", "network-interface", "placement-group", "security-group",
        "spot-fleet-request", "spot-instances-request", "subnet", "volume",
    )  # fmt: skip
    anybodys = [f"arn:{place.partition}:ec2:*:*:{kind}/*" for kind in ("image", "snapshot")]
    return [*anybodys, *(place.arn("ec2", f"{kind}/*") for kind in kinds)]


def allow_fleet_reading(place: AwsAccount) -> dict[str, Any]:
    """Without a tag: a fleet that EC2 has forgotten has none."""
    calls = ("ec2:DescribeSpotFleetInstances", "ec2:DescribeSpotFleetRequestHistory")
    return allow_actions("SeeFleet", *calls, on=place.arn("ec2", "spot-fleet-request/*"))


def allow_queue_reading(place: AwsAccount) -> dict[str, Any]:
    """Without a tag: a queue that does not exist has none, and must be told from one that is forbidden."""
    return allow_actions(
        "SeeQueues",
        "sqs:GetQueueAttributes", "sqs:GetQueueUrl", "sqs:ListDeadLetterSourceQueues", "sqs:ListQueueTags",
        on=place.arn("sqs", "*"),
    )  # fmt: skip


def allow_cluster_reading(place: AwsAccount, *more: str) -> list[dict[str, Any]]:
    things = [place.arn("ecs", f"{kind}/*") for kind in ("cluster", "container-instance", "service", "task")]
    return [
        allow_actions(
            "SeeCluster",
            "ecs:DescribeClusters", "ecs:DescribeContainerInstances", "ecs:DescribeServices",
            "ecs:ListContainerInstances", *more,
            on=things,
        ),
        allow_actions("ListEcs", "ecs:ListServices", "ecs:ListTaskDefinitions"),
    ]  # fmt: skip


def allow_cluster_deletion(place: AwsAccount) -> list[dict[str, Any]]:
    return [
        allow_actions(
            "EndService",
            "ecs:DeleteCluster",
            "ecs:DeleteService",
            "ecs:UpdateService",
            on=[place.arn("ecs", "cluster/*"), place.arn("ecs", f"service/*/{ANY_APP.service}")],
            when=APP_TAG_CONDITION,
        ),
        allow_actions("EndTask", "ecs:DeregisterTaskDefinition"),  # AWS knows no narrower right
        # Machines carry the app's tag in EC2, but not in ECS.
        allow_actions(
            "DrainMachines", "ecs:UpdateContainerInstancesState", on=place.arn("ecs", "container-instance/*/*")
        ),
    ]


def allow_fleet_deletion(place: AwsAccount) -> list[dict[str, Any]]:
    fleets = place.arn("ec2", "spot-fleet-request/*")
    return [
        allow_actions(
            "EndFleet", "ec2:CancelSpotFleetRequests", "ec2:ModifySpotFleetRequest", on=fleets, when=APP_TAG_CONDITION
        ),
        allow_actions(
            "EndMachines", "ec2:TerminateInstances", on=place.arn("ec2", "instance/*"), when=APP_TAG_CONDITION
        ),
        allow_actions("EndVolumes", "ec2:DeleteVolume", on=place.arn("ec2", "volume/*"), when=APP_TAG_CONDITION),
        allow_actions(
            "EndLaunchTemplate",
            "ec2:DeleteLaunchTemplate",
            on=place.arn("ec2", "launch-template/*"),
            when=APP_TAG_CONDITION,
        ),
    ]


def allow_alarm_deletion(place: AwsAccount) -> list[dict[str, Any]]:
    return [
        allow_actions("SeeAlarms", "cloudwatch:DescribeAlarms", on=place.arn("cloudwatch", "alarm:*")),
        allow_actions("EndAlarms", "cloudwatch:DeleteAlarms", on=place.arn("cloudwatch", "alarm:*_i-*")),
        allow_actions("SeeDashboards", "cloudwatch:ListDashboards"),
        allow_actions("EndDashboard", "cloudwatch:DeleteDashboards", on=build_dashboard_arn(place)),
    ]


def build_dashboard_arn(place: AwsAccount) -> str:
    return place.arn("cloudwatch", "dashboard/*", region="")


def allow_rule_deletion(place: AwsAccount) -> list[dict[str, Any]]:
    rules = place.arn("events", f"rule/{RULE_NAME_PREFIX}*")
    return [allow_actions("EndRule", "events:DeleteRule", "events:RemoveTargets", on=rules)]
