"""Checks whether anything still uses the account's roles. If so, setupAWS deletes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any

from distributed_something.account.lambda_function import list_monitor_rules
from distributed_something.aws.clients import EC2_PAGINATION, Clients
from distributed_something.aws.ec2_fleet import is_active_fleet_state, iter_fleets
from distributed_something.aws.retry import none_if_missing
from distributed_something.core.names import FLEET_ROLE, INSTANCE_ROLE, AwsAccount

# How long a role counts as in use in another region after it was last used there.
RECENT_USE_SECONDS = 24 * 3600.0


class UseKind(Enum):
    """The kind of resource that uses the account's roles."""

    RULE = "rule"
    FLEET = "fleet"
    MACHINE = "machine"
    OTHER_REGION = "other region"


@dataclass(frozen=True)
class AccountUse:
    """A use of the account's roles. `last_used`: for another region, when instances there last used their role."""

    kind: UseKind
    name: str
    last_used: datetime | None = None


def find_account_use(clients: Clients, account: AwsAccount, now: float) -> AccountUse | None:
    """Return the first use of the roles that is found, in this region or another; None if nothing uses them."""
    finders = (_iter_rules, _iter_active_fleets, _iter_instances)
    local_use = next((use for find_uses in finders for use in find_uses(clients, account)), None)
    return local_use or find_use_elsewhere(clients, account, now)


def find_use_elsewhere(clients: Clients, account: AwsAccount, now: float) -> AccountUse | None:
    """Return another region where instances used their role within the last day; None if there is none.

    All regions share the roles. IAM reports only the region of the last use, with a delay of several hours.
    https://docs.aws.amazon.com/IAM/latest/APIReference/API_RoleLastUsed.html
    """
    role: Any = none_if_missing(lambda: clients.iam.get_role(RoleName=INSTANCE_ROLE)["Role"], "NoSuchEntity") or {}
    last_use = role.get("RoleLastUsed", {})
    region, last_used = last_use.get("Region", account.region), last_use.get("LastUsedDate")
    if region == account.region or last_used is None or now - last_used.timestamp() > RECENT_USE_SECONDS:
        return None
    return AccountUse(UseKind.OTHER_REGION, region, last_used)


def format_account_use(use: AccountUse) -> str:
    """Return the use as a clause that explains why nothing was deleted."""
    match use.kind:
        case UseKind.RULE:
            return f"the rule {use.name} calls the auto-monitor"
        case UseKind.FLEET:
            return f"the fleet {use.name} is active"
        case UseKind.MACHINE:
            return f"the machine {use.name} uses the role {INSTANCE_ROLE}"
        case UseKind.OTHER_REGION:
            when = f"{use.last_used:%Y-%m-%d %H:%M} UTC, less than a day ago"
            return f"machines in {use.name} used the role {INSTANCE_ROLE} at {when}"


def _iter_rules(clients: Clients, account: AwsAccount) -> Iterator[AccountUse]:
    yield from (AccountUse(UseKind.RULE, name) for name in list_monitor_rules(clients, account))


def _iter_active_fleets(clients: Clients, account: AwsAccount) -> Iterator[AccountUse]:
    for fleet in iter_fleets(clients.ec2):
        role = fleet["SpotFleetRequestConfig"]["IamFleetRole"]
        if is_active_fleet_state(fleet["SpotFleetRequestState"]) and role == account.role(FLEET_ROLE):
            yield AccountUse(UseKind.FLEET, fleet["SpotFleetRequestId"])


def _iter_instances(clients: Clients, account: AwsAccount) -> Iterator[AccountUse]:
    filters: Any = [
        {"Name": "iam-instance-profile.arn", "Values": [account.profile(INSTANCE_ROLE)]},
        {"Name": "instance-state-name", "Values": ["pending", "running", "stopping", "stopped"]},
    ]
    pages = clients.ec2.get_paginator("describe_instances").paginate(Filters=filters, PaginationConfig=EC2_PAGINATION)
    for page in pages:
        for reservation in page["Reservations"]:
            yield from (AccountUse(UseKind.MACHINE, instance["InstanceId"]) for instance in reservation["Instances"])
