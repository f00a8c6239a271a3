"""The Fleet file, checked against the config and botocore's model of the call before anything is sent.

A Fleet file describes its machines with either LaunchSpecifications, as in the published system, or a launch template
(see `launch_specs.py`). The config determines the machine types, the number of machines, their price, and whether they
get public addresses. From either form, the run creates its own launch template (`launch_plan.py`) and requests the
fleet with it. Only a launch template can tag volumes, require IMDSv2, and make some machines on-demand.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distributed_something.core.errors import InputError, merge_input_errors
from distributed_something.core.files import check_file_kind, drop_comments, read_json_object
from distributed_something.core.monitor_file import build_run_name
from distributed_something.core.tags import build_tags
from distributed_something.core.text import format_json
from distributed_something.fleet.api_shapes import UNKNOWN_KEY_PROBLEM, find_request_faults
from distributed_something.fleet.launch_plan import LaunchPlan, build_launch_plan
from distributed_something.fleet.launch_specs import (
    LAUNCH_SPECIFICATIONS_KEY,
    LAUNCH_TEMPLATE_CONFIGS_KEY,
    JsonObject,
    build_template_data,
    find_interface_fault,
)
from distributed_something.fleet.request import build_fleet_request

if TYPE_CHECKING:
    from botocore.model import ServiceModel, Shape
    from mypy_boto3_ec2 import EC2Client

    from distributed_something.core.config_settings import Settings


MAX_POOLS = 300  # EC2: combinations of type and subnet per fleet (User Guide: "Quotas for EC2 Fleet and Spot Fleet")
MAX_LAUNCH_SPECS = 50  # EC2: LaunchTemplateConfigs per CreateFleet call; no limit is documented for RequestSpotFleet
# In this package's and the published system's Fleet files, such as subnet-WWWWWWWW and your_key_file_name.
_PLACEHOLDER_PATTERN = re.compile(r"FILL_IN|123456789123|N{4}|W{4}|X{4}|Y{4}|Z{4}|\byour[-_]|<[^<>]*>", re.ASCII)
_MEANINGFUL_EMPTY_KEYS = ("Ebs", "NoDevice", "Value")  # a disk of the usual kind, a disk to leave out, a tag's value
_OBJECT_LISTS = ("NetworkInterfaces", "BlockDeviceMappings", "SecurityGroups", "TagSpecifications")
_OVERRIDE_KEYS = {"SubnetId", "InstanceType", "WeightedCapacity"}
_SUBNET_REMEDY = "write a subnet ID ('subnet-…'), or several separated by commas"


def load_fleet_file(path: Path, *, settings: Settings | None = None, is_local: bool = False) -> JsonObject:
    """Return the content of the Fleet file: a JSON object with LaunchSpecifications or one launch template.

    Empty values and comments are left out. Raise InputError if the file's structure is invalid. The error also includes
    whatever `check_fleet_file` would report later and can be determined without AWS. `settings`: the config, to report
    conflicts with it; None if it is invalid, so that nothing will be checked later. `is_local`: whether the file may
    have placeholders, because the local cloud replaces them.
    """
    content = read_json_object(path, "a fleet file")
    check_file_kind(path, content, "Fleet file")
    fleet: JsonObject = _drop_empty_values(content)
    errors = list(_iter_form_errors(fleet, path))
    if errors or settings is None or is_local:  # the local cloud replaces values before they are checked later
        wrong_keys = [error.key for error in errors]
        errors += [] if is_local else _iter_placeholder_errors(fleet, path)
        errors += _iter_config_conflicts(settings, fleet, path) if settings is not None else []
        request_errors = _iter_own_request_errors(_load_ec2_model(), fleet, path)
        errors += (error for error in request_errors if not _is_inside(error.key, wrong_keys))
    _raise_if_any(errors)
    return fleet


def _drop_empty_values(value: Any) -> Any:
    """Return the JSON value without comments, nulls, and empty texts, and objects without empty lists and objects.

    EC2's console and guide write them for whatever is not used, and EC2 refuses some of them.
    """
    if isinstance(value, dict):
        pairs = [(key, _drop_empty_values(inner)) for key, inner in drop_comments(value).items()]
        return {key: inner for key, inner in pairs if not _is_empty(inner) or _has_meaning(key, inner)}
    if isinstance(value, list):
        return [inner for inner in map(_drop_empty_values, value) if inner not in (None, "")]
    return value


def _is_empty(value: object) -> bool:
    return value is None or value == "" or value == [] or value == {}


def _has_meaning(key: str, value: object) -> bool:
    return key in _MEANINGFUL_EMPTY_KEYS and value is not None


def check_fleet_file(ec2: EC2Client, settings: Settings, fleet: JsonObject, path: Path) -> None:
    """Raise a single InputError that lists everything in the Fleet file that conflicts with the config or botocore's
    model.

    Nothing is sent. `fleet`: the content that `load_fleet_file` returned.
    """
    model = ec2.meta.service_model
    errors = [*_iter_placeholder_errors(fleet, path), *_iter_config_conflicts(settings, fleet, path)]
    request_errors = list(_iter_own_request_errors(model, fleet, path))
    errors += request_errors or _iter_content_errors(model, settings, fleet, path)
    _raise_if_any(errors)
    start = datetime.fromtimestamp(0, UTC)  # the structure of the request does not depend on the time
    plan = build_launch_plan(ec2, settings, fleet, build_tags(settings, run=build_run_name(start.timestamp())))
    request = {"SpotFleetRequestConfig": build_fleet_request(settings, fleet, plan, start)}
    _raise_if_any([*_iter_request_errors(model, request, path), *_iter_exceeded_limits(plan, path)])


def _raise_if_any(errors: list[InputError]) -> None:
    if errors:
        raise merge_input_errors(errors)


# Checks that need only the file


def _iter_form_errors(fleet: JsonObject, path: Path) -> Iterator[InputError]:
    has_specifications, has_template = LAUNCH_SPECIFICATIONS_KEY in fleet, LAUNCH_TEMPLATE_CONFIGS_KEY in fleet
    if has_specifications and has_template:
        problem = f"EC2 does not accept it together with {LAUNCH_TEMPLATE_CONFIGS_KEY}"
        yield InputError(path, LAUNCH_SPECIFICATIONS_KEY, problem, "remove one of the two")
    elif not has_specifications and not has_template:
        remedy = f"list one launch specification, or name a launch template in {LAUNCH_TEMPLATE_CONFIGS_KEY}"
        yield InputError(path, LAUNCH_SPECIFICATIONS_KEY, "this key is missing", remedy)
    if has_specifications:
        yield from _iter_specification_list_errors(fleet[LAUNCH_SPECIFICATIONS_KEY], path)
    if has_template:
        yield from _iter_template_config_errors(fleet[LAUNCH_TEMPLATE_CONFIGS_KEY], path)
    role, remedy = fleet.get("IamFleetRole"), "write the ARN of the fleet tagging role"
    if "IamFleetRole" not in fleet:
        yield InputError(path, "IamFleetRole", "this key is missing", remedy)
    elif not isinstance(role, str):
        yield InputError(path, "IamFleetRole", f"{format_json(role)} is not a string", remedy)


def _iter_specification_list_errors(specifications: object, path: Path) -> Iterator[InputError]:
    if not isinstance(specifications, list) or not specifications:
        problem = f"{format_json(specifications)} is not a list of launch specifications"
        remedy = "list one; it is used for each MACHINE_TYPE in the config"
        yield InputError(path, LAUNCH_SPECIFICATIONS_KEY, problem, remedy)
        return
    for number, specification in enumerate(specifications):
        key = f"{LAUNCH_SPECIFICATIONS_KEY}[{number}]"
        if isinstance(specification, dict):
            yield from _iter_specification_errors(specification, key, path)
        else:
            problem = f"{format_json(specification)} is not an object"
            yield InputError(path, key, problem, "write one launch specification: { … }")


def _iter_specification_errors(specification: JsonObject, key: str, path: Path) -> Iterator[InputError]:
    lists = {name: specification.get(name, []) for name in _OBJECT_LISTS}
    for name, value in lists.items():
        if not _is_object_list(value):
            yield _build_object_list_error(value, f"{key}.{name}", path)
            lists[name] = []
    for number, mapping in enumerate(lists["BlockDeviceMappings"]):
        if not isinstance(mapping.get("Ebs", {}), dict):
            problem = f"{format_json(mapping['Ebs'])} is not an object"
            yield InputError(path, f"{key}.BlockDeviceMappings[{number}].Ebs", problem, "write { … }")
    for number, tagged in enumerate(lists["TagSpecifications"]):
        if not _is_object_list(tagged.get("Tags", [])):
            yield _build_object_list_error(tagged["Tags"], f"{key}.TagSpecifications[{number}].Tags", path)
    for number, group in enumerate(lists["SecurityGroups"]):
        if not isinstance(group.get("GroupId"), str):
            problem, remedy = "the group has no GroupId", 'write {"GroupId": "sg-…"}'
            yield InputError(path, f"{key}.SecurityGroups[{number}]", problem, remedy)
    yield from _iter_network_errors(specification, lists["NetworkInterfaces"], key, path)


def _iter_network_errors(
    specification: JsonObject, interfaces: list[JsonObject], key: str, path: Path
) -> Iterator[InputError]:
    for name in ("SubnetId", "SecurityGroups"):
        if interfaces and specification.get(name):
            remedy = "move it into the first network interface (security groups as Groups)"
            yield InputError(path, f"{key}.{name}", "EC2 does not accept it together with NetworkInterfaces", remedy)
    owners = {key: specification}
    owners |= {f"{key}.NetworkInterfaces[{number}]": interface for number, interface in enumerate(interfaces)}
    for owner_key, owner in owners.items():
        yield from _iter_subnet_errors(owner, owner_key, path)


def _iter_subnet_errors(owner: JsonObject, key: str, path: Path) -> Iterator[InputError]:
    subnets = owner.get("SubnetId", "")
    if not isinstance(subnets, str):
        yield InputError(path, f"{key}.SubnetId", f"{format_json(subnets)} is not a string", _SUBNET_REMEDY)


def _iter_template_config_errors(configs: object, path: Path) -> Iterator[InputError]:
    if not isinstance(configs, list) or not _is_object_list(configs):
        yield _build_object_list_error(configs, LAUNCH_TEMPLATE_CONFIGS_KEY, path)
        return
    if len(configs) != 1:
        remedy = "write exactly one; startCluster combines it with each MACHINE_TYPE and subnet"
        yield InputError(path, LAUNCH_TEMPLATE_CONFIGS_KEY, f"the list has {len(configs)} entries", remedy)
    for number, config in enumerate(configs[:1]):
        key = f"{LAUNCH_TEMPLATE_CONFIGS_KEY}[{number}]"
        template = config.get("LaunchTemplateSpecification")
        if not isinstance(template, dict) or ("LaunchTemplateId" in template) == ("LaunchTemplateName" in template):
            problem = "EC2 needs either the template's ID or its name, but not both"
            remedy = "write either LaunchTemplateId or LaunchTemplateName"
            yield InputError(path, f"{key}.LaunchTemplateSpecification", problem, remedy)
        yield from _iter_override_errors(config.get("Overrides", []), f"{key}.Overrides", path)


def _iter_override_errors(overrides: object, key: str, path: Path) -> Iterator[InputError]:
    if not isinstance(overrides, list) or not _is_object_list(overrides):
        yield _build_object_list_error(overrides, key, path)
        return
    for number, override in enumerate(overrides):
        for name in sorted(override.keys() - _OVERRIDE_KEYS):
            yield InputError(path, f"{key}[{number}].{name}", "the config determines this", "remove this key")
        yield from _iter_weight_errors(override, f"{key}[{number}]", path)
        yield from _iter_subnet_errors(override, f"{key}[{number}]", path)


def _iter_weight_errors(owner: JsonObject, key: str, path: Path) -> Iterator[InputError]:
    weight = owner.get("WeightedCapacity", 1)
    if weight != 1:
        problem = f"{format_json(weight)} is not 1, but CLUSTER_MACHINES counts every machine as one"
        yield InputError(path, f"{key}.WeightedCapacity", problem, "remove this key")


def _is_object_list(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, dict) for item in value)


def _build_object_list_error(value: object, key: str, path: Path) -> InputError:
    return InputError(path, key, f"{format_json(value)} is not a list of objects", "write [{ … }]")


def list_fleet_placeholders(path: Path) -> list[InputError]:
    """Return an error for each placeholder in the Fleet file. Raise InputError if the file cannot be read."""
    return list(_iter_placeholder_errors(_drop_empty_values(read_json_object(path, "a fleet file")), path))


def _iter_placeholder_errors(fleet: JsonObject, path: Path) -> Iterator[InputError]:
    for key, text in _iter_strings(fleet, ""):
        if not key.endswith("UserData") and _PLACEHOLDER_PATTERN.search(text):
            yield InputError(path, key, f"{text!r} is a placeholder", "replace it with your account's own value")


def _iter_strings(value: object, key: str) -> Iterator[tuple[str, str]]:
    """Yield the path, such as `LaunchSpecifications[0].ImageId`, and the text of each string inside a JSON value."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from _iter_strings(inner, f"{key}.{name}" if key else name)
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _iter_strings(inner, f"{key}[{number}]")


