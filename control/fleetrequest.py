"""What EC2 is asked for: the Fleet file checked against the config, and the request that is made of both.

Pure but for reading the file. A Fleet file describes its machines either by LaunchSpecifications, as published, or by
a launch template; types, number, price and public address are the config's. Every type is combined with every subnet.

Each combination is a specification of its own, with the subnet in its network interface: EC2 takes several subnets in
one text beside an interface only (https://docs.aws.amazon.com/AWSEC2/latest/APIReference/
API_SpotFleetLaunchSpecification.html), where a public address cannot be asked for; within an interface it refuses them
(hashicorp/terraform-provider-aws#4265).
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from control import model, monitorfile, tags
from control.errors import InputError
from control.files import read_json_object
from control.userdata import user_data

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client

    from control.settings import Settings

MAX_POOLS = 300  # EC2: combinations of type and subnet a fleet (User Guide: «Quotas for EC2 Fleet and Spot Fleet»)
ROOT_DEVICE = "/dev/xvda"  # the only volume of the ECS-optimised Amazon Linux 2023 image: containers lie there
WRITTEN, TEMPLATES = "LaunchSpecifications", "LaunchTemplateConfigs"
_PLACEHOLDERS = ("FILL_IN", "XXXX", "NNNN", "123456789123", "your-key")  # the shipped file's and the published file's
_SET_BY_CONFIG = (
    "SpotPrice", "TargetCapacity", "OnDemandTargetCapacity", "ValidFrom", "ValidUntil", "ClientToken",
    "TerminateInstancesWithExpiration", "LaunchSpecifications", "LaunchTemplateConfigs", "TagSpecifications",
)  # fmt: skip
_IN_OVERRIDES = {"SubnetId", "InstanceType"}

Json = dict[str, Any]


def load(path: Path) -> Json:
    """The Fleet file `path`: a JSON object with LaunchSpecifications or one launch template; raises InputError."""
    fleet = read_json_object(path, "a fleet file")
    if (WRITTEN in fleet) == (TEMPLATES in fleet):
        wrong = f"EC2 takes no {TEMPLATES} beside them" if WRITTEN in fleet else "there is none"
        raise InputError(path, WRITTEN, wrong, f"list one here, or a launch template in {TEMPLATES}")
    if WRITTEN in fleet:
        _check_written(path, fleet[WRITTEN])
    else:
        _check_templates(path, fleet[TEMPLATES])
    if not isinstance(fleet.get("IamFleetRole"), str):
        raise InputError(path, "IamFleetRole", "this key is missing or no text", "give the fleet tagging role's ARN")
    return fleet


def check(fleet: Json, path: Path, settings: Settings, ec2: EC2Client) -> None:
    """Holds the Fleet file against the config and botocore's model of the call; nothing is sent. Raises InputError."""
    for key, text in _texts(fleet, ""):
        found = next((mark for mark in _PLACEHOLDERS if mark in text), None)
        if found is not None:
            raise InputError(path, key, f"{text!r} is a placeholder", "put your account's own there")
    _check_against(settings, fleet, path)
    _check_form(fleet, path, ec2)
    request = {"SpotFleetRequestConfig": request_of(fleet, settings, datetime.now(UTC), "check")}
    _hold(request, path, ec2)
    pools = max(len(request["SpotFleetRequestConfig"].get(WRITTEN, ())), len(_overrides(fleet, settings)))
    if pools > MAX_POOLS:
        wrong = f"{pools} combinations of type and subnet are more than EC2 takes ({MAX_POOLS})"
        raise InputError(path, "MACHINE_TYPE", wrong, "name fewer types or subnets")


def request_of(fleet: Json, settings: Settings, start: datetime, token: str, owner: str = "") -> Json:
    """The SpotFleetRequestConfig: the Fleet file, with all that the config decides.

    `start`: of the run, which names it and from which its longest time counts. `token` makes the request idempotent:
    EC2 answers a repeated one with the same fleet. A launch template stands in it as the file names it: see
    `launchtemplate`.
    """
    marks = tags.of(settings, owner, monitorfile.run_name(start.timestamp()))
    request: Json = {"Type": "maintain", "AllocationStrategy": "priceCapacityOptimized"}
    request |= {key: value for key, value in copy.deepcopy(fleet).items() if key not in _SET_BY_CONFIG}
    request |= {
        "TargetCapacity": settings.CLUSTER_MACHINES,
        "SpotPrice": price(settings.MACHINE_PRICE),
        "ValidUntil": start.replace(microsecond=0) + timedelta(hours=settings.MAX_RUN_HOURS),
        "TerminateInstancesWithExpiration": True,
        "ClientToken": token,
        # EC2 takes no other kind here: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_RequestSpotFleet.html
        "TagSpecifications": tags.specifications(fleet.get("TagSpecifications", ()), ["spot-fleet-request"], marks),
    }
    if TEMPLATES in fleet:
        return request | _templated(fleet, settings)
    return request | {WRITTEN: list(_written(fleet[WRITTEN], settings, marks))}


