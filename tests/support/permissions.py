"""Finds the permissions that the code needs by reading its source, and evaluates policies as IAM does.

No emulator evaluates conditions (moto denies every statement with a condition), and none supports all calls that the
code makes. This module therefore finds the calls in the source code, and its small evaluator supports the features that
our policies use.
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
# Services, keyed by the names of their clients in the code, without leading underscores.
_CLIENTS = {
    "sqs": "sqs", "ecs": "ecs", "ec2": "ec2", "s3": "s3", "s3_client": "s3", "logs": "logs", "logs_client": "logs",
    "cloudwatch": "cloudwatch", "iam": "iam", "kms": "kms", "sts": "sts", "ssm": "ssm", "lambda_": "lambda",
    "events": "events", "ecr": "ecr", "service_quotas": "service-quotas", "quotas": "service-quotas",
    "pricing": "pricing", "aws": "logs",
}  # fmt: skip
_PREFIXES = {"service-quotas": "servicequotas"}
_PERMISSION_NAMES = {  # calls whose permission has a different name
    "s3:ListObjectsV2": "s3:ListBucket", "s3:HeadBucket": "s3:ListBucket", "s3:HeadObject": "s3:GetObject",
    "s3:GetBucketEncryption": "s3:GetEncryptionConfiguration",
    "s3:CreateMultipartUpload": "s3:PutObject", "s3:UploadPart": "s3:PutObject",
    "s3:CompleteMultipartUpload": "s3:PutObject", "s3:GetBucketLifecycleConfiguration": "s3:GetLifecycleConfiguration",
    "s3:PutBucketLifecycleConfiguration": "s3:PutLifecycleConfiguration",
    "s3:DeleteBucketLifecycle": "s3:PutLifecycleConfiguration", "sqs:SendMessageBatch": "sqs:SendMessage",
    "sqs:DeleteMessageBatch": "sqs:DeleteMessage",
    "sqs:ChangeMessageVisibilityBatch": "sqs:ChangeMessageVisibility",
}  # fmt: skip
_TRANSFERS = {"upload_file": "s3:PutObject", "download_file": "s3:GetObject", "upload_fileobj": "s3:PutObject"}
_ALWAYS_ALLOWED = {"sts:GetCallerIdentity"}  # regardless of the policies
_operations: dict[str, dict[str, str]] = {}


def list_source_files(*packages: str) -> list[Path]:
    """Return the source files in these packages inside `distributed_something`."""
    return [path for package in packages for path in sorted((PACKAGE / package).rglob("*.py"))]


def find_permissions(paths: Iterable[Path]) -> dict[str, str]:
    """Return the permissions that the calls in these files need, each with the file and line of one such call."""
    locations: dict[str, str] = {}
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text())):
            if permission := _find_permission(node):
                locations.setdefault(permission, f"{path.name}:{getattr(node, 'lineno', 0)}")
    return {permission: where for permission, where in locations.items() if permission not in _ALWAYS_ALLOWED}


def find_reachable_permissions(start: str) -> dict[str, str]:
    """Return the permissions needed by all code that the functions in the module `start` can reach.

    The search follows names within their module and through its imports. Using a class counts as using all its methods.
    """
    trees = {path: ast.parse(path.read_text()) for path in sorted(PACKAGE.rglob("*.py"))}
    modules = {".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts): tree for path, tree in trees.items()}
    definitions = {name: _list_definitions(tree) for name, tree in modules.items()}
    imports = {name: _list_imports(tree) for name, tree in modules.items()}
    pending = [(start, name) for name in definitions[start]]
    reached = set(pending)
    locations: dict[str, str] = {}
    while pending:
        module, name = pending.pop()
        for node in ast.walk(definitions[module][name]):
            if permission := _find_permission(node):
                locations.setdefault(permission, f"{module}.{name}")
            if isinstance(node, ast.Name):
                source, original = imports[module].get(node.id, (module, node.id))
                if original in definitions.get(source, {}) and (source, original) not in reached:
                    reached.add((source, original))
                    pending.append((source, original))
    return {permission: where for permission, where in locations.items() if permission not in _ALWAYS_ALLOWED}


def _list_definitions(tree: ast.Module) -> dict[str, ast.AST]:
    """Return a module's definitions, keyed by name: functions, classes, and assignments."""
    definitions: dict[str, ast.AST] = {}
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            definitions[node.name] = node
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            definitions |= {target.id: node for target in targets if isinstance(target, ast.Name)}
    return definitions


