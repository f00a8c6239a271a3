"""Checks the Fleet file's launch template, subnets, security groups, key pairs, and routes to AWS."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from distributed_something.core.text import format_count, format_names
from distributed_something.diagnose.check.findings import (
    Finding,
    build_ok_finding,
    build_warning_finding,
    build_wrong_finding,
)
from distributed_something.diagnose.check.lookups import Lookups
from distributed_something.fleet.launch_specs import LAUNCH_TEMPLATE_CONFIGS_KEY, LaunchSpecification
from distributed_something.fleet.launch_template import find_template_fault, format_template_name
from distributed_something.fleet.network import find_default_route_target, has_route_table

RENEW_FLEET_FILE_REMEDY = "run fleetFile, which writes a Fleet file with values for this account"


def check_launch_template(lookups: Lookups) -> Iterator[Finding]:
    """Check that the launch template exists and is usable.

    The other checks treat the template's content as part of the Fleet file.
    """
    if lookups.fleet is None or LAUNCH_TEMPLATE_CONFIGS_KEY not in lookups.fleet:
        return
    name = format_template_name(lookups.fleet)
    if lookups.template.value is None:
        yield build_wrong_finding(
            "template",
            f"there is no launch template {name}",
            "correct LaunchTemplateSpecification in the Fleet file",
            is_user_error=True,
        )
    elif fault := find_template_fault(lookups.settings, lookups.template.value):
        yield build_wrong_finding("template", f"{name}: {fault.problem}", fault.remedy, is_user_error=True)
    else:
        yield build_ok_finding("template", name)


def check_subnets(lookups: Lookups) -> Iterator[Finding]:
    """Check the subnets in the Fleet file."""
    if lookups.fleet is not None:
        yield from judge_subnets(
            lookups.specifications,
            lookups.subnets.value,
            lookups.settings.CLUSTER_MACHINES,
            lookups.identity.value["Account"],
        )


def check_security_groups(lookups: Lookups) -> Iterator[Finding]:
    """Check the security groups in the Fleet file."""
    subnets = lookups.subnets.result or {}  # check_subnets reports a failed lookup
    networks = {subnet["VpcId"] for subnet in subnets.values()}
    account = lookups.identity.value["Account"]
    yield from judge_security_groups(lookups.specifications, lookups.groups.value, networks, account)


def check_key_pairs(lookups: Lookups) -> Iterator[Finding]:
    """Check the key pairs in the Fleet file."""
    yield from judge_key_pairs(lookups.specifications, lookups.key_pairs.value)


def check_internet_routes(lookups: Lookups) -> Iterator[Finding]:
    """Check that machines in each subnet can reach AWS."""
    yield from judge_internet_routes(
        lookups.subnets.value, list(lookups.routes.value.values()), has_public_address=lookups.has_public_addresses
    )


def judge_subnets(
    specifications: Iterable[LaunchSpecification], subnets: Mapping[str, Any], machines: int, account: str
) -> Iterator[Finding]:
    """Check that the subnets exist and have enough free addresses for the machines.

    EC2 also describes the subnets that another account shares with `account`.
    """
    requested_subnets = {subnet for specification in specifications for subnet in specification.subnets}
    missing_subnets = sorted(requested_subnets - subnets.keys())
    free_addresses = sum(subnet.get("AvailableIpAddressCount", 0) for subnet in subnets.values())
    zones = sorted({subnet["AvailabilityZone"] for subnet in subnets.values()})
    if missing_subnets:
        yield build_wrong_finding(
            "subnets",
            f"not in this region, or neither this account's nor shared with it: {format_names(missing_subnets)}",
            RENEW_FLEET_FILE_REMEDY,
            is_user_error=True,
        )
    elif subnets and free_addresses < machines:
        yield build_warning_finding(
            "subnets",
            f"only {format_count(free_addresses, 'free IP')} for {format_count(machines, 'machine')}",
            "add a subnet with free addresses to the Fleet file",
        )
    elif subnets:
        owners = sorted({subnet.get("OwnerId", account) for subnet in subnets.values()} - {account})
        note = f", shared by the account {format_names(owners)}" if owners else ""
        yield build_ok_finding("subnets", f"{len(subnets)} in {format_names(zones)}{note}", details={"zones": zones})
    else:
        yield build_ok_finding("subnets", "none given: EC2 uses the default network, if the account has one")


def judge_security_groups(
    specifications: Iterable[LaunchSpecification], groups: Mapping[str, Any], networks: set[str], account: str
) -> Iterator[Finding]:
    """Check that the groups exist, belong to the subnets' networks, and allow outgoing traffic.

    The rules of a group that another account shares with `account` may be hidden, so they are not judged.
    """
    requested_groups = {group for specification in specifications for group in specification.groups}
    missing_groups = sorted(requested_groups - groups.keys())
    outside_groups = sorted(name for name, group in groups.items() if networks and group.get("VpcId") not in networks)
    closed_groups = sorted(name for name, group in groups.items() if _is_closed_group(group, account))
    if missing_groups:
        yield build_wrong_finding(
            "groups",
            "security groups not in this region, or neither this account's nor shared with it: "
            f"{format_names(missing_groups)}",
            RENEW_FLEET_FILE_REMEDY,
            is_user_error=True,
        )
    elif outside_groups:
        yield build_wrong_finding(
            "groups",
            f"security groups not in the same network as the subnets: {format_names(outside_groups)}",
            RENEW_FLEET_FILE_REMEDY,
            is_user_error=True,
        )
    elif closed_groups and len(closed_groups) == len(groups):
        yield build_wrong_finding(
            "groups",
            f"no rule for outgoing traffic in {format_names(closed_groups)}, so the machines could not reach AWS",
            "allow outgoing HTTPS (port 443)",
        )
    elif groups:
        yield build_ok_finding("groups", format_names(sorted(groups)))


def _is_closed_group(group: Mapping[str, Any], account: str) -> bool:
    return group.get("OwnerId", account) == account and not group.get("IpPermissionsEgress")


def judge_key_pairs(specifications: Iterable[LaunchSpecification], key_pairs: Mapping[str, Any]) -> Iterator[Finding]:
    """Check that the key pairs exist. A common mistake is to set `KeyName` to the key file (`my-key.pem`)."""
    missing_names = sorted(
        {specification.key for specification in specifications if specification.key} - key_pairs.keys()
    )
    for name in missing_names:
        is_file_name = name.endswith(".pem")
        remedy = f"write {name.removesuffix('.pem')!r}" if is_file_name else "correct KeyName, or remove it"
        yield build_wrong_finding("key pair", f"there is no key pair {name} in this region", remedy, is_user_error=True)
    if key_pairs and not missing_names:
        yield build_ok_finding("key pair", format_names(sorted(key_pairs)))


def judge_internet_routes(
    subnets: Mapping[str, Any], tables: Sequence[Any], *, has_public_address: bool
) -> Iterator[Finding]:
    """Check that machines in each subnet can reach AWS.

    Machines with a public address need an internet gateway. Others need a NAT gateway or VPC endpoints; VPC endpoints
    are not looked up, so a subnet without a route gets only a warning.
    """
    targets = {name: find_default_route_target(name, subnet["VpcId"], tables) for name, subnet in subnets.items()}
    visible = {name for name, subnet in subnets.items() if has_route_table(name, subnet["VpcId"], tables)}
    closed_subnets = sorted(name for name, target in targets.items() if target is None and name in visible)
    hidden_subnets = sorted(targets.keys() - visible)
    public_subnets = sorted(name for name, target in targets.items() if target == "igw")
    if closed_subnets:
        yield build_warning_finding(
            "way to AWS",
            f"no route to the internet from {format_names(closed_subnets)}: without VPC endpoints, machines there "
            "cannot join the cluster",
            "use a public subnet, or create VPC endpoints",
        )
    if public_subnets and not has_public_address:
        yield build_warning_finding(
            "way to AWS",
            f"ASSIGN_IP is False, in the config or as AssociatePublicIpAddress in the Fleet file, but machines in "
            f"{format_names(public_subnets)} need a public address to reach the internet",
            "set ASSIGN_IP to 'True', or use a subnet with a NAT gateway",
        )
    if hidden_subnets:
        yield build_warning_finding(
            "way to AWS",
            f"the route table of {format_names(hidden_subnets)} is not visible to this account",
            "ask the owner of the network whether machines there reach the internet or VPC endpoints",
        )
    if targets and not closed_subnets and not hidden_subnets and (has_public_address or not public_subnets):
        yield build_ok_finding("way to AWS", "every subnet has a route to the internet")
