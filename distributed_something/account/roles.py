"""Plans to create, update, and delete roles, the instance profile, and service-linked roles."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from distributed_something.account.policy_documents import PolicyDocument, build_trust_policy, list_trusted_services
from distributed_something.account.step import SetupRow, SetupState, SetupStep
from distributed_something.aws.retry import none_if_missing, retry_until_consistent
from distributed_something.core.tags import MADE_BY_TAG, build_ec2_tags, has_made_by_tag

if TYPE_CHECKING:
    from mypy_boto3_iam import IAMClient


POLICY_NAME = "distributed-something"  # every role's inline policy; the names of policies for buckets begin with this
MADE_BY_TAGS = build_ec2_tags(MADE_BY_TAG)
MISSING_CODE = "NoSuchEntity"
_BUSY_CODES = ("ConcurrentModification", "EntityTemporarilyUnmodifiable")  # another change is in progress


@dataclass(frozen=True)
class RoleSpec:
    """A role to set up: its name, the service that assumes it, and its inline policies, keyed by name."""

    name: str
    service: str
    policies: dict[str, PolicyDocument]


def plan_role(iam: IAMClient, spec: RoleSpec, sleep: Callable[[float], None]) -> SetupStep:
    """Plan to create or update the role.

    If setupAWS did not create the role, our policies are added to its own, and its trust policy never changes.
    """
    row = partial(SetupRow, "role", spec.name)
    trust = build_trust_policy(spec.service)
    role: Any = none_if_missing(lambda: iam.get_role(RoleName=spec.name)["Role"], MISSING_CODE)
    if role is None:
        return SetupStep(row(SetupState.CREATED), partial(_create_role, iam, spec, trust, sleep))
    is_ours = has_made_by_tag(role.get("Tags"))
    note = "" if is_ours else "not created by setupAWS; its own policies are kept"
    if not is_ours and spec.service not in list_trusted_services(role["AssumeRolePolicyDocument"]):
        reason = f"not created by setupAWS, and {spec.service} cannot assume it; add the service to its trust policy"
        return SetupStep(row(SetupState.NOT_DONE, reason))
    changed = [name for name in spec.policies if find_policy(iam, spec.name, name) != spec.policies[name]]
    has_new_trust = is_ours and role["AssumeRolePolicyDocument"] != trust
    if not changed and not has_new_trust:
        return SetupStep(row(SetupState.EXISTS, note))
    changes = ", ".join([*(["trust policy"] if has_new_trust else []), *(f"policy {name}" for name in changed)])
    act = partial(_update_role, iam, spec, changed, trust if has_new_trust else None, sleep)
    return SetupStep(row(SetupState.CHANGED, "; ".join(filter(None, [changes, note]))), act)


def plan_instance_profile(iam: IAMClient, name: str, sleep: Callable[[float], None]) -> SetupStep:
    """Plan to create the instance profile and to add the role with the same name to it."""
    row = partial(SetupRow, "instance profile", name)
    profile: Any = none_if_missing(
        lambda: iam.get_instance_profile(InstanceProfileName=name)["InstanceProfile"], MISSING_CODE
    )
    add_role = partial(_add_role_to_profile, iam, name, sleep)
    if profile is None:

        def create_profile() -> None:
            iam.create_instance_profile(InstanceProfileName=name, Tags=MADE_BY_TAGS)  # type: ignore[arg-type]
            add_role()

        return SetupStep(row(SetupState.CREATED), create_profile)
    roles = [role["RoleName"] for role in profile["Roles"]]
    if not roles:
        return SetupStep(row(SetupState.CHANGED, f"role {name} added"), add_role)
    if name not in roles:
        return SetupStep(row(SetupState.NOT_DONE, f"contains the role {roles[0]} instead of {name}; replace the role"))
    return SetupStep(row(SetupState.EXISTS))


def plan_service_linked_role(iam: IAMClient, name: str, service: str) -> SetupStep:
    """Plan to create the AWS service's service-linked role, unless it exists."""
    if none_if_missing(lambda: iam.get_role(RoleName=name), MISSING_CODE) is not None:
        return SetupStep(SetupRow("service-linked role", name, SetupState.EXISTS))
    # InvalidInput ("has been taken in this account") means that the service itself has just created the role.
    return SetupStep(
        SetupRow("service-linked role", name, SetupState.CREATED),
        lambda: none_if_missing(lambda: iam.create_service_linked_role(AWSServiceName=service), "InvalidInput"),
    )


