"""`run.py setupAWS`: what an account needs once, before anybody's first run; and its removal.

Every step looks first and does only what is missing, so it may be repeated at any time, also after a change of the
config or of the code. What was there before is never overwritten: it is added to, or left and told. What setupAWS
makes carries the tag made-by=distributed-something, and only that is ever deleted.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from distributed_something.account.bucket import (
    plan_bucket_policy,
    plan_bucket_policy_removal,
    plan_lifecycle_rule,
    plan_lifecycle_rule_removal,
)
from distributed_something.account.lambda_function import (
    build_bundle,
    plan_monitor_function,
    plan_monitor_log_group,
    plan_monitor_permission,
    plan_monitor_removal,
)
from distributed_something.account.policies import (
    build_execution_policy,
    build_fleet_policy,
    build_instance_policy,
    build_monitor_bucket_policy,
    build_monitor_policy,
    build_task_bucket_policy,
    build_task_policy,
)
from distributed_something.account.policy_documents import PolicyDocument, get_ec2_service_name
from distributed_something.account.roles import (
    POLICY_NAME,
    RoleSpec,
    plan_instance_profile,
    plan_profile_removal,
    plan_role,
    plan_role_removal,
    plan_service_linked_role,
)
from distributed_something.account.step import (
    SetupRow,
    SetupState,
    SetupStep,
)
from distributed_something.account.use import find_account_use, format_account_use
from distributed_something.account.user_policies import (
    SERVICE_LINKED_ROLES,
    build_administrator_policy,
    build_control_policies,
)
from distributed_something.aws.clients import Clients
from distributed_something.core.errors import AWSError, explain_aws_error, is_access_denied, translate_aws_errors
from distributed_something.core.names import (
    BUCKET_NAME_FORMAT,
    EXECUTION_ROLE,
    FLEET_ROLE,
    INSTANCE_ROLE,
    MONITOR_ROLE,
    TASK_ROLE,
    AwsAccount,
)
from distributed_something.core.tags import MADE_BY_TAG, has_made_by_tag

if TYPE_CHECKING:
    from distributed_something.core.config_settings import Settings


@dataclass(frozen=True)
class Buckets:
    """The buckets of a config: AWS_BUCKET; others that jobs read; and others that they write too."""

    own: str
    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()

    @property
    def all(self) -> list[str]:
        return list(dict.fromkeys((self.own, *self.write, *self.read)))


def collect_buckets(settings: Settings, read: Iterable[str] = (), write: Iterable[str] = ()) -> Buckets:
    """AWS_BUCKET, the user's own constants named …_BUCKET (written to, if DESTINATION or OUTPUT is in the name), and
    those given: a job file may name others, which the config cannot know."""
    reads, writes = list(read), list(write)
    for name, value in settings.own.items():
        if name.endswith("_BUCKET") and BUCKET_NAME_FORMAT.fits(value):
            (writes if re.search("DESTINATION|OUTPUT", name) else reads).append(value)
    written = {settings.AWS_BUCKET, *writes}
    return Buckets(
        settings.AWS_BUCKET,
        tuple(sorted(set(reads) - written)),
        tuple(sorted(written - {settings.AWS_BUCKET})),
    )


def set_up_account(
    clients: Clients, place: AwsAccount, buckets: Buckets, root: Path, sleep: Callable[[float], None], *,
    dry_run: bool = False,
) -> Iterator[SetupRow]:  # fmt: skip
    """A line for each thing, once it is as it is to be. Raises CloudError where AWS refuses what runs cannot do
    without; a repeat goes on.

    `root`: the folder that holds `distributed_something/`, which becomes the auto-monitor. `dry_run`: only report what
    would be made or changed.
    """
    code = build_bundle(root)
    looks: list[Callable[[], SetupStep]] = [
        *(partial(plan_service_linked_role, clients.iam, *one) for one in SERVICE_LINKED_ROLES.items()),
        *(partial(plan_role, clients.iam, role) for role in build_roles(place, buckets)),
        partial(plan_instance_profile, clients.iam, INSTANCE_ROLE, sleep),
        partial(plan_monitor_log_group, clients),
        partial(plan_monitor_function, clients, place, code, sleep),
        partial(plan_monitor_permission, clients, place),
        partial(plan_bucket_policy, clients, place, buckets.own),
        partial(plan_lifecycle_rule, clients, buckets.own),
    ]
    for look in looks:
        with translate_aws_errors("looking at the account"):
            step = look()
        yield _preview_step(step) if dry_run else apply_step(step)


def delete_account_setup(
    clients: Clients, place: AwsAccount, buckets: Buckets, now: Callable[[], float], *, dry_run: bool = False
) -> Iterator[SetupRow]:
    """A line for each thing that was removed or left, and why. Nothing goes while a run goes on.

    What AWS refuses is left, with its reason. Raises CloudError where not even looking is allowed.
    """
    with translate_aws_errors("looking for runs that go on"):
        use = find_account_use(clients, place, now())
    if use is not None:
        reason = f"{format_account_use(use)}: nothing was removed; end the run first"
        yield SetupRow("account", place.account, SetupState.LEFT, reason)
        return
    ends: list[Callable[[], Iterable[SetupStep]]] = [
        partial(plan_monitor_removal, clients),
        partial(plan_profile_removal, clients.iam, INSTANCE_ROLE),
        *(partial(plan_role_removal, clients.iam, role.name) for role in build_roles(place, buckets)),
        partial(plan_security_group_removals, clients),
        partial(plan_bucket_policy_removal, clients, place, buckets.own),
        partial(plan_lifecycle_rule_removal, clients, buckets.own),
        _list_kept_roles,
    ]
    for end in ends:
        with translate_aws_errors("looking at the account"):
            steps = list(end())
        for step in steps:
            yield _preview_step(step) if dry_run else _apply_removal(step)


def build_handout_policies(place: AwsAccount, buckets: Buckets) -> dict[str, PolicyDocument]:
    """What an administrator gives to people, by name: a user's two policies, and what setupAWS itself needs."""
    return build_control_policies(place, buckets.all) | {
        "distributed-something-administrator": build_administrator_policy(place, buckets.all)
    }


