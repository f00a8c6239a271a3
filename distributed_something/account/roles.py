"""Roles, the instance profile and service-linked roles: what is there, what it lacks, and how it goes."""

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


POLICY_NAME = "distributed-something"  # the inline policy of every role; those of buckets begin with it
MADE_BY_TAGS = build_ec2_tags(MADE_BY_TAG)
MISSING_CODE = "NoSuchEntity"


@dataclass(frozen=True)
class RoleSpec:
    """A role as it is to be: who takes it, and its inline policies by name."""

    name: str
    service: str
    policies: dict[str, PolicyDocument]


def plan_role(iam: IAMClient, wanted: RoleSpec) -> SetupStep:
    """Makes the role, or brings ours up to date. Somebody else's gets our policy beside its own, and no other trust."""
    row = partial(SetupRow, "role", wanted.name)
    trust = build_trust_policy(wanted.service)
    found: Any = none_if_missing(lambda: iam.get_role(RoleName=wanted.name)["Role"], MISSING_CODE)
    if found is None:
        return SetupStep(row(SetupState.MADE), partial(_create_role, iam, wanted, trust))
    ours = has_made_by_tag(found.get("Tags"))
    note = "" if ours else "not made by setupAWS; what it has stays"
    if not ours and wanted.service not in list_trusted_services(found["AssumeRolePolicyDocument"]):
        return SetupStep(row(SetupState.LEFT, f"not made by setupAWS, and {wanted.service} may not take it"))
    changed = [name for name in wanted.policies if _find_policy(iam, wanted.name, name) != wanted.policies[name]]
    new_trust = ours and found["AssumeRolePolicyDocument"] != trust
    if not changed and not new_trust:
        return SetupStep(row(SetupState.FOUND, note))
    what = ", ".join([*(["trust"] if new_trust else []), *(f"policy {name}" for name in changed)])
    act = partial(_update_role, iam, wanted, changed, trust if new_trust else None)
    return SetupStep(row(SetupState.CHANGED, "; ".join(filter(None, [what, note]))), act)


def plan_instance_profile(iam: IAMClient, name: str, sleep: Callable[[float], None]) -> SetupStep:
    """Makes the instance profile and puts the role of the same name into it."""
    row = partial(SetupRow, "instance profile", name)
    found: Any = none_if_missing(
        lambda: iam.get_instance_profile(InstanceProfileName=name)["InstanceProfile"], MISSING_CODE
    )
    add = partial(_add_role_to_profile, iam, name, sleep)
    if found is None:

        def make() -> None:
            iam.create_instance_profile(InstanceProfileName=name, Tags=MADE_BY_TAGS)  # type: ignore[arg-type]
            add()

        return SetupStep(row(SetupState.MADE), make)
    roles = [one["RoleName"] for one in found["Roles"]]
    if not roles:
        return SetupStep(row(SetupState.CHANGED, f"role {name} put into it"), add)
    if name not in roles:
        return SetupStep(row(SetupState.LEFT, f"it holds the role {roles[0]}"))
    return SetupStep(row(SetupState.FOUND))


def plan_service_linked_role(iam: IAMClient, name: str, service: str) -> SetupStep:
    """Makes the role that AWS's service takes by itself."""
    if none_if_missing(lambda: iam.get_role(RoleName=name), MISSING_CODE) is not None:
        return SetupStep(SetupRow("service-linked role", name, SetupState.FOUND))
    # InvalidInput: «has been taken in this account»: the service made it just now.
    return SetupStep(
        SetupRow("service-linked role", name, SetupState.MADE),
        lambda: none_if_missing(lambda: iam.create_service_linked_role(AWSServiceName=service), "InvalidInput"),
    )


