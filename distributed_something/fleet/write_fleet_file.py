"""`run.py fleetFile`: a Fleet file for this account and region, ready for startCluster."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from distributed_something.aws.clients import Clients
from distributed_something.aws.instance_types import MACHINE_TYPES_PER_CALL
from distributed_something.aws.retry import retry_until_consistent
from distributed_something.core.errors import CloudError, InputError, get_error_code, translate_aws_errors
from distributed_something.core.files import write_json_atomically
from distributed_something.core.names import FLEET_ROLE, INSTANCE_ROLE, AwsAccount
from distributed_something.core.tags import MADE_BY_TAG, build_tag_specifications, has_made_by_tag
from distributed_something.fleet.network import choose_network
from distributed_something.worker import split_into_batches

if TYPE_CHECKING:
    from collections.abc import Callable

    from mypy_boto3_ec2 import EC2Client

    from distributed_something.core.config_settings import Settings


IMAGE_PARAMETERS = {
    "x86_64": "/aws/service/ecs/optimized-ami/amazon-linux-2023/recommended/image_id",
    "arm64": "/aws/service/ecs/optimized-ami/amazon-linux-2023/arm64/recommended/image_id",
}
ECS_IMAGE_ROOT_DEVICE = "/dev/xvda"  # the image's only volume
SECURITY_GROUP_NAME = "distributed-something"


def write_fleet_file(
    clients: Clients,
    place: AwsAccount,
    settings: Settings,
    config: Path,
    path: Path,
    sleep: Callable[[float], None],
    *,
    vpc: str | None = None,
    force: bool = False,
) -> list[str]:
    """Writes the Fleet file to `path`; lines that tell what is in it.

    `config`: the config file, which errors name. `vpc`: another than the region's default one. An existing file is
    overwritten only with `force`. Raises InputError (nothing was made) or CloudError.
    """
    if path.exists() and not force:
        raise InputError(path, "", "this file exists", "choose another with --output, or overwrite it with --force")
    architecture = _choose_architecture(clients.ec2, settings.MACHINE_TYPE, config)
    image = _read_latest_image_id(clients, architecture)
    network = choose_network(clients.ec2, settings, config, vpc)
    group = _ensure_security_group(clients.ec2, network.vpc, sleep)
    key = settings.SSH_KEY_NAME.removesuffix(".pem")
    content = build_fleet_file(place, image, key, list(network.subnets.values()), group)
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
    supported = {name: set(found) for name, found in _iter_type_architectures(ec2, types, config)}
    common = set(IMAGE_PARAMETERS).intersection(*supported.values())
    if common:
        return "x86_64" if "x86_64" in common else "arm64"
    what = ", ".join(f"{name} is {'/'.join(sorted(found))}" for name, found in supported.items())
    right = "use types of one, x86_64 or arm64: the containers' image is built for one"
    raise InputError(config, "MACHINE_TYPE", f"these machines have different processors ({what})", right)


def _iter_type_architectures(ec2: EC2Client, types: list[str], config: Path) -> Iterable[tuple[str, list[str]]]:
    for some in split_into_batches(list(dict.fromkeys(types)), MACHINE_TYPES_PER_CALL):
        try:
            found: Any = ec2.describe_instance_types(InstanceTypes=some)["InstanceTypes"]  # type: ignore[arg-type]
        except ClientError as error:
            if get_error_code(error) != "InvalidInstanceType":
                with translate_aws_errors("looking up MACHINE_TYPE"):
                    raise
            right = f"{error.response['Error'].get('Message', '')}; correct MACHINE_TYPE"
            raise InputError(config, "MACHINE_TYPE", "EC2 does not know all of these types", right) from None
        yield from ((one["InstanceType"], one["ProcessorInfo"]["SupportedArchitectures"]) for one in found)


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
