"""The kinds of machine that a Fleet file describes: each a launch template's content, and its overrides.

Content is what machines of a kind have in common; an override says one type and one place of it. Every type is
combined with every subnet. Pure. `launch_plan.py` adds what the run decides.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from distributed_something.core.config_settings import Settings


# The only volume of the ECS-optimised Amazon Linux 2023 image: containers lie there.
ECS_IMAGE_ROOT_DEVICE = "/dev/xvda"
LAUNCH_SPECIFICATIONS_KEY, LAUNCH_TEMPLATE_CONFIGS_KEY = "LaunchSpecifications", "LaunchTemplateConfigs"
_ZONE_KEYS = ("AvailabilityZone", "AvailabilityZoneId")
_CONFIG_KEYS = ("InstanceType", "SpotPrice", "UserData", "WeightedCapacity")  # whatever a specification says
_OVERRIDE_KEYS = ("SubnetId",)

JsonObject = dict[str, Any]


class TemplateFault(NamedTuple):
    """Why no machine can be started as a Fleet file or a launch template says, and what to do."""

    problem: str
    remedy: str


class LaunchSpec(NamedTuple):
    """LaunchTemplateData (None: of a template that was not read) and LaunchTemplateOverrides, as EC2 takes them."""

    content: JsonObject | None
    overrides: list[JsonObject]


def build_launch_specs(fleet: JsonObject, settings: Settings, theirs: JsonObject | None = None) -> list[LaunchSpec]:
    """Those of a Fleet file whose form is right. Specifications of equal content are one kind.

    `theirs`: the content of the launch template that the file names, if it was read.
    """
    if LAUNCH_TEMPLATE_CONFIGS_KEY in fleet:
        return [_build_spec_from_template(fleet, settings, theirs)]
    found: list[LaunchSpec] = []
    for specification, types in _pair_with_types(fleet[LAUNCH_SPECIFICATIONS_KEY], settings.MACHINE_TYPE):
        _add_launch_spec(
            found, LaunchSpec(build_template_data(specification, settings), list(_iter_overrides(specification, types)))
        )
    return found


def build_template_data(specification: JsonObject, settings: Settings) -> JsonObject:
    """What a launch specification says but for type, place and what the config decides, as LaunchTemplateData."""
    content = {
        key: copy.deepcopy(value) for key, value in specification.items() if key not in _CONFIG_KEYS + _OVERRIDE_KEYS
    }
    content["BlockDeviceMappings"] = _build_disk_mappings(content.get("BlockDeviceMappings", []), settings.EBS_VOL_SIZE)
    if "RamdiskId" in content:
        content["RamDiskId"] = content.pop("RamdiskId")
    if groups := content.pop("SecurityGroups", []):
        content["SecurityGroupIds"] = [group["GroupId"] for group in groups]
    return _remove_place(content, _list_places(specification)[0])


def find_interface_fault(interfaces: list[JsonObject], *, public: bool) -> TemplateFault | None:
    """Return why EC2 would start no machine with these NetworkInterfaces; None where it would. `public`: ASSIGN_IP.

    https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_LaunchTemplateInstanceNetworkInterfaceSpecificationRequest.html
    """
    if any("NetworkInterfaceId" in one for one in interfaces):
        problem = "a network interface that exists serves one machine, and a fleet has many"
        return TemplateFault(problem, "take NetworkInterfaceId out")
    if public and len(interfaces) > 1:
        problem = "EC2 gives no public address (ASSIGN_IP) to a machine that starts with several network interfaces"
        return TemplateFault(problem, "leave one, or set ASSIGN_IP to 'False' and give their subnets a NAT gateway")
    return None


def _build_spec_from_template(fleet: JsonObject, settings: Settings, theirs: JsonObject | None) -> LaunchSpec:
    named = ",".join(
        one.get("SubnetId", "") for config in fleet[LAUNCH_TEMPLATE_CONFIGS_KEY] for one in config.get("Overrides", ())
    )
    specification = {"SubnetId": named}
    content = None if theirs is None else _remove_place(copy.deepcopy(theirs), _list_places(specification)[0])
    return LaunchSpec(content, list(_iter_overrides(specification, settings.MACHINE_TYPE)))


def _pair_with_types(given: list[JsonObject], types: list[str]) -> list[tuple[JsonObject, list[str]]]:
    """One specification with every type; several with the types in their order, as published."""
    if len(given) == 1:
        return [(given[0], types)]
    return [(one, [kind]) for one, kind in zip(given, types, strict=True)]


def _add_launch_spec(found: list[LaunchSpec], kind: LaunchSpec) -> None:
    same = next((one for one in found if one.content == kind.content), None)
    if same is None:
        found.append(kind)
    else:
        same.overrides.extend(one for one in kind.overrides if one not in same.overrides)  # EC2: each pool once


def _iter_overrides(specification: JsonObject, types: list[str]) -> Iterator[JsonObject]:
    for kind in dict.fromkeys(types):
        yield from ({"InstanceType": kind, **place} for place in _list_places(specification))


def _list_places(specification: JsonObject) -> list[JsonObject]:
    """The subnets, or else the zones; an empty place where EC2 is to choose."""
    interfaces, placement = specification.get("NetworkInterfaces") or [{}], specification.get("Placement", {})
    subnets = specification.get("SubnetId") or interfaces[0].get("SubnetId", "")
    for key, text in (("SubnetId", subnets), *((key, placement.get(key, "")) for key in _ZONE_KEYS)):
        if names := list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip())):
            return [{key: name} for name in names]
    return [{}]


def _remove_place(content: JsonObject, place: JsonObject) -> JsonObject:
    """`content`, but for what an override with this place says instead. Interfaces in other subnets keep theirs."""
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
    """The disks, of which the last is the containers' (published files list the root first) and has `size` GiB."""
    mappings = mappings or [{"DeviceName": ECS_IMAGE_ROOT_DEVICE, "Ebs": {"VolumeType": "gp3"}}]
    volumes: list[JsonObject] = [mapping["Ebs"] for mapping in mappings if "Ebs" in mapping]
    for volume in volumes:
        volume.setdefault("DeleteOnTermination", True)  # else it is paid for when its machine has ended
    if volumes:
        volumes[-1]["VolumeSize"] = size
    return mappings


