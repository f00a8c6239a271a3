"""What the policies allow on purpose although it is not ours, with the reason.

Every other foreign counterpart of a request must be denied. See `foreign.py` for the changes.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.support.rights.evaluator import matches
from tests.support.rights.foreign import ACCOUNT, KIND, MADE_BY, SHARED, UNTAGGED, Counterpart
from tests.support.scenario import ACCOUNT as SCENARIO_ACCOUNT
from tests.support.scenario import ADMINISTRATOR, CONTAINER, MONITOR, USER

MACHINE, EXECUTION, FLEET = "the ECS agent", "ECS, to start a container", "Spot Fleet"
OUR_ACCOUNT = SCENARIO_ACCOUNT.account_id


@dataclass(frozen=True)
class Breadth:
    """Foreign requests that are allowed: the changes, patterns of the actions, and patterns of the resources' ARNs.

    `logins`: none means all.
    """

    reason: str
    changes: tuple[str, ...]
    actions: tuple[str, ...]
    logins: tuple[str, ...] = ()
    resources: tuple[str, ...] = ("*",)

    def includes(self, login: str, counterpart: Counterpart) -> bool:
        """Return whether the entry is about this request."""
        return (
            counterpart.change in self.changes
            and (not self.logins or login in self.logins)
            and any(matches(counterpart.request.action, pattern) for pattern in self.actions)
            and any(matches(counterpart.request.resource, pattern) for pattern in self.resources)
        )


_READ_CLUSTER = ("ecs:Describe*", "ecs:GetTaskProtection", "ecs:ListContainerInstances")
_LAUNCH_KINDS = ("image", "security-group", "snapshot", "instance", "key-pair", "launch-template",
                 "network-interface", "placement-group", "spot-instances-request", "volume")  # fmt: skip
BROAD = (
    # Names
    Breadth("AWS chooses the IDs. A launch template has the ID in its ARN.",
            ("InstanceId", "VolumeId", "NetworkInterfaceId", "SpotInstanceRequestId", "SpotFleetRequestId",
             "SnapshotId", "LaunchTemplateId", "SecurityGroupId", "SubnetId", "VpcId", "ImageId"), ("ec2:*",)),
    Breadth("the same", ("ContainerInstanceId", "TaskId", "TaskDefinitionRevisionNumber"), ("ecs:*",)),
    Breadth("a user chooses the name in the config or Fleet file",
            ("ClusterName", "QueueName", "RepositoryName", "KeyPairName", "DashboardName"),
            ("ecs:*", "sqs:*", "ecr:*", "ec2:*", "cloudwatch:*")),
    Breadth("the same", ("LogGroupName", "LogStreamName"), ("logs:*",), (USER, CONTAINER, MACHINE, EXECUTION)),
    Breadth("the same", ("LogGroupName",), ("logs:CreateExportTask", "logs:GetLogEvents"), (MONITOR,)),
    Breadth("the containers' names are not known", ("LogStreamName",), ("logs:*",), (MONITOR,)),
    Breadth("to find services that other programs left in a cluster", ("ServiceName",), ("ecs:DescribeServices",)),
    Breadth("setupAWS does not know the key before it asks", ("KeyId",), ("kms:DescribeKey",)),
    Breadth("reading quotas and AWS's own public parameters is harmless",
            (ACCOUNT, "QuotaCode", "ServiceCode"), ("servicequotas:GetServiceQuota", "ssm:GetParameter")),
    Breadth("jobs read and write anywhere in the buckets", ("ObjectName/1", "ObjectName/2"),
            ("s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload"), (USER, CONTAINER)),
    Breadth("it serves every app", ("ObjectName/2",), ("s3:GetObject", "s3:PutObject"), (MONITOR,)),
    Breadth("IAM's limit for the length of a policy", ("BucketName",), ("s3:DeleteObject",), (USER,)),
    # Kinds: AWS checks an action only on the kinds of resources that it supports.
    Breadth("several actions of one statement need different kinds", (KIND,), ("ec2:RequestSpot*", "ec2:RunInstances"),
            resources=tuple(f"*:{kind}/*" for kind in _LAUNCH_KINDS)),
    Breadth("the same", (KIND,), ("ec2:RunInstances",), (USER,), ("*:spot-fleet-request/*",)),
    Breadth("the same", (KIND,), _READ_CLUSTER, (USER, MONITOR),
            resources=tuple(f"*:{kind}/*" for kind in ("cluster", "container-instance", "service", "task"))),
    Breadth("the same", (KIND,), ("ecs:DeleteService", "ecs:UpdateService"), resources=("*:cluster/*",)),
    Breadth("log streams are parts of log groups", (KIND,), ("logs:*",), (USER, CONTAINER, MACHINE, EXECUTION),
            ("*:log-group:*",)),
    Breadth("the same", (KIND,), ("logs:CreateExportTask", "logs:GetLogEvents"), (MONITOR,), ("*:log-group:*",)),
    Breadth("the condition on CreateAction limits it to what the user's calls create", (KIND,),
            ("ec2:CreateTags", "ecs:TagResource"), (USER,), (f"*:{OUR_ACCOUNT}:*",)),
    Breadth("the same", ("ServiceName", "TaskDefinitionFamilyName"), ("ecs:TagResource",), (USER,)),
    Breadth("a Fleet file may tag all kinds that a launch creates", (KIND,), ("ec2:CreateTags",), (FLEET,),
            ("*:network-interface/*", "*:spot-instances-request/*")),
    # Other accounts
    Breadth("another account may share its network", (ACCOUNT,),
            ("ec2:RequestSpot*", "ec2:RunInstances"), resources=("*:subnet/*", "*:security-group/*")),
    Breadth("the same", (ACCOUNT,), ("ec2:CreateSecurityGroup",), resources=("*:vpc/*",)),
    # Tags of the resource
    Breadth("what does not exist has no tags, and would be denied instead of reported as missing",
            (UNTAGGED, SHARED),
            ("ec2:DescribeSpotFleet*", "ecs:Describe*", "ecs:ListContainerInstances", "sqs:Get*", "sqs:List*")),
    Breadth("to find out the tags", (UNTAGGED,), ("logs:ListTagsForResource",)),
    Breadth("a failed job is sent to a dead-letter queue that apps share", (SHARED,), ("sqs:SendMessage",),
            (CONTAINER,)),
    Breadth("the security groups and templates of a Fleet file are the user's own", (UNTAGGED, MADE_BY),
            ("ec2:RequestSpotFleet", "ec2:RunInstances"),
            resources=("*:launch-template/*", "*:security-group/*", "*:instance/*")),
    Breadth("the name is ours", (UNTAGGED, MADE_BY),
            ("logs:DeleteLogGroup", "logs:ListTagsForResource", "logs:PutRetentionPolicy"), (ADMINISTRATOR,)),
    # Keys of the request
    Breadth("any tags are harmless on what may be created or has a name of ours", ("aws:TagKeys",),
            ("ec2:*", "ecs:*", "events:*", "iam:*", "lambda:*", "cloudwatch:*")),
    Breadth("the same", ("aws:TagKeys",), ("logs:*", "sns:*"), (ADMINISTRATOR,)),
    Breadth("whatever creates it; the user may create nothing else", ("ecs:CreateAction",), ("ecs:TagResource",)),
    Breadth("AWS does not say whether Spot Fleet tags machines when it launches them or later",
            ("ec2:CreateAction", "no ec2:CreateAction"), ("ec2:CreateTags",), (FLEET,)),
    Breadth("an alarm without an action does nothing", ("no cloudwatch:AlarmActions",), ("cloudwatch:PutMetricAlarm",)),
    Breadth("the role's ARN contains the service", ("iam:AWSServiceName", "no iam:AWSServiceName"),
            ("iam:CreateServiceLinkedRole",)),
)  # fmt: skip

# Resources of a statement that no request of a rehearsal needs, by the statement's Sid
NOT_REHEARSED = {
    ("RequestFleet", "placement-group"): "only if a Fleet file names a placement group",
    ("Start", "placement-group"): "the same",
    ("TagMachines", "network-interface"): "only if a Fleet file tags network interfaces",
    ("TagMachines", "spot-instances-request"): "only if a Fleet file tags the requests of its machines",
}
