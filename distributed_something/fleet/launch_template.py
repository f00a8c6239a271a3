"""The launch template of a run, of which its fleet is made: machines join the run's cluster and carry its tags.

startCluster makes it of what the Fleet file says, or of the launch template that the file names, which is only read. It
is named APP_NAME-RUN and tagged, has a version for each kind of machine, and is deleted by clean-up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from distributed_something.aws.ec2_fleet import TEMPLATE_NOT_READY_CODES
from distributed_something.aws.retry import retry_until_consistent
from distributed_something.core.errors import AWSError, CloudError, InputError, get_error_code, translate_aws_errors
from distributed_something.core.tags import KEPT_VOLUME_TAG, build_tag_specifications
from distributed_something.fleet.launch_specs import (
    LAUNCH_TEMPLATE_CONFIGS_KEY,
    JsonObject,
    LaunchSpec,
    TemplateFault,
    find_interface_fault,
)
from distributed_something.fleet.request import build_template_name
from distributed_something.fleet.user_data import UserDataError, extend_user_data

if TYPE_CHECKING:
    from botocore.model import Shape
    from mypy_boto3_ec2 import EC2Client

    from distributed_something.core.config_settings import Settings


# Containers are one hop further from the machine's metadata than programs on it.
METADATA_OPTIONS = {"HttpTokens": "required", "HttpPutResponseHopLimit": 2}
TAGGED_RESOURCE_TYPES = ("instance", "volume")
_FLEET_KEYS = ("InstanceType", "InstanceRequirements", "InstanceMarketOptions")  # a fleet refuses the last
# No spot machine can have them, and of others neither monitor nor clean-up could end one that has.
# https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/Using_ChangingDisableAPITermination.html
_PROTECTION_KEYS = ("DisableApiTermination", "DisableApiStop")


def find_template_data(fleet: JsonObject, ec2: EC2Client) -> JsonObject | None:
    """The content of the launch template that the Fleet file names; None where there is none. Raises AWS's errors."""
    named = dict(fleet[LAUNCH_TEMPLATE_CONFIGS_KEY][0]["LaunchTemplateSpecification"])
    version = named.pop("Version", "$Default")
    try:
        found: Any = ec2.describe_launch_template_versions(**named, Versions=[version])["LaunchTemplateVersions"]
    except ClientError as error:
        if get_error_code(error).startswith("InvalidLaunchTemplate"):
            return None
        raise
    return dict(found[0]["LaunchTemplateData"]) if found else None


def format_template_name(fleet: JsonObject) -> str:
    """Which launch template the Fleet file names, in one text: «lt-1 version 3»."""
    named = fleet[LAUNCH_TEMPLATE_CONFIGS_KEY][0]["LaunchTemplateSpecification"]
    name = named.get("LaunchTemplateId") or named["LaunchTemplateName"]
    return f"{name} version {named.get('Version', '$Default')}"


def load_template_data(fleet: JsonObject, path: Path, settings: Settings, ec2: EC2Client) -> JsonObject | None:
    """The content of the template that the Fleet file names, checked; None where it names none.

    Raises InputError for a template that cannot be used (`path`: the Fleet file), CloudError where EC2 refuses.
    """
    if LAUNCH_TEMPLATE_CONFIGS_KEY not in fleet:
        return None
    with translate_aws_errors(f"reading the launch template {format_template_name(fleet)}"):
        content = find_template_data(fleet, ec2)
    if content is None:
        raise InputError(
            path,
            LAUNCH_TEMPLATE_CONFIGS_KEY,
            f"there is no launch template {format_template_name(fleet)}",
            "name another",
        )
    fault = find_template_fault(content, settings)
    if fault is not None:
        problem = f"the launch template {format_template_name(fleet)}: {fault.problem}"
        raise InputError(path, LAUNCH_TEMPLATE_CONFIGS_KEY, problem, fault.remedy)
    return content


def find_template_fault(content: JsonObject, settings: Settings) -> TemplateFault | None:
    """Return why a template of this content cannot be used; None where it can."""
    interfaces = content.get("NetworkInterfaces", [])
    if content.get("SecurityGroups") and not interfaces:
        problem = "it names security groups by name, with which EC2 takes no ASSIGN_IP"
        return TemplateFault(problem, "name them by id there")
    try:
        extend_user_data(content.get("UserData", ""), settings)
    except UserDataError as error:
        return TemplateFault(error.problem, error.remedy)
    return find_interface_fault(interfaces, public=settings.ASSIGN_IP)


