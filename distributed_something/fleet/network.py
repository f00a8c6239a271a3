"""The network that a Fleet file puts machines into: which subnets offer them, and lead to AWS."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
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
    """Where machines start: one subnet for each zone. `missing_types`: those that a zone does not offer.

    `closed_zones`: left out, as no subnet there reaches the internet. `is_closed`: none of the subnets reaches it.
    """

    vpc: str
    subnets: dict[str, str]
    missing_types: dict[str, list[str]]
    closed_zones: list[str]
    is_closed: bool


def choose_network(ec2: EC2Client, settings: Settings, config: Path, vpc: str | None) -> FleetNetwork:
    """Return the subnets of the VPC (None: the region's default one) where the config's machines are offered, those
    first from which they reach AWS. Raises InputError (`config`: the file that it names) or CloudError."""
    with translate_aws_errors("looking for subnets"):
        vpc = vpc or _require_default_vpc(ec2)
        offered = _list_types_by_zone(ec2, settings.MACHINE_TYPE)
        subnets = [subnet for subnet in _list_subnets(ec2, vpc) if offered.get(subnet["AvailabilityZone"])]
        ways = _list_default_route_targets(ec2, vpc, subnets)
    if not subnets:
        zones = ", ".join(sorted(zone for zone, names in offered.items() if names)) or "no zone of this region"
        wrong = f"no subnet of {vpc} lies where these machines are offered ({zones})"
        raise InputError(config, "MACHINE_TYPE", wrong, "choose other types, or another VPC with --vpc")
    is_open = partial(_can_reach_aws, public=settings.ASSIGN_IP)
    open_subnets = [subnet for subnet in subnets if is_open(ways[subnet["SubnetId"]])]
    best = _choose_subnets(open_subnets or subnets)
    types = set(settings.MACHINE_TYPE)
    return FleetNetwork(
        vpc,
        best,
        missing_types={zone: sorted(types - offered[zone]) for zone in best if types - offered[zone]},
        closed_zones=sorted({subnet["AvailabilityZone"] for subnet in subnets} - best.keys()),
        is_closed=not open_subnets,
    )


def format_network_notes(network: FleetNetwork) -> Iterator[str]:
    """Yield what is to be said of the zones, a line each."""
    for zone, missing in network.missing_types.items():
        yield f"{zone} does not offer {', '.join(missing)}"
    if network.is_closed:
        yield "no subnet has a way to the internet, as ASSIGN_IP is: without VPC endpoints machines join no cluster"
    for zone in network.closed_zones:
        yield f"{zone} is left out: no subnet there has a way to the internet, as ASSIGN_IP is"


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
    for name, zone in list_type_offerings(ec2, types):
        offered.setdefault(zone, set()).add(name)
    return offered
