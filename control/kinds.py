"""The kinds of machine that a Fleet file describes: each a launch template's content, and its overrides.

Content is what machines of a kind have in common; an override says one type and one place of it. Every type is
combined with every subnet. Pure. What the run itself adds to the content is `launchtemplate`'s.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from control.settings import Settings

ROOT_DEVICE = "/dev/xvda"  # the only volume of the ECS-optimised Amazon Linux 2023 image: containers lie there
WRITTEN, TEMPLATES = "LaunchSpecifications", "LaunchTemplateConfigs"
_ZONES = ("AvailabilityZone", "AvailabilityZoneId")
_OF_CONFIG = ("InstanceType", "SpotPrice", "UserData", "WeightedCapacity")  # whatever a specification says
_OF_OVERRIDES = ("SubnetId",)

Json = dict[str, Any]


class Kind(NamedTuple):
    """LaunchTemplateData (None: of a template that was not read) and LaunchTemplateOverrides, as EC2 takes them."""

    content: Json | None
    overrides: list[Json]


def kinds_of(fleet: Json, settings: Settings, theirs: Json | None = None) -> list[Kind]:
    """Those of a Fleet file whose form is right. Specifications of equal content are one kind.

    `theirs`: the content of the launch template that the file names, if it was read.
    """
    if TEMPLATES in fleet:
        return [_of_template(fleet, settings, theirs)]
    found: list[Kind] = []
    for specification, types in _paired(fleet[WRITTEN], settings.MACHINE_TYPE):
        _add(found, Kind(content_of(specification, settings), list(_overrides(specification, types))))
    return found


def content_of(specification: Json, settings: Settings) -> Json:
    """What a launch specification says but for type, place and what the config decides, as LaunchTemplateData."""
    content = {
        key: copy.deepcopy(value) for key, value in specification.items() if key not in _OF_CONFIG + _OF_OVERRIDES
    }
    content["BlockDeviceMappings"] = _disks(content.get("BlockDeviceMappings", []), settings.EBS_VOL_SIZE)
    if "RamdiskId" in content:
        content["RamDiskId"] = content.pop("RamdiskId")
    if groups := content.pop("SecurityGroups", []):
        content["SecurityGroupIds"] = [group["GroupId"] for group in groups]
    return _without_place(content, _places(specification)[0])


def fault_of_interfaces(interfaces: list[Json], *, public: bool) -> tuple[str, str] | None:
    """Why EC2 would start no machine with these NetworkInterfaces, and what would be right. `public`: ASSIGN_IP.

    https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_LaunchTemplateInstanceNetworkInterfaceSpecificationRequest.html
    """
    if any("NetworkInterfaceId" in one for one in interfaces):
        return "a network interface that exists serves one machine, and a fleet has many", "take NetworkInterfaceId out"
    if public and len(interfaces) > 1:
        wrong = "EC2 gives no public address (ASSIGN_IP) to a machine that starts with several network interfaces"
        return wrong, "leave one, or set ASSIGN_IP to 'False' and give their subnets a NAT gateway"
    return None


def _of_template(fleet: Json, settings: Settings, theirs: Json | None) -> Kind:
    named = ",".join(one.get("SubnetId", "") for config in fleet[TEMPLATES] for one in config.get("Overrides", ()))
    specification = {"SubnetId": named}
    content = None if theirs is None else _without_place(copy.deepcopy(theirs), _places(specification)[0])
    return Kind(content, list(_overrides(specification, settings.MACHINE_TYPE)))


def _paired(given: list[Json], types: list[str]) -> list[tuple[Json, list[str]]]:
    """One specification with every type; several with the types in their order, as published."""
    if len(given) == 1:
        return [(given[0], types)]
    return [(one, [kind]) for one, kind in zip(given, types, strict=True)]


def _add(found: list[Kind], kind: Kind) -> None:
    same = next((one for one in found if one.content == kind.content), None)
    if same is None:
        found.append(kind)
    else:
        same.overrides.extend(one for one in kind.overrides if one not in same.overrides)  # EC2: each pool once


def _overrides(specification: Json, types: list[str]) -> Iterator[Json]:
    for kind in dict.fromkeys(types):
        yield from ({"InstanceType": kind, **place} for place in _places(specification))


def _places(specification: Json) -> list[Json]:
    """The subnets, or else the zones; an empty place where EC2 is to choose."""
    interfaces, placement = specification.get("NetworkInterfaces") or [{}], specification.get("Placement", {})
    subnets = specification.get("SubnetId") or interfaces[0].get("SubnetId", "")
    for key, text in (("SubnetId", subnets), *((key, placement.get(key, "")) for key in _ZONES)):
        if names := list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip())):
            return [{key: name} for name in names]
    return [{}]


def _without_place(content: Json, place: Json) -> Json:
    """`content`, but for what an override with this place says instead. Interfaces in other subnets keep theirs."""
    interfaces, placement = content.get("NetworkInterfaces") or [{}], content.get("Placement", {})
    first = interfaces[0].get("SubnetId")
    for interface in interfaces if "SubnetId" in place else ():
        if interface.get("SubnetId") == first:
            interface.pop("SubnetId", None)
    for key in _ZONES:
        if key in place:
            del placement[key]
    if not placement:
        content.pop("Placement", None)
    return content


def _disks(mappings: list[Json], size: int) -> list[Json]:
    """The disks, of which the last is the containers' (published files list the root first) and has `size` GiB."""
    mappings = mappings or [{"DeviceName": ROOT_DEVICE, "Ebs": {"VolumeType": "gp3"}}]
    volumes: list[Json] = [mapping["Ebs"] for mapping in mappings if "Ebs" in mapping]
    for volume in volumes:
        volume.setdefault("DeleteOnTermination", True)  # else it is paid for when its machine has ended
    if volumes:
        volumes[-1]["VolumeSize"] = size
    return mappings
