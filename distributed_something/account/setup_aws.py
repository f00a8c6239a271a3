"""The steps of `run.py setupAWS`, which sets up an AWS account once for all runs, and the steps that undo the setup.

Each step first inspects the account and then does only what is missing, so you can repeat the command at any time, for
example after you change the config or the code. setupAWS never overwrites resources that it did not create: it adds to
them, or reports why it cannot. Everything setupAWS creates has the tag made-by=distributed-something; it never deletes
resources without this tag.
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
from distributed_something.account.bucket_key import (
    BucketKey,
    build_key_policy,
    build_key_row,
    find_bucket_keys,
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
    build_session_policy,
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
from distributed_something.account.topic.plan_topic import Subscriber, list_topic_planners, plan_topic_removals
from distributed_something.account.use import find_account_use, format_account_use
from distributed_something.account.user_policies import (
    SERVICE_LINKED_ROLES,
    build_administrator_policy,
    build_control_policies,
)
from distributed_something.aws.clients import Clients
from distributed_something.core.clock import Clock
from distributed_something.core.config_settings import list_own_buckets
from distributed_something.core.errors import AWSError, explain_aws_error, is_access_denied, translate_aws_errors
from distributed_something.core.names import (
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

SESSION_POLICY_NAME = f"{POLICY_NAME}-session-manager"


@dataclass(frozen=True)
class Buckets:
    """The buckets of a config: AWS_BUCKET, other buckets that jobs read, and other buckets that jobs also write."""

    own: str
    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()

    @property
    def all(self) -> list[str]:
        return list(dict.fromkeys((self.own, *self.write, *self.read)))


def collect_buckets(settings: Settings, read: Iterable[str] = (), write: Iterable[str] = ()) -> Buckets:
    """Return the buckets in the config, plus the buckets to `read` or `write` that appear only in job files.

    The buckets in the config are AWS_BUCKET and the user's own constants whose names end with _BUCKET. Jobs also write
    to a bucket if the name of its constant contains DESTINATION or OUTPUT.
    """
    reads, writes = list(read), list(write)
    for name, bucket in list_own_buckets(settings).items():
        (writes if re.search("DESTINATION|OUTPUT", name) else reads).append(bucket)
    written = {settings.AWS_BUCKET, *writes}
    return Buckets(
        settings.AWS_BUCKET,
        tuple(sorted(set(reads) - written)),
        tuple(sorted(written - {settings.AWS_BUCKET})),
    )


def set_up_account(
    clients: Clients, account: AwsAccount, buckets: Buckets, root: Path, sleep: Callable[[float], None], *,
    dry_run: bool = False, session_manager: bool = False,
) -> Iterator[SetupRow]:  # fmt: skip
    """Yield one row per resource after creating or updating it.

    Raise CloudError if a step fails that every run depends on; another call continues with that step. `root`:
    the folder that contains `distributed_something/`, the auto-monitor's code. `dry_run`: only report the changes.
    `session_manager`: let people log in to machines with Session Manager; a later call without it changes nothing.
    """
    code = build_bundle(root)
    planners = _iter_planners(clients, account, buckets, code, sleep, session_manager=session_manager)
    yield from _apply_plans(planners, dry_run=dry_run)


def set_up_topic(
    clients: Clients, arn: str, subscriber: Subscriber | None, sleep: Callable[[float], None], *,
    dry_run: bool = False, is_local: bool = False,
) -> Iterator[SetupRow]:  # fmt: skip
    """Yield one row per resource after creating or updating what notifications need, as `set_up_account` does.

    `arn`: of the topic. `subscriber`: None if the topic and its subscriptions are not setupAWS's business.
    """
    yield from _apply_plans(list_topic_planners(clients, arn, subscriber, sleep, is_local=is_local), dry_run=dry_run)


def _apply_plans(planners: Iterable[Callable[[], SetupStep]], *, dry_run: bool) -> Iterator[SetupRow]:
    for plan in planners:
        with translate_aws_errors("inspecting the account"):
            step = plan()
        yield _preview_step(step) if dry_run else apply_step(step)


def _iter_planners(
    clients: Clients,
    account: AwsAccount,
    buckets: Buckets,
    code: bytes,
    sleep: Callable[[float], None],
    *,
    session_manager: bool,
) -> Iterator[Callable[[], SetupStep]]:
    """Yield a function for each step, which inspects the account and returns the step."""
    yield from (partial(plan_service_linked_role, clients.iam, *names) for names in SERVICE_LINKED_ROLES.items())
    with translate_aws_errors("inspecting the buckets"):
        keys = find_bucket_keys(clients, account, buckets.all)
    rows = filter(None, (build_key_row(key, account) for key in keys))
    yield from (partial(SetupStep, row) for row in rows)
    roles = build_roles(account, buckets, keys, session_manager=session_manager)
    yield from (partial(plan_role, clients.iam, role, sleep) for role in roles)
    yield partial(plan_instance_profile, clients.iam, INSTANCE_ROLE, sleep)
    yield partial(plan_monitor_log_group, clients, sleep)
    yield partial(plan_monitor_function, clients, account, code, sleep)
    yield partial(plan_monitor_permission, clients, account, sleep)
    yield partial(plan_bucket_policy, clients, account, buckets.own, sleep)
    yield partial(plan_lifecycle_rule, clients, buckets.own, sleep)


def delete_account_setup(
    clients: Clients, account: AwsAccount, buckets: Buckets, clock: Clock, *, topic: str = "", dry_run: bool = False
) -> Iterator[SetupRow]:
    """Yield one row per resource that was deleted or had to be kept. `topic`: the ARN in the config, if any.

    While a run is active, nothing is deleted. If a deletion fails, the row gives AWS's reason. Raise CloudError if the
    account cannot be inspected. `dry_run`: only report the deletions.
    """
    with translate_aws_errors("looking for active runs"):
        use = find_account_use(clients, account, clock.now())
    if use is not None:
        reason = f"{format_account_use(use)}: nothing was removed; end the run first"
        yield SetupRow("account", account.account_id, SetupState.NOT_DONE, reason)
        return
    planners: list[Callable[[], Iterable[SetupStep]]] = [
        partial(plan_monitor_removal, clients),
        partial(plan_topic_removals, clients, account, topic),
        partial(plan_profile_removal, clients.iam, INSTANCE_ROLE),
        *(partial(plan_role_removal, clients.iam, role.name) for role in build_roles(account, buckets)),
        partial(plan_security_group_removals, clients),
        partial(plan_bucket_policy_removal, clients, account, buckets.own, clock.sleep),
        partial(plan_lifecycle_rule_removal, clients, buckets.own, clock.sleep),
        _list_kept_roles,
    ]
    for plan in planners:
        with translate_aws_errors("inspecting the account"):
            steps = list(plan())
        for step in steps:
            yield _preview_step(step) if dry_run else _apply_removal(step)


def build_handout_policies(
    account: AwsAccount, buckets: Buckets, keys: Iterable[BucketKey] = (), topic: str = ""
) -> dict[str, PolicyDocument]:
    """Return the policies that an administrator attaches to people, keyed by name: two for users, one for setupAWS.

    `topic`: the ARN of the topic that gets notifications; "" if there is none.
    """
    return build_control_policies(account, buckets.all, [key.arn for key in keys if key.arn], topic) | {
        "distributed-something-administrator": build_administrator_policy(account, buckets.all, topic)
    }


def get_key_policy_name(bucket: str) -> str:
    """Return the name of the policy that lets a role use the bucket's key."""
    return f"{POLICY_NAME}-{bucket}-key"


