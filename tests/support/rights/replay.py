"""All permissions that AWS would check in a rehearsal, for each login, and which of them policies deny.

AWS also sends requests itself with our roles, which no rehearsal outside AWS can record: those of the ECS agent, Spot
Fleet, Lambda, and so on. They are taken from AWS's own policies for such roles, which moto contains, with the names of
the rehearsal's resources.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from moto.iam.aws_managed_policies import aws_managed_policies_data

from tests.support.rights.evaluator import is_allowed, matches, to_list
from tests.support.rights.requests import (
    DATA,
    Permission,
    build_permission,
    build_request_keys,
    find_action,
    iter_resources,
    list_permissions,
    list_request_tags,
)
from tests.support.rights.tags import Tags

Documents = Mapping[str, Mapping[str, Any]]
MANAGED_POLICIES: dict[str, Any] = json.loads(aws_managed_policies_data)

# Actions in AWS's policies for which it sends no request in our runs, with the reason
NOT_SENT = {
    "ec2:DescribeTags": "the agent reads tags only with ECS_CONTAINER_INSTANCE_PROPAGATE_TAGS_FROM, which is not set",
    "ecs:CreateCluster": "the agent creates only the cluster `default`; setup creates the cluster",
    "ecs:TagResource": "the agent sets tags only with ECS_CONTAINER_INSTANCE_TAGS, which is not set",
    "ecs:ListTagsForResource": "only for containers that ask the agent for their tags, which the worker does not",
    "elasticloadbalancing:*": "fleets have no load balancers",
    "logs:CreateLogGroup": "setupAWS creates the function's log group, with a retention",
    "ec2messages:*": "the older channel of the SSM agent; sessions use ssmmessages",
    **{f"ssm:{verb}*": "Run Command, patches, and inventory, which sessions do not need"
       for verb in ("Describe", "Get", "List", "Put")},
    "ssm:UpdateAssociationStatus": "associations are not used", "ssm:UpdateInstanceAssociationStatus": "the same",
}  # fmt: skip
# Actions that tag a resource while another call creates it. https://docs.aws.amazon.com/IAM/latest/UserGuide/access_tags.html
_TAG_ACTIONS = {
    "ec2": "ec2:CreateTags", "ecs": "ecs:TagResource", "logs": "logs:TagResource", "events": "events:TagResource",
    "lambda": "lambda:TagResource", "cloudwatch": "cloudwatch:TagResource", "sqs": "sqs:TagQueue",
    "sns": "sns:TagResource",
    "iam:CreateRole": "iam:TagRole", "iam:CreateInstanceProfile": "iam:TagInstanceProfile",
}  # fmt: skip
_CREATE_ACTION_KEYS = {"ec2": "ec2:CreateAction", "ecs": "ecs:CreateAction"}
# The calls that give a role to a service. RunInstances and RequestSpotFleet pass the role in the instance profile.
_PASSING_ROLES = {"RegisterTaskDefinition", "RequestSpotFleet", "RunInstances", "CreateFunction",
                  "AddRoleToInstanceProfile"}  # fmt: skip


class Request(Protocol):
    """A recorded request: the login that sent it, and the tags of the account's resources at that moment."""

    login: str
    service: str
    operation: str
    parameters: dict[str, Any]
    tags: Tags


