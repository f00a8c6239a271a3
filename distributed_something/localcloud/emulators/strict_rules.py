"""What AWS documents about refusals, delays, and rates, as tables for `strict.py`. Every rule names its source.

Delays: AWS says "a few seconds" or nothing. Here, they are short, so that a rehearsal takes little longer than usual;
code that survives one delay by asking again also survives a longer one. Rates are exact.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from distributed_something.localcloud.emulators.aws_requests import (
    Answer,
    AwsRequest,
    build_error,
    build_json_answer,
    build_xml_answer,
)

DELAY_SECONDS = 1.0
"""How long a change is not visible, and how long a busy resource stays busy."""

DELETED_NAME_SECONDS = 5.0
"""How long the name of a deleted queue cannot be used; on AWS, 60 seconds."""

AnswerBuilder = Callable[[AwsRequest, str], Answer]
"""Builds the answer to a request that mentions a name."""


@dataclass(frozen=True)
class Aftereffect:
    """For a while after an operation, requests that mention the same resource get a different answer.

    Operations are patterns, such as `ec2.*`. `name`: the request parameter that names the resource, or a pattern for
    its ID in the response. `only_new`: whether the operation counts only if the name was not used before or deleted.
    """

    cause: str
    name: str | re.Pattern[str]
    affected: tuple[str, ...]
    build_answer: AnswerBuilder
    source: str
    seconds: float = DELAY_SECONDS
    only_new: bool = True

    def find_name(self, request: AwsRequest, answer: Answer | None = None) -> str:
        """Return the resource's name in a request for the cause, or its ID in the answer; empty if it is in neither."""
        if isinstance(self.name, str):
            return str(request.parameters.get(self.name, "")).rsplit("/", 1)[-1]
        match = self.name.search(answer.body.decode(errors="replace")) if answer else None
        return match[0] if match else ""


def refuse(code: str, message: str) -> AnswerBuilder:
    """Return a builder for an error. `{name}` in the message is the resource's name."""
    return lambda request, name: build_error(request, code, message.format(name=name))


def report_missing(result: str) -> AnswerBuilder:
    """Return a builder for ECS's answer, with status 200, that the named resource is missing."""
    failure = {"reason": "MISSING"}
    return lambda request, name: build_json_answer({result: [], "failures": [{"arn": name, **failure}]})


def refuse_cancellation(request: AwsRequest, name: str) -> Answer:
    """Return EC2's answer, with status 200, that it did not cancel a fleet because it does not know it."""
    return build_xml_answer(
        "<CancelSpotFleetRequestsResponse><unsuccessfulFleetRequestSet><item>"
        f"<spotFleetRequestId>{name}</spotFleetRequestId><error><code>fleetRequestIdDoesNotExist</code>"
        f"<message>The fleet request {name} does not exist.</message></error>"
        "</item></unsuccessfulFleetRequestSet></CancelSpotFleetRequestsResponse>"
    )


_EC2 = "EC2 Developer Guide, Eventual consistency in the Amazon EC2 API"
_ECS = "ECS API Reference, RunTask: the ECS API follows an eventual consistency model"
_IAM = "IAM User Guide, Troubleshoot IAM: changes that I make are not always immediately visible"
_SQS = "SQS API Reference, CreateQueue: wait at least one second after the queue is created"
_LAMBDA = "Lambda Developer Guide, Lambda function states: updates fail while a function is pending"

_TEMPLATE, _GROUP, _FLEET = (re.compile(rf"\b{prefix}-[0-9a-f][0-9a-f-]+") for prefix in ("lt", "sg", "sfr"))
_DEFINITION = re.compile(r"(?<=:task-definition/)[\w-]+:\d+")
_CHANGES_TO_CLUSTER = ("ecs.CreateService", "ecs.DescribeServices", "ecs.List*", "ecs.DeleteCluster")

