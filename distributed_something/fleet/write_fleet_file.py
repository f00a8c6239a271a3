"""`run.py fleetFile`: a Fleet file for this account and region, ready for startCluster."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distributed_something.aws.clients import Clients
from distributed_something.aws.instance_types import list_machine_types
from distributed_something.aws.retry import retry_until_consistent
from distributed_something.core.errors import CloudError, InputError, translate_aws_errors
from distributed_something.core.files import write_json_atomically
from distributed_something.core.names import FLEET_ROLE, INSTANCE_ROLE, AwsAccount
from distributed_something.core.tags import MADE_BY_TAG, build_tag_specifications, has_made_by_tag
from distributed_something.core.text import format_names, format_row
from distributed_something.fleet.launch_specs import ECS_IMAGE_ROOT_DEVICE
from distributed_something.fleet.network import FleetNetwork, choose_network, format_network_notes

if TYPE_CHECKING:
    from collections.abc import Callable

    from mypy_boto3_ec2 import EC2Client

    from distributed_something.core.config_settings import Settings


IMAGE_PARAMETERS = {
    "x86_64": "/aws/service/ecs/optimized-ami/amazon-linux-2023/recommended/image_id",
    "arm64": "/aws/service/ecs/optimized-ami/amazon-linux-2023/arm64/recommended/image_id",
}
SECURITY_GROUP_NAME = "distributed-something"


@dataclass(frozen=True)
class FleetFileOptions:
    """Where the Fleet file is written to, and what a user may choose.

    `config`: the config file, which errors name. `vpc`: another than the region's default one. `force`: overwrite a
    file that exists.
    """

    path: Path
    config: Path
    vpc: str | None = None
    force: bool = False


@dataclass(frozen=True)
class FleetFileSummary:
    """What is in a Fleet file that was written. `key`: the name of the key pair, "" without one."""

    path: Path
    image: str
    architecture: str
    network: FleetNetwork
    group: str
    key: str


def write_fleet_file(
    clients: Clients,
    place: AwsAccount,
    settings: Settings,
    options: FleetFileOptions,
    sleep: Callable[[float], None],
) -> FleetFileSummary:
    """Write the Fleet file; return what is in it. Raises InputError (nothing was made) or CloudError."""
    if options.path.exists() and not options.force:
        remedy = "choose another with --output, or overwrite it with --force"
        raise InputError(options.path, "", "this file exists", remedy)
    architecture = _choose_architecture(clients.ec2, settings.MACHINE_TYPE, options.config)
    image = _read_latest_image_id(clients, architecture)
    network = choose_network(clients.ec2, settings, options.config, options.vpc)
    group = _ensure_security_group(clients.ec2, network.vpc, sleep)
    key = settings.SSH_KEY_NAME.removesuffix(".pem")
    content = build_fleet_file(place, image, key, list(network.subnets.values()), group)
    write_json_atomically(options.path, content)
    return FleetFileSummary(options.path, image, architecture, network, group, key)


def format_fleet_file_summary(written: FleetFileSummary) -> list[str]:
    """Return lines that tell what is in the file."""
    zones = ", ".join(f"{subnet} ({zone})" for zone, subnet in written.network.subnets.items())
    return [
        format_row("image", f"{written.image} (ECS-optimised Amazon Linux 2023, {written.architecture})"),
        format_row("subnets", zones),
        *(f"note: {note}" for note in format_network_notes(written.network)),
        format_row("security group", f"{written.group} (nothing may come in)"),
        format_row("key pair", f"{written.key or 'none: nobody can log in to the machines'}"),
        format_row("fleet file", written.path),
    ]


def build_fleet_file(place: AwsAccount, image: str, key: str, subnets: list[str], group: str) -> dict[str, Any]:
    """The Fleet file's content: one launch specification, which startCluster combines with each type and subnet."""
    specification: dict[str, Any] = {
        "ImageId": image,
        "IamInstanceProfile": {"Arn": place.profile(INSTANCE_ROLE)},
        "BlockDeviceMappings": [
            {"DeviceName": ECS_IMAGE_ROOT_DEVICE, "Ebs": {"VolumeType": "gp3", "DeleteOnTermination": True}}
        ],
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
        "IamFleetRole": place.role(FLEET_ROLE),
        "LaunchSpecifications": [specification],
    }


def _choose_architecture(ec2: EC2Client, types: list[str], config: Path) -> str:
    """The one that every type has; raises InputError where there is none."""
    with translate_aws_errors("looking up MACHINE_TYPE"):
        machines = list_machine_types(ec2, types)
    if missing := sorted(set(types) - machines.keys()):
        problem = f"no such machine type in this region: {format_names(missing)}"
        raise InputError(config, "MACHINE_TYPE", problem, "correct MACHINE_TYPE")
    common = set(IMAGE_PARAMETERS).intersection(*(machine.architectures for machine in machines.values()))
    if common:
        return "x86_64" if "x86_64" in common else "arm64"
    what = ", ".join(f"{name} is {'/'.join(sorted(machine.architectures))}" for name, machine in machines.items())
    right = "use types of one, x86_64 or arm64: the containers' image is built for one"
    raise InputError(config, "MACHINE_TYPE", f"these machines have different processors ({what})", right)


def _read_latest_image_id(clients: Clients, architecture: str) -> str:
    with translate_aws_errors("looking up the newest ECS-optimised image"):
        value: str = clients.ssm.get_parameter(Name=IMAGE_PARAMETERS[architecture])["Parameter"]["Value"]
    return value


def _ensure_security_group(ec2: EC2Client, vpc: str, sleep: Callable[[float], None]) -> str:
    """Ours in this VPC, made if there is none; raises CloudError where it lets something in, or is somebody else's."""
    filters: Any = [{"Name": "group-name", "Values": [SECURITY_GROUP_NAME]}, {"Name": "vpc-id", "Values": [vpc]}]
    with translate_aws_errors(f"looking for the security group {SECURITY_GROUP_NAME}"):
        found = ec2.describe_security_groups(Filters=filters)["SecurityGroups"]
    if not found:
        return _create_security_group(ec2, vpc, sleep)
    group = found[0]
    if not has_made_by_tag(group.get("Tags")):
        ((key, value),) = MADE_BY_TAG.items()
        raise CloudError(
            f"the security group {group['GroupId']} is named {SECURITY_GROUP_NAME}, but fleetFile did not make it; "
            f"rename it, or give it the tag {key}={value}"
        )
    if group["IpPermissions"]:
        raise CloudError(
            f"the security group {group['GroupId']} ({SECURITY_GROUP_NAME}) lets something in: machines need nothing "
            "from outside; remove its inbound rules, or put a group of your own into the Fleet file"
        )
    return group["GroupId"]


def _create_security_group(ec2: EC2Client, vpc: str, sleep: Callable[[float], None]) -> str:
    """A new group has no inbound rule, and one that lets everything out."""
    tags: Any = build_tag_specifications((), ["security-group"], MADE_BY_TAG | {"Name": SECURITY_GROUP_NAME})
    with translate_aws_errors(f"making the security group {SECURITY_GROUP_NAME}"):
        group: str = ec2.create_security_group(
            GroupName=SECURITY_GROUP_NAME,
            Description="Machines of Distributed-Something: nothing may come in",
            VpcId=vpc,
            TagSpecifications=tags,
        )["GroupId"]
        # Until every part of EC2 knows it, a fleet that names it is refused.
        retry_until_consistent(
            lambda: ec2.describe_security_groups(GroupIds=[group]), "InvalidGroup.NotFound", sleep=sleep
        )
    return group
