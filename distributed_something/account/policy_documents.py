"""Policy documents as data: building statements and documents, and reading those that are already in an account.

What our policies allow is in `statements.py`, `policies.py`, and `user_policies.py`.
"""

from __future__ import annotations

import json
from typing import Any

from distributed_something.core.names import CHINA_DOMAIN_SUFFIX, AwsAccount

# Of a thing that carries the tag `app`, whatever its value.
APP_TAG_CONDITION = {"Null": {"aws:ResourceTag/app": "false"}}

PolicyDocument = dict[str, Any]


def build_trust_policy(service: str) -> PolicyDocument:
    """Who may take the role: one service of AWS's."""
    return build_document({"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"})


def list_trusted_services(document: Any) -> set[str]:
    """The services that a trust policy lets in; IAM tells it as an object or as JSON."""
    read = json.loads(document) if isinstance(document, str) and document else document or {}
    found: set[str] = set()
    for statement in wrap_in_list(read.get("Statement")):
        principal = statement.get("Principal", {})
        services = principal.get("Service") if isinstance(principal, dict) else None
        found |= set(wrap_in_list(services)) if statement.get("Effect") == "Allow" else set()
    return found


def wrap_in_list(value: Any) -> list[Any]:
    """IAM's documents hold one thing or a list of them."""
    return [] if value is None else value if isinstance(value, list) else [value]


def merge_statements(document: PolicyDocument | None, ours: list[dict[str, Any]]) -> PolicyDocument:
    """`document` with our statements in place of those of the same Sid; all others stay as they are."""
    document = document or {"Version": "2012-10-17", "Statement": []}
    return document | {"Statement": [*_list_other_statements(document, ours), *ours]}


def remove_statements(document: PolicyDocument, ours: list[dict[str, Any]]) -> PolicyDocument | None:
    """`document` without our statements; None where nothing else is in it."""
    others = _list_other_statements(document, ours)
    return document | {"Statement": others} if others else None


def get_ec2_service_name(place: AwsAccount) -> str:
    """EC2's name in policies."""
    return localize_service_name("ec2.amazonaws.com", place)


def localize_service_name(service: str, place: AwsAccount) -> str:
    """The name of a service that has another one in China. Not all have: Lambda, ECS's tasks and Spot Fleet do not."""
    return service + CHINA_DOMAIN_SUFFIX if place.partition == "aws-cn" else service


def _list_other_statements(document: PolicyDocument, ours: list[dict[str, Any]]) -> list[dict[str, Any]]:
    sids = {statement["Sid"] for statement in ours}
    return [statement for statement in wrap_in_list(document.get("Statement")) if statement.get("Sid") not in sids]


def build_document(*statements: dict[str, Any]) -> PolicyDocument:
    return {"Version": "2012-10-17", "Statement": list(statements)}


def allow_actions(
    sid: str, *actions: str, on: str | list[str] = "*", when: dict[str, Any] | None = None
) -> dict[str, Any]:
    statement: dict[str, Any] = {"Sid": sid, "Effect": "Allow", "Action": list(actions), "Resource": on}
    return statement | {"Condition": when} if when else statement


def allow_role_passing(roles: list[str], services: list[str]) -> dict[str, Any]:
    return allow_actions(
        "PassRoles", "iam:PassRole", on=roles, when={"StringEquals": {"iam:PassedToService": services}}
    )