AFTEREFFECTS = (
    # A new resource is not found.
    Aftereffect(
        "ec2.CreateLaunchTemplate", _TEMPLATE, ("ec2.*",),
        refuse("InvalidLaunchTemplateId.NotFound", "The launch template '{name}' does not exist."), _EC2,
    ),
    Aftereffect(
        "ec2.CreateLaunchTemplateVersion", _TEMPLATE, ("ec2.RequestSpotFleet",),
        refuse("InvalidLaunchTemplateId.VersionNotFound", "Could not find the specified version of '{name}'."), _EC2,
        only_new=False,
    ),
    Aftereffect(
        "ec2.CreateSecurityGroup", _GROUP, ("ec2.*",),
        refuse("InvalidGroup.NotFound", "The security group '{name}' does not exist"), _EC2,
    ),
    Aftereffect("ec2.RequestSpotFleet", _FLEET, ("ec2.CancelSpotFleetRequests",), refuse_cancellation, _EC2),
    Aftereffect(
        "ec2.RequestSpotFleet", _FLEET, ("ec2.*",),
        refuse("InvalidSpotFleetRequestId.NotFound", "The spot fleet request ID '{name}' does not exist"), _EC2,
    ),
    Aftereffect("ecs.CreateCluster", "clusterName", ("ecs.DescribeClusters",), report_missing("clusters"), _ECS),
    Aftereffect(
        "ecs.CreateCluster", "clusterName", _CHANGES_TO_CLUSTER,
        refuse("ClusterNotFoundException", "Cluster not found."), _ECS,
    ),
    Aftereffect("ecs.CreateService", "serviceName", ("ecs.DescribeServices",), report_missing("services"), _ECS),
    Aftereffect(
        "ecs.CreateService", "serviceName", ("ecs.UpdateService", "ecs.DeleteService"),
        refuse("ServiceNotFoundException", "Service not found."), _ECS,
    ),
    Aftereffect(
        "ecs.RegisterTaskDefinition", _DEFINITION, ("ecs.CreateService", "ecs.UpdateService"),
        refuse("ClientException", "TaskDefinition not found."), _ECS,
    ),
    Aftereffect(
        "sqs.CreateQueue", "QueueName", ("sqs.CreateQueue",),
        refuse("InvalidParameterValue", "RedrivePolicy is invalid. Reason: Dead letter target does not exist."), _SQS,
    ),
    Aftereffect(
        "sqs.CreateQueue", "QueueName", ("sqs.*",),
        refuse("QueueDoesNotExist", "The specified queue does not exist."), _SQS,
    ),
    Aftereffect(
        "iam.CreateRole", "RoleName", ("iam.*",),
        refuse("NoSuchEntity", "The role with name {name} cannot be found."), _IAM,
    ),
    Aftereffect(
        "iam.CreateInstanceProfile", "InstanceProfileName", ("iam.*InstanceProfile",),
        refuse("NoSuchEntity", "Instance Profile {name} cannot be found."), _IAM,
    ),
    # A new role or instance profile cannot be used by other services.
    Aftereffect(
        "iam.CreateRole", "RoleName", ("ecs.RegisterTaskDefinition",),
        refuse("ClientException", "Role is not valid"), _IAM,
    ),
    Aftereffect(
        "iam.CreateRole", "RoleName", ("lambda.CreateFunction",),
        refuse(
            "InvalidParameterValueException", "The role defined for the function cannot be assumed by Lambda."
        ), _IAM,
    ),
    Aftereffect(
        "iam.CreateInstanceProfile", "InstanceProfileName", ("ec2.RequestSpotFleet", "ec2.CreateLaunchTemplate*"),
        refuse(
            "InvalidParameterValue",
            "Value ({name}) for parameter iamInstanceProfile.name is invalid. Invalid IAM Instance Profile name",
        ), _IAM,
    ),
    # A resource is still busy with the last change.
    Aftereffect(
        "ec2.ModifySpotFleetRequest", "SpotFleetRequestId", ("ec2.ModifySpotFleetRequest",),
        refuse("FleetNotInModifiableState", "Fleet Request: {name} is in modifying state."),
        "EC2 User Guide, Modify a Spot Fleet request: the state is modifying until the change is made", only_new=False,
    ),
    Aftereffect(
        "logs.CreateLogGroup", "logGroupName", ("logs.PutRetentionPolicy", "logs.TagResource"),
        refuse("OperationAbortedException", "A conflicting operation is currently in progress against this resource."),
        "CloudWatch Logs API Reference, PutRetentionPolicy: OperationAbortedException",
    ),
    Aftereffect(
        "lambda.CreateFunction", "FunctionName", ("lambda.UpdateFunction*",),
        refuse("ResourceConflictException", "The function is currently in the following state: Pending"), _LAMBDA,
    ),
    Aftereffect(
        "lambda.UpdateFunctionCode", re.compile(r"(?<=:function:)[\w-]+"), ("lambda.UpdateFunctionConfiguration",),
        refuse("ResourceConflictException", "An update is in progress for resource: {name}"), _LAMBDA, only_new=False,
    ),
    # A deleted queue's name cannot be used again.
    Aftereffect(
        "sqs.DeleteQueue", "QueueUrl", ("sqs.CreateQueue",),
        refuse("QueueDeletedRecently", "You must wait 60 seconds after deleting a queue before you can create another"),
        "SQS API Reference, DeleteQueue: you must wait at least 60 seconds", DELETED_NAME_SECONDS, only_new=False,
    ),
)  # fmt: skip


