"""Every policy document that an account needs, built by pure functions: what may be done, and to which things.

The roles are one set an account, not one an app: an app is a name that a scientist invents in her config, and making a
role for it would need an administrator each time. What keeps an app's machines from the rest of the account is the
tag `app`, which all that `setup` and `startCluster` make carries, or a fixed part of a name where AWS knows no tags.
Regions are left open in roles, which are the account's in all regions. Buckets have a policy of their own each.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

INSTANCE_ROLE = "ecsInstanceRole"  # and its instance profile: the name that published Fleet files have
FLEET_ROLE = "aws-ec2-spot-fleet-tagging-role"
TASK_ROLE = "distributed-something-task"
EXECUTION_ROLE = "distributed-something-execution"
MONITOR_ROLE = "distributed-something-monitor"
MONITOR_FUNCTION = "distributed-something-monitor"
RULE_PREFIX = "distributed-something-"
LONGEST_RULE_NAME = 64  # EventBridge: characters
CHINA = ".cn"  # what the names of some services end with there
EXPORT_PREFIX = "exportedlogs"  # where the log export writes in the bucket
MONITOR_PREFIX, RUNS_PREFIX = "monitors", "runs"
CONTROL_TAGS = ["Name", "app", "jobs_submitted", "made-by", "owner", "run"]  # the tag keys that run.py writes
SERVICE_LINKED = {
    "AWSServiceRoleForEC2Spot": "spot.amazonaws.com",
    "AWSServiceRoleForEC2SpotFleet": "spotfleet.amazonaws.com",
    "AWSServiceRoleForECS": "ecs.amazonaws.com",
    "AWSServiceRoleForCloudWatchEvents": "events.amazonaws.com",  # ends a machine for its idle alarm
}
_LEFTOVERS = ("ec2:DescribeVolumes", "events:ListRules")  # what else a clean-up looks for
_SEEN = (  # what run.py asks EC2 to describe
    "Images", "InstanceTypeOfferings", "InstanceTypes", "Instances", "KeyPairs", "LaunchTemplateVersions",
    "LaunchTemplates", "RouteTables", "SecurityGroups", "Snapshots", "SpotFleetRequests", "SpotPriceHistory",
    "Subnets", "Vpcs",
)  # fmt: skip
# Of a thing that carries the tag `app`, whatever its value.
TAGGED = {"Null": {"aws:ResourceTag/app": "false"}}

Document = dict[str, Any]


@dataclass(frozen=True)
class Place:
    """Whose AWS it is, and where: the account's 12 digits, the region, the partition (`aws`, `aws-cn`, …)."""

    account: str
    region: str
    partition: str = "aws"

    def arn(self, service: str, resource: str, region: str = "*") -> str:
        """Of something of this account, in every region unless one is named."""
        return f"arn:{self.partition}:{service}:{region}:{self.account}:{resource}"

    def role(self, name: str) -> str:
        return self.arn("iam", f"role/{name}", region="")

    def profile(self, name: str) -> str:
        return self.arn("iam", f"instance-profile/{name}", region="")

    def bucket(self, name: str, key: str = "") -> str:
        return f"arn:{self.partition}:s3:::{name}" + (f"/{key}" if key else "")

    @property
    def function(self) -> str:
        """The auto-monitor's ARN."""
        return self.arn("lambda", f"function:{MONITOR_FUNCTION}", self.region)


def monitor_rule(app_name: str) -> str:
    """The name of the EventBridge rule that wakes the auto-monitor for an app: at most 64 characters."""
    name = RULE_PREFIX + app_name
    if len(name) <= LONGEST_RULE_NAME:
        return name
    return f"{name[: LONGEST_RULE_NAME - 9]}-{hashlib.sha256(app_name.encode()).hexdigest()[:8]}"


def trust(service: str) -> Document:
    """Who may take the role: one service of AWS's."""
    return _document({"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"})


def trusted(document: Any) -> set[str]:
    """The services that a trust policy lets in; IAM tells it as an object or as JSON."""
    read = json.loads(document) if isinstance(document, str) and document else document or {}
    found: set[str] = set()
    for statement in listed(read.get("Statement")):
        principal = statement.get("Principal", {})
        services = principal.get("Service") if isinstance(principal, dict) else None
        found |= set(listed(services)) if statement.get("Effect") == "Allow" else set()
    return found


