"""The Fleet file, read and checked against the config and botocore's model of the call. Nothing is sent.

A Fleet file describes its machines either by LaunchSpecifications, as published, or by a launch template (in
`launch_specs.py`); types, number, price and public address are the config's. Of either, the run makes a launch
template of its own (`launch_plan.py`), which the request names: volumes get tags, machines ask for IMDSv2, and some may
be no spot machines, only where a fleet is made of one.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from distributed_something.core.errors import InputError
from distributed_something.core.files import read_json_object
from distributed_something.core.monitor_file import build_run_name
from distributed_something.core.tags import build_tags
from distributed_something.fleet.api_shapes import find_request_fault
from distributed_something.fleet.launch_plan import build_launch_plan
from distributed_something.fleet.launch_specs import (
    LAUNCH_SPECIFICATIONS_KEY,
    LAUNCH_TEMPLATE_CONFIGS_KEY,
    JsonObject,
    build_template_data,
    find_interface_fault,
)
from distributed_something.fleet.request import build_fleet_request

if TYPE_CHECKING:
    from botocore.model import Shape
    from mypy_boto3_ec2 import EC2Client

    from distributed_something.core.config_settings import Settings


MAX_POOLS = 300  # EC2: combinations of type and subnet a fleet (User Guide: «Quotas for EC2 Fleet and Spot Fleet»)
MAX_LAUNCH_SPECS = 50  # EC2: LaunchTemplateConfigs (said of CreateFleet; RequestSpotFleet's own number is nowhere)
_PLACEHOLDERS = ("FILL_IN", "XXXX", "NNNN", "123456789123", "your-key")  # the shipped file's and the published file's
_OVERRIDE_KEYS = {"SubnetId", "InstanceType"}


def load_fleet_file(path: Path) -> JsonObject:
    """The Fleet file `path`: a JSON object with LaunchSpecifications or one launch template; raises InputError."""
    fleet = read_json_object(path, "a fleet file")
    if (LAUNCH_SPECIFICATIONS_KEY in fleet) == (LAUNCH_TEMPLATE_CONFIGS_KEY in fleet):
        wrong = (
            f"EC2 takes no {LAUNCH_TEMPLATE_CONFIGS_KEY} beside them"
            if LAUNCH_SPECIFICATIONS_KEY in fleet
            else "there is none"
        )
        raise InputError(
            path,
            LAUNCH_SPECIFICATIONS_KEY,
            wrong,
            f"list one here, or a launch template in {LAUNCH_TEMPLATE_CONFIGS_KEY}",
        )
    if LAUNCH_SPECIFICATIONS_KEY in fleet:
        _check_launch_specifications(path, fleet[LAUNCH_SPECIFICATIONS_KEY])
    else:
        _check_template_configs(path, fleet[LAUNCH_TEMPLATE_CONFIGS_KEY])
    if not isinstance(fleet.get("IamFleetRole"), str):
        raise InputError(path, "IamFleetRole", "this key is missing or no text", "give the fleet tagging role's ARN")
    return fleet


def check_fleet_file(fleet: JsonObject, path: Path, settings: Settings, ec2: EC2Client) -> None:
    """Holds the Fleet file against the config and botocore's model of the call; nothing is sent. Raises InputError."""
    for key, text in _iter_texts(fleet, ""):
        found = next((mark for mark in _PLACEHOLDERS if mark in text), None)
        if found is not None:
            raise InputError(path, key, f"{text!r} is a placeholder", "put your account's own there")
    _check_against_config(settings, fleet, path)
    _check_file_form(fleet, path, ec2)
    for number, specification in enumerate(fleet.get(LAUNCH_SPECIFICATIONS_KEY, [])):
        _check_template_content(specification, path, f"{LAUNCH_SPECIFICATIONS_KEY}[{number}]", settings, ec2)
    start = datetime.fromtimestamp(0, UTC)  # of no run: the form of the request is the same
    plan = build_launch_plan(fleet, settings, build_tags(settings, run=build_run_name(start.timestamp())), ec2)
    _check_request({"SpotFleetRequestConfig": build_fleet_request(fleet, settings, plan, start)}, path, ec2)
    pools = [len(version.overrides) for version in plan.versions]
    if sum(pools) > MAX_POOLS:
        wrong = f"{sum(pools)} combinations of type and subnet are more than EC2 takes ({MAX_POOLS})"
        raise InputError(path, "MACHINE_TYPE", wrong, "name fewer types or subnets")
    if len(pools) > MAX_LAUNCH_SPECS:
        wrong = f"{len(pools)} that differ in more than type and subnet are more than EC2 takes ({MAX_LAUNCH_SPECS})"
        raise InputError(path, LAUNCH_SPECIFICATIONS_KEY, wrong, "make some of them equal")


