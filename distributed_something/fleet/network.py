"""distributed_something.fleet.network."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distributed_something.aws.instance_types import list_type_offerings
from distributed_something.core.errors import InputError, translate_aws_errors

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client

    from distributed_something.core.config_settings import Settings

ANY_IPV4_CIDR = "0.0.0.0/0"


def find_default_route_target(subnet: str, network: str, tables: Sequence[Any]) -> str | None:
    """What the subnet's route to everywhere leads to: 'igw', another kind, or None without such a route."""
    links = [(table, link) for table in tables for link in table.get("Associations", ())]
    own = [table for table, link in links if link.get("SubnetId") == subnet]
    main = [table for table, link in links if link.get("Main") and table.get("VpcId") == network]
    for table in own or main:
        for route in table.get("Routes", ()):
            target = route.get("GatewayId") or route.get("NatGatewayId") or route.get("TransitGatewayId")
            target = target or route.get("NetworkInterfaceId") or route.get("InstanceId")
            if route.get("DestinationCidrBlock") == ANY_IPV4_CIDR and target and route.get("State") != "blackhole":
                return str(target).partition("-")[0]
    return None


@dataclass(frozen=True)
class FleetNetwork:
    """Where machines start: one subnet a zone, and what is to be said of zones."""

    vpc: str
    subnets: dict[str, str]
    notes: list[str]


def choose_network(ec2: EC2Client, settings: Settings, config: Path, vpc: str | None) -> FleetNetwork:
    with translate_aws_errors("looking for subnets"):
        vpc = vpc or _require_default_vpc(ec2)
        offered = _list_types_by_zone(ec2, settings.MACHINE_TYPE)
        subnets = [one for one in _list_subnets(ec2, vpc) if offered.get(one["AvailabilityZone"])]
        ways = _list_default_route_targets(ec2, vpc, subnets)
    if not subnets:
        zones = ", ".join(sorted(zone for zone, found in offered.items() if found)) or "no zone of this region"
        wrong = f"no subnet of {vpc} lies where these machines are offered ({zones})"
        raise InputError(config, "MACHINE_TYPE", wrong, "choose other types, or another VPC with --vpc")
    open_ones = [one for one in subnets if _can_reach_aws(ways[one["SubnetId"]], public=settings.ASSIGN_IP)]
    best = _choose_subnets(open_ones or subnets)
    notes = list(_format_missing_types(settings.MACHINE_TYPE, offered, best)) + list(
        _format_closed_zones(subnets, best, bool(open_ones))
    )
    return FleetNetwork(vpc, best, notes)


def _list_subnets(ec2: EC2Client, vpc: str) -> list[Any]:
    filters: Any = [{"Name": "vpc-id", "Values": [vpc]}, {"Name": "state", "Values": ["available"]}]
    pages = ec2.get_paginator("describe_subnets").paginate(Filters=filters)
    return [subnet for page in pages for subnet in page["Subnets"]]


def _list_default_route_targets(ec2: EC2Client, vpc: str, subnets: list[Any]) -> dict[str, str | None]:
    """What each subnet's route to the internet leads to."""
    filters: Any = [{"Name": "vpc-id", "Values": [vpc]}]
    pages = ec2.get_paginator("describe_route_tables").paginate(Filters=filters)
    tables = [table for page in pages for table in page["RouteTables"]]
    return {one["SubnetId"]: find_default_route_target(one["SubnetId"], vpc, tables) for one in subnets}


def _can_reach_aws(way: str | None, *, public: bool) -> bool:
    """Whether machines with a `public` address (ASSIGN_IP), or without one, reach AWS by this way."""
    return way is not None and (public or way != "igw")


def _choose_subnets(subnets: list[Any]) -> dict[str, str]:
    """Of the subnets of each zone the one with the most free addresses: a fleet takes one of a zone."""
    best: dict[str, Any] = {}
    for one in sorted(subnets, key=_count_free_addresses, reverse=True):
        best.setdefault(one["AvailabilityZone"], one)
    return {zone: best[zone]["SubnetId"] for zone in sorted(best)}


def _format_missing_types(types: list[str], offered: dict[str, set[str]], zones: Iterable[str]) -> Iterator[str]:
    for zone in zones:
        if missing := sorted(set(types) - offered[zone]):
            yield f"{zone} does not offer {', '.join(missing)}"


def _format_closed_zones(subnets: list[Any], best: dict[str, str], some_open: bool) -> Iterator[str]:
    if not some_open:
        yield "no subnet has a way to the internet, as ASSIGN_IP is: without VPC endpoints machines join no cluster"
    for zone in sorted({one["AvailabilityZone"] for one in subnets} - best.keys()):
        yield f"{zone} is left out: no subnet there has a way to the internet, as ASSIGN_IP is"


def _count_free_addresses(subnet: Any) -> int:
    return int(subnet.get("AvailableIpAddressCount", -1))


def _require_default_vpc(ec2: EC2Client) -> str:
    found = ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"]
    if not found:
        raise InputError("--vpc", "", "this region has no default VPC", "add --vpc with the id of one of yours")
    return found[0]["VpcId"]


def _list_types_by_zone(ec2: EC2Client, types: list[str]) -> dict[str, set[str]]:
    """Which of the types each zone of the region offers."""
    offered: dict[str, set[str]] = {}
    for kind, zone in list_type_offerings(ec2, types):
        offered.setdefault(zone, set()).add(kind)
    return offered
