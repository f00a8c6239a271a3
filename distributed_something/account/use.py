"""What still needs the account's roles: while there is something, setupAWS removes nothing."""

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

# For so long after its last use in another region a role is thought to be in use there.
RECENT_USE_SECONDS = 24 * 3600.0


class UseKind(Enum):
    """What uses the account's roles."""

    RULE = "rule"
    FLEET = "fleet"
    MACHINE = "machine"
    OTHER_REGION = "other region"


@dataclass(frozen=True)
class AccountUse:
    """Something that needs the account's roles: its name, and when a machine of another region last had its role."""

    kind: UseKind
    name: str
    last_used: datetime | None = None


def find_account_use(clients: Clients, place: AwsAccount, now: float) -> AccountUse | None:
    """Return the first thing found that needs the roles, of this region or of another one; None where nothing does."""
    looks = (_iter_rules, _iter_active_fleets, _iter_machines)
    here = next((use for look in looks for use in look(clients, place)), None)
    return here or find_use_elsewhere(clients, place, now)


def find_use_elsewhere(clients: Clients, place: AwsAccount, now: float) -> AccountUse | None:
    """Return the other region in which machines had their role within a day: roles are of all regions. IAM tells the
    region of the last use alone, some hours late.
    https://docs.aws.amazon.com/IAM/latest/APIReference/API_RoleLastUsed.html
    """
    role: Any = none_if_missing(lambda: clients.iam.get_role(RoleName=INSTANCE_ROLE)["Role"], "NoSuchEntity") or {}
    used = role.get("RoleLastUsed", {})
    region, when = used.get("Region", place.region), used.get("LastUsedDate")
    if region == place.region or when is None or now - when.timestamp() > RECENT_USE_SECONDS:
        return None
    return AccountUse(UseKind.OTHER_REGION, region, when)


def format_account_use(use: AccountUse) -> str:
    match use.kind:
        case UseKind.RULE:
            return f"the rule {use.name} calls the auto-monitor"
        case UseKind.FLEET:
            return f"the fleet {use.name} is active"
        case UseKind.MACHINE:
            return f"the machine {use.name} has the role {INSTANCE_ROLE}"
        case UseKind.OTHER_REGION:
            when = f"{use.last_used:%Y-%m-%d %H:%M} UTC, less than a day ago"
            return f"machines in {use.name} had the role {INSTANCE_ROLE} at {when}"


def _iter_rules(clients: Clients, place: AwsAccount) -> Iterator[AccountUse]:
    yield from (AccountUse(UseKind.RULE, name) for name in list_monitor_rules(clients, place))


def _iter_active_fleets(clients: Clients, place: AwsAccount) -> Iterator[AccountUse]:
    for fleet in iter_fleets(clients.ec2):
        role = fleet["SpotFleetRequestConfig"]["IamFleetRole"]
        if is_active_fleet_state(fleet["SpotFleetRequestState"]) and role == place.role(FLEET_ROLE):
            yield AccountUse(UseKind.FLEET, fleet["SpotFleetRequestId"])


def _iter_machines(clients: Clients, place: AwsAccount) -> Iterator[AccountUse]:
    filters: Any = [
        {"Name": "iam-instance-profile.arn", "Values": [place.profile(INSTANCE_ROLE)]},
        {"Name": "instance-state-name", "Values": ["pending", "running", "stopping", "stopped"]},
    ]
    pages = clients.ec2.get_paginator("describe_instances").paginate(Filters=filters, PaginationConfig=EC2_PAGINATION)
    for page in pages:
        for reservation in page["Reservations"]:
            yield from (AccountUse(UseKind.MACHINE, machine["InstanceId"]) for machine in reservation["Instances"])
