"""Spot Fleet features that moto lacks, patched into its classes: defaults, network interfaces, cancellation, history.

Moto launches a fleet's machines once and forgets the request. Here, every fleet has a ledger (type, policy, events) and
continues to exist after it is canceled, as in EC2. `fleets.py` simulates how fleets change over time.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from moto.core.responses import ActionResult
from moto.core.utils import utcnow
from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models.spot_requests import SpotFleetRequest, SpotRequestBackend
from moto.ec2.responses.spot_fleets import SpotFleets
from moto.ec2.utils import filter_dict_attribute_mapping

_original_request_spot_fleet = SpotFleets.request_spot_fleet
_original_config: Callable[[SpotFleetRequest], dict[str, Any]] = vars(SpotFleetRequest)[
    "spot_fleet_request_config"
].fget
_original_init = SpotFleetRequest.__init__
MethodReplacer = Callable[..., None]
"""Signature of `replace_methods`."""

REMEMBERED_KEYS = ("LaunchTemplateConfigs", "OnDemandTargetCapacity", "ValidUntil", "TerminateInstancesWithExpiration")


@dataclass
class FleetLedger:
    """Fleet data that EC2 keeps but moto does not."""

    type: str = "maintain"
    excess_policy: str = "default"
    request_config: dict[str, Any] = field(default_factory=dict)
    """Parts of the request that moto drops but DescribeSpotFleetRequests must return."""
    events: list[dict[str, Any]] = field(default_factory=list)
    state: str = ""
    recorded_instances: dict[str, Any] = field(default_factory=dict)
    """Instances, keyed by ID, whose launch is already in the history and whose termination is not."""

    def record_event(self, event_type: str, sub_type: str, instance_id: str = "", **description: str) -> None:
        """Add an event with the current time, in the format of DescribeSpotFleetRequestHistory."""
        information = {"EventSubType": sub_type, "EventDescription": json.dumps(description) if description else None}
        if instance_id:
            information["InstanceId"] = instance_id
        self.events.append({"EventInformation": information, "EventType": event_type, "Timestamp": utcnow()})


def get_request_weight(request: Any) -> float:
    """Return the capacity that one spot request adds to its fleet."""
    return float(request.launch_spec.weighted_capacity) if request.launch_spec else 1.0


def sum_fulfilled_capacity(fleet: SpotFleetRequest) -> float:
    return sum(get_request_weight(request) for request in fleet.spot_requests)


def get_fleet_ledger(fleet: SpotFleetRequest) -> FleetLedger:
    """Return a fleet's ledger. Create it if it does not exist, for example, for a fleet from CloudFormation."""
    if not hasattr(fleet, "ledger"):
        fleet.ledger = FleetLedger()  # type: ignore[attr-defined]
        fleet.create_time = utcnow()  # type: ignore[attr-defined]
    ledger: FleetLedger = fleet.ledger  # type: ignore[attr-defined]
    return ledger


def patch_moto_ec2(replace: MethodReplacer) -> None:
    """Patch moto with the functions in this module. Call this once per process."""
    filter_dict_attribute_mapping["iam-instance-profile.arn"] = "iam_instance_profile"
    replace(SpotFleets, request_spot_fleet, cancel_spot_fleet_requests, describe_spot_fleet_request_history)
    replace(SpotRequestBackend, modify_spot_fleet_request)
    replace(SpotFleetRequest, create_spot_requests, get_launch_spec_counts)
    replace(
        SpotFleetRequest,
        __init__=initialize_fleet_request,
        spot_fleet_request_config=property(spot_fleet_request_config),
    )


def replace_methods(owner: type, *functions: Callable[..., Any], **named: Any) -> None:
    """Replace methods of a class. Each function replaces the method with its own name or with its keyword's name."""
    for name, function in {**{function.__name__: function for function in functions}, **named}.items():
        setattr(owner, name, function)