def listed(value: Any) -> list[Any]:
    """IAM's documents hold one thing or a list of them."""
    return [] if value is None else value if isinstance(value, list) else [value]


def instance(place: Place) -> Document:
    """What ECS's agent does on a machine: join a cluster, tell how its tasks are, pull their image, write their log.

    Images and logs are in the execution role too: which of the two roles the agent uses depends on its version.
    """
    return _document(
        _allow("FindEcs", "ecs:DiscoverPollEndpoint"),
        _allow(
            "JoinCluster",
            "ecs:DeregisterContainerInstance", "ecs:RegisterContainerInstance", "ecs:SubmitAttachmentStateChanges",
            "ecs:SubmitContainerStateChange", "ecs:SubmitTaskStateChange",
            on=place.arn("ecs", "cluster/*"),
        ),
        _allow(
            "ServeCluster", "ecs:Poll", "ecs:StartTelemetrySession", "ecs:UpdateContainerInstancesState",
            on=place.arn("ecs", "container-instance/*/*"),
        ),
        *_pull_and_log(place),
    )  # fmt: skip


def execution(place: Place) -> Document:
    """What ECS does for a container before it runs: pull its image from this account's ECR, open its log."""
    return _document(*_pull_and_log(place))


def fleet(place: Place) -> Document:
    """What a Spot Fleet does: start machines with `ecsInstanceRole`, tag them, end its own."""
    return _document(
        _allow("Look", "ec2:DescribeImages", "ec2:DescribeInstanceStatus", "ec2:DescribeSubnets"),
        _allow("Start", "ec2:RequestSpotInstances", "ec2:RunInstances", on=_to_start(place)),
        _allow(
            "TagMachines", "ec2:CreateTags",
            on=[
                place.arn("ec2", f"{kind}/*")
                for kind in ("instance", "network-interface", "spot-instances-request", "volume")
            ],
        ),
        _allow(
            "EndItsOwn", "ec2:TerminateInstances", on=place.arn("ec2", "instance/*"),
            when={"Null": {"ec2:ResourceTag/aws:ec2spot:fleet-request-id": "false"}},
        ),
        _pass([place.role(INSTANCE_ROLE)], [ec2_service(place)]),
    )  # fmt: skip


def task(place: Place) -> Document:
    """What the worker does in its container, its buckets left out: see `bucket_of_task`."""
    return _document(
        _allow(
            "TakeJobs",
            "sqs:ChangeMessageVisibility", "sqs:DeleteMessage", "sqs:ReceiveMessage", "sqs:SendMessage",
            on=place.arn("sqs", "*"), when=TAGGED,
        ),
        _write_logs(place),
        _allow("KeepTask", "ecs:GetTaskProtection", "ecs:UpdateTaskProtection", on=place.arn("ecs", "task/*/*")),
        _allow(
            "IdleAlarm", "cloudwatch:PutMetricAlarm", on=place.arn("cloudwatch", "alarm:*_i-*"),
            when={"ForAllValues:StringLike": {
                "cloudwatch:AlarmActions": [f"arn:{place.partition}:automate:*:ec2:terminate"]}},
        ),
        _allow("TagAlarm", "cloudwatch:TagResource", on=place.arn("cloudwatch", "alarm:*_i-*")),
    )  # fmt: skip


def bucket_of_task(place: Place, bucket: str, *, write: bool) -> Document:
    """What the worker does with one bucket. Never deletes."""
    statements = [
        _allow("List", "s3:ListBucket", on=place.bucket(bucket)),
        _allow("Read", "s3:GetObject", on=place.bucket(bucket, "*")),
    ]
    if write:
        statements.append(_allow("Write", "s3:AbortMultipartUpload", "s3:PutObject", on=place.bucket(bucket, "*")))
    return _document(*statements)


