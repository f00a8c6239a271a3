"""The launch specifications of a Fleet file, each as the content of a launch template and its overrides.

The content is what all machines of a specification have in common. Each override is one machine type in one subnet or
zone, and every type is combined with every subnet. `launch_plan.py` adds the run's own values. Nothing here calls AWS.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from distributed_something.core.config_settings import Settings


# The only volume of the ECS-optimized Amazon Linux 2023 image; it also stores the containers.
ECS_IMAGE_ROOT_DEVICE = "/dev/xvda"
LAUNCH_SPECIFICATIONS_KEY, LAUNCH_TEMPLATE_CONFIGS_KEY = "LaunchSpecifications", "LaunchTemplateConfigs"
_ZONE_KEYS = ("AvailabilityZone", "AvailabilityZoneId")
_CONFIG_KEYS = ("InstanceType", "SpotPrice", "UserData", "WeightedCapacity")  # replaced by the config's values
_OVERRIDE_KEYS = ("SubnetId",)

JsonObject = dict[str, Any]


class TemplateFault(NamedTuple):
    """The reason why EC2 cannot start machines from a Fleet file or a launch template, and what to do."""

    problem: str
    remedy: str


class LaunchSpec(NamedTuple):
    """The LaunchTemplateData (None if the template was not read) and LaunchTemplateOverrides of one specification."""

    content: JsonObject | None
    overrides: list[JsonObject]


def build_launch_specs(settings: Settings, fleet: JsonObject, template: JsonObject | None = None) -> list[LaunchSpec]:
    """Return the launch specifications of a Fleet file with a valid structure, merging those with equal content.

    `template`: the content of the launch template that the file names, if it was read.
    """
    if LAUNCH_TEMPLATE_CONFIGS_KEY in fleet:
        return [_build_spec_from_template(settings, fleet, template)]
    specs: list[LaunchSpec] = []
    for specification, types in _pair_with_types(fleet[LAUNCH_SPECIFICATIONS_KEY], settings.MACHINE_TYPE):
        content = build_template_data(specification, settings)
        _add_launch_spec(specs, LaunchSpec(content, list(_iter_overrides(specification, types))))
    return specs


def build_template_data(specification: JsonObject, settings: Settings) -> JsonObject:
    """Return a launch specification as LaunchTemplateData, without type, subnet, zone, and values from the config."""
    content = {
        key: copy.deepcopy(value) for key, value in specification.items() if key not in _CONFIG_KEYS + _OVERRIDE_KEYS
    }
    content["BlockDeviceMappings"] = _build_disk_mappings(content.get("BlockDeviceMappings", []), settings.EBS_VOL_SIZE)
    if "RamdiskId" in content:
        content["RamDiskId"] = content.pop("RamdiskId")
    if groups := content.pop("SecurityGroups", []):
        content["SecurityGroupIds"] = [group["GroupId"] for group in groups]
    return _remove_place(content, _list_places(specification)[0])


def has_public_address(settings: Settings, interfaces: Iterable[JsonObject]) -> bool:
    """Return whether machines with these NetworkInterfaces get a public address.

    ASSIGN_IP decides if the config has it; otherwise, an AssociatePublicIpAddress of false in the Fleet file stays.
    """
    if "ASSIGN_IP" in settings.model_fields_set:
        return settings.ASSIGN_IP
    return not any(interface.get("AssociatePublicIpAddress") is False for interface in interfaces)


def find_interface_fault(interfaces: list[JsonObject], settings: Settings) -> TemplateFault | None:
    """Return why EC2 cannot start a fleet's machines with these NetworkInterfaces, or None if it can.

    Source:
    https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_LaunchTemplateInstanceNetworkInterfaceSpecificationRequest.html
    """
    if any("NetworkInterfaceId" in interface for interface in interfaces):
        problem = "an existing network interface works for only one machine, but a fleet has several"
        return TemplateFault(problem, "remove NetworkInterfaceId")
    if len(interfaces) > 1 and has_public_address(settings, interfaces):
        problem = "EC2 assigns no public address (ASSIGN_IP) to a machine with several network interfaces"
        return TemplateFault(problem, "keep one, or set ASSIGN_IP to 'False' and give their subnets a NAT gateway")
    return None


def _build_spec_from_template(settings: Settings, fleet: JsonObject, template: JsonObject | None) -> LaunchSpec:
    overrides = [override for config in fleet[LAUNCH_TEMPLATE_CONFIGS_KEY] for override in config.get("Overrides", ())]
    specification = {"SubnetId": ",".join(override.get("SubnetId", "") for override in overrides)}
    content = None if template is None else _remove_place(copy.deepcopy(template), _list_places(specification)[0])
    return LaunchSpec(content, list(_iter_overrides(specification, settings.MACHINE_TYPE)))


def _pair_with_types(specifications: list[JsonObject], types: list[str]) -> list[tuple[JsonObject, list[str]]]:
    """Pair a single specification with all types, or several specifications with one type each, as the published system
    does.
    """
    if len(specifications) == 1:
        return [(specifications[0], types)]
    return [(specification, [name]) for specification, name in zip(specifications, types, strict=True)]


def _add_launch_spec(specs: list[LaunchSpec], new: LaunchSpec) -> None:
    """Add `new`, or only its overrides if there is a specification with the same content."""
    same = next((spec for spec in specs if spec.content == new.content), None)
    if same is None:
        specs.append(new)
    else:  # EC2 rejects a request with the same type and subnet twice
        same.overrides.extend(override for override in new.overrides if override not in same.overrides)


def _iter_overrides(specification: JsonObject, types: list[str]) -> Iterator[JsonObject]:
    for machine_type in dict.fromkeys(types):
        yield from ({"InstanceType": machine_type, **place} for place in _list_places(specification))


def _list_places(specification: JsonObject) -> list[JsonObject]:
    """Return the specification's subnets, or its zones if it has no subnets, or one empty place if EC2 may choose."""
    interfaces, placement = specification.get("NetworkInterfaces") or [{}], specification.get("Placement", {})
    subnets = specification.get("SubnetId") or interfaces[0].get("SubnetId", "")
    for key, text in (("SubnetId", subnets), *((key, placement.get(key, "")) for key in _ZONE_KEYS)):
        if names := list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip())):
            return [{key: name} for name in names]
    return [{}]


