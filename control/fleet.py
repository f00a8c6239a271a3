"""The Spot Fleet: the Fleet file checked against the config, and the request that is made of both."""

from __future__ import annotations

import base64
import copy
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from control import model
from control.errors import AWSError, CloudError, InputError, code_of, doing
from control.files import read_json_object
from control.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client

LONGEST_RUN = timedelta(days=7)  # the fleet ends by itself after this, whatever happens to the monitor
AGENT_SHARE = 0.08  # of a machine's memory, what the system and the ECS agent keep: 3 to 8 % is seen
_PLACEHOLDERS = ("FILL_IN", "XXXX", "NNNN", "123456789123", "your-key")  # the shipped file's and the published file's
_SET_BY_CONFIG = ("SpotPrice", "TargetCapacity", "ValidFrom", "ValidUntil", "ClientToken")
_ACTIVE = {"submitted", "active", "modifying"}
_MISSING = {"InvalidSpotFleetRequestId.NotFound", "InvalidSpotFleetRequestId.Malformed"}


@dataclass(frozen=True)
class FleetState:
    """The fleet's state in EC2's words, the machines it is to have, and those it has."""

    state: str
    target: int
    machines: tuple[str, ...]

    @property
    def active(self) -> bool:
        return self.state in _ACTIVE


def load(path: Path) -> dict[str, Any]:
    """The Fleet file `path`: a JSON object with one or more LaunchSpecifications; raises InputError."""
    fleet = read_json_object(path, "a fleet file")
    specifications = fleet.get("LaunchSpecifications")
    if not isinstance(specifications, list) or not specifications:
        raise InputError(path, "LaunchSpecifications", "there is none", "list one for each MACHINE_TYPE of the config")
    for number, specification in enumerate(specifications):
        _check_specification(path, f"LaunchSpecifications[{number}]", specification)
    if not isinstance(fleet.get("IamFleetRole"), str):
        raise InputError(path, "IamFleetRole", "this key is missing or no text", "give the fleet tagging role's ARN")
    return fleet


def check(fleet: dict[str, Any], path: Path, settings: Settings, ec2: EC2Client) -> None:
    """Holds the Fleet file against the config and botocore's model of the call; nothing is sent. Raises InputError."""
    for key, text in _texts(fleet, ""):
        found = next((mark for mark in _PLACEHOLDERS if mark in text), None)
        if found is not None:
            raise InputError(path, key, f"{text!r} is a placeholder", "put your account's own there")
    types, specifications = settings.MACHINE_TYPE, fleet["LaunchSpecifications"]
    if len(types) != len(specifications):
        wrong = f"there are {len(specifications)} for {len(types)} MACHINE_TYPE in the config"
        raise InputError(path, "LaunchSpecifications", wrong, "make them equal in number")
    shape = ec2.meta.service_model.operation_model("RequestSpotFleet").input_shape
    request = {"SpotFleetRequestConfig": request_of(fleet, settings, datetime.now(UTC), "check")}
    assert shape is not None  # RequestSpotFleet takes input
    fault = model.fault(request, shape)
    if fault is not None:
        raise InputError(path, *fault)


def check_memory(path: Path, settings: Settings, ec2: EC2Client) -> None:
    """Raises InputError where TASKS_PER_MACHINE containers of MEMORY or CPU_SHARES fit none of the machines.

    Sizes are looked up in EC2 (read only); without the right to do so the check is left out.
    """
    try:
        answer = ec2.describe_instance_types(InstanceTypes=settings.MACHINE_TYPE)  # type: ignore[arg-type]
    except ClientError as error:
        if code_of(error) == "InvalidInstanceType":
            right = f"{error.response['Error']['Message']}; correct MACHINE_TYPE"
            raise InputError(path, "MACHINE_TYPE", f"{settings.MACHINE_TYPE} is not known to EC2", right) from None
        return
    except AWSError:
        return
    memory = {one["InstanceType"]: one["MemoryInfo"]["SizeInMiB"] for one in answer["InstanceTypes"]}
    cpu = {one["InstanceType"]: one["VCpuInfo"]["DefaultVCpus"] * 1024 for one in answer["InstanceTypes"]}
    tasks = settings.TASKS_PER_MACHINE
    if memory and all(settings.MEMORY * tasks > int(size * (1 - AGENT_SHARE)) for size in memory.values()):
        most = max(memory.values())
        wrong = f"{tasks} x {settings.MEMORY} MiB fit none of the machines (largest: {most} MiB)"
        raise InputError(path, "MEMORY", wrong, f"at most {int(most * (1 - AGENT_SHARE)) // tasks} fits")
    if cpu and all(settings.CPU_SHARES * tasks > size for size in cpu.values()):
        wrong = f"{tasks} x {settings.CPU_SHARES} fit none of the machines (largest: {max(cpu.values())})"
        raise InputError(path, "CPU_SHARES", wrong, f"at most {max(cpu.values()) // tasks} fits")