@dataclass(frozen=True)
class StaleReads:
    """A service's reads that may return what they returned before the last change, and the changes."""

    reads: tuple[str, ...]
    changes: tuple[str, ...]
    source: str


def _match_names(service: str, *names: str) -> tuple[str, ...]:
    return tuple(f"{service}.{name}" for name in names)


STALE_READS = {
    "ec2": StaleReads(
        _match_names("ec2", "Describe*"),
        _match_names("ec2", "Create*", "Delete*", "Modify*", "Cancel*", "Terminate*", "Request*"),
        _EC2,
    ),
    "ecs": StaleReads(
        _match_names("ecs", "Describe*", "List*"),
        _match_names("ecs", "Create*", "Delete*", "Update*", "Register*", "Deregister*"),
        _ECS,
    ),
    "iam": StaleReads(
        _match_names("iam", "Get*", "List*"),
        _match_names("iam", "Create*", "Delete*", "Put*", "Attach*", "Add*", "Update*"),
        _IAM,
    ),
    "sqs": StaleReads(
        _match_names("sqs", "ListQueues", "GetQueueUrl", "GetQueueAttributes", "ListQueueTags"),
        _match_names("sqs", "CreateQueue", "DeleteQueue", "SetQueueAttributes", "TagQueue"),
        "SQS API Reference, DeleteQueue and SetQueueAttributes: up to 60 seconds",
    ),
}


@dataclass(frozen=True)
class Rate:
    """A token bucket that some operations share in each region: its size, and how many tokens it gains per second."""

    operations: tuple[str, ...]
    size: float
    per_second: float


def _rate_each(per_second: float, *operations: str) -> tuple[Rate, ...]:
    """Return a bucket for each operation, for a service that documents only a rate."""
    return tuple(Rate((operation,), per_second, per_second) for operation in operations)


