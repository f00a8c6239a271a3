"""Roles, the instance profile and service-linked roles: what is there, what it lacks, and how it goes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from control import policies
from control.errors import doing
from control.policies import Document
from control.steps import CHANGED, FOUND, KEPT, LEFT, MADE, MADE_BY, REMOVED, Row, Step, is_ours, or_none, patiently

if TYPE_CHECKING:
    from mypy_boto3_iam import IAMClient

POLICY = "distributed-something"  # the inline policy of every role; those of buckets begin with it
TAGS = [{"Key": MADE_BY[0], "Value": MADE_BY[1]}]
_MISSING = "NoSuchEntity"
_DENIED = ("AccessDenied", "AccessDeniedException")


@dataclass(frozen=True)
class Role:
    """A role as it is to be: who takes it, and its inline policies by name."""

    name: str
    service: str
    policies: dict[str, Document]


def role(iam: IAMClient, wanted: Role) -> Step:
    """Makes the role, or brings ours up to date. Somebody else's gets our policy beside its own, and no other trust."""
    trust = policies.trust(wanted.service)
    found: Any = or_none(lambda: iam.get_role(RoleName=wanted.name)["Role"], _MISSING)
    if found is None:
        return Step(Row("role", wanted.name, MADE), partial(_make_role, iam, wanted, trust))
    ours = is_ours(found.get("Tags"))
    note = "" if ours else "not made by setupAWS; what it has stays"
    if not ours and wanted.service not in policies.trusted(found["AssumeRolePolicyDocument"]):
        return Step(Row("role", wanted.name, LEFT, f"not made by setupAWS, and {wanted.service} may not take it"))
    changed = [name for name in wanted.policies if _policy(iam, wanted.name, name) != wanted.policies[name]]
    new_trust = ours and found["AssumeRolePolicyDocument"] != trust
    if not changed and not new_trust:
        return Step(Row("role", wanted.name, FOUND, note))
    what = ", ".join([*(["trust"] if new_trust else []), *(f"policy {name}" for name in changed)])
    act = partial(_change_role, iam, wanted, changed, trust if new_trust else None)
    return Step(Row("role", wanted.name, CHANGED, "; ".join(filter(None, [what, note]))), act)


def profile(iam: IAMClient, name: str, sleep: Callable[[float], None]) -> Step:
    """Makes the instance profile and puts the role of the same name into it."""
    found: Any = or_none(lambda: iam.get_instance_profile(InstanceProfileName=name)["InstanceProfile"], _MISSING)
    kind = "instance profile"
    add = partial(_add_role, iam, name, sleep)
    if found is None:

        def make() -> None:
            iam.create_instance_profile(InstanceProfileName=name, Tags=TAGS)  # type: ignore[arg-type]
            add()

        return Step(Row(kind, name, MADE), make)
    roles = [one["RoleName"] for one in found["Roles"]]
    if not roles:
        return Step(Row(kind, name, CHANGED, f"role {name} put into it"), add)
    return Step(Row(kind, name, *((FOUND, "") if name in roles else (LEFT, f"it holds the role {roles[0]}"))))


def service_linked(iam: IAMClient, name: str, service: str) -> Step:
    """Makes the role that AWS's service takes by itself."""
    if or_none(lambda: iam.get_role(RoleName=name), _MISSING) is not None:
        return Step(Row("service-linked role", name, FOUND))
    # InvalidInput: «has been taken in this account»: the service made it just now.
    return Step(
        Row("service-linked role", name, MADE),
        lambda: or_none(lambda: iam.create_service_linked_role(AWSServiceName=service), "InvalidInput"),
    )


def end_role(iam: IAMClient, name: str) -> Iterator[Step]:
    """Deletes our role; of somebody else's, only our policies."""
    found: Any = or_none(lambda: iam.get_role(RoleName=name)["Role"], _MISSING)
    if found is None:
        return
    pages = iam.get_paginator("list_role_policies").paginate(RoleName=name)
    inline = [one for page in pages for one in page["PolicyNames"]]
    if not is_ours(found.get("Tags")):
        mine = [one for one in inline if one.startswith(POLICY)]
        if mine:
            yield Step(Row("policies", f"of {name}", REMOVED), partial(_delete_policies, iam, name, mine))
        yield Step(Row("role", name, KEPT, "not made by setupAWS"))
        return
    others = _foreign_to(iam, name)
    if others:
        yield Step(Row("role", name, LEFT, others))
        return

    def delete() -> None:
        _delete_policies(iam, name, inline)
        iam.delete_role(RoleName=name)

    yield Step(Row("role", name, REMOVED), delete)


