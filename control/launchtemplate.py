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

from control import tags, userdata
from control.errors import AWSError, CloudError, InputError, code_of, doing
from control.fleet import NO_TEMPLATE_YET
from control.fleetrequest import template_name
from control.kinds import TEMPLATES, Json, Kind, fault_of_interfaces
from control.steps import patiently

if TYPE_CHECKING:
    from botocore.model import Shape
    from mypy_boto3_ec2 import EC2Client

    from control.settings import Settings

# Containers are one hop further from the machine's metadata than programs on it.
METADATA = {"HttpTokens": "required", "HttpPutResponseHopLimit": 2}
TAGGED = ("instance", "volume")
_OF_FLEET = ("InstanceType", "InstanceRequirements", "InstanceMarketOptions")  # a fleet refuses the last
# No spot machine can have them, and of others neither monitor nor clean-up could end one that has.
# https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/Using_ChangingDisableAPITermination.html
_PROTECTION = ("DisableApiTermination", "DisableApiStop")


def look_up(fleet: Json, ec2: EC2Client) -> Json | None:
    """The content of the launch template that the Fleet file names; None where there is none. Raises AWS's errors."""
    named = dict(fleet[TEMPLATES][0]["LaunchTemplateSpecification"])
    version = named.pop("Version", "$Default")
    try:
        found: Any = ec2.describe_launch_template_versions(**named, Versions=[version])["LaunchTemplateVersions"]
    except ClientError as error:
        if code_of(error).startswith("InvalidLaunchTemplate"):
            return None
        raise
    return dict(found[0]["LaunchTemplateData"]) if found else None


def words(fleet: Json) -> str:
    """Which launch template the Fleet file names, in one text: «lt-1 version 3»."""
    named = fleet[TEMPLATES][0]["LaunchTemplateSpecification"]
    name = named.get("LaunchTemplateId") or named["LaunchTemplateName"]
    return f"{name} version {named.get('Version', '$Default')}"


def read(fleet: Json, path: Path, settings: Settings, ec2: EC2Client) -> Json | None:
    """The content of the template that the Fleet file names, checked; None where it names none.

    Raises InputError for a template that cannot be used (`path`: the Fleet file), CloudError where EC2 refuses.
    """
    if TEMPLATES not in fleet:
        return None
    with doing(f"reading the launch template {words(fleet)}"):
        content = look_up(fleet, ec2)
    if content is None:
        raise InputError(path, TEMPLATES, f"there is no launch template {words(fleet)}", "name another")
    found = fault(content, settings)
    if found is not None:
        raise InputError(path, TEMPLATES, f"the launch template {words(fleet)}: {found[0]}", found[1])
    return content


def fault(content: Json, settings: Settings) -> tuple[str, str] | None:
    """Why a template of this content cannot be used, and what would be right; None where it can."""
    interfaces = content.get("NetworkInterfaces", [])
    if content.get("SecurityGroups") and not interfaces:
        return "it names security groups by name, with which EC2 takes no ASSIGN_IP", "name them by id there"
    try:
        userdata.after(content.get("UserData", ""), settings)
    except ValueError as error:
        wrong, _, right = str(error).partition("; ")
        return wrong, right
    return fault_of_interfaces(interfaces, public=settings.ASSIGN_IP)


def of_run(content: Json, settings: Settings, marks: Mapping[str, str]) -> Json:
    """The LaunchTemplateData of a kind of machine with all that the run decides; the rest of `content` stays."""
    own = {key: value for key, value in content.items() if key not in _OF_FLEET + _PROTECTION}
    groups = list(own.pop("SecurityGroupIds", ()))
    tagged = tags.specifications(
        own.get("TagSpecifications", ()), TAGGED, {"Name": f"{settings.APP_NAME}Worker"} | dict(marks)
    )
    return own | {
        "UserData": userdata.after(content.get("UserData", ""), settings),
        "MetadataOptions": own.get("MetadataOptions", {}) | METADATA,
        "NetworkInterfaces": _interfaces(own.get("NetworkInterfaces", ()), groups, public=settings.ASSIGN_IP),
        "TagSpecifications": tags.specifications(tagged, ["volume"], tags.KEPT) if _keeps_a_disk(own) else tagged,
    }


