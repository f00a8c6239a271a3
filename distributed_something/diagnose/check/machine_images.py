"""Checks the machine images (AMIs) and disks that the machines start with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

from distributed_something.aws.instance_types import MachineType
from distributed_something.diagnose.check.findings import (
    Finding,
    build_ok_finding,
    build_warning_finding,
    build_wrong_finding,
)
from distributed_something.diagnose.check.lookups import Lookups
from distributed_something.diagnose.check.network import RENEW_FLEET_FILE_REMEDY
from distributed_something.fleet.launch_specs import LaunchSpecification

# AWS ended support for Amazon Linux 1 in 2023 and for Amazon Linux 2's ECS image in 2026
UNSUPPORTED_IMAGE_PREFIXES = ("amzn-ami-", "amzn2-ami-ecs")
IMDSV2_START_DATE = "2019-11-19"  # AWS announced IMDSv2 on this day; older ECS agents cannot use it


def check_machine_images(lookups: Lookups) -> Iterator[Finding]:
    """Check that the machine images (AMIs) exist, are suitable, and match the machines' processors."""
    specifications = lookups.specifications
    yield from judge_machine_images(specifications, lookups.images.value, lookups.now)
    if lookups.settings.GPUS:
        yield from judge_gpu_support(lookups.images.value)
    yield from judge_image_architectures(specifications, lookups.images.value, lookups.types.value)


def check_disks(lookups: Lookups) -> Iterator[Finding]:
    """Compare the disks in the Fleet file with the machine images and snapshots."""
    yield from judge_disks(lookups.specifications, lookups.images.value, lookups.snapshots.value)


def judge_machine_images(
    specifications: Iterable[LaunchSpecification], images: Mapping[str, Any], now: datetime
) -> Iterator[Finding]:
    """Check that the images exist, are available, are built for ECS, and are still supported."""
    image_ids = {specification.image for specification in specifications if specification.image}
    for image_id in sorted(image_ids - images.keys()):
        message = f"{image_id} is not in this region, or this account may not use it"
        yield build_wrong_finding("AMI", message, RENEW_FLEET_FILE_REMEDY, is_user_error=True)
    for image_id, image in images.items():
        yield _judge_machine_image(image_id, image, now)


def _judge_machine_image(image_id: str, image: Mapping[str, Any], now: datetime) -> Finding:
    name = str(image.get("Name", ""))
    label = f"{image_id} ({name or 'unnamed'})"
    deprecated = str(image.get("DeprecationTime", ""))
    if image.get("State", "available") != "available":
        return build_wrong_finding("AMI", f"{label} is {image['State']}", RENEW_FLEET_FILE_REMEDY, is_user_error=True)
    if "" < str(image.get("CreationDate", "")) < IMDSV2_START_DATE:
        message = f"{label} is older than IMDSv2, which the machines require: its ECS agent could not join a cluster"
        return build_wrong_finding("AMI", message, RENEW_FLEET_FILE_REMEDY, is_user_error=True)
    if name.startswith(UNSUPPORTED_IMAGE_PREFIXES) or (deprecated and deprecated < now.strftime("%Y-%m-%dT%H:%M:%S")):
        return build_warning_finding("AMI", f"{label} is no longer supported by AWS", RENEW_FLEET_FILE_REMEDY)
    if "ecs" not in name.lower():
        return build_warning_finding(
            "AMI",
            f"{label} does not look like an ECS image: without the ECS agent, machines cannot join a cluster",
            RENEW_FLEET_FILE_REMEDY,
        )
    return build_ok_finding("AMI", f"{label}, {image.get('Architecture', 'x86_64')}")


def judge_gpu_support(images: Mapping[str, Any]) -> Iterator[Finding]:
    """Check that the images contain NVIDIA's driver, by their names; without it, containers with GPUs never start."""
    for image_id, image in images.items():
        if "gpu" not in str(image.get("Name", "")).lower():
            yield build_warning_finding(
                "AMI",
                f"{image_id} ({image.get('Name') or 'unnamed'}) does not look like an image with GPU support, which "
                "containers with GPUS need",
                RENEW_FLEET_FILE_REMEDY,
            )


