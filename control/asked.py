"""What a fleet request asks EC2 for: its launch specifications, one by one, in the few values that can be looked up."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Specification:
    """One kind of machine that the fleet may launch. None or empty: the request leaves it to EC2 or to a template."""

    machine_type: str
    subnets: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    image: str | None = None
    key: str | None = None
    profile: str | None = None
    volumes: tuple[tuple[str, int | None, str | None], ...] = ()  # device name, GiB, snapshot
    templated: bool = False


def specifications(request: Mapping[str, Any], templates: Mapping[str, Any] | None = None) -> list[Specification]:
    """Those of a SpotFleetRequestConfig, be they written out or overrides of launch templates (`templates`: the data
    of those that are known, by `template_key`)."""
    written = [_written(one) for one in request.get("LaunchSpecifications", ())]
    return written + [
        one for config in request.get("LaunchTemplateConfigs", ()) for one in _templated(config, templates or {})
    ]


def template_key(config: Mapping[str, Any]) -> str:
    """Which launch template, in one text: «lt-1 version 3»."""
    named = config.get("LaunchTemplateSpecification", {})
    name = named.get("LaunchTemplateId") or named.get("LaunchTemplateName", "")
    return f"{name} version {named.get('Version', '$Default')}"


def name_of_profile(profile: str) -> str:
    """The name in an instance profile's ARN; a name stays as it is. The same holds for a role."""
    return profile.rsplit("/", 1)[-1]


def _written(one: Mapping[str, Any]) -> Specification:
    interfaces = one.get("NetworkInterfaces", ())
    subnets = [subnet for place in (one, *interfaces) for subnet in _split(place.get("SubnetId", ""))]
    groups = [group.get("GroupId", "") for group in one.get("SecurityGroups", ())]
    groups += one.get("SecurityGroupIds", ())
    groups += [group for interface in interfaces for group in interface.get("Groups", ())]
    profile = one.get("IamInstanceProfile", {})
    return Specification(
        machine_type=str(one.get("InstanceType", "")),
        subnets=tuple(dict.fromkeys(subnets)),
        groups=tuple(dict.fromkeys(filter(None, groups))),
        image=one.get("ImageId"),
        key=one.get("KeyName"),
        profile=profile.get("Arn") or profile.get("Name"),
        volumes=tuple(_volumes(one)),
    )


def _templated(config: Mapping[str, Any], templates: Mapping[str, Any]) -> Iterator[Specification]:
    data = templates.get(template_key(config))
    for override in config.get("Overrides") or [{}]:
        merged = {**(data or {}), **override}
        if override.get("SubnetId"):  # stands for the template's own
            merged["NetworkInterfaces"] = [
                {key: value for key, value in interface.items() if key != "SubnetId"}
                for interface in merged.get("NetworkInterfaces", ())
            ]
        yield replace(_written(merged), templated=data is None)


def _volumes(one: Mapping[str, Any]) -> Iterator[tuple[str, int | None, str | None]]:
    for mapping in one.get("BlockDeviceMappings", ()):
        if "Ebs" in mapping:
            disk = mapping["Ebs"]
            yield str(mapping.get("DeviceName", "")), disk.get("VolumeSize"), disk.get("SnapshotId")


def _split(subnets: str) -> list[str]:
    """EC2 takes several subnets in one text, with commas."""
    return [name.strip() for name in subnets.split(",") if name.strip()]