# Checks that need the config


def _iter_config_conflicts(settings: Settings, fleet: JsonObject, path: Path) -> Iterator[InputError]:
    specifications = fleet.get(LAUNCH_SPECIFICATIONS_KEY, [])
    count, types = len(specifications) if isinstance(specifications, list) else 0, len(settings.MACHINE_TYPE)
    if count > 1 and count != types:
        problem = f"{count} launch specifications do not match {types} MACHINE_TYPE in the config"
        remedy = "write one for all types, or one for each type"
        yield InputError(path, LAUNCH_SPECIFICATIONS_KEY, problem, remedy)
    on_demand, machines = settings.ON_DEMAND_MACHINES, settings.CLUSTER_MACHINES
    if on_demand > machines:
        problem = f"{on_demand} is more than CLUSTER_MACHINES ({machines}), which includes on-demand machines"
        yield InputError(path, "ON_DEMAND_MACHINES", problem, f"set it to at most {machines} in the config")


def _iter_content_errors(
    model: ServiceModel, settings: Settings, fleet: JsonObject, path: Path
) -> Iterator[InputError]:
    """Yield an error for each value that the run cannot use although EC2 would accept it.

    The request's structure must be valid.
    """
    if fleet.get("Type", "maintain") != "maintain":
        problem = f"the monitor cannot scale a fleet of type {format_json(fleet['Type'])}"
        yield InputError(path, "Type", problem, "write 'maintain', or remove this key")
    yield from _iter_tag_errors(fleet, "", ("spot-fleet-request",), path)
    for number, specification in enumerate(fleet.get(LAUNCH_SPECIFICATIONS_KEY, [])):
        key = f"{LAUNCH_SPECIFICATIONS_KEY}[{number}]"
        yield from _iter_tag_errors(specification, f"{key}.", ("instance", "volume"), path)
        yield from _iter_launch_errors(model, settings, specification, key, path)