def _list_imports(tree: ast.Module) -> dict[str, tuple[str, str]]:
    """Return, for each imported name, the module it comes from and its original name there."""
    return {
        alias.asname or alias.name: (node.module or "", alias.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


def _find_permission(node: ast.AST) -> str | None:
    if call := _find_call(node):
        return _TRANSFERS.get(call[1]) or get_permission(*call)
    return None


def _find_call(node: ast.AST) -> tuple[str, str] | None:
    """Return a call's service and operation, or None.

    A call is `client.call`, `client.get_paginator("call")`, or any function call whose first argument is the name of an
    EC2 call, such as "describe_subnets".
    """
    if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
        argument = str(node.args[0].value)
        if _is_paginator(node):
            node = ast.Attribute(node.func.value, argument)  # type: ignore[attr-defined]
        elif operation := _list_operations("ec2").get(argument):
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
    operation = _list_operations(service).get(node.attr)
    return (service, operation) if operation else None


def _is_paginator(node: ast.Call) -> bool:
    return isinstance(node.func, ast.Attribute) and node.func.attr == "get_paginator"


def find_calls(paths: Iterable[Path]) -> dict[str, tuple[str, str]]:
    """Return all calls in these files, such as "sqs.get_queue_url", each with its operation and one location."""
    calls: dict[str, tuple[str, str]] = {}
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text())):
            if call := _find_call(node):
                service, operation = call
                where = f"{path.name}:{getattr(node, 'lineno', 0)}"
                calls.setdefault(f"{service}.{xform_name(operation)}", (operation, where))
    return calls


def _list_operations(service: str) -> dict[str, str]:
    """Return a service's operations, keyed by boto3's method names."""
    if service not in _operations:
        model = botocore.session.get_session().get_service_model(service)
        _operations[service] = {xform_name(name): name for name in model.operation_names}
    return _operations[service]


def is_allowed(documents: Iterable[Mapping[str, Any]], action: str, resource: str, **context: Any) -> bool:
    """Return whether one of the policy documents allows an action on a resource.

    `context` maps condition keys, with `:` written as `__` and `/` as `___`, to a string or a list of strings.
    """
    keys = {name.replace("___", "/").replace("__", ":"): value for name, value in context.items()}
    statements = [statement for document in documents for statement in document["Statement"]]
    return any(
        statement["Effect"] == "Allow"
        and action in statement["Action"]
        and any(fnmatchcase(resource, pattern) for pattern in _to_list(statement["Resource"]))
        and all(_is_met(operator, values, keys) for operator, values in statement.get("Condition", {}).items())
        for statement in statements
    )


def _is_met(operator: str, expected_values: Mapping[str, Any], keys: Mapping[str, Any]) -> bool:
    """Return whether a condition is met. `operator` may have a quantifier, such as `ForAllValues:StringLike`."""
    for key, expected in expected_values.items():
        values = _to_list(keys.get(key, []))
        if operator == "Null":
            if (not values) != (expected == "true"):
                return False
            continue
        if operator == "StringNotEquals":  # IAM: also met if the key does not exist
            if set(values) & set(_to_list(expected)):
                return False
            continue
        quantifier, _, comparison = operator.rpartition(":")
        assert comparison in ("StringEquals", "StringLike", "ArnLike"), f"the evaluator does not support {operator}"
        matches = [any(_matches(value, pattern, comparison) for pattern in _to_list(expected)) for value in values]
        if not (all(matches) if quantifier == "ForAllValues" else any(matches)):
            return False
    return True


def _matches(value: str, pattern: str, comparison: str) -> bool:
    return (
        value == pattern
        if comparison == "StringEquals"
        else bool(re.fullmatch(re.escape(pattern).replace(r"\*", ".*"), value))
    )


def _to_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


# Resources and condition keys of individual requests


def get_permission(service: str, operation: str) -> str:
    """Return the permission that a call needs. `service` is boto3's name for the service."""
    permission = f"{_PREFIXES.get(service, service)}:{operation}"
    return _PERMISSION_NAMES.get(permission, permission)


