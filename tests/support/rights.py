"""Which rights the code needs, read from its calls; and what policies allow, judged as IAM does.

No emulator judges conditions (moto denies every statement that has one), and none knows all of these calls; so the
calls are found in the source, and the policies are read by a small judge that knows what our policies use.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import botocore.session
from botocore import xform_name

from distributed_something.account.user_policies import SERVICE_LINKED_ROLES
from tests.support.paths import ROOT

PACKAGE = ROOT / "distributed_something"
# What a client is called in the code, without leading underscores.
_CLIENTS = {
    "sqs": "sqs", "ecs": "ecs", "ec2": "ec2", "s3": "s3", "s3_client": "s3", "logs": "logs", "logs_client": "logs",
    "cloudwatch": "cloudwatch", "iam": "iam", "sts": "sts", "ssm": "ssm", "lambda_": "lambda", "events": "events",
    "ecr": "ecr", "service_quotas": "service-quotas", "quotas": "service-quotas", "pricing": "pricing", "aws": "logs",
}  # fmt: skip
_PREFIXES = {"service-quotas": "servicequotas"}
_OTHERWISE_NAMED = {  # calls whose right has another name
    "s3:ListObjectsV2": "s3:ListBucket", "s3:HeadBucket": "s3:ListBucket", "s3:HeadObject": "s3:GetObject",
    "s3:CreateMultipartUpload": "s3:PutObject", "s3:UploadPart": "s3:PutObject",
    "s3:CompleteMultipartUpload": "s3:PutObject", "s3:GetBucketLifecycleConfiguration": "s3:GetLifecycleConfiguration",
    "s3:PutBucketLifecycleConfiguration": "s3:PutLifecycleConfiguration",
    "s3:DeleteBucketLifecycle": "s3:PutLifecycleConfiguration", "sqs:SendMessageBatch": "sqs:SendMessage",
    "sqs:DeleteMessageBatch": "sqs:DeleteMessage",
    "sqs:ChangeMessageVisibilityBatch": "sqs:ChangeMessageVisibility",
}  # fmt: skip
_TRANSFERS = {"upload_file": "s3:PutObject", "download_file": "s3:GetObject", "upload_fileobj": "s3:PutObject"}
_FREE = {"sts:GetCallerIdentity"}  # allowed whatever the policies say
_operations: dict[str, dict[str, str]] = {}


def modules_of(*packages: str) -> list[Path]:
    """The source files of these packages of `distributed_something`."""
    return [path for package in packages for path in sorted((PACKAGE / package).rglob("*.py"))]


def needed(paths: Iterable[Path]) -> dict[str, str]:
    """Every right that the calls in these files need, and a file and line where."""
    found: dict[str, str] = {}
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text())):
            if right := _right(node):
                found.setdefault(right, f"{path.name}:{getattr(node, 'lineno', 0)}")
    return {right: where for right, where in found.items() if right not in _FREE}


def needed_from(start: str) -> dict[str, str]:
    """As `needed`, of all that can be reached from the functions of the module `start`.

    Names are followed within their module and through its imports; who reaches a class reaches all its methods.
    """
    trees = {path: ast.parse(path.read_text()) for path in sorted(PACKAGE.rglob("*.py"))}
    modules = {".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts): tree for path, tree in trees.items()}
    defined = {name: _definitions(tree) for name, tree in modules.items()}
    imported = {name: _imports(tree) for name, tree in modules.items()}
    waiting = [(start, name) for name in defined[start]]
    seen = set(waiting)
    found: dict[str, str] = {}
    while waiting:
        module, name = waiting.pop()
        for node in ast.walk(defined[module][name]):
            if right := _right(node):
                found.setdefault(right, f"{module}.{name}")
            if isinstance(node, ast.Name):
                home, original = imported[module].get(node.id, (module, node.id))
                if original in defined.get(home, {}) and (home, original) not in seen:
                    seen.add((home, original))
                    waiting.append((home, original))
    return {right: where for right, where in found.items() if right not in _FREE}


def _definitions(tree: ast.Module) -> dict[str, ast.AST]:
    """What a module defines: functions, classes, and what is assigned to a name."""
    found: dict[str, ast.AST] = {}
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found[node.name] = node
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {target.id: node for target in targets if isinstance(target, ast.Name)}
    return found


def _imports(tree: ast.Module) -> dict[str, tuple[str, str]]:
    """Each imported name, with the module that it is from and its name there."""
    return {
        alias.asname or alias.name: (node.module or "", alias.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


def _right(node: ast.AST) -> str | None:
    if call := _call(node):
        return _TRANSFERS.get(call[1]) or action_of(*call)
    return None


def _call(node: ast.AST) -> tuple[str, str] | None:
    """Service and operation of `client.call`, of `client.get_paginator("call")`, and of `look("describe_subnets")`,
    which asks EC2."""
    if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
        named = str(node.args[0].value)
        if _is_paginator(node):
            node = ast.Attribute(node.func.value, named)  # type: ignore[attr-defined]
        elif operation := _calls_of("ec2").get(named):
            return "ec2", operation
    if not isinstance(node, ast.Attribute):
        return None
    base = node.value
    client = base.attr if isinstance(base, ast.Attribute) else base.id if isinstance(base, ast.Name) else ""
    service = _CLIENTS.get(client.lstrip("_"))
    if service is None:
        return None
    if service == "s3" and node.attr in _TRANSFERS:
        return service, node.attr
    operation = _calls_of(service).get(node.attr)
    return (service, operation) if operation else None


def _is_paginator(node: ast.Call) -> bool:
    return isinstance(node.func, ast.Attribute) and node.func.attr == "get_paginator"


def called(paths: Iterable[Path]) -> dict[str, tuple[str, str]]:
    """Every call in these files, «sqs.get_queue_url», with the operation and a file and line where."""
    found: dict[str, tuple[str, str]] = {}
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text())):
            if call := _call(node):
                service, operation = call
                where = f"{path.name}:{getattr(node, 'lineno', 0)}"
                found.setdefault(f"{service}.{xform_name(operation)}", (operation, where))
    return found


def _calls_of(service: str) -> dict[str, str]:
    if service not in _operations:
        model = botocore.session.get_session().get_service_model(service)
        _operations[service] = {xform_name(name): name for name in model.operation_names}
    return _operations[service]


def allows(documents: Iterable[Mapping[str, Any]], action: str, resource: str, **context: Any) -> bool:
    """Whether one of the documents allows it. `context`: condition keys, `:` and `/` written `__` and `___`, each a
    text or a list of texts."""
    keys = {name.replace("___", "/").replace("__", ":"): value for name, value in context.items()}
    statements = [one for document in documents for one in document["Statement"]]
    return any(
        one["Effect"] == "Allow"
        and action in one["Action"]
        and any(fnmatchcase(resource, pattern) for pattern in _list(one["Resource"]))
        and all(_holds(test, tested, keys) for test, tested in one.get("Condition", {}).items())
        for one in statements
    )


def _holds(test: str, tested: Mapping[str, Any], keys: Mapping[str, Any]) -> bool:
    for key, wanted in tested.items():
        has = _list(keys.get(key, []))
        if test == "Null":
            if (not has) != (wanted == "true"):
                return False
            continue
        quantifier, _, test_name = test.rpartition(":")
        assert test_name in ("StringEquals", "StringLike", "ArnLike"), f"the judge does not know {test}"
        matches = [any(_like(value, one, test_name) for one in _list(wanted)) for value in has]
        if not (all(matches) if quantifier == "ForAllValues" else any(matches)):
            return False
    return True


def _like(value: str, pattern: str, test: str) -> bool:
    return (
        value == pattern
        if test == "StringEquals"
        else bool(re.fullmatch(re.escape(pattern).replace(r"\*", ".*"), value))
    )


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


# What single requests need: on which things, and what IAM knows of them


def action_of(service: str, operation: str) -> str:
    """The right that a call needs. `service`: as boto3 names it."""
    right = f"{_PREFIXES.get(service, service)}:{operation}"
    return _OTHERWISE_NAMED.get(right, right)


def resources_of(
    place: Any, service: str, operation: str, parameters: Mapping[str, Any]
) -> list[tuple[str, dict[str, Any]]]:
    """The ARNs that a request is about, each with its context; «*» where AWS knows no narrower one.

    Things that a run has made carry the tag `app`: `test_least_privilege` holds that the calls that make them say so.
    """
    parameters = dict(parameters)
    tagged: dict[str, Any] = {"aws__ResourceTag___app": "App"}
    asked = tag_keys(parameters)
    if operation in _MAKING:
        context: dict[str, Any] = {"aws__TagKeys": asked}
    else:
        context = tagged | ({"aws__TagKeys": asked} if asked else {})
    context |= {"cloudwatch__AlarmActions": parameters["AlarmActions"]} if "AlarmActions" in parameters else {}
    if (service, operation) == ("ec2", "DeleteSecurityGroup"):
        context = {"aws__ResourceTag___made-by": "distributed-something"}
    found = list(_arns(place, service, operation, parameters))
    return [(arn, context) for arn in found or ["*"]]


# What these are about carries no tag yet: it is being made, or was made by hand and gets its first.
_MAKING = {"CreateQueue", "CreateLogGroup", "CreateCluster", "CreateService", "RequestSpotFleet", "PutRule",
           "CreateLaunchTemplate", "CreateSecurityGroup", "RegisterTaskDefinition", "PutMetricAlarm",
           "TagQueue", "TagResource"}  # fmt: skip
# Calls that AWS lets nobody narrow, or that are about everything.
_ABOUT_ALL = {"DescribeLogGroups", "ListDashboards", "ListTaskDefinitions", "DescribeTaskDefinition", "ListClusters",
              "DeregisterTaskDefinition", "ListServices", "ListQueues", "GetServiceQuota", "GetCallerIdentity",
              "ListRules", "ListRuleNamesByTarget"}  # fmt: skip
_OF_EC2 = {
    "InstanceIds": "instance", "SpotFleetRequestIds": "spot-fleet-request", "SpotFleetRequestId": "spot-fleet-request",
    "VolumeId": "volume", "LaunchTemplateId": "launch-template", "GroupId": "security-group",
}  # fmt: skip
_BY_PREFIX = {"i": "instance", "vol": "volume", "sg": "security-group", "lt": "launch-template"}


def tag_keys(parameters: Mapping[str, Any]) -> list[str]:
    found = parameters.get("tags", parameters.get("Tags"))
    if isinstance(found, dict):
        return list(found)
    groups = [tag for one in parameters.get("TagSpecifications", ()) for tag in one["Tags"]]
    return [tag.get("Key", tag.get("key")) for tag in found or groups]


def _arns(place: Any, service: str, operation: str, parameters: Mapping[str, Any]) -> Iterable[str]:
    if operation in _ABOUT_ALL:
        return []
    makers = {
        "sqs": _of_sqs, "s3": _of_s3, "logs": _of_logs, "ecs": _of_ecs, "ec2": _of_ec2, "cloudwatch": _of_cloudwatch,
        "events": _of_events, "lambda": _of_lambda, "iam": _of_iam, "ssm": _of_ssm, "ecr": _of_ecr,
    }  # fmt: skip
    return makers[service](lambda kind, name: place.arn(kind, name, place.region), operation, parameters)


def _of_sqs(arn: Any, operation: str, parameters: Mapping[str, Any]) -> Iterable[str]:
    yield arn("sqs", parameters.get("QueueName") or parameters["QueueUrl"].rsplit("/", 1)[-1])


def _of_s3(arn: Any, operation: str, parameters: Mapping[str, Any]) -> Iterable[str]:
    yield f"arn:aws:s3:::{parameters['Bucket']}" + (f"/{parameters['Key']}" if "Key" in parameters else "")


def _of_logs(arn: Any, operation: str, parameters: Mapping[str, Any]) -> Iterable[str]:
    if "resourceArn" in parameters:
        yield parameters["resourceArn"]
        return
    stream = f"log-stream:{parameters['logStreamName']}" if "logStreamName" in parameters else "*"
    yield arn("logs", f"log-group:{parameters.get('logGroupName', '')}:{stream}")


def _of_ecs(arn: Any, operation: str, parameters: Mapping[str, Any]) -> Iterable[str]:
    cluster = parameters.get("cluster", parameters.get("clusterName", ""))
    if operation == "RegisterTaskDefinition":
        yield arn("ecs", f"task-definition/{parameters['family']}:1")
    elif operation in ("CreateService", "UpdateService", "DeleteService"):
        yield arn("ecs", f"service/{cluster}/{parameters.get('serviceName', parameters.get('service'))}")
    elif operation == "DescribeServices":
        yield from (arn("ecs", f"service/{cluster}/{name}") for name in parameters["services"])
    elif "containerInstances" in parameters:
        yield from parameters["containerInstances"]
    elif "tasks" in parameters:
        yield from parameters["tasks"]
    else:
        names = parameters.get("clusters", [cluster])
        yield from (name if name.startswith("arn:") else arn("ecs", f"cluster/{name}") for name in names)


def _of_ec2(arn: Any, operation: str, parameters: Mapping[str, Any]) -> Iterable[str]:
    if operation == "CreateTags":
        yield from (arn("ec2", f"{_BY_PREFIX[one.split('-')[0]]}/{one}") for one in parameters["Resources"])
    elif operation == "RequestSpotFleet":
        yield arn("ec2", "spot-fleet-request/sfr-1")
    elif operation == "CreateSecurityGroup":
        yield from (arn("ec2", "security-group/sg-1"), arn("ec2", f"vpc/{parameters['VpcId']}"))
    elif operation == "CreateLaunchTemplate":
        yield arn("ec2", "launch-template/lt-1")
    elif not operation.startswith(("Describe", "Get")) or operation.startswith("DescribeSpotFleetRequestHistory"):
        for name, kind in _OF_EC2.items():
            ids = _list(parameters.get(name, []))
            yield from (arn("ec2", f"{kind}/{one}") for one in ids)
    elif operation == "DescribeSpotFleetInstances":
        yield arn("ec2", f"spot-fleet-request/{parameters['SpotFleetRequestId']}")


def _of_cloudwatch(arn: Any, operation: str, parameters: Mapping[str, Any]) -> Iterable[str]:
    names = _list(parameters.get("DashboardName", parameters.get("DashboardNames", [])))
    account = arn("cloudwatch", "").split(":")[4]
    yield from (f"arn:aws:cloudwatch::{account}:dashboard/{name}" for name in names)
    alarms = _list(parameters.get("AlarmName", parameters.get("AlarmNames", [])))
    yield from (arn("cloudwatch", f"alarm:{name}") for name in alarms)
    if operation == "DescribeAlarms":
        yield arn("cloudwatch", "alarm:*")


def _of_events(arn: Any, operation: str, parameters: Mapping[str, Any]) -> Iterable[str]:
    yield arn("events", f"rule/{parameters.get('Rule', parameters.get('Name'))}")


def _of_lambda(arn: Any, operation: str, parameters: Mapping[str, Any]) -> Iterable[str]:
    name = parameters["FunctionName"]
    yield name if name.startswith("arn:") else arn("lambda", f"function:{name}")


def _of_iam(arn: Any, operation: str, parameters: Mapping[str, Any]) -> Iterable[str]:
    account = arn("iam", "").split(":")[4]
    if operation == "CreateServiceLinkedRole":
        service = parameters["AWSServiceName"]
        yield f"arn:aws:iam::{account}:role/aws-service-role/{service}/{_linked_to(service)}"
    elif "InstanceProfileName" in parameters:
        yield f"arn:aws:iam::{account}:instance-profile/{parameters['InstanceProfileName']}"
    else:
        name = parameters["RoleName"]
        linked = name.startswith("AWSServiceRoleFor")
        path = f"aws-service-role/{SERVICE_LINKED_ROLES[name]}/" if linked else ""
        yield f"arn:aws:iam::{account}:role/{path}{name}"


def _linked_to(service: str) -> str:
    return next(name for name, one in SERVICE_LINKED_ROLES.items() if one == service)


def _of_ssm(arn: Any, operation: str, parameters: Mapping[str, Any]) -> Iterable[str]:
    yield f"arn:aws:ssm:us-east-1::parameter{parameters['Name']}"


def _of_ecr(arn: Any, operation: str, parameters: Mapping[str, Any]) -> Iterable[str]:
    yield arn("ecr", f"repository/{parameters['repositoryName']}")