def _check_against_config(settings: Settings, fleet: JsonObject, path: Path) -> None:
    given, types, share = fleet.get(LAUNCH_SPECIFICATIONS_KEY, []), settings.MACHINE_TYPE, settings.ON_DEMAND_MACHINES
    if len(given) > 1 and len(given) != len(types):
        wrong = f"there are {len(given)} for {len(types)} MACHINE_TYPE in the config"
        raise InputError(
            path, LAUNCH_SPECIFICATIONS_KEY, wrong, "give one, for all types, or make them equal in number"
        )
    if share > settings.CLUSTER_MACHINES:
        wrong = f"{share} are more than CLUSTER_MACHINES ({settings.CLUSTER_MACHINES}), of which they are a part"
        raise InputError(path, "ON_DEMAND_MACHINES", wrong, f"at most {settings.CLUSTER_MACHINES}")


def _check_file_form(fleet: JsonObject, path: Path, ec2: EC2Client) -> None:
    """The file's own values, as what is made of them could hide what is wrong."""
    own = {key: value for key, value in fleet.items() if key not in ("ValidFrom", "ValidUntil")}
    _check_request({"SpotFleetRequestConfig": {"TargetCapacity": 1} | own}, path, ec2)
    if fleet.get("Type", "maintain") != "maintain":
        raise InputError(path, "Type", "the monitor could not scale such a fleet", "write 'maintain', or leave it out")
    _check_tags(path, fleet, "spot-fleet-request")
    for specification in fleet.get(LAUNCH_SPECIFICATIONS_KEY, []):
        _check_tags(path, specification, "instance", "volume")


def _check_tags(path: Path, tagged: JsonObject, *kinds: str) -> None:
    if any(one.get("ResourceType") not in kinds for one in tagged.get("TagSpecifications", [])):
        right = f"write {' or '.join(map(repr, kinds))}"
        raise InputError(path, "TagSpecifications", "EC2 tags no other kind of thing here", right)


def _check_template_content(
    specification: JsonObject, path: Path, key: str, settings: Settings, ec2: EC2Client
) -> None:
    """What a launch template cannot say, or no machine starts with, is refused: nothing of the file is lost."""
    if "InstanceRequirements" in specification:
        raise InputError(path, f"{key}.InstanceRequirements", "MACHINE_TYPE of the config decides this", "take it out")
    if specification.get("WeightedCapacity", 1) != 1:
        wrong = "CLUSTER_MACHINES counts machines, of every type alike"
        raise InputError(path, f"{key}.WeightedCapacity", wrong, "take it out")
    interface_fault = find_interface_fault(specification.get("NetworkInterfaces", []), public=settings.ASSIGN_IP)
    if interface_fault is not None:
        raise InputError(path, f"{key}.NetworkInterfaces", *interface_fault)
    request = {"LaunchTemplateName": key, "LaunchTemplateData": build_template_data(specification, settings)}
    fault = find_request_fault(request, _get_input_shape(ec2, "CreateLaunchTemplate"))
    if fault is not None:
        wrong = "a launch template, which startCluster makes of this, has no such key"
        raise InputError(path, f"{key}.{fault.key}", wrong, "take it out")