def list_resources(
    account: Any, service: str, operation: str, parameters: Mapping[str, Any]
) -> list[tuple[str, dict[str, Any]]]:
    """Return the ARNs that a request refers to, each with its context, or "*" if the request cannot be narrowed down.

    A run's resources are assumed to have the tag `app`. `test_least_privilege` checks that they are created with it.
    """
    parameters = dict(parameters)
    resource_tags: dict[str, Any] = {"aws__ResourceTag___app": "App"}
    request_tags = list_tag_keys(parameters)
    if operation in _CREATING:
        context: dict[str, Any] = {"aws__TagKeys": request_tags}
    else:
        context = resource_tags | ({"aws__TagKeys": request_tags} if request_tags else {})
    context |= {"cloudwatch__AlarmActions": parameters["AlarmActions"]} if "AlarmActions" in parameters else {}
    if service == "ec2" and operation in (
        "DeleteSecurityGroup", "AuthorizeSecurityGroupIngress", "RevokeSecurityGroupIngress",
    ):  # fmt: skip
        context = {"aws__ResourceTag___made-by": "distributed-something"}
    arns = list(_list_arns(account, service, operation, parameters))
    return [(arn, context) for arn in arns or ["*"]]


# Calls for resources without tags: a call creates the resource, or adds the first tag to a manually created one.
_CREATING = {"CreateQueue", "CreateLogGroup", "CreateCluster", "CreateService", "RequestSpotFleet", "PutRule",
             "CreateLaunchTemplate", "CreateSecurityGroup", "RegisterTaskDefinition", "PutMetricAlarm",
             "TagQueue", "TagResource"}  # fmt: skip
# Calls whose permissions cannot be restricted to a resource, or that refer to all resources.
_UNRESTRICTED = {"DescribeLogGroups", "ListDashboards", "ListTaskDefinitions", "DescribeTaskDefinition",
                 "ListClusters", "DeregisterTaskDefinition", "ListServices", "ListQueues", "GetServiceQuota",
                 "GetCallerIdentity", "ListRules", "ListRuleNamesByTarget"}  # fmt: skip
_EC2_ID_PARAMETERS = {
    "InstanceIds": "instance", "SpotFleetRequestIds": "spot-fleet-request", "SpotFleetRequestId": "spot-fleet-request",
    "VolumeId": "volume", "LaunchTemplateId": "launch-template", "GroupId": "security-group",
}  # fmt: skip
_EC2_ID_PREFIXES = {"i": "instance", "vol": "volume", "sg": "security-group", "lt": "launch-template"}


def list_tag_keys(parameters: Mapping[str, Any]) -> list[str]:
    """Return the keys of the tags that a request sets."""
    tags = parameters.get("tags", parameters.get("Tags"))
    if isinstance(tags, dict):
        return list(tags)
    specified_tags = [tag for entry in parameters.get("TagSpecifications", ()) for tag in entry["Tags"]]
    return [tag.get("Key", tag.get("key")) for tag in tags or specified_tags]


def _list_arns(account: Any, service: str, operation: str, parameters: Mapping[str, Any]) -> Iterable[str]:
    if operation in _UNRESTRICTED:
        return []
    functions = {
        "sqs": _iter_sqs_arns, "s3": _iter_s3_arns, "logs": _iter_logs_arns, "ecs": _iter_ecs_arns,
        "ec2": _iter_ec2_arns, "cloudwatch": _iter_cloudwatch_arns, "events": _iter_events_arns,
        "lambda": _iter_lambda_arns, "iam": _iter_iam_arns, "ssm": _iter_ssm_arns, "ecr": _iter_ecr_arns,
        "kms": _iter_kms_arns,
    }  # fmt: skip
    return functions[service](lambda kind, name: account.arn(kind, name, account.region), operation, parameters)


def _iter_sqs_arns(arn: Any, operation: str, parameters: Mapping[str, Any]) -> Iterable[str]:
    yield arn("sqs", parameters.get("QueueName") or parameters["QueueUrl"].rsplit("/", 1)[-1])


def _iter_s3_arns(arn: Any, operation: str, parameters: Mapping[str, Any]) -> Iterable[str]:
    yield f"arn:aws:s3:::{parameters['Bucket']}" + (f"/{parameters['Key']}" if "Key" in parameters else "")