def plan_role_removal(iam: IAMClient, name: str) -> Iterator[SetupStep]:
    """Plan to delete the role if setupAWS created it; otherwise, plan only to remove our policies from it.

    The role is kept if somebody else uses it too: if it has attached policies or is in another instance profile.
    """
    row = partial(SetupRow, "role", name)
    role: Any = none_if_missing(lambda: iam.get_role(RoleName=name)["Role"], MISSING_CODE)
    if role is None:
        return
    pages = iam.get_paginator("list_role_policies").paginate(RoleName=name)
    inline = [policy for page in pages for policy in page["PolicyNames"]]
    if not has_made_by_tag(role.get("Tags")):
        our_policies = [policy for policy in inline if policy.startswith(POLICY_NAME)]
        if our_policies:
            policies_row = SetupRow("policies", f"of {name}", SetupState.REMOVED)
            yield SetupStep(policies_row, partial(_delete_policies, iam, name, our_policies))
        yield SetupStep(row(SetupState.KEPT, "not created by setupAWS"))
    elif attached := _list_attached_policies(iam, name):
        yield SetupStep(row(SetupState.NOT_DONE, f"has attached policies: {', '.join(attached)}; detach them first"))
    elif profile_name := _find_foreign_profile(iam, name):
        reason = f"used by the instance profile {profile_name}, which setupAWS did not create"
        yield SetupStep(row(SetupState.NOT_DONE, reason))
    else:
        yield SetupStep(row(SetupState.REMOVED), partial(_delete_role, iam, name, inline))


def plan_profile_removal(iam: IAMClient, name: str) -> Iterator[SetupStep]:
    """Plan to delete the instance profile if setupAWS created it. The profile must be deleted before its role."""
    profile: Any = none_if_missing(
        lambda: iam.get_instance_profile(InstanceProfileName=name)["InstanceProfile"], MISSING_CODE
    )
    if profile is None:
        return
    if not has_made_by_tag(profile.get("Tags")):
        yield SetupStep(SetupRow("instance profile", name, SetupState.KEPT, "not created by setupAWS"))
        return

    def delete_profile() -> None:
        for role in profile["Roles"]:
            iam.remove_role_from_instance_profile(InstanceProfileName=name, RoleName=role["RoleName"])
        iam.delete_instance_profile(InstanceProfileName=name)

    yield SetupStep(SetupRow("instance profile", name, SetupState.REMOVED), delete_profile)


def _create_role(iam: IAMClient, spec: RoleSpec, trust: PolicyDocument, sleep: Callable[[float], None]) -> None:
    iam.create_role(RoleName=spec.name, AssumeRolePolicyDocument=json.dumps(trust), Tags=MADE_BY_TAGS)  # type: ignore[arg-type]
    put_policies(iam, spec, list(spec.policies), sleep)


def _update_role(
    iam: IAMClient, spec: RoleSpec, changed: list[str], trust: PolicyDocument | None, sleep: Callable[[float], None]
) -> None:
    if trust is not None:
        set_trust = partial(iam.update_assume_role_policy, RoleName=spec.name, PolicyDocument=json.dumps(trust))
        retry_until_consistent(set_trust, *_BUSY_CODES, sleep=sleep)
    put_policies(iam, spec, changed, sleep)


def put_policies(iam: IAMClient, spec: RoleSpec, names: list[str], sleep: Callable[[float], None]) -> None:
    """Write the policies with these names to the role. AWS errors are not caught."""
    for name in names:
        document = json.dumps(spec.policies[name], separators=(",", ":"))
        put_policy = partial(iam.put_role_policy, RoleName=spec.name, PolicyName=name, PolicyDocument=document)
        retry_until_consistent(put_policy, MISSING_CODE, *_BUSY_CODES, sleep=sleep)  # IAM may not find a new role yet


def _delete_policies(iam: IAMClient, role_name: str, names: list[str]) -> None:
    for name in names:
        iam.delete_role_policy(RoleName=role_name, PolicyName=name)


def _delete_role(iam: IAMClient, name: str, policies: list[str]) -> None:
    _delete_policies(iam, name, policies)
    iam.delete_role(RoleName=name)


def find_policy(iam: IAMClient, role_name: str, name: str) -> Any | None:
    """Return the policy in the role with this name, or None. AWS errors are not caught."""
    response = none_if_missing(lambda: iam.get_role_policy(RoleName=role_name, PolicyName=name), MISSING_CODE)
    return None if response is None else response["PolicyDocument"]


def _add_role_to_profile(iam: IAMClient, name: str, sleep: Callable[[float], None]) -> None:
    call = partial(iam.add_role_to_instance_profile, InstanceProfileName=name, RoleName=name)
    # IAM may not find a new profile or role yet.
    retry_until_consistent(call, MISSING_CODE, *_BUSY_CODES, sleep=sleep)


def _list_attached_policies(iam: IAMClient, name: str) -> list[str]:
    """Return the managed policies attached to the role. setupAWS attaches none, so somebody else uses such a role."""
    pages = iam.get_paginator("list_attached_role_policies").paginate(RoleName=name)
    return [policy["PolicyName"] for page in pages for policy in page["AttachedPolicies"]]


def _find_foreign_profile(iam: IAMClient, name: str) -> str | None:
    """Return an instance profile that contains the role but was not created by setupAWS; None if there is none."""
    pages = iam.get_paginator("list_instance_profiles_for_role").paginate(RoleName=name)
    for profile_name in [profile["InstanceProfileName"] for page in pages for profile in page["InstanceProfiles"]]:
        tags = iam.get_instance_profile(InstanceProfileName=profile_name)["InstanceProfile"].get("Tags")
        if profile_name != name or not has_made_by_tag(tags):
            return profile_name
    return None
