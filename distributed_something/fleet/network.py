"""Chooses the subnets for a new Fleet file: subnets whose zones offer the machine types and whose machines can reach
AWS.
"""

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
HIDDEN_ROUTE_TARGET = "hidden"  # of a subnet whose route table is not visible


def has_route_table(subnet: str, network: str, tables: Sequence[Any]) -> bool:
    """Return whether the tables include the one that applies to the subnet. A network's owner may hide its tables."""
    return bool(_list_route_tables(subnet, network, tables))


def has_gateway_endpoint(subnet: str, network: str, tables: Sequence[Any]) -> bool:
    """Return whether the subnet's route table has a gateway endpoint, which carries the traffic to S3 for nothing."""
    return any(
        str(route.get("GatewayId", "")).startswith("vpce-")
        for table in _list_route_tables(subnet, network, tables)
        for route in table.get("Routes", ())
    )


def find_default_route_target(subnet: str, network: str, tables: Sequence[Any]) -> str | None:
    """Return the type of target that the subnet's default route has, such as 'igw' or 'nat', or None if there is no
    such route.

    `network`: the VPC, whose main route table applies if the subnet has no route table of its own.
    """
    for table in _list_route_tables(subnet, network, tables):
        for route in table.get("Routes", ()):
            target = route.get("GatewayId") or route.get("NatGatewayId") or route.get("TransitGatewayId")
            target = target or route.get("NetworkInterfaceId") or route.get("InstanceId")
            if route.get("DestinationCidrBlock") == ANY_IPV4_CIDR and target and route.get("State") != "blackhole":
                return str(target).partition("-")[0]
    return None


def _list_route_tables(subnet: str, network: str, tables: Sequence[Any]) -> list[Any]:
    """Return the route table that applies to the subnet, in a list; an empty list if it is not visible."""
    associations = [(table, association) for table in tables for association in table.get("Associations", ())]
    own = [table for table, association in associations if association.get("SubnetId") == subnet]
    main = [table for table, association in associations if association.get("Main") and table.get("VpcId") == network]
    return own or main


@dataclass(frozen=True)
class FleetNetwork:
    """The subnets in which machines start, one per zone.

    `missing_types`: the machine types that a zone does not offer, keyed by zone. `owner`: the account that shares the
    VPC, or "" if it is this account's. `closed_zones`: zones without a subnet
    that reaches the internet; they are not used. `is_closed`: whether no subnet at all reaches the internet.
    """

    vpc: str
    subnets: dict[str, str]
    missing_types: dict[str, list[str]]
    closed_zones: list[str]
    is_closed: bool
    owner: str = ""


def choose_network(ec2: EC2Client, settings: Settings, config: Path, vpc: str | None, account_id: str) -> FleetNetwork:
    """Return the subnets of the VPC whose zones offer the config's machine types.

    Prefer subnets from which machines can reach AWS. `vpc`: None for the region's default VPC. Raise InputError for the
    file `config` if no subnet fits, or CloudError if AWS returns an error.
    """
    with translate_aws_errors("looking for subnets"):
        vpc = vpc or _require_default_vpc(ec2)
        offered = _list_types_by_zone(ec2, settings.MACHINE_TYPE)
        subnets = [subnet for subnet in _list_subnets(ec2, vpc) if offered.get(subnet["AvailabilityZone"])]
        routes = _list_default_route_targets(ec2, vpc, subnets)
        owners = {subnet.get("OwnerId", account_id) for subnet in subnets} - {account_id}
    if not subnets:
        zones = ", ".join(sorted(zone for zone, names in offered.items() if names)) or "no zone in this region"
        problem = f"{vpc} has no subnet in a zone that offers these machine types ({zones})"
        raise InputError(config, "MACHINE_TYPE", problem, "choose other types, or another VPC with --vpc")
    is_open = partial(_can_reach_aws, public=settings.ASSIGN_IP)
    open_subnets = [subnet for subnet in subnets if is_open(routes[subnet["SubnetId"]])]
    best = _choose_subnets(open_subnets or subnets)
    types = set(settings.MACHINE_TYPE)
    return FleetNetwork(
        vpc,
        best,
        missing_types={zone: sorted(types - offered[zone]) for zone in best if types - offered[zone]},
        closed_zones=sorted({subnet["AvailabilityZone"] for subnet in subnets} - best.keys()),
        is_closed=not open_subnets,
        owner=next(iter(owners), ""),
    )


def format_network_notes(network: FleetNetwork) -> Iterator[str]:
    """Yield one line for each restriction that the network or a zone puts on the run."""
    if network.owner:
        yield f"{network.vpc} is shared by the account {network.owner}"
    for zone, missing in network.missing_types.items():
        yield f"{zone} does not offer {', '.join(missing)}"
    if network.is_closed:
        yield "no subnet reaches the internet with this ASSIGN_IP: machines need VPC endpoints to join the cluster"
    for zone in network.closed_zones:
        yield f"{zone} is not used: no subnet there reaches the internet with this ASSIGN_IP"


def _list_subnets(ec2: EC2Client, vpc: str) -> list[Any]:
    filters: Any = [{"Name": "vpc-id", "Values": [vpc]}, {"Name": "state", "Values": ["available"]}]
    pages = ec2.get_paginator("describe_subnets").paginate(Filters=filters)
    return [subnet for page in pages for subnet in page["Subnets"]]


def _list_default_route_targets(ec2: EC2Client, vpc: str, subnets: list[Any]) -> dict[str, str | None]:
    """Return the type of target that each subnet's default route has, keyed by subnet ID.

    A subnet whose route table is not visible, because another account owns it, has the target HIDDEN_ROUTE_TARGET.
    """
    filters: Any = [{"Name": "vpc-id", "Values": [vpc]}]
    pages = ec2.get_paginator("describe_route_tables").paginate(Filters=filters)
    tables = [table for page in pages for table in page["RouteTables"]]
    names = [subnet["SubnetId"] for subnet in subnets]
    return {
        name: find_default_route_target(name, vpc, tables)
        if has_route_table(name, vpc, tables)
        else HIDDEN_ROUTE_TARGET
        for name in names
    }


def _can_reach_aws(route_target: str | None, *, public: bool) -> bool:
    """Return whether machines can reach AWS. `public`: whether they have a public address (ASSIGN_IP)."""
    return route_target is not None and (public or route_target != "igw")


def _choose_subnets(subnets: list[Any]) -> dict[str, str]:
    """Return the subnet with the most free addresses in each zone; a fleet uses one subnet per zone."""
    best: dict[str, Any] = {}
    for subnet in sorted(subnets, key=_count_free_addresses, reverse=True):
        best.setdefault(subnet["AvailabilityZone"], subnet)
    return {zone: best[zone]["SubnetId"] for zone in sorted(best)}


def _count_free_addresses(subnet: Any) -> int:
    return int(subnet.get("AvailableIpAddressCount", -1))


def _require_default_vpc(ec2: EC2Client) -> str:
    vpcs = ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"]
    if not vpcs:
        raise InputError("--vpc", "", "this region has no default VPC", "add --vpc with the ID of your VPC")
    return vpcs[0]["VpcId"]


def _list_types_by_zone(ec2: EC2Client, types: list[str]) -> dict[str, set[str]]:
    """Return the machine types that each zone offers, keyed by zone."""
    offered: dict[str, set[str]] = {}
    for name, zone in list_type_offerings(ec2, types):
        offered.setdefault(zone, set()).add(name)
    return offered