def price(dollars: float) -> str:
    """As the config says it: the shortest text that is this number, never with an exponent, never rounded."""
    return format(Decimal(str(dollars)), "f")


def subnets_of(text: str) -> list[str]:
    """The subnets in one text, with commas between them."""
    return list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


def public_interface(interfaces: list[Json], groups: list[str], *, public: bool) -> list[Json]:
    """The network interfaces, one at least, of which the first has a public address or has none.

    `groups` are for an interface that is made here: EC2 takes security groups within interfaces only, if there are any.
    """
    if not interfaces:
        made: Json = {"DeviceIndex": 0, "DeleteOnTermination": True}
        interfaces = [made | ({"Groups": groups} if groups else {})]
    for interface in interfaces:
        if interface.get("DeviceIndex", 0) == 0:
            interface["AssociatePublicIpAddress"] = public
    return interfaces


def _written(given: list[Json], settings: Settings, marks: dict[str, str]) -> Iterator[Json]:
    for specification, machine_type in _paired(given, settings.MACHINE_TYPE):
        filled = _filled(specification, machine_type, settings, marks)
        first = filled["NetworkInterfaces"][0]
        for subnet in subnets_of(specification.get("SubnetId") or first.get("SubnetId", "")) or [""]:
            one = copy.deepcopy(filled)
            if subnet:
                one["NetworkInterfaces"][0]["SubnetId"] = subnet
            yield one


def _paired(given: list[Json], types: list[str]) -> list[tuple[Json, str]]:
    """One specification with every type; several with the types in their order, as published."""
    if len(given) == 1:
        return [(given[0], machine_type) for machine_type in dict.fromkeys(types)]
    return list(zip(given, types, strict=True))


def _filled(specification: Json, machine_type: str, settings: Settings, marks: dict[str, str]) -> Json:
    one = copy.deepcopy(specification)
    for key in ("SubnetId", "SpotPrice"):
        one.pop(key, None)
    groups = [group["GroupId"] for group in one.pop("SecurityGroups", ())]
    name = {"Name": f"{settings.APP_NAME}Worker"}
    return one | {
        "InstanceType": machine_type,
        "UserData": user_data(settings),
        "NetworkInterfaces": public_interface(one.get("NetworkInterfaces", []), groups, public=settings.ASSIGN_IP),
        "BlockDeviceMappings": _disks(one.get("BlockDeviceMappings", []), settings.EBS_VOL_SIZE),
        # EC2 takes no other kind here, so volumes get their tags from the worker.
        "TagSpecifications": tags.specifications(one.get("TagSpecifications", ()), ["instance"], name | marks),
    }


def _disks(mappings: list[Json], size: int) -> list[Json]:
    """The disks, of which the last is the containers' (published files list the root first) and has `size` GiB."""
    mappings = mappings or [{"DeviceName": ROOT_DEVICE, "Ebs": {"VolumeType": "gp3"}}]
    volumes: list[Json] = [mapping["Ebs"] for mapping in mappings if "Ebs" in mapping]
    for volume in volumes:
        volume.setdefault("DeleteOnTermination", True)  # else it is paid for when its machine has ended
    if volumes:
        volumes[-1]["VolumeSize"] = size
    return mappings


def _templated(fleet: Json, settings: Settings) -> Json:
    template = {"Version": "$Default"} | fleet[TEMPLATES][0]["LaunchTemplateSpecification"]
    share = {"OnDemandTargetCapacity": settings.ON_DEMAND_MACHINES} if settings.ON_DEMAND_MACHINES else {}
    configs = [{"LaunchTemplateSpecification": template, "Overrides": _overrides(fleet, settings)}]
    return {TEMPLATES: configs, **share}


def _overrides(fleet: Json, settings: Settings) -> list[Json]:
    """Every type in every subnet that the file's overrides name."""
    named = [one.get("SubnetId", "") for config in fleet.get(TEMPLATES, ()) for one in config.get("Overrides", ())]
    places = [{"SubnetId": subnet} for subnet in subnets_of(",".join(named))] or [{}]
    return [{"InstanceType": kind, **place} for kind in dict.fromkeys(settings.MACHINE_TYPE) for place in places]


def _check_against(settings: Settings, fleet: Json, path: Path) -> None:
    given, types, share = fleet.get(WRITTEN, []), settings.MACHINE_TYPE, settings.ON_DEMAND_MACHINES
    if len(given) > 1 and len(given) != len(types):
        wrong = f"there are {len(given)} for {len(types)} MACHINE_TYPE in the config"
        raise InputError(path, WRITTEN, wrong, "give one, for all types, or make them equal in number")
    if share > settings.CLUSTER_MACHINES:
        wrong = f"{share} are more than CLUSTER_MACHINES ({settings.CLUSTER_MACHINES}), of which they are a part"
        raise InputError(path, "ON_DEMAND_MACHINES", wrong, f"at most {settings.CLUSTER_MACHINES}")
    if share and WRITTEN in fleet:
        wrong = f"EC2 starts on-demand machines from a launch template only, and this file has {WRITTEN}"
        raise InputError(path, "ON_DEMAND_MACHINES", wrong, f"make a launch template and name it in {TEMPLATES}, or 0")