def build_roles(place: AwsAccount, buckets: Buckets) -> list[RoleSpec]:
    """The roles as they are to be. Each bucket has a policy of its own, so that configs with other buckets add up."""
    written = (buckets.own, *buckets.write)
    task = {POLICY_NAME: build_task_policy(place)} | {
        f"{POLICY_NAME}-{name}": build_task_bucket_policy(place, name, write=name in written) for name in buckets.all
    }
    monitor = {
        POLICY_NAME: build_monitor_policy(place),
        f"{POLICY_NAME}-{buckets.own}": build_monitor_bucket_policy(place, buckets.own),
    }
    return [
        RoleSpec(INSTANCE_ROLE, get_ec2_service_name(place), {POLICY_NAME: build_instance_policy(place)}),
        RoleSpec(FLEET_ROLE, "spotfleet.amazonaws.com", {POLICY_NAME: build_fleet_policy(place)}),
        RoleSpec(TASK_ROLE, "ecs-tasks.amazonaws.com", task),
        RoleSpec(EXECUTION_ROLE, "ecs-tasks.amazonaws.com", {POLICY_NAME: build_execution_policy(place)}),
        RoleSpec(MONITOR_ROLE, "lambda.amazonaws.com", monitor),
    ]


def _preview_step(step: SetupStep) -> SetupRow:
    row = step.row
    return row if step.act is None else replace(row, planned=True)


def apply_step(step: SetupStep) -> SetupRow:
    with translate_aws_errors(f"setting up: {step.row.kind} {step.row.name}"):
        try:
            if step.act is not None:
                step.act()
        except ClientError as error:
            if not step.if_denied or not is_access_denied(error):
                raise
            return replace(step.row, state=SetupState.LEFT, note=step.if_denied)
    return step.row


def _apply_removal(step: SetupStep) -> SetupRow:
    if step.act is not None:
        try:
            step.act()
        except AWSError as error:
            return replace(
                step.row, state=SetupState.LEFT, note=str(explain_aws_error(f"removing {step.row.name}", error))
            )
    return step.row


def plan_security_group_removals(clients: Clients) -> Iterator[SetupStep]:
    """Those that fleetFile made in this region."""
    filters: Any = [{"Name": f"tag:{key}", "Values": [value]} for key, value in MADE_BY_TAG.items()]
    for page in clients.ec2.get_paginator("describe_security_groups").paginate(Filters=filters):
        for group in page["SecurityGroups"]:
            if has_made_by_tag(group.get("Tags")):
                delete = partial(clients.ec2.delete_security_group, GroupId=group["GroupId"])
                yield SetupStep(SetupRow("security group", group["GroupId"], SetupState.REMOVED), delete)


def _list_kept_roles() -> Iterator[SetupStep]:
    for name in SERVICE_LINKED_ROLES:
        yield SetupStep(
            SetupRow("service-linked role", name, SetupState.KEPT, "AWS's own, shared by all that uses the service")
        )
