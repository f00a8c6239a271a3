"""What a run starts its machines of, made once: the versions of its launch template, and what the fleet asks of each.

The request names the versions by number, and EC2 numbers them in the order in which they are created. Both come from
the same plan, so a version always has the content of the specification that the request means.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from distributed_something.core.tags import KEPT_VOLUME_TAG, build_tag_specifications
from distributed_something.fleet.launch_specs import JsonObject, build_launch_specs
from distributed_something.fleet.user_data import extend_user_data

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


@dataclass(frozen=True)
class TemplateVersion:
    """A version of the run's launch template: its number, its LaunchTemplateData, and what the fleet asks of it."""

    number: int
    data: JsonObject
    overrides: list[JsonObject]


@dataclass(frozen=True)
class LaunchPlan:
    """The run's launch template: its name, the run's tags, and its versions in the order in which they are created."""

    name: str
    tags: Mapping[str, str]
    versions: tuple[TemplateVersion, ...]

    def build_configs(self) -> list[JsonObject]:
        """Return the LaunchTemplateConfigs of the request for the fleet."""
        return [
            {
                "LaunchTemplateSpecification": {"LaunchTemplateName": self.name, "Version": str(version.number)},
                "Overrides": version.overrides,
            }
            for version in self.versions
        ]


def build_launch_plan(
    fleet: JsonObject, settings: Settings, tags: Mapping[str, str], ec2: EC2Client, theirs: JsonObject | None = None
) -> LaunchPlan:
    """Return the plan for a Fleet file whose form is right; nothing is sent.

    `tags`: with the run in them, which also names the template. `theirs`: the content of the launch template that the
    file names; without it the plan says what the fleet asks for, and cannot be carried out.
    """
    shape = ec2.meta.service_model.shape_for("RequestLaunchTemplateData")
    versions = [
        TemplateVersion(number, _build_version_data(spec.content or {}, settings, tags, shape), spec.overrides)
        for number, spec in enumerate(build_launch_specs(fleet, settings, theirs), 1)
    ]
    return LaunchPlan(settings.names.launch_template(tags["run"]), tags, tuple(versions))


def _build_version_data(content: JsonObject, settings: Settings, tags: Mapping[str, str], shape: Shape) -> JsonObject:
    """The LaunchTemplateData with all that the run decides; the rest of `content` stays, as far as EC2 takes it."""
    own = {key: value for key, value in content.items() if key not in _FLEET_KEYS + _PROTECTION_KEYS}
    groups = list(own.pop("SecurityGroupIds", ()))
    tagged = build_tag_specifications(
        own.get("TagSpecifications", ()), TAGGED_RESOURCE_TYPES, {"Name": settings.names.machine} | dict(tags)
    )
    if _has_persistent_volume(own):
        tagged = build_tag_specifications(tagged, ["volume"], KEPT_VOLUME_TAG)
    decided = {
        "UserData": extend_user_data(content.get("UserData", ""), settings),
        "MetadataOptions": own.get("MetadataOptions", {}) | METADATA_OPTIONS,
        "NetworkInterfaces": _build_interfaces(own.get("NetworkInterfaces", ()), groups, public=settings.ASSIGN_IP),
        "TagSpecifications": tagged,
    }
    data: JsonObject = _keep_known_keys(own | decided, shape)
    return data


def _build_interfaces(given: Iterable[JsonObject], groups: list[str], *, public: bool) -> list[JsonObject]:
    """The network interfaces, one at least. An only one has a public address or has none; EC2 gives none to several.

    `groups` are for an interface that is made here: EC2 takes security groups within interfaces only, if there are any.
    """
    first: JsonObject = {"DeviceIndex": 0, "DeleteOnTermination": True} | ({"Groups": groups} if groups else {})
    interfaces = [dict(interface) for interface in given] or [first]
    for number, interface in enumerate(interfaces):
        interface.setdefault("DeviceIndex", number)  # without it EC2 starts no machine
        interface.pop("AssociatePublicIpAddress", None)
    if len(interfaces) == 1:
        interfaces[0]["AssociatePublicIpAddress"] = public
    return interfaces


def _has_persistent_volume(content: JsonObject) -> bool:
    """EC2 gives all volumes of a machine the same tags."""
    mappings = content.get("BlockDeviceMappings", ())
    return any(mapping.get("Ebs", {}).get("DeleteOnTermination") is False for mapping in mappings)


def _keep_known_keys(value: Any, shape: Shape) -> Any:
    """What the request's form has of `value`: EC2's answers hold more (MetadataOptions.State, for one)."""
    if shape.type_name == "structure":
        members: Mapping[str, Shape] = shape.members  # type: ignore[attr-defined]
        kept = {key: _keep_known_keys(inner, members[key]) for key, inner in value.items() if key in members}
        return {key: inner for key, inner in kept.items() if inner not in ([], {}, None)}
    if shape.type_name == "list":
        return [_keep_known_keys(inner, shape.member) for inner in value]  # type: ignore[attr-defined]
    return value
