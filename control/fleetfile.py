"""`run.py fleetFile`: a Fleet file for this account and region, ready for startCluster."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from control import machines, policies
from control.checks_fleet import way_out
from control.clients import Clients
from control.errors import CloudError, InputError, code_of, doing
from control.files import write_json_atomically
from control.policies import Place
from control.steps import MADE_BY, patiently

if TYPE_CHECKING:
    from collections.abc import Callable

    from mypy_boto3_ec2 import EC2Client

    from control.settings import Settings

IMAGE_PARAMETERS = {
    "x86_64": "/aws/service/ecs/optimized-ami/amazon-linux-2023/recommended/image_id",
    "arm64": "/aws/service/ecs/optimized-ami/amazon-linux-2023/arm64/recommended/image_id",
}
ROOT_DEVICE = "/dev/xvda"  # the image's only volume
SECURITY_GROUP = "distributed-something"
_TAG = {"Key": MADE_BY[0], "Value": MADE_BY[1]}


@dataclass(frozen=True)
class Network:
    """Where machines start: one subnet a zone, and what is to be said of zones."""

    vpc: str
    subnets: dict[str, str]
    notes: list[str]


def write(
    clients: Clients, place: Place, settings: Settings, config: Path, path: Path, sleep: Callable[[float], None], *,
    vpc: str | None = None, force: bool = False,
) -> list[str]:  # fmt: skip
    """Writes the Fleet file to `path`; lines that tell what is in it.

    `config`: the config file, which errors name. `vpc`: another than the region's default one. An existing file is
    overwritten only with `force`. Raises InputError (nothing was made) or CloudError.
    """
    if path.exists() and not force:
        raise InputError(path, "", "this file exists", "choose another with --output, or overwrite it with --force")
    architecture = _architecture(clients.ec2, settings.MACHINE_TYPE, config)
    image = _image(clients, architecture)
    network = _network(clients.ec2, settings, config, vpc)
    group = _security_group(clients.ec2, network.vpc, sleep)
    key = settings.SSH_KEY_NAME.removesuffix(".pem")
    content = fleet_file(place, image, key, list(network.subnets.values()), group)
    write_json_atomically(path, content)
    zones = ", ".join(f"{subnet} ({zone})" for zone, subnet in network.subnets.items())
    return [
        f"image           {image} (ECS-optimised Amazon Linux 2023, {architecture})",
        f"subnets         {zones}",
        *(f"note: {note}" for note in network.notes),
        f"security group  {group} (nothing may come in)",
        f"key pair        {key or 'none: nobody can log in to the machines'}",
        f"fleet file      {path}",
    ]


def fleet_file(place: Place, image: str, key: str, subnets: list[str], group: str) -> dict[str, Any]:
    """The Fleet file's content: one launch specification, which startCluster combines with each type and subnet."""
    specification: dict[str, Any] = {
        "ImageId": image,
        "IamInstanceProfile": {"Arn": place.profile(policies.INSTANCE_ROLE)},
        "BlockDeviceMappings": [{"DeviceName": ROOT_DEVICE, "Ebs": {"VolumeType": "gp3", "DeleteOnTermination": True}}],
        "NetworkInterfaces": [
            {"DeviceIndex": 0, "DeleteOnTermination": True, "SubnetId": ",".join(subnets), "Groups": [group]}
        ],
    }
    if key:
        specification["KeyName"] = key
    return {
        "Type": "maintain",
        "AllocationStrategy": "priceCapacityOptimized",
        "TerminateInstancesWithExpiration": True,
        "IamFleetRole": place.role(policies.FLEET_ROLE),
        "LaunchSpecifications": [specification],
    }


def _architecture(ec2: EC2Client, types: list[str], config: Path) -> str:
    """The one that every type has; raises InputError where there is none."""
    supported = {name: set(found) for name, found in _architectures(ec2, types, config)}
    common = set(IMAGE_PARAMETERS).intersection(*supported.values())
    if common:
        return "x86_64" if "x86_64" in common else "arm64"
    what = ", ".join(f"{name} is {'/'.join(sorted(found))}" for name, found in supported.items())
    right = "use types of one, x86_64 or arm64: the containers' image is built for one"
    raise InputError(config, "MACHINE_TYPE", f"these machines have different processors ({what})", right)


def _architectures(ec2: EC2Client, types: list[str], config: Path) -> Iterable[tuple[str, list[str]]]:
    for some in machines.in_batches(list(dict.fromkeys(types)), machines.TYPES_A_CALL):
        try:
            found: Any = ec2.describe_instance_types(InstanceTypes=some)["InstanceTypes"]  # type: ignore[arg-type]
        except ClientError as error:
            if code_of(error) != "InvalidInstanceType":
                with doing("looking up MACHINE_TYPE"):
                    raise
            right = f"{error.response['Error'].get('Message', '')}; correct MACHINE_TYPE"
            raise InputError(config, "MACHINE_TYPE", "EC2 does not know all of these types", right) from None
        yield from ((one["InstanceType"], one["ProcessorInfo"]["SupportedArchitectures"]) for one in found)


def _image(clients: Clients, architecture: str) -> str:
    with doing("looking up the newest ECS-optimised image"):
        value: str = clients.ssm.get_parameter(Name=IMAGE_PARAMETERS[architecture])["Parameter"]["Value"]
    return value