def _iter_tag_errors(tagged: JsonObject, prefix: str, accepted: tuple[str, ...], path: Path) -> Iterator[InputError]:
    for number, specification in enumerate(tagged.get("TagSpecifications", [])):
        resource_type = specification.get("ResourceType")
        if resource_type not in accepted:
            key = f"{prefix}TagSpecifications[{number}].ResourceType"
            problem = f"EC2 does not tag {format_json(resource_type)} here" if resource_type else "this key is missing"
            yield InputError(path, key, problem, f"write {' or '.join(map(repr, accepted))}")


def _iter_launch_errors(
    model: ServiceModel, settings: Settings, specification: JsonObject, key: str, path: Path
) -> Iterator[InputError]:
    """Yield an error for each value that a launch template cannot contain or that keeps machines from starting.

    Without this check, such values would be dropped silently.
    """
    if "InstanceRequirements" in specification:
        problem = "MACHINE_TYPE in the config determines this"
        yield InputError(path, f"{key}.InstanceRequirements", problem, "remove this key")
    yield from _iter_weight_errors(specification, key, path)
    interface_fault = find_interface_fault(specification.get("NetworkInterfaces", []), settings)
    if interface_fault is not None:
        yield InputError(path, f"{key}.NetworkInterfaces", *interface_fault)
    other_keys = {name: value for name, value in specification.items() if name != "InstanceRequirements"}
    request = {"LaunchTemplateName": key, "LaunchTemplateData": build_template_data(other_keys, settings)}
    for fault in find_request_faults(request, _get_input_shape(model, "CreateLaunchTemplate")):
        problem, remedy = fault.problem, fault.remedy
        if problem == UNKNOWN_KEY_PROBLEM:
            problem = "startCluster converts this into a launch template, and launch templates do not have this key"
            remedy = "remove it"
        yield InputError(path, f"{key}.{fault.key}", problem, remedy)