def request_of(fleet: dict[str, Any], settings: Settings, now: datetime, token: str) -> dict[str, Any]:
    """The SpotFleetRequestConfig: the Fleet file, with all that the config decides.

    `token` makes the request idempotent: EC2 answers a repeated one with the same fleet.
    """
    request: dict[str, Any] = {
        "Type": "maintain",
        "AllocationStrategy": "priceCapacityOptimized",
        "TerminateInstancesWithExpiration": True,
    }
    request |= {key: value for key, value in copy.deepcopy(fleet).items() if key not in _SET_BY_CONFIG}
    request |= {
        "TargetCapacity": settings.CLUSTER_MACHINES,
        "SpotPrice": format(Decimal(str(settings.MACHINE_PRICE)), "f"),
        "ValidUntil": now.replace(microsecond=0) + LONGEST_RUN,
        "ClientToken": token,
        "TagSpecifications": [{"ResourceType": "spot-fleet-request", "Tags": _tags(settings)}],
    }
    for machine_type, specification in zip(settings.MACHINE_TYPE, request["LaunchSpecifications"], strict=False):
        _fill(specification, machine_type, settings)
    return request


def request(ec2: EC2Client, config: dict[str, Any]) -> str:
    """Asks for the fleet; its id. Raises CloudError where EC2 refuses."""
    with doing("requesting the spot fleet"):
        return ec2.request_spot_fleet(SpotFleetRequestConfig=config)["SpotFleetRequestId"]  # type: ignore[arg-type]


def state(ec2: EC2Client, fleet_id: str) -> FleetState | None:
    """What the fleet is and which machines it has now; None where EC2 does not know it (any more)."""
    try:
        found = ec2.describe_spot_fleet_requests(SpotFleetRequestIds=[fleet_id])["SpotFleetRequestConfigs"]
        if not found:
            return None
        machines = tuple(_machines(ec2, fleet_id))
    except ClientError as error:
        if code_of(error) in _MISSING:
            return None
        raise
    config = found[0]["SpotFleetRequestConfig"]
    return FleetState(str(found[0]["SpotFleetRequestState"]), config["TargetCapacity"], machines)


def running(ec2: EC2Client, app_name: str) -> tuple[str, float] | None:
    """Id and start (seconds since 1970) of a fleet of this app that is still active, by its tag; None without."""
    with doing("looking for a fleet that runs already"):
        for page in ec2.get_paginator("describe_spot_fleet_requests").paginate():
            for found in page["SpotFleetRequestConfigs"]:
                tags = found.get("Tags") or [
                    tag
                    for group in found["SpotFleetRequestConfig"].get("TagSpecifications", [])
                    for tag in group.get("Tags", [])
                ]
                ours = any(tag.get("Key") == "app" and tag.get("Value") == app_name for tag in tags)
                if ours and found["SpotFleetRequestState"] in _ACTIVE:
                    return found["SpotFleetRequestId"], found["CreateTime"].timestamp()
    return None


def lower_target(ec2: EC2Client, fleet_id: str, target: int) -> None:
    """Lets the fleet shrink to `target` as its machines end; none that runs is ended for it."""
    ec2.modify_spot_fleet_request(
        SpotFleetRequestId=fleet_id, TargetCapacity=target, ExcessCapacityTerminationPolicy="noTermination"
    )