def monitor(place: Place) -> Document:
    """What the auto-monitor does: look, scale down, export logs, clean up. It passes no role on."""
    return _document(
        _read_queues(place),
        _allow(
            "EndQueues", "sqs:ChangeMessageVisibility", "sqs:DeleteQueue", "sqs:ReceiveMessage",
            on=place.arn("sqs", "*"), when=TAGGED,
        ),
        *_read_cluster(place),
        *_end_cluster(place),
        _allow(
            "SeeEc2",
            "ec2:DescribeInstances", "ec2:DescribeLaunchTemplates", "ec2:DescribeSpotFleetRequests",
            "ec2:DescribeSpotPriceHistory",
        ),
        _see_fleet(place),
        *_end_fleet(place),
        *_alarms_and_dashboard(place),
        *_end_rule(place),
        _allow("FindLeftovers", *_LEFTOVERS),
        _export_logs(place),
        _allow(
            "OwnLog", "logs:CreateLogStream", "logs:PutLogEvents",
            on=place.arn("logs", f"log-group:/aws/lambda/{MONITOR_FUNCTION}:*"),
        ),
    )  # fmt: skip


def bucket_of_monitor(place: Place, bucket: str) -> Document:
    """What the auto-monitor reads and writes: monitor files, records, and what it remembers between two ticks."""
    prefixes = [f"{prefix}/*" for prefix in (MONITOR_PREFIX, RUNS_PREFIX)]
    return _document(
        # Not narrowed to these prefixes: S3 would then answer 403 instead of 404 for an object that is not there.
        _allow("List", "s3:ListBucket", on=place.bucket(bucket)),
        _allow("ReadAndWrite", "s3:GetObject", "s3:PutObject", on=[place.bucket(bucket, key) for key in prefixes]),
    )


def control(place: Place, buckets: list[str]) -> dict[str, Document]:
    """What a user's own login needs for all commands but setupAWS. An administrator gives it to people or groups.

    By name, two of them, since a managed policy holds 6,144 characters.
    """
    return {
        "distributed-something-jobs": _control_of_jobs(place, buckets),
        "distributed-something-machines": _control_of_machines(place),
    }


def administrator(place: Place, buckets: list[str]) -> Document:
    """What setupAWS itself needs."""
    return _document(
        *_make_roles(place),
        _allow(
            "Function", *(f"lambda:{what}" for what in (
                "AddPermission", "CreateFunction", "DeleteFunction", "GetFunction", "GetPolicy",
                "ListTags",  # without it, GetFunction leaves the tags out
                "RemovePermission", "TagResource", "UpdateFunctionCode", "UpdateFunctionConfiguration")),
            on=place.arn("lambda", f"function:{MONITOR_FUNCTION}"),
        ),
        _allow(
            "FunctionLog", "logs:CreateLogGroup", "logs:DeleteLogGroup", "logs:ListTagsForResource",
            "logs:PutRetentionPolicy", "logs:TagResource",
            on=place.arn("logs", f"log-group:/aws/lambda/{MONITOR_FUNCTION}*"),
        ),
        _allow("FindLog", "logs:DescribeLogGroups"),
        _allow("Bucket", "s3:DeleteBucketPolicy", "s3:GetBucketPolicy", "s3:GetLifecycleConfiguration",
               "s3:PutBucketPolicy", "s3:PutLifecycleConfiguration",
               on=[place.bucket(bucket) for bucket in buckets]),
        _allow("FindUse", "ec2:DescribeInstances", "ec2:DescribeSecurityGroups", "ec2:DescribeSpotFleetRequests",
               "events:ListRuleNamesByTarget"),
        _allow("EndSecurityGroup", "ec2:DeleteSecurityGroup", on=place.arn("ec2", "security-group/*"),
               when={"StringEquals": {"aws:ResourceTag/made-by": "distributed-something"}}),
    )  # fmt: skip


def _make_roles(place: Place) -> list[dict[str, Any]]:
    roles = [place.role(name) for name in (EXECUTION_ROLE, FLEET_ROLE, INSTANCE_ROLE, MONITOR_ROLE, TASK_ROLE)]
    linked = [place.role(f"aws-service-role/{service}/{name}") for name, service in SERVICE_LINKED.items()]
    return [
        _allow(
            "Roles", *(f"iam:{what}" for what in (
                "CreateRole", "DeleteRole", "DeleteRolePolicy", "GetRole", "GetRolePolicy",
                "ListAttachedRolePolicies", "ListInstanceProfilesForRole", "ListRolePolicies", "PutRolePolicy",
                "TagRole", "UpdateAssumeRolePolicy")),
            on=[*roles, *linked],
        ),
        _allow(
            "Profile", *(f"iam:{what}" for what in (
                "AddRoleToInstanceProfile", "CreateInstanceProfile", "DeleteInstanceProfile", "GetInstanceProfile",
                "RemoveRoleFromInstanceProfile", "TagInstanceProfile")),
            on=place.profile(INSTANCE_ROLE),
        ),
        _allow("ServiceLinkedRoles", "iam:CreateServiceLinkedRole", on=linked),
        # Adding a role to an instance profile passes it, with no service to name.
        _allow("PassRoles", "iam:PassRole", on=[place.role(INSTANCE_ROLE), place.role(MONITOR_ROLE)]),
    ]  # fmt: skip