@contextmanager
def made(
    kinds: list[Kind], settings: Settings, marks: Mapping[str, str], ec2: EC2Client, sleep: Callable[[float], None]
) -> Iterator[None]:
    """Makes the run's template, and deletes it again if EC2 refuses one of its versions or what the block asks for.

    `marks`: tags with the run in them, which also names the template. Raises CloudError.
    """
    shape = ec2.meta.service_model.shape_for("RequestLaunchTemplateData")
    first, *others = [_known(of_run(kind.content or {}, settings, marks), shape) for kind in kinds]
    template = _make(first, marks, ec2)
    try:
        for number, data in enumerate(others, 2):
            _add_version(template, number, data, marks, ec2, sleep)
        yield
    except CloudError as error:
        if isinstance(error.__cause__, ClientError):  # else an answer may be lost, and the fleet be there
            with suppress(*AWSError):  # it costs nothing, and clean-up finds it
                ec2.delete_launch_template(LaunchTemplateId=template)
        raise


def _make(data: Any, marks: Mapping[str, str], ec2: EC2Client) -> str:
    name = template_name(marks)
    specified: Any = tags.specifications((), ["launch-template"], marks)
    with doing(f"making the launch template {name}"):
        answer = ec2.create_launch_template(
            LaunchTemplateName=name, ClientToken=name, LaunchTemplateData=data, TagSpecifications=specified
        )
    return answer["LaunchTemplate"]["LaunchTemplateId"]


def _add_version(
    template: str, number: int, data: Json, marks: Mapping[str, str], ec2: EC2Client, sleep: Callable[[float], None]
) -> None:
    name = template_name(marks)
    request: Any = {"LaunchTemplateId": template, "ClientToken": f"{name}-{number}", "LaunchTemplateData": data}
    with doing(f"making version {number} of the launch template {name}"):
        patiently(lambda: ec2.create_launch_template_version(**request), *NO_TEMPLATE_YET, sleep=sleep)


def _interfaces(given: Iterable[Json], groups: list[str], *, public: bool) -> list[Json]:
    """The network interfaces, one at least. An only one has a public address or has none; EC2 gives none to several.

    `groups` are for an interface that is made here: EC2 takes security groups within interfaces only, if there are any.
    """
    first: Json = {"DeviceIndex": 0, "DeleteOnTermination": True} | ({"Groups": groups} if groups else {})
    interfaces = [dict(one) for one in given] or [first]
    for number, interface in enumerate(interfaces):
        interface.setdefault("DeviceIndex", number)  # without it EC2 starts no machine
        interface.pop("AssociatePublicIpAddress", None)
    if len(interfaces) == 1:
        interfaces[0]["AssociatePublicIpAddress"] = public
    return interfaces


def _keeps_a_disk(content: Json) -> bool:
    """EC2 gives all volumes of a machine the same tags."""
    return any(one.get("Ebs", {}).get("DeleteOnTermination") is False for one in content.get("BlockDeviceMappings", ()))


def _known(value: Any, shape: Shape) -> Any:
    """What the request's form has of `value`: EC2's answers hold more (MetadataOptions.State, for one)."""
    if shape.type_name == "structure":
        members: Mapping[str, Shape] = shape.members  # type: ignore[attr-defined]
        kept = {key: _known(inner, members[key]) for key, inner in value.items() if key in members}
        return {key: inner for key, inner in kept.items() if inner not in ([], {}, None)}
    if shape.type_name == "list":
        return [_known(inner, shape.member) for inner in value]  # type: ignore[attr-defined]
    return value