def plan_role_removal(iam: IAMClient, name: str) -> Iterator[SetupStep]:
    """Deletes our role; of somebody else's, only our policies."""
    row = partial(SetupRow, "role", name)
    found: Any = none_if_missing(lambda: iam.get_role(RoleName=name)["Role"], MISSING_CODE)
    if found is None:
        return
    pages = iam.get_paginator("list_role_policies").paginate(RoleName=name)
    inline = [policy for page in pages for policy in page["PolicyNames"]]
    if not has_made_by_tag(found.get("Tags")):
        own = [policy for policy in inline if policy.startswith(POLICY_NAME)]
        if own:
            removed = SetupRow("policies", f"of {name}", SetupState.REMOVED)
            yield SetupStep(removed, partial(_delete_policies, iam, name, own))
        yield SetupStep(row(SetupState.KEPT, "not made by setupAWS"))
    elif attached := _list_attached_policies(iam, name):
        yield SetupStep(row(SetupState.LEFT, f"somebody attached {', '.join(attached)}"))
    elif holder := _find_foreign_profile(iam, name):
        reason = f"the instance profile {holder} holds it, which setupAWS did not make"
        yield SetupStep(row(SetupState.LEFT, reason))
    else:
        yield SetupStep(row(SetupState.REMOVED), partial(_delete_role, iam, name, inline))


def plan_profile_removal(iam: IAMClient, name: str) -> Iterator[SetupStep]:
    """Deletes our instance profile; before the role in it."""
    found: Any = none_if_missing(
        lambda: iam.get_instance_profile(InstanceProfileName=name)["InstanceProfile"], MISSING_CODE
    )
    if found is None:
        return
    if not has_made_by_tag(found.get("Tags")):
        yield SetupStep(SetupRow("instance profile", name, SetupState.KEPT, "not made by setupAWS"))
        return

    def delete() -> None:
        for one in found["Roles"]:
            iam.remove_role_from_instance_profile(InstanceProfileName=name, RoleName=one["RoleName"])
        iam.delete_instance_profile(InstanceProfileName=name)

    yield SetupStep(SetupRow("instance profile", name, SetupState.REMOVED), delete)


def _create_role(iam: IAMClient, wanted: RoleSpec, trust: PolicyDocument) -> None:
    iam.create_role(RoleName=wanted.name, AssumeRolePolicyDocument=json.dumps(trust), Tags=MADE_BY_TAGS)  # type: ignore[arg-type]
    _put_policies(iam, wanted, list(wanted.policies))


def _update_role(iam: IAMClient, wanted: RoleSpec, changed: list[str], trust: PolicyDocument | None) -> None:
    if trust is not None:
        iam.update_assume_role_policy(RoleName=wanted.name, PolicyDocument=json.dumps(trust))
    _put_policies(iam, wanted, changed)


def _put_policies(iam: IAMClient, wanted: RoleSpec, names: list[str]) -> None:
    for name in names:
        document = json.dumps(wanted.policies[name], separators=(",", ":"))
        iam.put_role_policy(RoleName=wanted.name, PolicyName=name, PolicyDocument=document)


def _delete_policies(iam: IAMClient, role_name: str, names: list[str]) -> None:
    for name in names:
        iam.delete_role_policy(RoleName=role_name, PolicyName=name)


def _delete_role(iam: IAMClient, name: str, policies: list[str]) -> None:
    _delete_policies(iam, name, policies)
    iam.delete_role(RoleName=name)


def _find_policy(iam: IAMClient, role_name: str, name: str) -> Any | None:
    found = none_if_missing(lambda: iam.get_role_policy(RoleName=role_name, PolicyName=name), MISSING_CODE)
    return None if found is None else found["PolicyDocument"]


def _add_role_to_profile(iam: IAMClient, name: str, sleep: Callable[[float], None]) -> None:
    call = partial(iam.add_role_to_instance_profile, InstanceProfileName=name, RoleName=name)
    retry_until_consistent(call, MISSING_CODE, sleep=sleep)  # the profile, or the role, that was made a moment ago


def _list_attached_policies(iam: IAMClient, name: str) -> list[str]:
    """What others attached to our role: as long as it is there, the role is theirs too."""
    pages = iam.get_paginator("list_attached_role_policies").paginate(RoleName=name)
    return [policy["PolicyName"] for page in pages for policy in page["AttachedPolicies"]]


def _find_foreign_profile(iam: IAMClient, name: str) -> str | None:
    """An instance profile that holds our role, but is not ours."""
    pages = iam.get_paginator("list_instance_profiles_for_role").paginate(RoleName=name)
    for holder in [profile["InstanceProfileName"] for page in pages for profile in page["InstanceProfiles"]]:
        tags = iam.get_instance_profile(InstanceProfileName=holder)["InstanceProfile"].get("Tags")
        if holder != name or not has_made_by_tag(tags):
            return holder
    return None