def end_profile(iam: IAMClient, name: str) -> Iterator[Step]:
    """Deletes our instance profile; before the role in it."""
    found: Any = or_none(lambda: iam.get_instance_profile(InstanceProfileName=name)["InstanceProfile"], _MISSING)
    if found is None:
        return
    if not is_ours(found.get("Tags")):
        yield Step(Row("instance profile", name, KEPT, "not made by setupAWS"))
        return

    def delete() -> None:
        for one in found["Roles"]:
            iam.remove_role_from_instance_profile(InstanceProfileName=name, RoleName=one["RoleName"])
        iam.delete_instance_profile(InstanceProfileName=name)

    yield Step(Row("instance profile", name, REMOVED), delete)


def roles_of_tasks(iam: IAMClient) -> dict[str, str]:
    """The roles of the containers, as RegisterTaskDefinition takes them: `taskRoleArn`, which the worker works with,
    and `executionRoleArn`, with which ECS pulls its image and opens its log.

    Empty where setupAWS was never run here, or where this login may not look: then containers go on with the role of
    their machine, as in the published version. Raises CloudError for any other refusal.
    """
    found = {}
    for key, name in (("taskRoleArn", policies.TASK_ROLE), ("executionRoleArn", policies.EXECUTION_ROLE)):
        with doing(f"looking for the role {name}"):
            role: Any = or_none(lambda name=name: iam.get_role(RoleName=name)["Role"], _MISSING, *_DENIED)  # type: ignore[misc]
        if role is None:
            return {}
        found[key] = str(role["Arn"])
    return found


def _make_role(iam: IAMClient, wanted: Role, trust: Document) -> None:
    iam.create_role(RoleName=wanted.name, AssumeRolePolicyDocument=json.dumps(trust), Tags=TAGS)  # type: ignore[arg-type]
    _put_policies(iam, wanted, list(wanted.policies))


def _change_role(iam: IAMClient, wanted: Role, changed: list[str], trust: Document | None) -> None:
    if trust is not None:
        iam.update_assume_role_policy(RoleName=wanted.name, PolicyDocument=json.dumps(trust))
    _put_policies(iam, wanted, changed)


def _put_policies(iam: IAMClient, wanted: Role, names: list[str]) -> None:
    for name in names:
        document = json.dumps(wanted.policies[name], separators=(",", ":"))
        iam.put_role_policy(RoleName=wanted.name, PolicyName=name, PolicyDocument=document)


def _delete_policies(iam: IAMClient, role_name: str, names: list[str]) -> None:
    for name in names:
        iam.delete_role_policy(RoleName=role_name, PolicyName=name)


def _policy(iam: IAMClient, role_name: str, name: str) -> Any | None:
    found = or_none(lambda: iam.get_role_policy(RoleName=role_name, PolicyName=name), _MISSING)
    return None if found is None else found["PolicyDocument"]


def _add_role(iam: IAMClient, name: str, sleep: Callable[[float], None]) -> None:
    call = partial(iam.add_role_to_instance_profile, InstanceProfileName=name, RoleName=name)
    patiently(call, _MISSING, sleep=sleep)  # the profile, or the role, that was made a moment ago


def _foreign_to(iam: IAMClient, name: str) -> str:
    """What others hung on our role: as long as it is there, the role is theirs too."""
    attached = iam.get_paginator("list_attached_role_policies").paginate(RoleName=name)
    found = [one["PolicyName"] for page in attached for one in page["AttachedPolicies"]]
    if found:
        return f"somebody attached {', '.join(found)}"
    pages = iam.get_paginator("list_instance_profiles_for_role").paginate(RoleName=name)
    for holder in [one["InstanceProfileName"] for page in pages for one in page["InstanceProfiles"]]:
        tags = iam.get_instance_profile(InstanceProfileName=holder)["InstanceProfile"].get("Tags")
        if holder != name or not is_ours(tags):
            return f"the instance profile {holder} holds it, which setupAWS did not make"
    return ""