def export_statements(place: Place, bucket: str) -> list[dict[str, Any]]:
    """The statements of the bucket's own policy that let CloudWatch Logs export to it, for this account alone.

    The region is the bucket's: logs are exported within a region. https://docs.aws.amazon.com/AmazonCloudWatch/latest/
    logs/S3ExportTasks.html
    """
    principal = {"Service": _own_in_china(f"logs.{place.region}.amazonaws.com", place)}
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


def merged(document: Document | None, ours: list[dict[str, Any]]) -> Document:
    """`document` with our statements in place of those of the same Sid; all others stay as they are."""
    document = document or {"Version": "2012-10-17", "Statement": []}
    return document | {"Statement": [*_others(document, ours), *ours]}


def without(document: Document, ours: list[dict[str, Any]]) -> Document | None:
    """`document` without our statements; None where nothing else is in it."""
    others = _others(document, ours)
    return document | {"Statement": others} if others else None


def ec2_service(place: Place) -> str:
    """EC2's name in policies."""
    return _own_in_china("ec2.amazonaws.com", place)


def _own_in_china(service: str, place: Place) -> str:
    """The name of a service that has another one in China. Not all have: Lambda, ECS's tasks and Spot Fleet do not."""
    return service + CHINA if place.partition == "aws-cn" else service


def _control_of_jobs(place: Place, buckets: list[str]) -> Document:
    groups, queues = place.arn("logs", "log-group:*"), place.arn("sqs", "*")
    return _document(
        _read_queues(place),
        # Also what was made by hand is tagged, and has no tag yet; all other rights to it begin with that tag.
        _allow("MakeQueues", "sqs:CreateQueue", "sqs:TagQueue", on=queues, when=_only_tags()),
        _allow(
            "UseQueues",
            "sqs:ChangeMessageVisibility", "sqs:DeleteQueue", "sqs:ReceiveMessage", "sqs:SendMessage",
            "sqs:SetQueueAttributes",
            on=queues, when=TAGGED,
        ),
        _allow("MakeLogs", "logs:CreateLogGroup", "logs:TagResource", on=groups, when=_only_tags()),
        _allow("SeeLogs", "logs:DescribeLogGroups"),
        _allow("SeeLogTags", "logs:ListTagsForResource", on=groups),
        _allow(
            "UseLogs",
            "logs:DeleteLogGroup", "logs:DescribeLogStreams", "logs:GetLogEvents", "logs:PutRetentionPolicy",
            on=groups, when=TAGGED,
        ),
        _export_logs(place),
        *_alarms_and_dashboard(place),
        _allow("MakeDashboard", "cloudwatch:GetDashboard", "cloudwatch:PutDashboard", on=_dashboards(place)),
        _allow(
            "UseBuckets",
            "s3:AbortMultipartUpload", "s3:GetBucketPolicy", "s3:GetObject", "s3:ListBucket", "s3:PutObject",
            on=[place.bucket(bucket, key) for bucket in buckets for key in ("", "*")],
        ),
        _allow(
            "MakeRule",
            "events:PutRule", "events:PutTargets", "events:TagResource",
            on=place.arn("events", f"rule/{RULE_PREFIX}*"),
        ),
        *_end_rule(place),
        _allow("SeeMonitor", "lambda:GetFunction", on=place.arn("lambda", f"function:{MONITOR_FUNCTION}")),
        _allow("FindLeftovers", *_LEFTOVERS, "ecs:ListClusters", "sqs:ListQueues"),
    )  # fmt: skip