def cancel(ec2: EC2Client, fleet_id: str) -> FleetState | None:
    """Ends the fleet and its machines; what it was, or None where there is nothing (any more) to end. Raises CloudError
    where EC2 will not."""
    found = state(ec2, fleet_id)
    if found is None or found.state == "cancelled" or (not found.active and not found.machines):
        return None
    if found.state != "cancelled_terminating":
        answer = ec2.cancel_spot_fleet_requests(SpotFleetRequestIds=[fleet_id], TerminateInstances=True)
        refused = answer.get("UnsuccessfulFleetRequests") or []
        if refused:
            raise CloudError(f"EC2 does not cancel it: {refused[0].get('Error', {}).get('Message', 'no reason given')}")
    return found


def troubles(ec2: EC2Client, fleet_id: str, since: datetime) -> list[str]:
    """What the fleet reports as errors since then, in EC2's words; nothing where the history cannot be had."""
    try:
        records = ec2.describe_spot_fleet_request_history(
            SpotFleetRequestId=fleet_id, StartTime=since, EventType="error"
        )["HistoryRecords"]
    except AWSError:
        return []
    told = []
    for record in records:
        event = record["EventInformation"]
        told.append(f"{event.get('EventSubType', 'error')}: {event.get('EventDescription', '')}")
    return list(dict.fromkeys(told))


def user_data(settings: Settings) -> str:
    """What a machine runs when it starts: it joins the run's cluster, and drains when spot takes it away."""
    lines = [
        "#!/bin/bash",
        f"echo ECS_CLUSTER={settings.ECS_CLUSTER} >> /etc/ecs/ecs.config",
        "echo ECS_ENABLE_SPOT_INSTANCE_DRAINING=true >> /etc/ecs/ecs.config",
        "echo ECS_CONTAINER_STOP_TIMEOUT=110s >> /etc/ecs/ecs.config",
    ]
    return base64.b64encode("\n".join([*lines, ""]).encode()).decode()


def _fill(specification: dict[str, Any], machine_type: str, settings: Settings) -> None:
    specification["InstanceType"] = machine_type
    specification["UserData"] = user_data(settings)
    specification["TagSpecifications"] = [
        {
            "ResourceType": "instance",
            "Tags": [{"Key": "Name", "Value": f"{settings.APP_NAME}Worker"}, *_tags(settings)],
        }
    ]
    for interface in specification.get("NetworkInterfaces", []):
        if interface.get("DeviceIndex", 0) == 0:
            interface["AssociatePublicIpAddress"] = settings.ASSIGN_IP
    volumes = [mapping["Ebs"] for mapping in specification.get("BlockDeviceMappings", []) if "Ebs" in mapping]
    if volumes:
        volumes[-1]["VolumeSize"] = (
            settings.EBS_VOL_SIZE
        )  # published files list the root first, the containers' disk last


def _tags(settings: Settings) -> list[dict[str, str]]:
    return [{"Key": "app", "Value": settings.APP_NAME}]


def _machines(ec2: EC2Client, fleet_id: str) -> Iterator[str]:
    token: dict[str, Any] = {}
    while True:
        answer = ec2.describe_spot_fleet_instances(SpotFleetRequestId=fleet_id, MaxResults=1000, **token)
        yield from (one["InstanceId"] for one in answer["ActiveInstances"])
        if not answer.get("NextToken"):
            return
        token = {"NextToken": answer["NextToken"]}


def _check_specification(path: Path, key: str, specification: object) -> None:
    if not isinstance(specification, dict):
        raise InputError(path, key, "this is no object", "write one launch specification: { … }")
    lists = {"NetworkInterfaces": dict, "BlockDeviceMappings": dict}
    for name, kind in lists.items():
        value = specification.get(name, [])
        if not isinstance(value, list) or not all(isinstance(one, kind) for one in value):
            raise InputError(path, f"{key}.{name}", "this is no list of objects", "write [{ … }]")
    for mapping in specification.get("BlockDeviceMappings", []):
        if not isinstance(mapping.get("Ebs", {}), dict):
            raise InputError(path, f"{key}.BlockDeviceMappings.Ebs", "this is no object", "write { … }")


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