def _remove_place(content: JsonObject, place: JsonObject) -> JsonObject:
    """Return `content` without the subnet or zone that the overrides specify.

    Interfaces in other subnets keep their subnets.
    """
    interfaces, placement = content.get("NetworkInterfaces") or [{}], content.get("Placement", {})
    first = interfaces[0].get("SubnetId")
    for interface in interfaces if "SubnetId" in place else ():
        if interface.get("SubnetId") == first:
            interface.pop("SubnetId", None)
    for key in _ZONE_KEYS:
        if key in place:
            del placement[key]
    if not placement:
        content.pop("Placement", None)
    return content


def _build_disk_mappings(mappings: list[JsonObject], size: int) -> list[JsonObject]:
    """Return the disks.

    Set the size of the last one, which stores the containers, to `size` GiB. The first one is the root disk.
    """
    mappings = mappings or [{"DeviceName": ECS_IMAGE_ROOT_DEVICE, "Ebs": {"VolumeType": "gp3"}}]
    volumes: list[JsonObject] = [mapping["Ebs"] for mapping in mappings if "Ebs" in mapping]
    for volume in volumes:
        volume.setdefault("DeleteOnTermination", True)  # otherwise it costs money after its machine is terminated
    if volumes:
        volumes[-1]["VolumeSize"] = size
    return mappings


@dataclass(frozen=True)
class LaunchSpecification:
    """One combination that the fleet may launch.

    A field that is None or empty means that EC2 chooses, or that the template was not read.
    """

    machine_type: str
    subnets: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    image: str | None = None
    key: str | None = None
    profile: str | None = None
    volumes: tuple[tuple[str, int | None, str | None], ...] = ()  # device name, GiB, snapshot
    unread: bool = False
    has_public_address: bool = True


def build_launch_specifications(settings: Settings, specs: Iterable[LaunchSpec]) -> list[LaunchSpecification]:
    """Return one launch specification for every override in `specs`."""
    return [
        _build_launch_specification(settings, spec.content, override) for spec in specs for override in spec.overrides
    ]


def list_requested_types(request: Mapping[str, Any]) -> set[str]:
    """Return the machine types in a fleet request as EC2 describes it.

    The published system's requests have LaunchSpecifications.
    """
    overrides = (item for config in request.get("LaunchTemplateConfigs", ()) for item in config.get("Overrides", ()))
    types = (item.get("InstanceType") for item in (*request.get("LaunchSpecifications", ()), *overrides))
    return {name for name in types if name}


def parse_arn_name(profile: str) -> str:
    """Return the name in the ARN of an instance profile or a role; a plain name is returned unchanged."""
    return profile.rsplit("/", 1)[-1]


def _build_launch_specification(
    settings: Settings, content: JsonObject | None, override: JsonObject
) -> LaunchSpecification:
    data = content or {}
    interfaces = data.get("NetworkInterfaces", ())
    groups = [
        *data.get("SecurityGroupIds", ()),
        *(group for interface in interfaces for group in interface.get("Groups", ())),
    ]
    subnets = [place["SubnetId"] for place in (override, *interfaces) if place.get("SubnetId")]
    profile = data.get("IamInstanceProfile", {})
    return LaunchSpecification(
        machine_type=override["InstanceType"],
        subnets=tuple(dict.fromkeys(subnets)),
        groups=tuple(dict.fromkeys(groups)),
        image=data.get("ImageId"),
        key=data.get("KeyName"),
        profile=profile.get("Arn") or profile.get("Name"),
        volumes=tuple(_iter_volumes(data)),
        unread=content is None,
        has_public_address=has_public_address(settings, interfaces),
    )


def _iter_volumes(content: JsonObject) -> Iterator[tuple[str, int | None, str | None]]:
    for mapping in content.get("BlockDeviceMappings", ()):
        if "Ebs" in mapping:
            disk = mapping["Ebs"]
            yield str(mapping.get("DeviceName", "")), disk.get("VolumeSize"), disk.get("SnapshotId")