@dataclass(frozen=True)
class Replay:
    """What AWS would check for requests in an account whose bucket is encrypted with the key `key`.

    `tag_readers`: the logins whose code reads the tags of a Lambda function.
    """

    account: str
    requests: Sequence[Request]
    key: str
    tag_readers: Sequence[str]

    def list_distinct_requests(self, login: str) -> dict[tuple[Permission, ...], str]:
        """Return the login's requests as the permissions that AWS checks for each, with the operation."""
        requests = [request for request in self.requests if request.login == login]
        return {tuple(self._iter_permissions(request)): request.operation for request in requests}

    def list_service_needs(
        self, actions: Iterable[str], parameters: Mapping[str, Any], tags: Tags, role: str = ""
    ) -> dict[Permission, str]:
        """Return the permissions that AWS needs for requests of its own.

        `parameters`: the names of the resources, as requests name them. `role`: the ARN of the role that it passes.
        """
        needs: dict[Permission, str] = {}
        for action in actions:
            if action == "iam:PassRole":
                needs[self._build_role_passing(role)] = action
            elif action == "ec2:CreateTags":  # of the kinds that the launch template tags
                for kind in sorted({entry["ResourceType"] for entry in _iter_tag_specifications(parameters)}):
                    arn, keys = f"arn:aws:ec2:us-east-1:{self.account}:{kind}/new", {"ec2:CreateAction": "RunInstances"}
                    needs[build_permission(self.account, action, kind, arn, {}, keys)] = action
            else:
                keys = build_request_keys(action, parameters)
                for kind, arn in iter_resources(self.account, action, parameters):
                    needs[build_permission(self.account, action, kind, arn, tags, keys)] = action
        return needs

    def _iter_permissions(self, request: Request) -> Iterator[Permission]:
        own = list_permissions(self.account, request.service, request.operation, request.parameters, request.tags)
        yield from own
        yield from self._iter_tagging(request, own)
        yield from self._iter_role_passing(request)
        yield from self._iter_consequences(request)

    def _iter_tagging(self, request: Request, own: Iterable[Permission]) -> Iterator[Permission]:
        """Yield the permissions to set the tags with which the request creates resources."""
        name, tags = f"{request.service}:{request.operation}", list_request_tags(request.parameters)
        action = _TAG_ACTIONS.get(name) or _TAG_ACTIONS.get(request.service)
        if not tags or action is None or request.operation.startswith(("Tag", "CreateTags")):
            return
        keys: dict[str, Any] = {"aws:TagKeys": list(tags)}
        if request.service in _CREATE_ACTION_KEYS:
            keys[_CREATE_ACTION_KEYS[request.service]] = request.operation
        for kind, arn in iter_resources(self.account, find_action(request.service, request.operation) or "",
                                        request.parameters):  # fmt: skip
            if kind in _list_tagged_kinds(request, kind):
                yield build_permission(self.account, action, kind, arn, {}, keys)

    def _iter_role_passing(self, request: Request) -> Iterator[Permission]:
        if request.operation not in _PASSING_ROLES:
            return
        if request.operation == "AddRoleToInstanceProfile":  # passes a role without naming a service
            yield Permission("iam:PassRole", f"arn:aws:iam::{self.account}:role/{request.parameters['RoleName']}")
            return
        for arn in _iter_arns(request.parameters):
            kind, _, name = arn.split(":", 5)[-1].partition("/")
            if kind == "instance-profile":
                arn = f"arn:aws:iam::{self.account}:role/{self._roles_in_profiles[name]}"
            if kind in ("role", "instance-profile"):
                yield self._build_role_passing(arn)

    def _build_role_passing(self, role: str) -> Permission:
        """Return the permission to pass the role to the service that the role trusts."""
        service = self._trusted_services[role.rsplit("/", 1)[-1]]
        return Permission("iam:PassRole", role, (("iam:PassedToService", (service,)),))

    def _iter_consequences(self, request: Request) -> Iterator[Permission]:
        """Yield the permissions that AWS checks or needs for other reasons."""
        parameters, operation = request.parameters, request.operation
        objects = f"arn:aws:s3:::{parameters.get('Bucket', parameters.get('destination'))}"
        match operation:
            case "GetFunction" if request.login in self.tag_readers:  # returns the tags only with this permission
                for kind, arn in iter_resources(self.account, "lambda:GetFunction", parameters):
                    yield build_permission(self.account, "lambda:ListTags", kind, arn, request.tags, {})
            case "CreateExportTask":  # only a caller who could write the exported objects may export them
                # https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_CreateExportTask.html
                yield Permission("s3:PutObject", f"{objects}/{parameters['destinationPrefix']}/task/stream/000000.gz")
                yield Permission("kms:GenerateDataKey", self.key)
            case "CreateMultipartUpload":  # an upload that fails is aborted; parts need both permissions of the key
                # https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpuoverview.html#mpuAndPermissions
                yield Permission("s3:AbortMultipartUpload", f"{objects}/{parameters['Key']}")
                yield from (Permission(f"kms:{name}", self.key) for name in ("Decrypt", "GenerateDataKey"))
            case "PutObject":  # https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingKMSEncryption.html
                yield Permission("kms:GenerateDataKey", self.key)
            case "GetObject":
                yield Permission("kms:Decrypt", self.key)

    @property
    def _trusted_services(self) -> dict[str, str]:
        """The service that each role trusts, as setupAWS created it."""
        created = [each.parameters for each in self.requests if each.operation == "CreateRole"]
        documents = {each["RoleName"]: json.loads(each["AssumeRolePolicyDocument"]) for each in created}
        return {name: document["Statement"][0]["Principal"]["Service"] for name, document in documents.items()}

    @property
    def _roles_in_profiles(self) -> dict[str, str]:
        added = [each.parameters for each in self.requests if each.operation == "AddRoleToInstanceProfile"]
        return {each["InstanceProfileName"]: each["RoleName"] for each in added}