def request_spot_fleet(self: SpotFleets) -> ActionResult:
    config = self._get_param("SpotFleetRequestConfig", {})
    config.setdefault("AllocationStrategy", "lowestPrice")
    remembered = {key: config[key] for key in REMEMBERED_KEYS if config.get(key)}
    if config.get("LaunchTemplateConfigs"):
        config["LaunchSpecifications"] = list(
            iter_launch_specifications(self.ec2_backend, config.pop("LaunchTemplateConfigs"))
        )
    result: Any = _original_request_spot_fleet(self)
    fleet = self.ec2_backend.spot_fleet_requests[result.result["SpotFleetRequestId"]]
    get_fleet_ledger(fleet).type = config.get("Type", "maintain")
    get_fleet_ledger(fleet).excess_policy = config.get("ExcessCapacityTerminationPolicy", "default")
    get_fleet_ledger(fleet).request_config = remembered
    return ActionResult(result.result)


def iter_launch_specifications(backend: Any, configs: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield a launch specification for each override of each launch template.

    Moto itself uses only the first template, and always its newest version.
    """
    for config in configs:
        specification = config["LaunchTemplateSpecification"]
        if "LaunchTemplateId" in specification:
            template = backend.get_launch_template(specification["LaunchTemplateId"])
        else:
            template = backend.get_launch_template_by_name(specification["LaunchTemplateName"])
        data = template.get_version(specification.get("Version", "$Default")).data
        groups = [{"GroupId": group} for group in data.get("SecurityGroupIds") or []]
        for override in config.get("Overrides") or [{}]:
            yield {**copy.deepcopy(data), **({"SecurityGroups": groups} if groups else {}), **override}


def initialize_fleet_request(self: SpotFleetRequest, *args: Any, **kwargs: Any) -> None:
    for spec in kwargs.get("launch_specs") or []:
        normalize_network(spec)
    _original_init(self, *args, **kwargs)


def normalize_network(spec: dict[str, Any]) -> None:
    """Copy the first network interface's subnet and groups to where moto reads them. Keep only the first subnet."""
    interface: dict[str, Any] = next(iter(spec.get("NetworkInterfaces") or []), {})
    subnet = spec.get("SubnetId") or interface.get("SubnetId")
    if subnet:
        spec["SubnetId"] = subnet.split(",")[0].strip()
    groups = [group.get("GroupId") for group in spec.get("SecurityGroups") or [] if isinstance(group, dict)]
    if groups or interface.get("Groups"):
        spec["SecurityGroups"] = groups or interface["Groups"]


def get_launch_spec_counts(self: SpotFleetRequest, missing: float) -> tuple[dict[Any, int], float]:
    """Return how many machines to launch for each specification, and the capacity that they add.

    Moto's own method rounds incorrectly for weights other than 1.
    """
    specs = self.launch_specs
    if self.allocation_strategy != "diversified":
        specs = [min(specs, key=lambda spec: float(spec.spot_price or "inf"))]
    counts: dict[Any, int] = {}
    added = 0.0
    for number in range(math.ceil(missing) if missing > 0 else 0):
        if added >= missing:
            break
        spec = specs[number % len(specs)]
        counts[spec] = counts.get(spec, 0) + 1
        added += spec.weighted_capacity
    return counts, added


def create_spot_requests(self: SpotFleetRequest, missing: float) -> None:
    for spec, count in self.get_launch_spec_counts(missing)[0].items():
        self.spot_requests += self.spot_backend.request_spot_instances(
            price=spec.spot_price,
            image_id=spec.image_id,
            count=count,
            spot_instance_type="persistent",
            valid_from=None,
            valid_until=None,
            launch_group=None,
            availability_zone_group=None,
            key_name=spec.key_name,
            security_groups=spec.group_set,
            user_data=spec.user_data,
            instance_type=spec.instance_type,
            placement=None,
            kernel_id=None,
            ramdisk_id=None,
            monitoring_enabled=spec.monitoring_enabled,
            subnet_id=spec.subnet_id,
            spot_fleet_id=self.id,
            tags=spec.tag_specifications,
            launch_spec=spec,
        )
    self.fulfilled_capacity = sum_fulfilled_capacity(self)


def spot_fleet_request_config(self: SpotFleetRequest) -> dict[str, Any]:
    ledger = get_fleet_ledger(self)
    config = {
        **_original_config(self),
        "Type": ledger.type,
        "ExcessCapacityTerminationPolicy": ledger.excess_policy,
        **ledger.request_config,
    }
    if "LaunchTemplateConfigs" in ledger.request_config:
        del config["LaunchSpecifications"]
    return config


def get_existing_fleet(backend: Any, fleet_id: str) -> Any:
    """Return a fleet. Raise EC2ClientError if it does not exist."""
    fleet = backend.spot_fleet_requests.get(fleet_id)
    if fleet is None:
        problem = f"The spot fleet request ID '{fleet_id}' does not exist"
        raise EC2ClientError("InvalidSpotFleetRequestId.NotFound", problem)
    return fleet


def modify_spot_fleet_request(self: Any, fleet_id: str, target_capacity: int | None, policy: str) -> None:
    """Set the new target. The next simulation step launches or terminates machines."""
    fleet = get_existing_fleet(self, fleet_id)
    if target_capacity is not None and target_capacity < 0:
        raise EC2ClientError("InvalidParameterValue", "Target capacity must not be negative")
    if fleet.state != "active":
        raise EC2ClientError(
            "InvalidSpotFleetRequestState", f"Fleet {fleet_id} is {fleet.state} and cannot be modified"
        )
    if get_fleet_ledger(fleet).type != "maintain":
        problem = f"Fleet Request: {fleet_id} is not a modifiable fleet request type."
        raise EC2ClientError("FleetNotInModifiableState", problem)
    if target_capacity is not None:
        fleet.target_capacity = target_capacity
    get_fleet_ledger(fleet).excess_policy = policy
    get_fleet_ledger(fleet).record_event(
        "fleetRequestChange", "modify_succeeded", targetCapacity=str(fleet.target_capacity)
    )


def cancel_spot_fleet_requests(self: SpotFleets) -> ActionResult:
    terminate = self._get_bool_param("TerminateInstances")
    successful: list[dict[str, str]] = []
    unsuccessful: list[dict[str, Any]] = []
    for fleet_id in self._get_param("SpotFleetRequestIds", []):
        try:
            fleet = get_existing_fleet(self.ec2_backend, fleet_id)
        except EC2ClientError as error:
            reason = {"Code": "fleetRequestIdDoesNotExist", "Message": str(error)}
            unsuccessful.append({"SpotFleetRequestId": fleet_id, "Error": reason})
            continue
        previous_state = fleet.state
        cancel_fleet(fleet, bool(terminate))
        successful.append(
            {
                "SpotFleetRequestId": fleet_id,
                "PreviousSpotFleetRequestState": previous_state,
                "CurrentSpotFleetRequestState": fleet.state,
            }
        )
    return ActionResult({"SuccessfulFleetRequests": successful, "UnsuccessfulFleetRequests": unsuccessful})


def cancel_fleet(fleet: Any, terminate: bool) -> None:
    """Cancel a fleet, so that it launches no more machines. If `terminate` is true, terminate its machines."""
    if fleet.state != "cancelled":
        fleet.state = "cancelled_terminating" if terminate else "cancelled_running"
    if terminate and fleet.spot_requests:
        fleet.ec2_backend.terminate_instances([request.instance.id for request in fleet.spot_requests])


def describe_spot_fleet_request_history(self: SpotFleets) -> ActionResult:
    fleet_id = self._get_param("SpotFleetRequestId")
    start, event_type = self._get_param("StartTime"), self._get_param("EventType")
    events = get_fleet_ledger(get_existing_fleet(self.ec2_backend, fleet_id)).events
    since = convert_to_naive_utc(start) if start else datetime.min
    records = [event for event in events if event["Timestamp"] >= since and event_type in (None, event["EventType"])]
    return ActionResult(
        {
            "SpotFleetRequestId": fleet_id,
            "StartTime": start,
            "LastEvaluatedTime": utcnow(),
            "HistoryRecords": records,
        }
    )


def convert_to_naive_utc(moment: datetime | str) -> datetime:
    """Return a time as a UTC datetime without a time zone, the format that moto uses."""
    parsed = datetime.fromisoformat(moment) if isinstance(moment, str) else moment
    return parsed.replace(tzinfo=None) - (parsed.utcoffset() or timedelta())