# The first bucket with the operation counts. `*` in an EC2 operation means a bucket for each of these operations.
RATES: tuple[Rate, ...] = (
    # ECS Developer Guide, Request throttling for the Amazon ECS API
    Rate(("ecs.CreateCluster", "ecs.DeleteCluster", "ecs.UpdateCluster"), 20, 1),
    Rate(("ecs.DescribeClusters", "ecs.ListClusters"), 50, 20),
    Rate(("ecs.RegisterTaskDefinition", "ecs.DeregisterTaskDefinition"), 20, 1),
    Rate(("ecs.DescribeTaskDefinition", "ecs.ListTaskDefinitions", "ecs.ListTaskDefinitionFamilies"), 50, 20),
    Rate(("ecs.TagResource", "ecs.UntagResource"), 20, 10),
    Rate(("ecs.ListTagsForResource",), 50, 20),
    Rate(("ecs.StopTask", "ecs.UpdateContainerInstancesState", "ecs.DeregisterContainerInstance"), 100, 40),
    Rate(("ecs.DescribeContainerInstances", "ecs.ListContainerInstances", "ecs.*Tasks"), 100, 20),
    Rate(("ecs.CreateService", "ecs.DeleteService", "ecs.UpdateService"), 50, 5),
    Rate(("ecs.DescribeServices", "ecs.ListServices"), 100, 20),
    Rate(("ecs.GetTaskProtection", "ecs.UpdateTaskProtection"), 200, 80),
    # CloudWatch User Guide, CloudWatch service quotas
    *_rate_each(3, "monitoring.PutMetricAlarm", "monitoring.DeleteAlarms", "monitoring.SetAlarmState"),
    *_rate_each(9, "monitoring.DescribeAlarms"),
    *_rate_each(10, *(f"monitoring.{name}" for name in (
        "PutDashboard", "GetDashboard", "ListDashboards", "DeleteDashboards",
    ))),
    *_rate_each(25, "monitoring.ListMetrics"),
    *_rate_each(50, "monitoring.GetMetricData"),
    *_rate_each(400, "monitoring.GetMetricStatistics"),
    *_rate_each(500, "monitoring.PutMetricData"),
    # CloudWatch Logs User Guide, CloudWatch Logs quotas; API Reference, DescribeLogStreams
    *_rate_each(5, "logs.FilterLogEvents"),
    *_rate_each(10, "logs.GetLogEvents"),
    *_rate_each(25, "logs.DescribeLogStreams"),
    # EC2 Developer Guide, Request throttling for the Amazon EC2 API: each operation has a bucket of its own
    Rate(("ec2.RunInstances",), 5, 2),
    Rate(("ec2.DescribeSpotFleetRequests",), 50, 3),
    Rate(("ec2.DescribeSpotFleetInstances",), 100, 5),
    Rate(("ec2.DescribeSpotFleetRequestHistory",), 100, 5),
    Rate(("ec2.CreateLaunchTemplateVersion",), 100, 5),
    Rate(("ec2.CreateTags",), 100, 10),
    Rate(("ec2.DeleteTags",), 100, 10),
    Rate(("ec2.TerminateInstances",), 100, 5),
    Rate(("ec2.DeleteVolume",), 100, 5),
    Rate(("ec2.Describe*", "ec2.Get*"), 100, 20),
    Rate(("ec2.*",), 50, 5),
)  # fmt: skip

# Without a filter and without pages, these EC2 operations have a smaller bucket (same source).
_UNFILTERED_NAMES = ("Instances", "InstanceStatus", "NetworkInterfaces", "SecurityGroups", "Snapshots", "Volumes")
UNFILTERED_RATE = Rate(tuple(f"ec2.Describe{name}" for name in _UNFILTERED_NAMES), 50, 10)

# Lists whose pages may be empty although there are more: the key of the list, and the keys of the tokens in the
# response. Sources: ECS API Reference, ListTasks: a page may hold fewer results than maxResults; CloudWatch Logs API
# Reference, GetLogEvents and FilterLogEvents: a page may be empty.
EMPTY_PAGES = {
    "ecs.ListTasks": ("taskArns", ("nextToken",)),
    "ecs.ListServices": ("serviceArns", ("nextToken",)),
    "ecs.ListClusters": ("clusterArns", ("nextToken",)),
    "ecs.ListContainerInstances": ("containerInstanceArns", ("nextToken",)),
    "ecs.ListTaskDefinitions": ("taskDefinitionArns", ("nextToken",)),
    "ecs.ListTaskDefinitionFamilies": ("families", ("nextToken",)),
    "logs.GetLogEvents": ("events", ("nextForwardToken", "nextBackwardToken")),
    "logs.FilterLogEvents": ("events", ("nextToken",)),
}

PARTIAL_FAILURE_INTERVAL = 10
"""One batch in ten fails in part, beginning with the first."""

REFUSED_PROTECTION_RATE = 0.1
"""Share of the containers' requests for scale-in protection that ECS refuses because a deployment is blocked."""
