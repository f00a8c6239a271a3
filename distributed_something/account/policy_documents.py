"""Functions that build, merge, and read IAM policy documents.

The permissions themselves are in `statements.py`, `policies.py`, and `user_policies.py`.
"""

from __future__ import annotations

import json
from typing import Any

from distributed_something.core.names import CHINA_DOMAIN_SUFFIX, SHARED_APP, AwsAccount

# Limits a statement to resources that have the tag `app`, with any value.
APP_TAG_CONDITION: dict[str, Any] = {"Null": {"aws:ResourceTag/app": "false"}}
# Also excludes queues that belong to no single app. Everyone may send failed jobs to them, and nobody may do more.
ONE_APP_CONDITION = APP_TAG_CONDITION | {"StringNotEquals": {"aws:ResourceTag/app": SHARED_APP}}

PolicyDocument = dict[str, Any]


def build_trust_policy(service: str) -> PolicyDocument:
    """Return a trust policy that lets one AWS service assume the role."""
    return build_document({"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"})


def list_trusted_services(document: Any) -> set[str]:
    """Return the services that may assume the role. `document`: the role's trust policy, as an object or as JSON."""
    trust = json.loads(document) if isinstance(document, str) and document else document or {}
    trusted: set[str] = set()
    for statement in wrap_in_list(trust.get("Statement")):
        principal = statement.get("Principal", {})
        services = principal.get("Service") if isinstance(principal, dict) else None
        trusted |= set(wrap_in_list(services)) if statement.get("Effect") == "Allow" else set()
    return trusted


def wrap_in_list(value: Any) -> list[Any]:
    """Return the value as a list. In IAM documents, a single item may appear without a list around it."""
    return [] if value is None else value if isinstance(value, list) else [value]


def merge_statements(document: PolicyDocument | None, ours: list[dict[str, Any]]) -> PolicyDocument:
    """Return the document with our statements added. They replace statements with the same Sid; all others stay."""
    document = document or {"Version": "2012-10-17", "Statement": []}
    return document | {"Statement": [*_list_other_statements(document, ours), *ours]}


def remove_statements(document: PolicyDocument, ours: list[dict[str, Any]]) -> PolicyDocument | None:
    """Return the document without our statements, or None if it has no other statements."""
    others = _list_other_statements(document, ours)
    return document | {"Statement": others} if others else None


def get_ec2_service_name(account: AwsAccount) -> str:
    """Return the name that policies use for EC2, which is different in China."""
    return localize_service_name("ec2.amazonaws.com", account)


def localize_service_name(service: str, account: AwsAccount) -> str:
    """Return the service's name in the account's partition.

    Call this only for services whose names are different in China. The names of Lambda, ECS tasks, and Spot Fleet are
    the same everywhere.
    """
    return service + CHINA_DOMAIN_SUFFIX if account.partition == "aws-cn" else service


def _list_other_statements(document: PolicyDocument, ours: list[dict[str, Any]]) -> list[dict[str, Any]]:
    sids = {statement["Sid"] for statement in ours}
    return [statement for statement in wrap_in_list(document.get("Statement")) if statement.get("Sid") not in sids]


def build_document(*statements: dict[str, Any]) -> PolicyDocument:
    """Return a policy document with these statements."""
    return {"Version": "2012-10-17", "Statement": list(statements)}


def allow_actions(
    sid: str, *actions: str, on: str | list[str] = "*", when: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Return a statement that allows the actions. `on`: the resources' ARNs; `when`: the condition."""
    statement: dict[str, Any] = {"Sid": sid, "Effect": "Allow", "Action": list(actions), "Resource": on}
    return statement | {"Condition": when} if when else statement


def allow_role_passing(roles: list[str], services: list[str]) -> dict[str, Any]:
    """Return a statement that allows passing the roles (given by ARN) to these services only."""
    return allow_actions(
        "PassRoles", "iam:PassRole", on=roles, when={"StringEquals": {"iam:PassedToService": services}}
    )