def build_roles(
    account: AwsAccount, buckets: Buckets, keys: Iterable[BucketKey] = (), *, session_manager: bool = False
) -> list[RoleSpec]:
    """Return the roles to set up. Each bucket has its own policy, so another config's buckets only add policies.

    So does each bucket's key: if it cannot be looked up this time, an earlier policy for it stays.
    """
    instance = {POLICY_NAME: build_instance_policy(account)}
    instance |= {SESSION_POLICY_NAME: build_session_policy()} if session_manager else {}
    written = (buckets.own, *buckets.write)
    task = {POLICY_NAME: build_task_policy(account)} | {
        f"{POLICY_NAME}-{name}": build_task_bucket_policy(account, name, write=name in written) for name in buckets.all
    }
    monitor = {
        POLICY_NAME: build_monitor_policy(account),
        f"{POLICY_NAME}-{buckets.own}": build_monitor_bucket_policy(account, buckets.own),
    }
    for key in (key for key in keys if key.arn):
        name, is_written = get_key_policy_name(key.bucket), key.bucket in written
        task[name] = build_key_policy(key.arn, write=is_written)
        monitor |= {name: build_key_policy(key.arn, write=True)} if key.bucket == buckets.own else {}
    return [
        RoleSpec(INSTANCE_ROLE, get_ec2_service_name(account), instance),
        RoleSpec(FLEET_ROLE, "spotfleet.amazonaws.com", {POLICY_NAME: build_fleet_policy(account)}),
        RoleSpec(TASK_ROLE, "ecs-tasks.amazonaws.com", task),
        RoleSpec(EXECUTION_ROLE, "ecs-tasks.amazonaws.com", {POLICY_NAME: build_execution_policy(account)}),
        RoleSpec(MONITOR_ROLE, "lambda.amazonaws.com", monitor),
    ]


def _preview_step(step: SetupStep) -> SetupRow:
    row = step.row
    return row if step.apply is None else replace(row, is_planned=True)


def apply_step(step: SetupStep) -> SetupRow:
    """Carry out the step and return its row.

    Raise CloudError if the step fails. If AWS denies an optional step, return a row that says what to do.
    """
    with translate_aws_errors(f"setting up: {step.row.kind} {step.row.name}"):
        try:
            if step.apply is not None:
                step.apply()
        except ClientError as error:
            if not step.denied_note or not is_access_denied(error):
                raise
            return replace(step.row, state=SetupState.NOT_DONE, note=step.denied_note)
    return step.row


def _apply_removal(step: SetupStep) -> SetupRow:
    if step.apply is not None:
        try:
            step.apply()
        except AWSError as error:
            note = str(explain_aws_error(f"removing {step.row.name}", error))
            return replace(step.row, state=SetupState.NOT_DONE, note=note)
    return step.row


def plan_security_group_removals(clients: Clients) -> Iterator[SetupStep]:
    """Plan to delete the security groups that fleetFile created in this region."""
    filters: Any = [{"Name": f"tag:{key}", "Values": [value]} for key, value in MADE_BY_TAG.items()]
    for page in clients.ec2.get_paginator("describe_security_groups").paginate(Filters=filters):
        for group in page["SecurityGroups"]:
            if has_made_by_tag(group.get("Tags")):
                delete = partial(clients.ec2.delete_security_group, GroupId=group["GroupId"])
                yield SetupStep(SetupRow("security group", group["GroupId"], SetupState.REMOVED), delete)


def _list_kept_roles() -> Iterator[SetupStep]:
    note = "owned by AWS, shared by everything that uses the service"
    for name in SERVICE_LINKED_ROLES:
        yield SetupStep(SetupRow("service-linked role", name, SetupState.KEPT, note))
