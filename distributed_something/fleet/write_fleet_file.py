"""`run.py fleetFile`: writes a Fleet file for this account and region that startCluster can use without changes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distributed_something.aws.clients import Clients
from distributed_something.aws.instance_types import MachineType, list_machine_types
from distributed_something.core.errors import InputError, translate_aws_errors
from distributed_something.core.files import write_json_atomically
from distributed_something.core.names import FLEET_ROLE, INSTANCE_ROLE, AwsAccount
from distributed_something.core.text import format_names, format_row
from distributed_something.fleet.launch_specs import ECS_IMAGE_ROOT_DEVICE
from distributed_something.fleet.network import FleetNetwork, choose_network, format_network_notes
from distributed_something.fleet.security_group import SshSource, ensure_security_group, parse_ssh_source

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mypy_boto3_ec2 import EC2Client

    from distributed_something.core.config_settings import Settings


IMAGE_PARAMETERS = {
    "x86_64": "/aws/service/ecs/optimized-ami/amazon-linux-2023/recommended/image_id",
    "arm64": "/aws/service/ecs/optimized-ami/amazon-linux-2023/arm64/recommended/image_id",
}
# With NVIDIA's driver and container runtime; AWS has none for Arm.
# https://docs.aws.amazon.com/AmazonECS/latest/developerguide/retrieve-ecs-optimized_AMI.html
GPU_IMAGE_PARAMETER = "/aws/service/ecs/optimized-ami/amazon-linux-2023/gpu/recommended/image_id"


@dataclass(frozen=True)
class FleetFileOptions:
    """The options of `fleetFile`.

    `path`: the Fleet file to write. `config`: the config file, named in errors. `vpc`: the VPC to use instead of the
    region's default VPC. `force`: overwrite an existing file. `ssh_from`: the address or network that may connect
    to the machines over SSH; nobody may without it.
    """

    path: Path
    config: Path
    vpc: str | None = None
    force: bool = False
    ssh_from: str | None = None


@dataclass(frozen=True)
class FleetFileSummary:
    """The choices in a new Fleet file.

    `has_gpu_image`: whether the machine image supports GPUs. `key`: the name of the key pair, or "" if there is none.
    `ssh_source`: who may connect to the machines over SSH.
    """

    path: Path
    image: str
    architecture: str
    has_gpu_image: bool
    network: FleetNetwork
    group: str
    key: str
    ssh_source: SshSource | None = None


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
    key, ssh_source = _choose_login(settings, options)
    machines = _look_up_machine_types(clients.ec2, settings.MACHINE_TYPE, options.config)
    architecture = _choose_architecture(machines, options.config)
    has_gpu_image = _needs_gpu_image(settings, machines, architecture, options.config)
    image = _read_latest_image_id(clients, GPU_IMAGE_PARAMETER if has_gpu_image else IMAGE_PARAMETERS[architecture])
    network = choose_network(clients.ec2, settings, options.config, options.vpc, account.account_id)
    group = ensure_security_group(clients.ec2, account, network.vpc, sleep, ssh_source)
    content = build_fleet_file(account, image, key, list(network.subnets.values()), group)
    write_json_atomically(options.path, content)
    return FleetFileSummary(options.path, image, architecture, has_gpu_image, network, group, key, ssh_source)


def format_fleet_file_summary(summary: FleetFileSummary) -> list[str]:
    """Return labeled lines with the choices in the file."""
    kind = summary.architecture + (", with GPU support" if summary.has_gpu_image else "")
    zones = ", ".join(f"{subnet} ({zone})" for zone, subnet in summary.network.subnets.items())
    traffic, key = "no inbound traffic", summary.key or "none: you cannot log in to the machines"
    if summary.ssh_source is not None:
        traffic = f"SSH from {summary.ssh_source}, no other inbound traffic"
    elif summary.key:
        key = f"{summary.key} (of no use until somebody may connect: add --ssh-from ADDRESS)"
    return [
        format_row("image", f"{summary.image} (ECS-optimized Amazon Linux 2023, {kind})"),
        format_row("subnets", zones),
        *(f"note: {note}" for note in format_network_notes(summary.network)),
        format_row("security group", f"{summary.group} ({traffic})"),
        format_row("key pair", key),
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


def _choose_login(settings: Settings, options: FleetFileOptions) -> tuple[str, SshSource | None]:
    """Return the name of the key pair and who may connect over SSH. Raise InputError if they do not match."""
    key = settings.SSH_KEY_NAME.removesuffix(".pem")
    if options.ssh_from is None:
        return key, None
    if not key:
        remedy = "set it to the name of a key pair, which you can create in the EC2 console"
        raise InputError(options.config, "SSH_KEY_NAME", "--ssh-from needs a key pair, but this is ''", remedy)
    return key, parse_ssh_source(options.ssh_from)


def _look_up_machine_types(ec2: EC2Client, types: list[str], config: Path) -> dict[str, MachineType]:
    """Return the machine types, keyed by name. Raise InputError if the region does not have all of them."""
    with translate_aws_errors("looking up MACHINE_TYPE"):
        machines = list_machine_types(ec2, types)
    if missing := sorted(set(types) - machines.keys()):
        problem = f"no such machine type in this region: {format_names(missing)}"
        raise InputError(config, "MACHINE_TYPE", problem, "correct MACHINE_TYPE")
    return machines


def _choose_architecture(machines: Mapping[str, MachineType], config: Path) -> str:
    """Return an architecture that all machine types support. Raise InputError if they have none in common."""
    common = set(IMAGE_PARAMETERS).intersection(*(machine.architectures for machine in machines.values()))
    if common:
        return "x86_64" if "x86_64" in common else "arm64"
    by_type = ", ".join(f"{name} is {'/'.join(sorted(machine.architectures))}" for name, machine in machines.items())
    remedy = "use only x86_64 types or only arm64 types, because the Docker image is built for one of them"
    raise InputError(config, "MACHINE_TYPE", f"these machine types have different processors ({by_type})", remedy)


def _needs_gpu_image(settings: Settings, machines: Mapping[str, MachineType], architecture: str, config: Path) -> bool:
    """Return whether the machines need the image with GPU support: if every type has a GPU, even if GPUS is 0.

    Raise InputError if containers need GPUs that a type does not have, or if there is no such image.
    """
    without_gpu = [name for name, machine in machines.items() if not machine.gpus]
    if settings.GPUS and without_gpu:
        problem = f"GPUS is {settings.GPUS}, but these machine types have no NVIDIA GPU: {format_names(without_gpu)}"
        raise InputError(config, "MACHINE_TYPE", problem, "use types such as g4dn.xlarge, or set GPUS to 0")
    if not without_gpu and architecture != "x86_64":
        problem = "AWS has no ECS-optimized image with GPU support for Arm"
        raise InputError(config, "MACHINE_TYPE", problem, "use x86 types, such as g4dn.xlarge or g5.xlarge")
    return not without_gpu


def _read_latest_image_id(clients: Clients, parameter: str) -> str:
    with translate_aws_errors("looking up the newest ECS-optimized image"):
        value: str = clients.ssm.get_parameter(Name=parameter)["Parameter"]["Value"]
    return value
