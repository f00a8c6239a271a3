"""`run.py fleetFile`: writes a Fleet file for this account and region that startCluster can use without changes."""

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
    """The options of `fleetFile`.

    `path`: the Fleet file to write. `config`: the config file, named in errors. `vpc`: the VPC to use instead of the
    region's default VPC. `force`: overwrite an existing file.
    """

    path: Path
    config: Path
    vpc: str | None = None
    force: bool = False


@dataclass(frozen=True)
class FleetFileSummary:
    """The choices in a new Fleet file. `key`: the name of the key pair, or "" if there is none."""

    path: Path
    image: str
    architecture: str
    network: FleetNetwork
    group: str
    key: str


def write_fleet_file(
    clients: Clients,
    settings: Settings,
    account: AwsAccount,
    options: FleetFileOptions,
    sleep: Callable[[float], None],
) -> FleetFileSummary:
    """Write the Fleet file and return the choices in it.

    Raise InputError if an option or the config is invalid; nothing was created then. Raise CloudError if AWS returns an
    error or the security group cannot be used.
    """
    if options.path.exists() and not options.force:
        remedy = "choose another path with --output, or add --force to overwrite it"
        raise InputError(options.path, "", "this file already exists", remedy)
    architecture = _choose_architecture(clients.ec2, settings.MACHINE_TYPE, options.config)
    image = _read_latest_image_id(clients, architecture)
    network = choose_network(clients.ec2, settings, options.config, options.vpc)
    group = _ensure_security_group(clients.ec2, network.vpc, sleep)
    key = settings.SSH_KEY_NAME.removesuffix(".pem")
    content = build_fleet_file(account, image, key, list(network.subnets.values()), group)
    write_json_atomically(options.path, content)
    return FleetFileSummary(options.path, image, architecture, network, group, key)


def format_fleet_file_summary(summary: FleetFileSummary) -> list[str]:
    """Return labeled lines with the choices in the file."""
    zones = ", ".join(f"{subnet} ({zone})" for zone, subnet in summary.network.subnets.items())
    return [
        format_row("image", f"{summary.image} (ECS-optimized Amazon Linux 2023, {summary.architecture})"),
        format_row("subnets", zones),
        *(f"note: {note}" for note in format_network_notes(summary.network)),
        format_row("security group", f"{summary.group} (no inbound traffic)"),
        format_row("key pair", f"{summary.key or 'none: you cannot log in to the machines'}"),
        format_row("fleet file", summary.path),
    ]


def build_fleet_file(account: AwsAccount, image: str, key: str, subnets: list[str], group: str) -> dict[str, Any]:
    """Return the content of a Fleet file.

    It has one launch specification, which startCluster combines with each machine type and subnet.
    """
    specification: dict[str, Any] = {
        "ImageId": image,
        "IamInstanceProfile": {"Arn": account.profile(INSTANCE_ROLE)},
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
        "IamFleetRole": account.role(FLEET_ROLE),
        "LaunchSpecifications": [specification],
    }


def _choose_architecture(ec2: EC2Client, types: list[str], config: Path) -> str:
    """Return an architecture that all machine types support. Raise InputError if they have none in common."""
    with translate_aws_errors("looking up MACHINE_TYPE"):
        machines = list_machine_types(ec2, types)
    if missing := sorted(set(types) - machines.keys()):
        problem = f"no such machine type in this region: {format_names(missing)}"
        raise InputError(config, "MACHINE_TYPE", problem, "correct MACHINE_TYPE")
    common = set(IMAGE_PARAMETERS).intersection(*(machine.architectures for machine in machines.values()))
    if common:
        return "x86_64" if "x86_64" in common else "arm64"
    by_type = ", ".join(f"{name} is {'/'.join(sorted(machine.architectures))}" for name, machine in machines.items())
    remedy = "use only x86_64 types or only arm64 types, because the Docker image is built for one of them"
    raise InputError(config, "MACHINE_TYPE", f"these machine types have different processors ({by_type})", remedy)


def _read_latest_image_id(clients: Clients, architecture: str) -> str:
    with translate_aws_errors("looking up the newest ECS-optimized image"):
        value: str = clients.ssm.get_parameter(Name=IMAGE_PARAMETERS[architecture])["Parameter"]["Value"]
    return value


def _ensure_security_group(ec2: EC2Client, vpc: str, sleep: Callable[[float], None]) -> str:
    """Return the ID of this package's security group in the VPC; create the group if it does not exist.

    Raise CloudError if the group has inbound rules, or if someone else created it.
    """
    filters: Any = [{"Name": "group-name", "Values": [SECURITY_GROUP_NAME]}, {"Name": "vpc-id", "Values": [vpc]}]
    with translate_aws_errors(f"looking for the security group {SECURITY_GROUP_NAME}"):
        groups = ec2.describe_security_groups(Filters=filters)["SecurityGroups"]
    if not groups:
        return _create_security_group(ec2, vpc, sleep)
    group = groups[0]
    if not has_made_by_tag(group.get("Tags")):
        ((key, value),) = MADE_BY_TAG.items()
        raise CloudError(
            f"the security group {group['GroupId']} is named {SECURITY_GROUP_NAME}, but fleetFile did not create it",
            f"rename the group, or add the tag {key}={value} to let fleetFile use it",
        )
    if group["IpPermissions"]:
        raise CloudError(
            f"the security group {group['GroupId']} ({SECURITY_GROUP_NAME}) allows inbound traffic",
            "remove its inbound rules, which machines do not need, or write your own group into the Fleet file",
        )
    return group["GroupId"]


def _create_security_group(ec2: EC2Client, vpc: str, sleep: Callable[[float], None]) -> str:
    """Create the security group, without inbound rules and with all outbound traffic (EC2's default); return its ID."""
    tags: Any = build_tag_specifications((), ["security-group"], MADE_BY_TAG | {"Name": SECURITY_GROUP_NAME})
    with translate_aws_errors(f"creating the security group {SECURITY_GROUP_NAME}"):
        group: str = ec2.create_security_group(
            GroupName=SECURITY_GROUP_NAME,
            Description="Machines of Distributed-Something: no inbound traffic",
            VpcId=vpc,
            TagSpecifications=tags,
        )["GroupId"]
        # EC2 rejects a fleet with a new security group until the group is visible everywhere in EC2.
        retry_until_consistent(
            lambda: ec2.describe_security_groups(GroupIds=[group]), "InvalidGroup.NotFound", sleep=sleep
        )
    return group
