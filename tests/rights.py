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

ROOT = Path(__file__).resolve().parent.parent
# What a client is called in the code, without leading underscores.
_CLIENTS = {
    "sqs": "sqs", "ecs": "ecs", "ec2": "ec2", "s3": "s3", "s3_client": "s3", "logs": "logs", "logs_client": "logs",
    "cloudwatch": "cloudwatch", "iam": "iam", "sts": "sts", "ssm": "ssm", "lambda_": "lambda", "events": "events",
    "ecr": "ecr", "service_quotas": "service-quotas", "pricing": "pricing", "aws": "logs",
}  # fmt: skip
_PREFIXES = {"service-quotas": "servicequotas"}
_OTHERWISE_NAMED = {  # calls whose right has another name
    "s3:ListObjectsV2": "s3:ListBucket", "s3:HeadBucket": "s3:ListBucket", "s3:HeadObject": "s3:GetObject",
    "s3:CreateMultipartUpload": "s3:PutObject", "s3:UploadPart": "s3:PutObject",
    "s3:CompleteMultipartUpload": "s3:PutObject", "sqs:SendMessageBatch": "sqs:SendMessage",
    "sqs:DeleteMessageBatch": "sqs:DeleteMessage",
    "sqs:ChangeMessageVisibilityBatch": "sqs:ChangeMessageVisibility",
}  # fmt: skip
_TRANSFERS = {"upload_file": "s3:PutObject", "download_file": "s3:GetObject", "upload_fileobj": "s3:PutObject"}
_FREE = {"sts:GetCallerIdentity"}  # allowed whatever the policies say
_operations: dict[str, dict[str, str]] = {}


def needed(paths: Iterable[Path]) -> dict[str, str]:
    """Every right that the calls in these files need, and a file and line where."""
    found: dict[str, str] = {}
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text())):
            if right := _right(node):
                found.setdefault(right, f"{path.name}:{getattr(node, 'lineno', 0)}")
    return {right: where for right, where in found.items() if right not in _FREE}


def needed_from(modules: Mapping[str, Path], starts: Iterable[str]) -> dict[str, str]:
    """As `needed`, of all functions that can be reached from those of the modules `starts`.

    `module.function` is followed, and a bare name within its module; a method by its name within its module.
    """
    functions = {
        (name, node.name): node
        for name, path in modules.items()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef)
    }
    waiting = [key for key in functions if key[0] in set(starts)]
    seen = set(waiting)
    found: dict[str, str] = {}
    while waiting:
        module, name = waiting.pop()
        for node in ast.walk(functions[module, name]):
            if right := _right(node):
                found.setdefault(right, f"{module}.{name}")
            for other in _mentioned(node, module) & functions.keys() - seen:
                seen.add(other)
                waiting.append(other)
    return {right: where for right, where in found.items() if right not in _FREE}


def _mentioned(node: ast.AST, module: str) -> set[tuple[str, str]]:
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return {(node.value.id, node.attr), (module, node.attr)}
    return {(module, node.id)} if isinstance(node, ast.Name) else set()


def _right(node: ast.AST) -> str | None:
    """Of `client.call`, and of `client.get_paginator("call")`."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "get_paginator":
        named = node.args[0] if node.args else None
        node = ast.Attribute(node.func.value, str(named.value)) if isinstance(named, ast.Constant) else node
    if not isinstance(node, ast.Attribute):
        return None
    base = node.value
    client = base.attr if isinstance(base, ast.Attribute) else base.id if isinstance(base, ast.Name) else ""
    service = _CLIENTS.get(client.lstrip("_"))
    if service is None:
        return None
    if service == "s3" and node.attr in _TRANSFERS:
        return _TRANSFERS[node.attr]
    operation = _calls_of(service).get(node.attr)
    right = f"{_PREFIXES.get(service, service)}:{operation}"
    return _OTHERWISE_NAMED.get(right, right) if operation else None


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