def judge_disks(
    specifications: Iterable[LaunchSpecification], images: Mapping[str, Any], snapshots: Mapping[str, Any]
) -> Iterator[Finding]:
    """Check that the image uses each disk and that each disk is large enough for its snapshot.

    Yields each finding once, even if it applies to several specifications.
    """
    unique_findings: dict[Finding, None] = {}
    for specification in specifications:
        if specification.image in images:
            unique_findings |= dict.fromkeys(
                _judge_specification_disks(specification, images[str(specification.image)], snapshots)
            )
    yield from unique_findings


def _judge_specification_disks(
    specification: LaunchSpecification, image: Mapping[str, Any], snapshots: Mapping[str, Any]
) -> Iterator[Finding]:
    mappings = image.get("BlockDeviceMappings", ())
    image_disks = {mapping["DeviceName"]: mapping["Ebs"] for mapping in mappings if "Ebs" in mapping}
    devices = [device for device, _, _ in specification.volumes]
    root = image.get("RootDeviceName")
    problems = list(_judge_volumes(specification, image_disks, snapshots, str(root)))
    yield from problems
    if specification.volumes and root not in devices:
        yield build_warning_finding(
            "disk",
            f"no disk {root} in the Fleet file: the machine's root disk, which stores the containers, keeps the "
            "image's size, whatever EBS_VOL_SIZE is",
            f"add {root} as the last entry of BlockDeviceMappings",
        )
    elif not problems:
        sizes = ", ".join(
            f"{device} {size or image_disks.get(device, {}).get('VolumeSize')} GiB"
            for device, size, _ in specification.volumes
        )
        root_size = image_disks.get(root, {}).get("VolumeSize")
        yield build_ok_finding("disk", sizes or f"{root} {root_size} GiB, the image's own size")


def _judge_volumes(
    specification: LaunchSpecification, image_disks: Mapping[str, Any], snapshots: Mapping[str, Any], root: str
) -> Iterator[Finding]:
    own_disks = {disk["SnapshotId"]: disk for disk in image_disks.values() if "SnapshotId" in disk}
    for device, size, snapshot in specification.volumes:
        # DescribeSnapshots does not return the snapshots of Amazon's own images, although machines can start from them.
        source = snapshots.get(snapshot) or own_disks.get(snapshot) if snapshot else image_disks.get(device, {})
        if source is None:
            message = f"the snapshot {snapshot} for {device} is not visible to this account: it may not exist"
            remedy = (
                "if no machine starts, remove SnapshotId from the Fleet file; the image's own snapshot is then used"
            )
            yield build_warning_finding("disk", message, remedy)
            continue
        minimum_size = source.get("VolumeSize", 0)
        if size is not None and size < minimum_size:
            yield build_wrong_finding(
                "disk",
                f"{device} would have {size} GiB, but its snapshot needs {minimum_size}",
                f"set EBS_VOL_SIZE to at least {minimum_size}"
                if device == specification.volumes[-1][0]
                else f"raise its VolumeSize in the Fleet file to {minimum_size}, or remove VolumeSize",
                is_user_error=True,
            )
        elif image_disks and device not in image_disks:
            yield build_warning_finding(
                "disk",
                f"the image does not use {device}: you would pay for a disk that stays empty",
                f"write {root} instead, or remove the entry",
            )


def judge_image_architectures(
    specifications: Iterable[LaunchSpecification], images: Mapping[str, Any], types: Mapping[str, MachineType]
) -> Iterator[Finding]:
    """Check that each machine type can run its image."""
    pairs = {
        (specification.machine_type, specification.image) for specification in specifications if specification.image
    }
    for type_name, image_id in sorted(pairs):
        image, machine_type = images.get(image_id), types.get(type_name)
        if image is None or machine_type is None or not machine_type.architectures:
            continue
        image_architecture = image.get("Architecture", "x86_64")
        if image_architecture not in machine_type.architectures:
            architectures = ", ".join(sorted(machine_type.architectures))
            yield build_wrong_finding(
                "AMI",
                f"{image_id} is for {image_architecture}, but {type_name} is {architectures}",
                f"choose an image for {architectures}, or another MACHINE_TYPE",
                is_user_error=True,
            )