@dataclass(frozen=True)
class LaunchSpecification:
    """One combination that the fleet may launch. None or empty: left to EC2, or in a template that was not read."""

    machine_type: str
    subnets: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    image: str | None = None
    key: str | None = None
    profile: str | None = None
    volumes: tuple[tuple[str, int | None, str | None], ...] = ()  # device name, GiB, snapshot
    unread: bool = False


def build_launch_specifications(kinds: Iterable[LaunchSpec]) -> list[LaunchSpecification]:
    """Every type in every place of every kind of machine."""
    return [_build_launch_specification(kind.content, override) for kind in kinds for override in kind.overrides]


def list_requested_types(request: Mapping[str, Any]) -> set[str]:
    """The machine types of a fleet as EC2 tells it; the published version's has LaunchSpecifications."""
    overrides = (one for config in request.get("LaunchTemplateConfigs", ()) for one in config.get("Overrides", ()))
    named = (one.get("InstanceType") for one in (*request.get("LaunchSpecifications", ()), *overrides))
    return {kind for kind in named if kind}


def parse_arn_name(profile: str) -> str:
    """The name in an instance profile's ARN; a name stays as it is. The same holds for a role."""
    return profile.rsplit("/", 1)[-1]


def _build_launch_specification(content: JsonObject | None, override: JsonObject) -> LaunchSpecification:
    known = content or {}
    interfaces = known.get("NetworkInterfaces", ())
    groups = [*known.get("SecurityGroupIds", ()), *(group for one in interfaces for group in one.get("Groups", ()))]
    subnets = [place["SubnetId"] for place in (override, *interfaces) if place.get("SubnetId")]
    profile = known.get("IamInstanceProfile", {})
    return LaunchSpecification(
        machine_type=override["InstanceType"],
        subnets=tuple(dict.fromkeys(subnets)),
        groups=tuple(dict.fromkeys(groups)),
        image=known.get("ImageId"),
        key=known.get("KeyName"),
        profile=profile.get("Arn") or profile.get("Name"),
        volumes=tuple(_iter_volumes(known)),
        unread=content is None,
    )


def _iter_volumes(content: JsonObject) -> Iterator[tuple[str, int | None, str | None]]:
    for mapping in content.get("BlockDeviceMappings", ()):
        if "Ebs" in mapping:
            disk = mapping["Ebs"]
            yield str(mapping.get("DeviceName", "")), disk.get("VolumeSize"), disk.get("SnapshotId")
