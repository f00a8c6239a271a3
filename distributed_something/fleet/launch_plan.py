"""The plan for a run's launch template: its versions, and the types and subnets that the fleet requests for each.

The fleet request refers to versions by number, and EC2 numbers versions in the order in which they are created. The
request and the versions are built from the same plan, so that a version number always refers to the intended
specification.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from distributed_something.core.monitor_file import parse_run_start
from distributed_something.core.tags import KEPT_VOLUME_TAG, build_tag_specifications
from distributed_something.fleet.launch_specs import JsonObject, build_launch_specs, has_public_address
from distributed_something.fleet.user_data import extend_user_data

if TYPE_CHECKING:
    from botocore.model import Shape
    from mypy_boto3_ec2 import EC2Client

    from distributed_something.core.config_settings import Settings


# Two hops, because a container's requests to the instance metadata service take one more hop than the machine's own
# requests.
METADATA_OPTIONS = {"HttpTokens": "required", "HttpPutResponseHopLimit": 2}
TAGGED_RESOURCE_TYPES = ("instance", "volume")
# EC2 rejects InstanceMarketOptions in a fleet.
_FLEET_KEYS = ("InstanceType", "InstanceRequirements", "InstanceMarketOptions")
# Spot machines cannot have these attributes, and neither the monitor nor cleanup could terminate an on-demand machine
# with them. https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/Using_ChangingDisableAPITermination.html
_PROTECTION_KEYS = ("DisableApiTermination", "DisableApiStop")


@dataclass(frozen=True)
class TemplateVersion:
    """A version of the run's launch template: its number, its LaunchTemplateData, and its LaunchTemplateOverrides."""

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
        """Return the LaunchTemplateConfigs for the fleet request."""
        return [
            {
                "LaunchTemplateSpecification": {"LaunchTemplateName": self.name, "Version": str(version.number)},
                "Overrides": version.overrides,
            }
            for version in self.versions
        ]


def build_launch_plan(
    ec2: EC2Client, settings: Settings, fleet: JsonObject, tags: Mapping[str, str], template: JsonObject | None = None
) -> LaunchPlan:
    """Return the plan for a Fleet file with a valid structure. Nothing is sent.

    `tags`: tags that include the run's name, which is also part of the launch template's name. `template`: the content
    of the launch template that the file names. Without `template`, the plan can only be used to check the request.
    """
    shape = ec2.meta.service_model.shape_for("RequestLaunchTemplateData")
    versions = [
        TemplateVersion(number, _build_version_data(settings, spec.content or {}, tags, shape), spec.overrides)
        for number, spec in enumerate(build_launch_specs(settings, fleet, template), 1)
    ]
    return LaunchPlan(settings.names.launch_template(tags["run"]), tags, tuple(versions))


def _build_version_data(settings: Settings, content: JsonObject, tags: Mapping[str, str], shape: Shape) -> JsonObject:
    """Return `content` as LaunchTemplateData, with the run's values and without keys that EC2 does not accept."""
    own = {key: value for key, value in content.items() if key not in _FLEET_KEYS + _PROTECTION_KEYS}
    groups = list(own.pop("SecurityGroupIds", ()))
    tagged = build_tag_specifications(
        own.get("TagSpecifications", ()), TAGGED_RESOURCE_TYPES, {"Name": settings.names.machine} | dict(tags)
    )
    if _has_persistent_volume(own):
        tagged = build_tag_specifications(tagged, ["volume"], KEPT_VOLUME_TAG)
    end = _compute_shutdown_time(settings, tags)
    # EC2's default for on-demand machines is to stop at a shutdown, after which their disks still cost money.
    shutdown = {} if end is None else {"InstanceInitiatedShutdownBehavior": "terminate"}
    run_values: JsonObject = {
        **shutdown,
        "UserData": extend_user_data(settings, content.get("UserData", ""), end),
        "MetadataOptions": own.get("MetadataOptions", {}) | METADATA_OPTIONS,
        "NetworkInterfaces": _build_interfaces(settings, own.get("NetworkInterfaces", ()), groups),
        "TagSpecifications": tagged,
    }
    data: JsonObject = drop_unknown_keys(own | run_values, shape)
    return data


def _compute_shutdown_time(settings: Settings, tags: Mapping[str, str]) -> float | None:
    """Return when machines shut themselves down (seconds since 1970); None if they do not.

    EC2 documents only for spot machines that it terminates them when the fleet expires (after MAX_RUN_HOURS). If the
    fleet has on-demand machines, all of its machines therefore also have a timer, which needs no monitor. A launch
    template's version cannot distinguish the two kinds.
    """
    start = parse_run_start(tags.get("run", ""))
    if not settings.ON_DEMAND_MACHINES or start is None:
        return None
    return start + settings.MAX_RUN_HOURS * 3600


def _build_interfaces(
    settings: Settings, file_interfaces: Collection[JsonObject], groups: list[str]
) -> list[JsonObject]:
    """Return the file's network interfaces, or a new one with the security groups `groups` if the file has none.

    AssociatePublicIpAddress is set only if there is a single interface, because EC2 does not accept it for several. The
    security groups go into the new interface, because EC2 rejects top-level security groups in a request that specifies
    network interfaces.
    """
    new: JsonObject = {"DeviceIndex": 0, "DeleteOnTermination": True} | ({"Groups": groups} if groups else {})
    is_public = has_public_address(settings, file_interfaces)
    interfaces = [dict(interface) for interface in file_interfaces] or [new]
    for number, interface in enumerate(interfaces):
        interface.setdefault("DeviceIndex", number)  # EC2 does not start machines without it
        interface.pop("AssociatePublicIpAddress", None)
    if len(interfaces) == 1:
        interfaces[0]["AssociatePublicIpAddress"] = is_public
    return interfaces


def _has_persistent_volume(content: JsonObject) -> bool:
    """Return whether any volume is kept after its machine is terminated.

    EC2 gives all volumes of a machine the same tags.
    """
    mappings = content.get("BlockDeviceMappings", ())
    return any(mapping.get("Ebs", {}).get("DeleteOnTermination") is False for mapping in mappings)


def drop_unknown_keys(value: Any, shape: Shape) -> Any:
    """Return `value` without keys that the request does not have, such as MetadataOptions.State in EC2's responses."""
    if shape.type_name == "structure":
        members: Mapping[str, Shape] = shape.members  # type: ignore[attr-defined]
        known = {key: drop_unknown_keys(inner, members[key]) for key, inner in value.items() if key in members}
        return {key: inner for key, inner in known.items() if inner not in ([], {}, None)}
    if shape.type_name == "list":
        return [drop_unknown_keys(inner, shape.member) for inner in value]  # type: ignore[attr-defined]
    return value
