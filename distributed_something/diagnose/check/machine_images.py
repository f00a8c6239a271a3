"""Checks of the machine image (AMI) and the disks that machines start with."""

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

UNSUPPORTED_IMAGE_PREFIXES = (
    "amzn-ami-",
    "amzn2-ami-ecs",
)  # Amazon Linux 1 ended in 2023, Amazon Linux 2's ECS image in 2026
IMDSV2_START_DATE = "2019-11-19"  # announced that day in AWS's security blog: no older program asks with a token


def check_machine_images(facts: Lookups) -> Iterator[Finding]:
    """The machine images (AMI)."""
    asked = facts.specifications
    yield from judge_machine_images(asked, facts.images.value, facts.now)
    yield from judge_image_architectures(asked, facts.images.value, facts.types.value)


def check_disks(facts: Lookups) -> Iterator[Finding]:
    """The disks that the machines get."""
    yield from judge_disks(facts.specifications, facts.images.value, facts.snapshots.value)


def judge_machine_images(
    asked: Iterable[LaunchSpecification], found: Mapping[str, Any], now: datetime
) -> Iterator[Finding]:
    """They exist, can be started, are made for ECS and still supported."""
    wanted = {one.image for one in asked if one.image}
    for name in sorted(wanted - found.keys()):
        yield build_wrong_finding(
            "AMI", f"{name} is not in this region, or not open to this account", RENEW_FLEET_FILE_REMEDY, by_user=True
        )
    for name, image in found.items():
        yield _judge_machine_image(name, image, now)


def _judge_machine_image(name: str, image: Mapping[str, Any], now: datetime) -> Finding:
    title = str(image.get("Name", ""))
    said = f"{name} ({title or 'unnamed'})"
    deprecated = str(image.get("DeprecationTime", ""))
    if image.get("State", "available") != "available":
        return build_wrong_finding("AMI", f"{said} is {image['State']}", RENEW_FLEET_FILE_REMEDY, by_user=True)
    if "" < str(image.get("CreationDate", "")) < IMDSV2_START_DATE:
        told = f"{said} is older than IMDSv2, which machines require: its agent would join no cluster"
        return build_wrong_finding("AMI", told, RENEW_FLEET_FILE_REMEDY, by_user=True)
    if title.startswith(UNSUPPORTED_IMAGE_PREFIXES) or (deprecated and deprecated < now.strftime("%Y-%m-%dT%H:%M:%S")):
        return build_warning_finding("AMI", f"{said} is past its support", RENEW_FLEET_FILE_REMEDY)
    if "ecs" not in title.lower():
        return build_warning_finding(
            "AMI",
            f"{said} does not look made for ECS: without its agent machines join no cluster",
            RENEW_FLEET_FILE_REMEDY,
        )
    return build_ok_finding("AMI", f"{said}, {image.get('Architecture', 'x86_64')}")


def judge_disks(
    asked: Iterable[LaunchSpecification], images: Mapping[str, Any], snapshots: Mapping[str, Any]
) -> Iterator[Finding]:
    """Each disk has a name that the image uses, and room for the snapshot that it is made from."""
    seen: set[Finding] = set()
    for one in asked:
        if one.image in images:
            for finding in _judge_pool_disks(one, images[str(one.image)], snapshots):
                if finding not in seen and not seen.add(finding):  # type: ignore[func-returns-value]
                    yield finding


def _judge_pool_disks(
    one: LaunchSpecification, image: Mapping[str, Any], snapshots: Mapping[str, Any]
) -> Iterator[Finding]:
    own = {m["DeviceName"]: m["Ebs"] for m in image.get("BlockDeviceMappings", ()) if "Ebs" in m}
    named = [device for device, _, _ in one.volumes]
    root = image.get("RootDeviceName")
    faults = list(_judge_volumes(one, own, snapshots, str(root)))
    yield from faults
    if one.volumes and root not in named:
        yield build_warning_finding(
            "disk",
            f"no disk {root} in the Fleet file: the machine's own disk, where containers lie, keeps "
            "the image's size, whatever EBS_VOL_SIZE says",
            f"name {root} last in BlockDeviceMappings",
        )
    elif not faults:
        sizes = ", ".join(
            f"{device} {size or own.get(device, {}).get('VolumeSize')} GiB" for device, size, _ in one.volumes
        )
        yield build_ok_finding(
            "disk", sizes or f"{root} {own.get(root, {}).get('VolumeSize')} GiB, as the image has it"
        )


def _judge_volumes(
    one: LaunchSpecification, own: Mapping[str, Any], snapshots: Mapping[str, Any], root: str
) -> Iterator[Finding]:
    for device, size, snapshot in one.volumes:
        if snapshot and snapshot not in snapshots:
            yield build_wrong_finding(
                "disk", f"there is no snapshot {snapshot} for {device}", "take SnapshotId out", by_user=True
            )
            continue
        least = snapshots[snapshot].get("VolumeSize", 0) if snapshot else own.get(device, {}).get("VolumeSize", 0)
        if size is not None and size < least:
            yield build_wrong_finding(
                "disk",
                f"{device} would have {size} GiB, its snapshot needs {least}",
                f"set EBS_VOL_SIZE to at least {least}"
                if device == one.volumes[-1][0]
                else f"raise its VolumeSize in the Fleet file to {least}, or take it out",
                by_user=True,
            )
        elif own and device not in own:
            yield build_warning_finding(
                "disk",
                f"the image does not use {device}: it would be paid for and stay empty",
                f"name {root} instead, or take it out",
            )


def judge_image_architectures(
    asked: Iterable[LaunchSpecification], images: Mapping[str, Any], types: Mapping[str, MachineType]
) -> Iterator[Finding]:
    """Each machine's processor runs its image."""
    for kind, name in sorted({(one.machine_type, one.image) for one in asked if one.image}):
        image, machine = images.get(name), types.get(kind)
        if image is None or machine is None or not machine.architectures:
            continue
        needs = image.get("Architecture", "x86_64")
        if needs not in machine.architectures:
            has = ", ".join(sorted(machine.architectures))
            yield build_wrong_finding(
                "AMI",
                f"{name} is for {needs}, {kind} is {has}",
                f"choose an image for {has}, or another MACHINE_TYPE",
                by_user=True,
            )