def _control_of_machines(place: Place) -> Document:
    roles = [place.role(name) for name in (EXECUTION_ROLE, FLEET_ROLE, INSTANCE_ROLE, TASK_ROLE)]
    services = [ec2_service(place), "ecs-tasks.amazonaws.com", "spotfleet.amazonaws.com"]
    made_here = {"StringEquals": {"ec2:CreateAction": [
        "CreateLaunchTemplate", "CreateSecurityGroup", "RequestSpotFleet", "RunInstances",
    ]}}  # fmt: skip
    return _document(
        *_read_cluster(place, "ecs:DescribeTasks", "ecs:ListTasks"),
        _allow("MakeCluster", "ecs:CreateCluster", on=place.arn("ecs", "cluster/*")),
        _allow("MakeService", "ecs:CreateService", on=place.arn("ecs", "service/*/*Service")),
        _allow("MakeTask", "ecs:RegisterTaskDefinition", on=place.arn("ecs", "task-definition/*Task:*")),
        _allow("SeeTask", "ecs:DescribeTaskDefinition"),
        _allow("TagEcs", "ecs:TagResource", when={"Null": {"ecs:CreateAction": "false"}}),
        *_end_cluster(place),
        _allow("SeeEc2", *(f"ec2:Describe{what}" for what in _SEEN)),
        _see_fleet(place),
        _allow("RequestFleet", "ec2:RequestSpotFleet", "ec2:RunInstances", on=_to_start(place)),
        _allow("TagEc2", "ec2:CreateTags", on=place.arn("ec2", "*/*"), when=made_here),
        _allow(
            "MakeSecurityGroup", "ec2:CreateSecurityGroup",
            on=[place.arn("ec2", "security-group/*"), place.arn("ec2", "vpc/*")],
        ),
        _allow("MakeLaunchTemplate", "ec2:CreateLaunchTemplate", on=place.arn("ec2", "launch-template/*")),
        _allow("AddVersion", "ec2:CreateLaunchTemplateVersion", on=place.arn("ec2", "launch-template/*"), when=TAGGED),
        *_end_fleet(place),
        _pass(roles, services),
        _allow("SeeRoles", "iam:GetInstanceProfile", "iam:GetRole", on=[*roles, place.profile(INSTANCE_ROLE)]),
        _allow(
            "SeeEcsImage", "ssm:GetParameter",
            on=f"arn:{place.partition}:ssm:*:*:parameter/aws/service/ecs/optimized-ami/*",
        ),
        _allow(
            "SeeWorkerImage", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer", on=place.arn("ecr", "repository/*"),
        ),
        _allow("SeeQuotas", "servicequotas:GetServiceQuota"),
    )  # fmt: skip


def _others(document: Document, ours: list[dict[str, Any]]) -> list[dict[str, Any]]:
    sids = {statement["Sid"] for statement in ours}
    return [statement for statement in listed(document.get("Statement")) if statement.get("Sid") not in sids]


def _document(*statements: dict[str, Any]) -> Document:
    return {"Version": "2012-10-17", "Statement": list(statements)}


def _allow(sid: str, *actions: str, on: str | list[str] = "*", when: dict[str, Any] | None = None) -> dict[str, Any]:
    statement: dict[str, Any] = {"Sid": sid, "Effect": "Allow", "Action": list(actions), "Resource": on}
    return statement | {"Condition": when} if when else statement


def _only_tags() -> dict[str, Any]:
    return {"ForAllValues:StringEquals": {"aws:TagKeys": CONTROL_TAGS}}


def _pass(roles: list[str], services: list[str]) -> dict[str, Any]:
    return _allow("PassRoles", "iam:PassRole", on=roles, when={"StringEquals": {"iam:PassedToService": services}})


def _pull_and_log(place: Place) -> list[dict[str, Any]]:
    pull = ("ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer")
    return [
        _allow("LogInToEcr", "ecr:GetAuthorizationToken"),
        _allow("PullImage", *pull, on=place.arn("ecr", "repository/*")),
        _write_logs(place),
    ]


def _write_logs(place: Place) -> dict[str, Any]:
    return _allow(
        "WriteLogs", "logs:CreateLogStream", "logs:PutLogEvents", on=place.arn("logs", "log-group:*"), when=TAGGED
    )


def _export_logs(place: Place) -> dict[str, Any]:
    return _allow("ExportLogs", "logs:CreateExportTask", on=place.arn("logs", "log-group:*"), when=TAGGED)


def _to_start(place: Place) -> list[str]:
    """What a fleet and its machines are started from, and become; images and their snapshots may be public."""
    kinds = (
        "instance", "key-pair", "launch-template", "network-interface", "placement-group", "security-group",
        "spot-fleet-request", "spot-instances-request", "subnet", "volume",
    )  # fmt: skip
    anybodys = [f"arn:{place.partition}:ec2:*:*:{kind}/*" for kind in ("image", "snapshot")]
    return [*anybodys, *(place.arn("ec2", f"{kind}/*") for kind in kinds)]


def _see_fleet(place: Place) -> dict[str, Any]:
    """Without a tag: a fleet that EC2 has forgotten has none."""
    calls = ("ec2:DescribeSpotFleetInstances", "ec2:DescribeSpotFleetRequestHistory")
    return _allow("SeeFleet", *calls, on=place.arn("ec2", "spot-fleet-request/*"))


def _read_queues(place: Place) -> dict[str, Any]:
    """Without a tag: a queue that does not exist has none, and must be told from one that is forbidden."""
    return _allow(
        "SeeQueues",
        "sqs:GetQueueAttributes", "sqs:GetQueueUrl", "sqs:ListDeadLetterSourceQueues", "sqs:ListQueueTags",
        on=place.arn("sqs", "*"),
    )  # fmt: skip


def _read_cluster(place: Place, *more: str) -> list[dict[str, Any]]:
    things = [place.arn("ecs", f"{kind}/*") for kind in ("cluster", "container-instance", "service", "task")]
    return [
        _allow(
            "SeeCluster",
            "ecs:DescribeClusters", "ecs:DescribeContainerInstances", "ecs:DescribeServices",
            "ecs:ListContainerInstances", *more,
            on=things,
        ),
        _allow("ListEcs", "ecs:ListServices", "ecs:ListTaskDefinitions"),
    ]  # fmt: skip


def _end_cluster(place: Place) -> list[dict[str, Any]]:
    return [
        _allow(
            "EndService", "ecs:DeleteCluster", "ecs:DeleteService", "ecs:UpdateService",
            on=[place.arn("ecs", "cluster/*"), place.arn("ecs", "service/*/*Service")], when=TAGGED,
        ),
        _allow("EndTask", "ecs:DeregisterTaskDefinition"),  # AWS knows no narrower right
        # Machines carry the app's tag in EC2, but not in ECS.
        _allow("DrainMachines", "ecs:UpdateContainerInstancesState", on=place.arn("ecs", "container-instance/*/*")),
    ]  # fmt: skip


