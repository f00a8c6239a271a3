"""Asks IAM's policy simulator whether the roles may do what the next run needs.

The simulator evaluates all policies of a role, its permissions boundary, and the rules of the organization (SCPs), also
those that users cannot see. It knows no policies of buckets, topics, and queues, which may allow more.
https://docs.aws.amazon.com/IAM/latest/APIReference/API_SimulatePrincipalPolicy.html
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from distributed_something.account.policy_documents import get_ec2_service_name
from distributed_something.aws.cloudwatch_logs import build_log_group_names
from distributed_something.core.errors import find_missing_permission, get_error_code
from distributed_something.core.names import EXECUTION_ROLE, MONITOR_ROLE, TASK_ROLE, AwsAccount
from distributed_something.diagnose.check.findings import (
    Finding,
    build_ok_finding,
    build_warning_finding,
    build_wrong_finding,
)
from distributed_something.diagnose.check.lookups import Lookups
from distributed_something.fleet.launch_specs import parse_arn_name
from distributed_something.worker import RUNS_PREFIX

if TYPE_CHECKING:
    from mypy_boto3_iam import IAMClient

    from distributed_something.core.config_settings import Settings

TOPIC = "role rights"
_APP_TAG, _FLEET_TAG = "aws:ResourceTag/app", "ec2:ResourceTag/aws:ec2spot:fleet-request-id"
_RESOURCE_POLICY_SERVICES = ("s3:", "sns:", "sqs:")  # their resources' own policies can allow what the role's do not
_MISSING_ROLE = "NoSuchEntity"
# Reasons for denials, each with its remedy
_ORGANIZATION = (
    "a rule of your organization (SCP) does not allow it", "ask the administrators of your organization to allow it"
)  # fmt: skip
_BOUNDARY = ("the role's permissions boundary does not allow it", "ask your administrator to change the boundary")
_EXPLICIT = ("a policy denies it", "ask your administrator to remove the denial")
_NOT_ALLOWED = ("no policy of the role allows it", "run setupAWS, which gives the role its permissions")
UNASKED_REMEDY = (
    "attach the policies for users that setupAWS --policies prints, or ignore this warning if runs work already"
)


@dataclass(frozen=True)
class Question:
    """Whether a role (an ARN) may carry out all actions on all resources (ARNs).

    `context`: condition keys of the request, such as the resources' tags.
    """

    role: str
    actions: tuple[str, ...]
    resources: tuple[str, ...]
    context: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Denial:
    """An action that the simulator does not allow to a role (given by name), and why.

    `is_certain`: nothing that the simulator does not know can allow the action.
    """

    role: str
    action: str
    reason: str
    remedy: str
    is_certain: bool


def check_role_permissions(lookups: Lookups) -> Iterator[Finding]:
    """Ask IAM about the roles of the run. The local cloud, which checks no permissions, is not asked."""
    if lookups.is_local:
        return
    asked: dict[str, None] = {}
    unasked: dict[str, str] = {}
    denials: list[Denial] = []
    for question in list_questions(lookups):
        name = parse_arn_name(question.role)
        try:
            denials += _ask(lookups.clients.iam, question)
            asked[name] = None
        except ClientError as error:
            permission = find_missing_permission(error)
            if permission is not None:
                unasked[name] = permission
            elif get_error_code(error) != _MISSING_ROLE:  # other checks report missing roles
                raise
    if unasked:
        permission = next(iter(unasked.values()))
        problem = f"cannot tell whether {', '.join(unasked)} may do what a run needs: the question needs {permission}"
        yield build_warning_finding(TOPIC, problem, UNASKED_REMEDY, details={"right": permission})
    yield from judge_denials(denials)
    if asked and not denials:
        yield build_ok_finding(TOPIC, f"IAM's policy simulator allows {', '.join(asked)} what a run needs")


def list_questions(lookups: Lookups) -> Iterator[Question]:
    """Yield the questions about all roles of the next run."""
    settings, account = lookups.settings, lookups.account
    yield from _list_container_questions(settings, account)
    if lookups.fleet is not None:
        profiles = [profile for profile in (lookups.profiles.result or {}).values() if profile and profile.get("Roles")]
        roles = [str(profile["Roles"][0]["Arn"]) for profile in profiles]
        yield from (question for role in roles for question in _list_machine_questions(settings, account, role))
        if lookups.fleet_role.result is not None:
            yield from _list_fleet_questions(account, str(lookups.fleet_role.result["Arn"]), roles)
    if settings.AUTO_MONITOR:
        yield from _list_monitor_questions(settings, account)


def _list_container_questions(settings: Settings, account: AwsAccount) -> Iterator[Question]:
    task, execution, tags = account.role(TASK_ROLE), account.role(EXECUTION_ROLE), {_APP_TAG: settings.APP_NAME}
    region, (logs, machine_logs) = account.region, build_log_group_names(settings.LOG_GROUP_NAME)
    queue = account.arn("sqs", settings.SQS_QUEUE_NAME, region)
    use = ("sqs:ReceiveMessage", "sqs:ChangeMessageVisibility", "sqs:DeleteMessage", "sqs:SendMessage")
    yield Question(task, use, (queue,), tags)
    yield Question(task, ("s3:ListBucket",), (account.bucket(settings.AWS_BUCKET),))
    results = account.bucket(settings.AWS_BUCKET, f"{RUNS_PREFIX}/{settings.APP_NAME}/check")
    yield Question(task, ("s3:GetObject", "s3:PutObject"), (results,))
    write = ("logs:CreateLogStream", "logs:PutLogEvents")
    for role, group in ((task, logs), (execution, machine_logs)):
        yield Question(role, write, (account.arn("logs", f"log-group:{group}:log-stream:check", region),), tags)
    task_arn = account.arn("ecs", f"task/{settings.ECS_CLUSTER}/check", region)
    yield Question(task, ("ecs:UpdateTaskProtection",), (task_arn,))


def _list_machine_questions(settings: Settings, account: AwsAccount, role: str) -> Iterator[Question]:
    cluster = settings.ECS_CLUSTER
    join = ("ecs:RegisterContainerInstance", "ecs:SubmitTaskStateChange")
    yield Question(role, join, (account.arn("ecs", f"cluster/{cluster}", account.region),))
    machine = account.arn("ecs", f"container-instance/{cluster}/check", account.region)
    yield Question(role, ("ecs:Poll", "ecs:StartTelemetrySession"), (machine,))


def _list_fleet_questions(account: AwsAccount, role: str, machine_roles: Iterable[str]) -> Iterator[Question]:
    machine, volume = (account.arn("ec2", f"{kind}/check", account.region) for kind in ("instance", "volume"))
    yield Question(role, ("ec2:RunInstances", "ec2:CreateTags"), (machine, volume))
    yield Question(role, ("ec2:TerminateInstances",), (machine,), {_FLEET_TAG: "check"})
    for machine_role in machine_roles:
        service = {"iam:PassedToService": get_ec2_service_name(account)}
        yield Question(role, ("iam:PassRole",), (machine_role,), service)


def _list_monitor_questions(settings: Settings, account: AwsAccount) -> Iterator[Question]:
    role, region, tags = account.role(MONITOR_ROLE), account.region, {_APP_TAG: settings.APP_NAME}
    queue = account.arn("sqs", settings.SQS_QUEUE_NAME, region)
    yield Question(role, ("sqs:GetQueueAttributes", "sqs:DeleteQueue"), (queue,), tags)
    service = account.arn("ecs", f"service/{settings.ECS_CLUSTER}/{settings.names.service}", region)
    yield Question(role, ("ecs:DescribeServices", "ecs:UpdateService"), (service,), tags)
    fleet = account.arn("ec2", "spot-fleet-request/check", region)
    yield Question(role, ("ec2:ModifySpotFleetRequest", "ec2:CancelSpotFleetRequests"), (fleet,), tags)
    yield Question(role, ("ec2:TerminateInstances",), (account.arn("ec2", "instance/check", region),), tags)
    records = account.bucket(settings.AWS_BUCKET, f"{RUNS_PREFIX}/{settings.APP_NAME}/check")
    yield Question(role, ("s3:GetObject", "s3:PutObject"), (records,))
    if settings.NOTIFY:
        yield Question(role, ("sns:Publish",), (settings.NOTIFY,))


def _ask(iam: IAMClient, question: Question) -> list[Denial]:
    """Return what the simulator does not allow. AWS errors are not caught."""
    context: Any = [
        {"ContextKeyName": key, "ContextKeyValues": [value], "ContextKeyType": "string"}
        for key, value in question.context.items()
    ]
    pages: Any = iam.get_paginator("simulate_principal_policy").paginate(
        PolicySourceArn=question.role, ActionNames=list(question.actions), ResourceArns=list(question.resources),
        ContextEntries=context,
    )  # fmt: skip
    results = [result for page in pages for result in page.get("EvaluationResults", ())]
    return [denial for result in results if (denial := _find_denial(parse_arn_name(question.role), result)) is not None]


def _find_denial(role: str, result: Mapping[str, Any]) -> Denial | None:
    """Return why the simulator does not allow an action on one of the resources, or None if it does.

    IAM returns some details for the action, and some for each resource.
    """
    parts = [result, *result.get("ResourceSpecificResults", ())]
    decisions = {part.get("EvalResourceDecision", part.get("EvalDecision")) for part in parts}
    if decisions == {"allowed"}:
        return None
    action = str(result["EvalActionName"])
    # Some policies have conditions on keys whose values only a real request has, such as the caller's address.
    is_certain = not any(part.get("MissingContextValues") for part in parts)
    if any(part.get("OrganizationsDecisionDetail", {}).get("AllowedByOrganizations") is False for part in parts):
        return Denial(role, action, *_ORGANIZATION, is_certain)
    boundaries = [part.get("PermissionsBoundaryDecisionDetail", {}) for part in parts]
    if any(boundary.get("AllowedByPermissionsBoundary") is False for boundary in boundaries):
        return Denial(role, action, *_BOUNDARY, is_certain)
    if "explicitDeny" in decisions:
        return Denial(role, action, *_EXPLICIT, is_certain)
    return Denial(role, action, *_NOT_ALLOWED, is_certain and not action.startswith(_RESOURCE_POLICY_SERVICES))


def judge_denials(denials: Iterable[Denial]) -> Iterator[Finding]:
    """Yield a finding for each role and reason."""
    groups: dict[tuple[str, str, str, bool], dict[str, None]] = {}
    for denial in denials:
        key = (denial.role, denial.reason, denial.remedy, denial.is_certain)
        groups.setdefault(key, {})[denial.action] = None
    for (role, reason, remedy, is_certain), actions in groups.items():
        build_finding = build_wrong_finding if is_certain else build_warning_finding
        problem = f"the role {role} may not {', '.join(actions)}: {reason}, according to IAM's policy simulator"
        yield build_finding(TOPIC, problem, remedy, details={"role": role, "rights": list(actions)})