def _network(ec2: EC2Client, settings: Settings, config: Path, vpc: str | None) -> Network:
    with doing("looking for subnets"):
        vpc = vpc or _default_vpc(ec2)
        offered = _offered(ec2, settings.MACHINE_TYPE)
        subnets = [one for one in _subnets(ec2, vpc) if offered.get(one["AvailabilityZone"])]
        ways = _ways_out(ec2, vpc, subnets)
    if not subnets:
        zones = ", ".join(sorted(zone for zone, found in offered.items() if found)) or "no zone of this region"
        wrong = f"no subnet of {vpc} lies where these machines are offered ({zones})"
        raise InputError(config, "MACHINE_TYPE", wrong, "choose other types, or another VPC with --vpc")
    open_ones = [one for one in subnets if _lets_out(ways[one["SubnetId"]], public=settings.ASSIGN_IP)]
    best = _roomiest(open_ones or subnets)
    notes = list(_lacking(settings.MACHINE_TYPE, offered, best)) + list(_closed(subnets, best, bool(open_ones)))
    return Network(vpc, best, notes)


def _subnets(ec2: EC2Client, vpc: str) -> list[Any]:
    filters: Any = [{"Name": "vpc-id", "Values": [vpc]}, {"Name": "state", "Values": ["available"]}]
    pages = ec2.get_paginator("describe_subnets").paginate(Filters=filters)
    return [subnet for page in pages for subnet in page["Subnets"]]


def _ways_out(ec2: EC2Client, vpc: str, subnets: list[Any]) -> dict[str, str | None]:
    """What each subnet's route to the internet leads to."""
    filters: Any = [{"Name": "vpc-id", "Values": [vpc]}]
    pages = ec2.get_paginator("describe_route_tables").paginate(Filters=filters)
    tables = [table for page in pages for table in page["RouteTables"]]
    return {one["SubnetId"]: way_out(one["SubnetId"], vpc, tables) for one in subnets}


def _lets_out(way: str | None, *, public: bool) -> bool:
    """Whether machines with a `public` address (ASSIGN_IP), or without one, reach AWS by this way."""
    return way is not None and (public or way != "igw")


def _roomiest(subnets: list[Any]) -> dict[str, str]:
    """Of the subnets of each zone the one with the most free addresses: a fleet takes one of a zone."""
    best: dict[str, Any] = {}
    for one in sorted(subnets, key=_room, reverse=True):
        best.setdefault(one["AvailabilityZone"], one)
    return {zone: best[zone]["SubnetId"] for zone in sorted(best)}


def _lacking(types: list[str], offered: dict[str, set[str]], zones: Iterable[str]) -> Iterator[str]:
    for zone in zones:
        if missing := sorted(set(types) - offered[zone]):
            yield f"{zone} does not offer {', '.join(missing)}"


def _closed(subnets: list[Any], best: dict[str, str], some_open: bool) -> Iterator[str]:
    if not some_open:
        yield "no subnet has a way to the internet, as ASSIGN_IP is: without VPC endpoints machines join no cluster"
    for zone in sorted({one["AvailabilityZone"] for one in subnets} - best.keys()):
        yield f"{zone} is left out: no subnet there has a way to the internet, as ASSIGN_IP is"


def _room(subnet: Any) -> int:
    return int(subnet.get("AvailableIpAddressCount", -1))


def _default_vpc(ec2: EC2Client) -> str:
    found = ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"]
    if not found:
        raise InputError("--vpc", "", "this region has no default VPC", "add --vpc with the id of one of yours")
    return found[0]["VpcId"]


def _offered(ec2: EC2Client, types: list[str]) -> dict[str, set[str]]:
    """Which of the types each zone of the region offers."""
    offered: dict[str, set[str]] = {}
    for kind, zone in machines.offered(ec2, types):
        offered.setdefault(zone, set()).add(kind)
    return offered


def _security_group(ec2: EC2Client, vpc: str, sleep: Callable[[float], None]) -> str:
    """Ours in this VPC, made if there is none; raises CloudError where it lets something in, or is somebody else's."""
    filters: Any = [{"Name": "group-name", "Values": [SECURITY_GROUP]}, {"Name": "vpc-id", "Values": [vpc]}]
    with doing(f"looking for the security group {SECURITY_GROUP}"):
        found = ec2.describe_security_groups(Filters=filters)["SecurityGroups"]
    if not found:
        return _make_security_group(ec2, vpc, sleep)
    group = found[0]
    if _TAG not in group.get("Tags", []):
        raise CloudError(
            f"the security group {group['GroupId']} is named {SECURITY_GROUP}, but fleetFile did not make it; "
            f"rename it, or give it the tag {MADE_BY[0]}={MADE_BY[1]}"
        )
    if group["IpPermissions"]:
        raise CloudError(
            f"the security group {group['GroupId']} ({SECURITY_GROUP}) lets something in: machines need nothing "
            "from outside; remove its inbound rules, or put a group of your own into the Fleet file"
        )
    return group["GroupId"]


def _make_security_group(ec2: EC2Client, vpc: str, sleep: Callable[[float], None]) -> str:
    """A new group has no inbound rule, and one that lets everything out."""
    tags: Any = [{"ResourceType": "security-group", "Tags": [_TAG, {"Key": "Name", "Value": SECURITY_GROUP}]}]
    with doing(f"making the security group {SECURITY_GROUP}"):
        group: str = ec2.create_security_group(
            GroupName=SECURITY_GROUP,
            Description="Machines of Distributed-Something: nothing may come in",
            VpcId=vpc,
            TagSpecifications=tags,
        )["GroupId"]
        # Until every part of EC2 knows it, a fleet that names it is refused.
        patiently(lambda: ec2.describe_security_groups(GroupIds=[group]), "InvalidGroup.NotFound", sleep=sleep)
    return group