def _list_tagged_kinds(request: Request, kind: str) -> set[str]:
    """Return the kinds of resources that the request tags; outside EC2, that is the kind that it creates."""
    if request.service != "ec2":
        return {kind}
    fleet = request.parameters.get("SpotFleetRequestConfig", request.parameters)
    return {entry["ResourceType"] for entry in fleet.get("TagSpecifications", ())}


def _iter_tag_specifications(value: Any) -> Iterator[Mapping[str, Any]]:
    """Yield the tag specifications of the instances in launch template data."""
    if isinstance(value, Mapping):
        yield from value.get("LaunchTemplateData", {}).get("TagSpecifications", ())
        for inner in value.values():
            yield from _iter_tag_specifications(inner)


def _iter_arns(value: Any) -> Iterator[str]:
    """Yield every ARN in the parameters. An instance profile may be given by name."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if key == "IamInstanceProfile" and isinstance(inner, Mapping) and "Name" in inner:
                yield f"arn:aws:iam:::instance-profile/{inner['Name']}"
            yield from _iter_arns(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _iter_arns(inner)
    elif isinstance(value, str) and value.startswith("arn:"):
        yield value


def iter_managed_actions(policy: str) -> Iterator[str]:
    """Yield the actions in AWS's policy, without those that it does not use in our runs."""
    for statement in MANAGED_POLICIES[policy]["Document"]["Statement"]:
        for pattern in to_list(statement["Action"]):
            service, name = pattern.split(":")
            names = [each for each in DATA.actions.get_actions_for_service(service) if matches(each, name)]
            assert names, f"AWS's data do not contain {pattern}"
            yield from (action for each in names if not is_not_sent(action := f"{service}:{each}"))


def is_not_sent(action: str) -> bool:
    """Return whether AWS sends no such request in our runs."""
    return any(matches(action, pattern) for pattern in NOT_SENT)


def list_denied(documents: Documents, needs: Iterable[Permission]) -> list[Permission]:
    """Return the permissions that the policies do not give."""
    return [each for each in needs if not is_allowed(documents.values(), each.action, each.resource, each.keys)]


def iter_reductions(documents: Documents) -> Iterator[tuple[str, Documents]]:
    """Yield each statement, and each part of its lists, as text, with the policies that lack it.

    The lists are its actions, its resources, and the values of its conditions.
    """
    for name, document in documents.items():
        for statement in document["Statement"]:
            others = [each for each in document["Statement"] if each is not statement]
            yield f"{name}: {statement['Sid']}", {**documents, name: {**document, "Statement": others}}
            for text, reduced in _iter_reduced_statements(statement):
                remaining = {**document, "Statement": [*others, reduced]}
                yield f"{name}: {statement['Sid']}: {text}", {**documents, name: remaining}


def _iter_reduced_statements(statement: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for element in ("Action", "Resource"):
        for item, rest in _iter_shorter_lists(statement[element]):
            yield item, {**statement, element: rest}
    conditions = statement.get("Condition", {})
    for operator, keys in conditions.items():
        if "Not" not in operator:
            for key, values in keys.items():
                for value, rest in _iter_shorter_lists(values):
                    condition = {**conditions, operator: {**keys, key: rest}}
                    yield f"{key} {value}", {**statement, "Condition": condition}


def _iter_shorter_lists(values: Any) -> Iterator[tuple[str, list[str]]]:
    """Yield each item of a list that has several, with the others."""
    items = to_list(values)
    for item in items if len(items) > 1 else ():
        yield item, [each for each in items if each != item]


def iter_extensions(documents: Documents) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield each statement that has a limit as text and without the limit: any resource, or a condition less."""
    for name, document in documents.items():
        for statement in document["Statement"]:
            where = f"{name}: {statement['Sid']}"
            if statement["Resource"] != "*":
                yield f"{where}: any resource", {**statement, "Resource": "*"}
            for operator, keys in statement.get("Condition", {}).items():
                for key in keys:
                    rest = {each: value for each, value in keys.items() if each != key}
                    condition = {**statement["Condition"], operator: rest}
                    yield f"{where}: without {operator} {key}", {**statement, "Condition": condition}
