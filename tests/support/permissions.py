"""Finds the permissions that the code needs by reading its source."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import botocore.session
from botocore import xform_name

from tests.support.paths import ROOT
from tests.support.rights import evaluator
from tests.support.rights.requests import find_action

PACKAGE = ROOT / "distributed_something"
# Services, keyed by the names of their clients in the code, without leading underscores.
_CLIENTS = {
    "sqs": "sqs", "ecs": "ecs", "ec2": "ec2", "s3": "s3", "s3_client": "s3", "logs": "logs", "logs_client": "logs",
    "cloudwatch": "cloudwatch", "iam": "iam", "kms": "kms", "sts": "sts", "ssm": "ssm", "lambda_": "lambda",
    "events": "events", "ecr": "ecr", "service_quotas": "service-quotas", "quotas": "service-quotas",
    "pricing": "pricing", "aws": "logs", "sns": "sns", "impatient_sns": "sns",
}  # fmt: skip
_TRANSFERS = {"upload_file": "s3:PutObject", "download_file": "s3:GetObject", "upload_fileobj": "s3:PutObject"}
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
    return locations


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
    return locations


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
    """Return whether the policy documents allow an action on a resource.

    `context` maps condition keys, with `:` written as `__` and `/` as `___`, to a string or a list of strings.
    """
    keys = {name.replace("___", "/").replace("__", ":"): value for name, value in context.items()}
    return evaluator.is_allowed(documents, action, resource, keys)


def get_permission(service: str, operation: str) -> str:
    """Return the permission that a call needs, or "" if it needs none. `service` is boto3's name for the service."""
    return find_action(service, operation) or ""