# Checks against botocore's model


def _iter_own_request_errors(model: ServiceModel, fleet: JsonObject, path: Path) -> Iterator[InputError]:
    """Yield the errors in the file's own values.

    In the final request, the config's values would replace some of them and hide the errors.
    """
    own = {key: value for key, value in fleet.items() if key not in ("ValidFrom", "ValidUntil")}
    return _iter_request_errors(model, {"SpotFleetRequestConfig": {"TargetCapacity": 1} | own}, path)


def _iter_request_errors(model: ServiceModel, request: JsonObject, path: Path) -> Iterator[InputError]:
    faults = find_request_faults(request, _get_input_shape(model, "RequestSpotFleet"))
    return (InputError(path, *fault) for fault in faults)


def _iter_exceeded_limits(plan: LaunchPlan, path: Path) -> Iterator[InputError]:
    pools = sum(len(version.overrides) for version in plan.versions)
    if pools > MAX_POOLS:
        problem = f"{pools} combinations of type and subnet exceed EC2's limit ({MAX_POOLS})"
        yield InputError(path, "MACHINE_TYPE", problem, "list fewer types or subnets")
    versions = len(plan.versions)
    if versions > MAX_LAUNCH_SPECS:
        problem = f"{versions} that differ in more than type and subnet exceed EC2's limit ({MAX_LAUNCH_SPECS})"
        yield InputError(path, LAUNCH_SPECIFICATIONS_KEY, problem, "make some of them identical")


def _get_input_shape(model: ServiceModel, call: str) -> Shape:
    shape = model.operation_model(call).input_shape
    assert shape is not None  # both calls have input parameters
    return shape


def _load_ec2_model() -> ServiceModel:
    """Return botocore's model of EC2 without a client, which would need credentials and a region."""
    import botocore.session  # slow, and needed only if there is an error

    return botocore.session.get_session().get_service_model("ec2")


def _is_inside(key: str, outer_keys: Iterable[str]) -> bool:
    """Return whether the key is one of these keys or lies below one of them."""
    return any(key == outer or key.startswith((f"{outer}.", f"{outer}[")) for outer in outer_keys)