def _check_request(request: JsonObject, path: Path, ec2: EC2Client) -> None:
    shape = _get_input_shape(ec2, "RequestSpotFleet")
    fault = find_request_fault(request, shape)
    if fault is not None:
        raise InputError(path, *fault)


def _get_input_shape(ec2: EC2Client, call: str) -> Shape:
    shape = ec2.meta.service_model.operation_model(call).input_shape
    assert shape is not None  # these calls take input
    return shape


def _check_launch_specifications(path: Path, given: object) -> None:
    if not isinstance(given, list) or not given:
        raise InputError(
            path, LAUNCH_SPECIFICATIONS_KEY, "there is none", "list one, for all MACHINE_TYPE of the config"
        )
    for number, specification in enumerate(given):
        _check_specification(path, f"{LAUNCH_SPECIFICATIONS_KEY}[{number}]", specification)


def _check_specification(path: Path, key: str, specification: object) -> None:
    if not isinstance(specification, dict):
        raise InputError(path, key, "this is no object", "write one launch specification: { … }")
    for name in ("NetworkInterfaces", "BlockDeviceMappings", "SecurityGroups", "TagSpecifications"):
        _check_object_list(path, f"{key}.{name}", specification.get(name, []))
    for mapping in specification.get("BlockDeviceMappings", []):
        if not isinstance(mapping.get("Ebs", {}), dict):
            raise InputError(path, f"{key}.BlockDeviceMappings.Ebs", "this is no object", "write { … }")
    for number, specified in enumerate(specification.get("TagSpecifications", [])):
        _check_object_list(path, f"{key}.TagSpecifications[{number}].Tags", specified.get("Tags", []))
    _check_network(path, key, specification)


def _check_network(path: Path, key: str, specification: JsonObject) -> None:
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


def _check_template_configs(path: Path, configs: object) -> None:
    _check_object_list(path, LAUNCH_TEMPLATE_CONFIGS_KEY, configs)
    if not isinstance(configs, list) or len(configs) != 1:
        right = "give one: MACHINE_TYPE and its subnets make the rest"
        raise InputError(path, LAUNCH_TEMPLATE_CONFIGS_KEY, "there is not just one", right)
    template, key = (
        configs[0].get("LaunchTemplateSpecification"),
        f"{LAUNCH_TEMPLATE_CONFIGS_KEY}[0].LaunchTemplateSpecification",
    )
    if not isinstance(template, dict) or ("LaunchTemplateId" in template) == ("LaunchTemplateName" in template):
        raise InputError(path, key, "EC2 takes its id or its name", "give LaunchTemplateId or LaunchTemplateName")
    overrides = configs[0].get("Overrides", [])
    _check_object_list(path, f"{LAUNCH_TEMPLATE_CONFIGS_KEY}[0].Overrides", overrides)
    for number, override in enumerate(overrides):
        where = f"{LAUNCH_TEMPLATE_CONFIGS_KEY}[0].Overrides[{number}]"
        if unknown := sorted(override.keys() - _OVERRIDE_KEYS):
            raise InputError(path, f"{where}.{unknown[0]}", "the config decides this", "take it out")
        if not isinstance(override.get("SubnetId", ""), str):
            raise InputError(path, f"{where}.SubnetId", "this is no text", "write 'subnet-…', several with commas")


def _check_object_list(path: Path, key: str, value: object) -> None:
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise InputError(path, key, "this is no list of objects", "write [{ … }]")


def _iter_texts(value: object, key: str) -> Iterator[tuple[str, str]]:
    """Every text in a JSON value with its place, as `LaunchSpecifications[0].ImageId`."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from _iter_texts(inner, f"{key}.{name}" if key else name)
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _iter_texts(inner, f"{key}[{number}]")