def _iter_logs_arns(arn: Any, operation: str, parameters: Mapping[str, Any]) -> Iterable[str]:
    if "resourceArn" in parameters:
        yield parameters["resourceArn"]
        return
    stream = f"log-stream:{parameters['logStreamName']}" if "logStreamName" in parameters else "*"
    yield arn("logs", f"log-group:{parameters.get('logGroupName', '')}:{stream}")


def _iter_ecs_arns(arn: Any, operation: str, parameters: Mapping[str, Any]) -> Iterable[str]:
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


def _iter_ec2_arns(arn: Any, operation: str, parameters: Mapping[str, Any]) -> Iterable[str]:
    if operation == "CreateTags":
        ids = parameters["Resources"]
        yield from (arn("ec2", f"{_EC2_ID_PREFIXES[name.split('-')[0]]}/{name}") for name in ids)
    elif operation == "RequestSpotFleet":
        yield arn("ec2", "spot-fleet-request/sfr-1")
    elif operation == "CreateSecurityGroup":
        yield from (arn("ec2", "security-group/sg-1"), arn("ec2", f"vpc/{parameters['VpcId']}"))
    elif operation == "CreateLaunchTemplate":
        yield arn("ec2", "launch-template/lt-1")
    elif not operation.startswith(("Describe", "Get")) or operation.startswith("DescribeSpotFleetRequestHistory"):
        for parameter, kind in _EC2_ID_PARAMETERS.items():
            yield from (arn("ec2", f"{kind}/{name}") for name in _to_list(parameters.get(parameter, [])))
    elif operation == "DescribeSpotFleetInstances":
        yield arn("ec2", f"spot-fleet-request/{parameters['SpotFleetRequestId']}")


def _iter_cloudwatch_arns(arn: Any, operation: str, parameters: Mapping[str, Any]) -> Iterable[str]:
    names = _to_list(parameters.get("DashboardName", parameters.get("DashboardNames", [])))
    account = arn("cloudwatch", "").split(":")[4]
    yield from (f"arn:aws:cloudwatch::{account}:dashboard/{name}" for name in names)
    alarms = _to_list(parameters.get("AlarmName", parameters.get("AlarmNames", [])))
    yield from (arn("cloudwatch", f"alarm:{name}") for name in alarms)
    if operation == "DescribeAlarms":
        yield arn("cloudwatch", "alarm:*")


def _iter_events_arns(arn: Any, operation: str, parameters: Mapping[str, Any]) -> Iterable[str]:
    yield arn("events", f"rule/{parameters.get('Rule', parameters.get('Name'))}")


def _iter_lambda_arns(arn: Any, operation: str, parameters: Mapping[str, Any]) -> Iterable[str]:
    name = parameters["FunctionName"]
    yield name if name.startswith("arn:") else arn("lambda", f"function:{name}")


def _iter_iam_arns(arn: Any, operation: str, parameters: Mapping[str, Any]) -> Iterable[str]:
    account = arn("iam", "").split(":")[4]
    if operation == "CreateServiceLinkedRole":
        service = parameters["AWSServiceName"]
        yield f"arn:aws:iam::{account}:role/aws-service-role/{service}/{_find_linked_role(service)}"
    elif "InstanceProfileName" in parameters:
        yield f"arn:aws:iam::{account}:instance-profile/{parameters['InstanceProfileName']}"
    else:
        name = parameters["RoleName"]
        is_linked = name.startswith("AWSServiceRoleFor")
        path = f"aws-service-role/{SERVICE_LINKED_ROLES[name]}/" if is_linked else ""
        yield f"arn:aws:iam::{account}:role/{path}{name}"


def _find_linked_role(service: str) -> str:
    return next(name for name, role_service in SERVICE_LINKED_ROLES.items() if role_service == service)


def _iter_ssm_arns(arn: Any, operation: str, parameters: Mapping[str, Any]) -> Iterable[str]:
    yield f"arn:aws:ssm:us-east-1::parameter{parameters['Name']}"


def _iter_kms_arns(arn: Any, operation: str, parameters: Mapping[str, Any]) -> Iterable[str]:
    yield arn("kms", "key/1")  # AWS resolves an alias before it checks the permission


def _iter_ecr_arns(arn: Any, operation: str, parameters: Mapping[str, Any]) -> Iterable[str]:
    yield arn("ecr", f"repository/{parameters['repositoryName']}")