def _end_fleet(place: Place) -> list[dict[str, Any]]:
    fleets = place.arn("ec2", "spot-fleet-request/*")
    return [
        _allow("EndFleet", "ec2:CancelSpotFleetRequests", "ec2:ModifySpotFleetRequest", on=fleets, when=TAGGED),
        _allow("EndMachines", "ec2:TerminateInstances", on=place.arn("ec2", "instance/*"), when=TAGGED),
        _allow("EndVolumes", "ec2:DeleteVolume", on=place.arn("ec2", "volume/*"), when=TAGGED),
        _allow("EndLaunchTemplate", "ec2:DeleteLaunchTemplate", on=place.arn("ec2", "launch-template/*"), when=TAGGED),
    ]


def _alarms_and_dashboard(place: Place) -> list[dict[str, Any]]:
    return [
        _allow("SeeAlarms", "cloudwatch:DescribeAlarms", on=place.arn("cloudwatch", "alarm:*")),
        _allow("EndAlarms", "cloudwatch:DeleteAlarms", on=place.arn("cloudwatch", "alarm:*_i-*")),
        _allow("SeeDashboards", "cloudwatch:ListDashboards"),
        _allow("EndDashboard", "cloudwatch:DeleteDashboards", on=_dashboards(place)),
    ]


def _dashboards(place: Place) -> str:
    return place.arn("cloudwatch", "dashboard/*", region="")


def _end_rule(place: Place) -> list[dict[str, Any]]:
    rules = place.arn("events", f"rule/{RULE_PREFIX}*")
    return [_allow("EndRule", "events:DeleteRule", "events:RemoveTargets", on=rules)]