def _check_form(fleet: Json, path: Path, ec2: EC2Client) -> None:
    """The file's own values, as what is made of them could hide what is wrong."""
    own = {key: value for key, value in fleet.items() if key not in ("ValidFrom", "ValidUntil")}
    _hold({"SpotFleetRequestConfig": {"TargetCapacity": 1} | own}, path, ec2)
    if fleet.get("Type") == "instant":
        raise InputError(path, "Type", "a Spot Fleet cannot be 'instant'", "write 'maintain' or 'request'")
    kinds = {"spot-fleet-request": fleet.get("TagSpecifications", [])}
    kinds["instance"] = [tag for one in fleet.get(WRITTEN, []) for tag in one.get("TagSpecifications", [])]
    for kind, found in kinds.items():
        if any(one.get("ResourceType") != kind for one in found):
            raise InputError(path, "TagSpecifications", "EC2 tags no other kind of thing here", f"write {kind!r}")


def _hold(request: Json, path: Path, ec2: EC2Client) -> None:
    shape = ec2.meta.service_model.operation_model("RequestSpotFleet").input_shape
    assert shape is not None  # RequestSpotFleet takes input
    fault = model.fault(request, shape) or model.no_such_value(request, shape)
    if fault is not None:
        raise InputError(path, *fault)


def _check_written(path: Path, given: object) -> None:
    if not isinstance(given, list) or not given:
        raise InputError(path, WRITTEN, "there is none", "list one, for all MACHINE_TYPE of the config")
    for number, specification in enumerate(given):
        _check_specification(path, f"{WRITTEN}[{number}]", specification)


def _check_specification(path: Path, key: str, specification: object) -> None:
    if not isinstance(specification, dict):
        raise InputError(path, key, "this is no object", "write one launch specification: { … }")
    for name in ("NetworkInterfaces", "BlockDeviceMappings", "SecurityGroups", "TagSpecifications"):
        _check_objects(path, f"{key}.{name}", specification.get(name, []))
    for mapping in specification.get("BlockDeviceMappings", []):
        if not isinstance(mapping.get("Ebs", {}), dict):
            raise InputError(path, f"{key}.BlockDeviceMappings.Ebs", "this is no object", "write { … }")
    for number, specified in enumerate(specification.get("TagSpecifications", [])):
        _check_objects(path, f"{key}.TagSpecifications[{number}].Tags", specified.get("Tags", []))
    _check_network(path, key, specification)


def _check_network(path: Path, key: str, specification: Json) -> None:
    interfaces, groups = specification.get("NetworkInterfaces", []), specification.get("SecurityGroups", [])
    for name in ("SubnetId", "SecurityGroups"):
        if interfaces and specification.get(name):
            right = "put it into the first of NetworkInterfaces (security groups as Groups)"
            raise InputError(path, f"{key}.{name}", "EC2 takes none beside NetworkInterfaces", right)
    if not all(isinstance(group.get("GroupId"), str) for group in groups):
        raise InputError(path, f"{key}.SecurityGroups", "a group has no GroupId", 'write [{"GroupId": "sg-…"}]')
    named = [specification.get("SubnetId", "")] + [one.get("SubnetId", "") for one in interfaces]
    if not all(isinstance(text, str) for text in named):
        raise InputError(path, f"{key}.SubnetId", "this is no text", "write 'subnet-…', several with commas")


def _check_templates(path: Path, configs: object) -> None:
    _check_objects(path, TEMPLATES, configs)
    if not isinstance(configs, list) or len(configs) != 1:
        right = "give one: MACHINE_TYPE and its subnets make the rest"
        raise InputError(path, TEMPLATES, "there is not just one", right)
    template, key = configs[0].get("LaunchTemplateSpecification"), f"{TEMPLATES}[0].LaunchTemplateSpecification"
    if not isinstance(template, dict) or ("LaunchTemplateId" in template) == ("LaunchTemplateName" in template):
        raise InputError(path, key, "EC2 takes its id or its name", "give LaunchTemplateId or LaunchTemplateName")
    overrides = configs[0].get("Overrides", [])
    _check_objects(path, f"{TEMPLATES}[0].Overrides", overrides)
    for number, override in enumerate(overrides):
        where = f"{TEMPLATES}[0].Overrides[{number}]"
        if unknown := sorted(override.keys() - _IN_OVERRIDES):
            raise InputError(path, f"{where}.{unknown[0]}", "the config decides this", "take it out")
        if not isinstance(override.get("SubnetId", ""), str):
            raise InputError(path, f"{where}.SubnetId", "this is no text", "write 'subnet-…', several with commas")


def _check_objects(path: Path, key: str, value: object) -> None:
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise InputError(path, key, "this is no list of objects", "write [{ … }]")


def _texts(value: object, key: str) -> Iterator[tuple[str, str]]:
    """Every text in a JSON value with its place, as `LaunchSpecifications[0].ImageId`."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from _texts(inner, f"{key}.{name}" if key else name)
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _texts(inner, f"{key}[{number}]")
