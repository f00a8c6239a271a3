"""What a fleet request asks EC2 for: its combinations, one by one, in the few values that can be looked up."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from control.kinds import Json, Kind


@dataclass(frozen=True)
class Specification:
    """One combination that the fleet may launch. None or empty: left to EC2, or in a template that was not read."""

    machine_type: str
    subnets: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    image: str | None = None
    key: str | None = None
    profile: str | None = None
    volumes: tuple[tuple[str, int | None, str | None], ...] = ()  # device name, GiB, snapshot
    unread: bool = False


def specifications(kinds: Iterable[Kind]) -> list[Specification]:
    """Every type in every place of every kind of machine."""
    return [_specification(kind.content, override) for kind in kinds for override in kind.overrides]


def types_of(request: Mapping[str, Any]) -> set[str]:
    """The machine types of a fleet as EC2 tells it; the published version's has LaunchSpecifications."""
    overrides = (one for config in request.get("LaunchTemplateConfigs", ()) for one in config.get("Overrides", ()))
    named = (one.get("InstanceType") for one in (*request.get("LaunchSpecifications", ()), *overrides))
    return {kind for kind in named if kind}


def name_of_profile(profile: str) -> str:
    """The name in an instance profile's ARN; a name stays as it is. The same holds for a role."""
    return profile.rsplit("/", 1)[-1]


def _specification(content: Json | None, override: Json) -> Specification:
    known = content or {}
    interfaces = known.get("NetworkInterfaces", ())
    groups = [*known.get("SecurityGroupIds", ()), *(group for one in interfaces for group in one.get("Groups", ()))]
    subnets = [place["SubnetId"] for place in (override, *interfaces) if place.get("SubnetId")]
    profile = known.get("IamInstanceProfile", {})
    return Specification(
        machine_type=override["InstanceType"],
        subnets=tuple(dict.fromkeys(subnets)),
        groups=tuple(dict.fromkeys(groups)),
        image=known.get("ImageId"),
        key=known.get("KeyName"),
        profile=profile.get("Arn") or profile.get("Name"),
        volumes=tuple(_volumes(known)),
        unread=content is None,
    )


def _volumes(content: Json) -> Iterator[tuple[str, int | None, str | None]]:
    for mapping in content.get("BlockDeviceMappings", ()):
        if "Ebs" in mapping:
            disk = mapping["Ebs"]
            yield str(mapping.get("DeviceName", "")), disk.get("VolumeSize"), disk.get("SnapshotId")