def build_run_template_data(content: JsonObject, settings: Settings, marks: Mapping[str, str]) -> JsonObject:
    """The LaunchTemplateData of a kind of machine with all that the run decides; the rest of `content` stays."""
    own = {key: value for key, value in content.items() if key not in _FLEET_KEYS + _PROTECTION_KEYS}
    groups = list(own.pop("SecurityGroupIds", ()))
    tagged = build_tag_specifications(
        own.get("TagSpecifications", ()), TAGGED_RESOURCE_TYPES, {"Name": settings.names.machine} | dict(marks)
    )
    return own | {
        "UserData": extend_user_data(content.get("UserData", ""), settings),
        "MetadataOptions": own.get("MetadataOptions", {}) | METADATA_OPTIONS,
        "NetworkInterfaces": _build_interfaces(own.get("NetworkInterfaces", ()), groups, public=settings.ASSIGN_IP),
        "TagSpecifications": build_tag_specifications(tagged, ["volume"], KEPT_VOLUME_TAG)
        if _has_persistent_volume(own)
        else tagged,
    }


@contextmanager
def create_run_template(
    kinds: list[LaunchSpec],
    settings: Settings,
    marks: Mapping[str, str],
    ec2: EC2Client,
    sleep: Callable[[float], None],
) -> Iterator[None]:
    """Makes the run's template, and deletes it again if EC2 refuses one of its versions or what the block asks for.

    `marks`: tags with the run in them, which also names the template. Raises CloudError.
    """
    shape = ec2.meta.service_model.shape_for("RequestLaunchTemplateData")
    first, *others = [
        _keep_known_keys(build_run_template_data(kind.content or {}, settings, marks), shape) for kind in kinds
    ]
    template = _create_first_version(first, marks, ec2)
    try:
        for number, data in enumerate(others, 2):
            _create_next_version(template, number, data, marks, ec2, sleep)
        yield
    except CloudError as error:
        if isinstance(error.__cause__, ClientError):  # else an answer may be lost, and the fleet be there
            with suppress(*AWSError):  # it costs nothing, and clean-up finds it
                ec2.delete_launch_template(LaunchTemplateId=template)
        raise


def _create_first_version(data: Any, marks: Mapping[str, str], ec2: EC2Client) -> str:
    name = build_template_name(marks)
    specified: Any = build_tag_specifications((), ["launch-template"], marks)
    with translate_aws_errors(f"making the launch template {name}"):
        answer = ec2.create_launch_template(
            LaunchTemplateName=name, ClientToken=name, LaunchTemplateData=data, TagSpecifications=specified
        )
    return answer["LaunchTemplate"]["LaunchTemplateId"]


def _create_next_version(
    template: str,
    number: int,
    data: JsonObject,
    marks: Mapping[str, str],
    ec2: EC2Client,
    sleep: Callable[[float], None],
) -> None:
    name = build_template_name(marks)
    request: Any = {"LaunchTemplateId": template, "ClientToken": f"{name}-{number}", "LaunchTemplateData": data}
    with translate_aws_errors(f"making version {number} of the launch template {name}"):
        retry_until_consistent(
            lambda: ec2.create_launch_template_version(**request), *TEMPLATE_NOT_READY_CODES, sleep=sleep
        )


def _build_interfaces(given: Iterable[JsonObject], groups: list[str], *, public: bool) -> list[JsonObject]:
    """The network interfaces, one at least. An only one has a public address or has none; EC2 gives none to several.

    `groups` are for an interface that is made here: EC2 takes security groups within interfaces only, if there are any.
    """
    first: JsonObject = {"DeviceIndex": 0, "DeleteOnTermination": True} | ({"Groups": groups} if groups else {})
    interfaces = [dict(one) for one in given] or [first]
    for number, interface in enumerate(interfaces):
        interface.setdefault("DeviceIndex", number)  # without it EC2 starts no machine
        interface.pop("AssociatePublicIpAddress", None)
    if len(interfaces) == 1:
        interfaces[0]["AssociatePublicIpAddress"] = public
    return interfaces


def _has_persistent_volume(content: JsonObject) -> bool:
    """EC2 gives all volumes of a machine the same tags."""
    return any(one.get("Ebs", {}).get("DeleteOnTermination") is False for one in content.get("BlockDeviceMappings", ()))


def _keep_known_keys(value: Any, shape: Shape) -> Any:
    """What the request's form has of `value`: EC2's answers hold more (MetadataOptions.State, for one)."""
    if shape.type_name == "structure":
        members: Mapping[str, Shape] = shape.members  # type: ignore[attr-defined]
        kept = {key: _keep_known_keys(inner, members[key]) for key, inner in value.items() if key in members}
        return {key: inner for key, inner in kept.items() if inner not in ([], {}, None)}
    if shape.type_name == "list":
        return [_keep_known_keys(inner, shape.member) for inner in value]  # type: ignore[attr-defined]
    return value
