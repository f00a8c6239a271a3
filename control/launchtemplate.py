"""The launch template of a run: a copy of the user's, in which machines join the run's cluster and carry its tags.

A fleet's overrides can change types and subnets of a launch template, but no user data. So startCluster makes a copy
for each run, named APP_NAME-RUN and tagged; the user's own is only read. Clean-up deletes the copies.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from control import tags, userdata
from control.errors import InputError, doing
from control.fleetrequest import TEMPLATES, public_interface

if TYPE_CHECKING:
    from botocore.model import Shape
    from mypy_boto3_ec2 import EC2Client

    from control.settings import Settings

# Containers are one hop further from the machine's metadata than programs on it.
METADATA = {"HttpTokens": "required", "HttpPutResponseHopLimit": 2}
TAGGED = ("instance", "volume")
_NOT_OURS = (
    "InstanceType",
    "InstanceRequirements",
    "InstanceMarketOptions",
)  # what a fleet decides; it refuses the last

Json = dict[str, Any]


def read(request: Mapping[str, Any], path: Path, settings: Settings, ec2: EC2Client) -> Json | None:
    """The content of the template that the request names, checked; None where it names none.

    Raises InputError for a template that cannot be used (`path`: the Fleet file), CloudError where EC2 refuses.
    """
    if TEMPLATES not in request:
        return None
    named = dict(request[TEMPLATES][0]["LaunchTemplateSpecification"])
    version = named.pop("Version", "$Default")
    name = next(iter(named.values()))
    with doing(f"reading the launch template {name}"):
        found = ec2.describe_launch_template_versions(**named, Versions=[version])["LaunchTemplateVersions"]
    if not found:
        raise InputError(path, TEMPLATES, f"{name} has no version {version}", "name another version")
    content: Json = dict(found[0]["LaunchTemplateData"])
    _check(content, path, f"the launch template {name}", settings)
    return content


def of_run(content: Json, settings: Settings, marks: Mapping[str, str], *, subnets: bool) -> Json:
    """The LaunchTemplateData of the run's copy. Image, role, key and disks stay; `subnets`: overrides name them."""
    own = {key: value for key, value in content.items() if key not in _NOT_OURS}
    groups = list(own.pop("SecurityGroupIds", ()))
    interfaces = [dict(one) for one in own.get("NetworkInterfaces", ())]
    interfaces = public_interface(interfaces, groups, public=settings.ASSIGN_IP)
    for interface in interfaces if subnets else ():
        interface.pop("SubnetId", None)
    name = {"Name": f"{settings.APP_NAME}Worker"}
    return own | {
        "UserData": userdata.after(content.get("UserData", ""), settings),
        "MetadataOptions": METADATA | own.get("MetadataOptions", {}),
        "NetworkInterfaces": interfaces,
        "TagSpecifications": tags.specifications(own.get("TagSpecifications", ()), TAGGED, name | dict(marks)),
    }


def make(request: Json, content: Json, settings: Settings, marks: Mapping[str, str], ec2: EC2Client) -> Json:
    """Makes the run's copy; the request that names it instead of the user's. Raises CloudError.

    `marks`: tags with the run in them, which also names the copy.
    """
    overrides = request[TEMPLATES][0]["Overrides"]
    shape = ec2.meta.service_model.shape_for("RequestLaunchTemplateData")
    data = of_run(content, settings, marks, subnets=any("SubnetId" in one for one in overrides))
    name = f"{settings.APP_NAME}-{marks['run']}"
    specified: Any = tags.specifications((), ["launch-template"], marks)
    with doing(f"making the launch template {name}"):
        made = ec2.create_launch_template(
            LaunchTemplateName=name,
            ClientToken=name,
            LaunchTemplateData=_known(data, shape),
            TagSpecifications=specified,
        )["LaunchTemplate"]
    specification = {"LaunchTemplateId": made["LaunchTemplateId"], "Version": "1"}
    return request | {TEMPLATES: [{"LaunchTemplateSpecification": specification, "Overrides": overrides}]}


def _check(content: Json, path: Path, what: str, settings: Settings) -> None:
    if content.get("SecurityGroups") and not content.get("NetworkInterfaces"):
        wrong = f"{what} names security groups by name, with which EC2 takes no ASSIGN_IP"
        raise InputError(path, TEMPLATES, wrong, "name them by id there")
    try:
        userdata.after(content.get("UserData", ""), settings)
    except ValueError as error:
        wrong, _, right = str(error).partition("; ")
        raise InputError(path, TEMPLATES, f"{what}: {wrong}", right) from None


def _known(value: Any, shape: Shape) -> Any:
    """What the request's form has of `value`: EC2's answers hold more (MetadataOptions.State, for one)."""
    if shape.type_name == "structure":
        members: Mapping[str, Shape] = shape.members  # type: ignore[attr-defined]
        kept = {key: _known(inner, members[key]) for key, inner in value.items() if key in members}
        return {key: inner for key, inner in kept.items() if inner not in ([], {}, None)}
    if shape.type_name == "list":
        return [_known(inner, shape.member) for inner in value]  # type: ignore[attr-defined]
    return value
