"""Validates requests against botocore's models and AWS's documentation, more strictly than botocore does.

The models contain patterns, enums, and limits for lengths and numbers, but neither botocore nor the emulators enforce
them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from botocore.model import Shape
from botocore.validate import validate_parameters

UNKNOWN_TO_MODELS = {"InstanceType"}  # AWS adds values before botocore's models list them

# Limits that AWS documents but botocore's models do not contain, keyed by parameter name (for a nested parameter, the
# last part of its name). A pair is the minimum and maximum of a number, of the entries in a list, or of the characters
# in a text. A string is a pattern.
_NAME, _SECONDS = r"[\w-]{1,80}", (0, 43_200)
_TAGS: dict[str, Any] = {"Key": (1, 127), "Value": (0, 256)}  # EC2's limits, in characters
DOCUMENTED: dict[str, dict[str, Any]] = {
    "sqs": {
        "QueueName": _NAME, "Id": _NAME, "Entries": (1, 10), "MaxNumberOfMessages": (1, 10),
        "VisibilityTimeout": _SECONDS, "WaitTimeSeconds": (0, 20), "MessageBody": (1, 1_048_576),
        "MessageAttributes": (0, 10), "MaxResults": (1, 1000), "QueueNamePrefix": _NAME,
        "MessageRetentionPeriod": (60, 1_209_600), "ReceiveMessageWaitTimeSeconds": (0, 20), "Tags": (0, 50),
        "tags": (0, 50),
    },
    "ec2": _TAGS | {
        "Values": (1, 200), "Filters": (0, 50), "InstanceIds": (1, 1000), "SpotFleetRequestIds": (1, 100),
        "InstanceTypes": (1, 100), "Resources": (1, 1000), "TargetCapacity": (0, 10_000), "Tags": (0, 50),
        "OnDemandTargetCapacity": (0, 10_000), "LaunchTemplateConfigs": (1, 50), "Overrides": (0, 300),
        "LaunchTemplateName": r"[a-zA-Z0-9().\-/_]{3,128}", "GroupName": (1, 255), "Description": (1, 255),
        "ClientToken": (1, 128), "UserData": (0, 21_848),  # 16 KiB, as base64
        "HttpPutResponseHopLimit": (1, 64), "Iops": (100, 80_000), "VolumeSize": (1, 65_536),
    },
    "ecs": {
        "clusterName": r"[\w-]{1,255}", "serviceName": r"[\w-]{1,255}", "family": r"[\w-]{1,255}",
        "clusters": (1, 100), "services": (1, 10), "tasks": (1, 100), "containerInstances": (1, 100),
        "tags": (0, 50), "placementConstraints": (0, 10), "expression": (1, 2000), "maxResults": (1, 100),
        "stopTimeout": (1, 1_000_000), "desiredCount": (0, 5_000), "memory": (6, 10**9),
    },
    "cloudwatch": {"EvaluationPeriods": (1, 1000), "Period": (10, 604_800)},
    "s3": {"PartNumber": (1, 10_000), "Key": (1, 1024), "Bucket": r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]",
           "MaxKeys": (1, 1000)},
    "logs": {"logEvents": (1, 10_000), "limit": (1, 10_000)},
    # limits that apply only to one operation
    "UpdateContainerInstancesStateRequest": {"containerInstances": (1, 10)},
    "DescribeInstancesRequest": {"MaxResults": (5, 1000)},
    "DescribeSpotFleetInstancesRequest": {"MaxResults": (1, 1000)},
    "DescribeSpotFleetRequestHistoryRequest": {"MaxResults": (1, 1000)},
    "DescribeLogStreamsRequest": {"limit": (1, 50)},
}  # fmt: skip


def find_request_problems(service: str, request: dict[str, Any], shape: Shape) -> list[str]:
    """Return the reasons why AWS would reject a request, one line each."""
    validate_parameters(request, shape)
    return [
        *_iter_model_problems(request, shape, shape.name),
        *_iter_documented_problems(request, DOCUMENTED.get(service, {}) | DOCUMENTED.get(shape.name, {})),
    ]


def _iter_documented_problems(value: Any, limits: dict[str, Any], name: str = "") -> Iterator[str]:
    if isinstance(limit := limits.get(name), str):
        if not re.fullmatch(limit, value):
            yield f"{name}: {value!r} does not match {limit}"
    elif limit is not None:
        size = float(value) if isinstance(value, (int, float)) or _is_numeric_attribute(name, value) else len(value)
        if not limit[0] <= size <= limit[1]:
            yield f"{name}: {size} is not between {limit[0]} and {limit[1]}"
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _iter_documented_problems(inner, limits, str(key))
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _iter_documented_problems(inner, limits)


def _is_numeric_attribute(name: str, value: Any) -> bool:
    """Return whether a value is a number written as text, as in SQS queue attributes."""
    return isinstance(value, str) and value.isdecimal() and name[0].isupper() and name != "MessageBody"


def _iter_model_problems(value: Any, shape: Any, path: str) -> Iterator[str]:
    kind = shape.type_name
    if kind == "structure":
        for name, inner in value.items():
            yield from _iter_model_problems(inner, shape.members[name], f"{path}.{name}")
    elif kind == "map":
        yield from _iter_range_problems(len(value), shape, path, "entries")
        for key, inner in value.items():
            yield from _iter_model_problems(key, shape.key, f"{path} key {key!r}")
            yield from _iter_model_problems(inner, shape.value, f"{path}.{key}")
    elif kind == "list":
        yield from _iter_range_problems(len(value), shape, path, "entries")
        for number, inner in enumerate(value):
            yield from _iter_model_problems(inner, shape.member, f"{path}[{number}]")
    elif kind == "string":
        yield from _iter_range_problems(len(value), shape, path, "characters")
        yield from _iter_text_problems(value, shape, path)
    elif kind in ("integer", "long", "float", "double"):
        yield from _iter_range_problems(value, shape, path, "")


def _iter_range_problems(value: float, shape: Shape, path: str, unit: str) -> Iterator[str]:
    minimum, maximum = shape.metadata.get("min"), shape.metadata.get("max")
    if (minimum is not None and value < minimum) or (maximum is not None and value > maximum):
        yield f"{path}: {value} {unit} is not between {minimum} and {maximum}"


def _iter_text_problems(value: str, shape: Any, path: str) -> Iterator[str]:
    enum = getattr(shape, "enum", None)
    if enum and value not in enum and shape.name not in UNKNOWN_TO_MODELS:
        yield f"{path}: {value!r} is not one of {enum}"
    pattern = shape.metadata.get("pattern")
    if pattern and not _matches(pattern, value):
        yield f"{path}: {value!r} does not match {pattern}"


def _matches(pattern: str, value: str) -> bool:
    """Return whether a value matches a Java pattern. Return True if Python cannot parse the pattern."""
    try:
        return re.fullmatch(pattern.replace(r"\p{Alnum}", "a-zA-Z0-9").replace(r"\p{Digit}", "0-9"), value) is not None
    except re.error:
        return True
