"""Checks of what the Fleet file names: its launch template, subnets, security groups, key pairs, and the way to AWS."""

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
from distributed_something.fleet.network import find_default_route_target

RENEW_FLEET_FILE_REMEDY = "run fleetFile, which writes a Fleet file with this account's own"


def check_launch_template(facts: Lookups) -> Iterator[Finding]:
    """The launch template that the Fleet file names; what is in it is checked as if it stood in the file."""
    if facts.fleet is None or LAUNCH_TEMPLATE_CONFIGS_KEY not in facts.fleet:
        return
    named = format_template_name(facts.fleet)
    if facts.template.value is None:
        yield build_wrong_finding(
            "template", f"no such launch template: {named}", "correct it in the Fleet file", by_user=True
        )
    elif fault := find_template_fault(facts.template.value, facts.settings):
        yield build_wrong_finding("template", f"{named}: {fault.problem}", fault.remedy, by_user=True)
    else:
        yield build_ok_finding("template", named)


def check_subnets(facts: Lookups) -> Iterator[Finding]:
    """The subnets that the Fleet file names."""
    if facts.fleet is not None:
        yield from judge_subnets(facts.specifications, facts.subnets.value, facts.settings.CLUSTER_MACHINES)


def check_security_groups(facts: Lookups) -> Iterator[Finding]:
    """The security groups that the Fleet file names."""
    subnets = facts.subnets.result or {}  # the check of the subnets tells a refusal
    networks = {subnet["VpcId"] for subnet in subnets.values()}
    yield from judge_security_groups(facts.specifications, facts.groups.value, networks)


def check_key_pairs(facts: Lookups) -> Iterator[Finding]:
    """The key pairs that the Fleet file names."""
    yield from judge_key_pairs(facts.specifications, facts.keys.value)


def check_internet_routes(facts: Lookups) -> Iterator[Finding]:
    """A way from each subnet to AWS."""
    yield from judge_internet_routes(
        facts.subnets.value, list(facts.routes.value.values()), public=facts.settings.ASSIGN_IP
    )


def judge_subnets(asked: Iterable[LaunchSpecification], found: Mapping[str, Any], machines: int) -> Iterator[Finding]:
    """They exist and have addresses for so many machines."""
    wanted = {subnet for one in asked for subnet in one.subnets}
    missing = sorted(wanted - found.keys())
    free = sum(one.get("AvailableIpAddressCount", 0) for one in found.values())
    zones = sorted({one["AvailabilityZone"] for one in found.values()})
    if missing:
        yield build_wrong_finding(
            "subnets", f"not in this account and region: {format_names(missing)}", RENEW_FLEET_FILE_REMEDY, by_user=True
        )
    elif found and free < machines:
        yield build_warning_finding(
            "subnets",
            f"they have {format_count(free, 'free IP')} for {format_count(machines, 'machine')}",
            "add a subnet",
        )
    elif found:
        yield build_ok_finding("subnets", f"{len(found)} in {format_names(zones)}", details={"zones": zones})
    else:
        yield build_ok_finding("subnets", "none named: EC2 takes those of the default network, if there is one")


def judge_security_groups(
    asked: Iterable[LaunchSpecification], found: Mapping[str, Any], networks: set[str]
) -> Iterator[Finding]:
    """They exist, lie in the subnets' network, and let the machines out."""
    wanted = {group for one in asked for group in one.groups}
    missing = sorted(wanted - found.keys())
    astray = sorted(name for name, one in found.items() if networks and one.get("VpcId") not in networks)
    closed = sorted(name for name, one in found.items() if not one.get("IpPermissionsEgress"))
    if missing:
        yield build_wrong_finding(
            "groups",
            f"security groups not in this account and region: {format_names(missing)}",
            RENEW_FLEET_FILE_REMEDY,
            by_user=True,
        )
    elif astray:
        yield build_wrong_finding(
            "groups",
            f"in another network than the subnets: {format_names(astray)}",
            RENEW_FLEET_FILE_REMEDY,
            by_user=True,
        )
    elif closed and len(closed) == len(found):
        yield build_wrong_finding(
            "groups",
            f"without a rule for outgoing traffic: {format_names(closed)}; machines could not reach AWS",
            "allow outgoing HTTPS (port 443)",
        )
    elif found:
        yield build_ok_finding("groups", f"{format_names(sorted(found))}")


def judge_key_pairs(asked: Iterable[LaunchSpecification], found: Mapping[str, Any]) -> Iterator[Finding]:
    """The key pairs exist, under just these names."""
    missing = sorted({one.key for one in asked if one.key} - found.keys())
    for name in missing:
        remedy = f"write {name.removesuffix('.pem')!r}" if name.endswith(".pem") else "correct KeyName, or leave it out"
        yield build_wrong_finding("key pair", f"there is no key pair {name} in this region", remedy, by_user=True)
    if found and not missing:
        yield build_ok_finding("key pair", format_names(sorted(found)))


def judge_internet_routes(subnets: Mapping[str, Any], tables: Sequence[Any], *, public: bool) -> Iterator[Finding]:
    """A way from each subnet to AWS. With a public address (`public`) that is an internet gateway; without one a NAT
    gateway or VPC endpoints, which are not looked up."""
    kinds = {name: find_default_route_target(name, one["VpcId"], tables) for name, one in subnets.items()}
    closed = sorted(name for name, kind in kinds.items() if kind is None)
    to_internet = sorted(name for name, kind in kinds.items() if kind == "igw")
    if closed:
        yield build_warning_finding(
            "way to AWS",
            f"no route to the internet from {format_names(closed)}: without VPC endpoints machines "
            "there cannot join the cluster",
            "use a public subnet, or make endpoints",
        )
    if to_internet and not public:
        yield build_warning_finding(
            "way to AWS",
            f"ASSIGN_IP is False, but {format_names(to_internet)} reach the internet by public addresses alone",
            "set ASSIGN_IP to 'True', or use a subnet with a NAT gateway",
        )
    if kinds and not closed and (public or not to_internet):
        yield build_ok_finding("way to AWS", "every subnet has a route to the internet")
