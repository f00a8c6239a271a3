"""The Spot Fleet as it lives in EC2: requested, looked at, lowered, ended. `fleet/request.py` builds the request."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from botocore.exceptions import ClientError

from distributed_something.aws.clients import EC2_PAGINATION
from distributed_something.aws.retry import retry_until_consistent
from distributed_something.core.aws_errors import AWSEvent, FleetProblem, list_fleet_problems
from distributed_something.core.errors import AWSError, CloudError, get_error_code, translate_aws_errors
from distributed_something.core.monitor_file import parse_run_start
from distributed_something.core.tags import parse_tags

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client


# What EC2 answers while not every part of it knows a launch template that was made a moment ago, or a version of it.
TEMPLATE_NOT_READY_CODES = (
    "InvalidLaunchTemplateId.NotFound",
    "InvalidLaunchTemplateId.NotFoundException",
    "InvalidLaunchTemplateId.VersionNotFound",
    "InvalidLaunchTemplateName.NotFound",
    "InvalidLaunchTemplateName.NotFoundException",
)
_TEMPLATE_NOT_READY_PHRASE = (
    "The specified launch template"  # RequestSpotFleet's code says only that its config is wrong
)
FLEET_HISTORY_SECONDS = 6 * 3600.0  # of the fleet's events
MAX_HISTORY_PAGES = 5  # of a thousand events of a kind; mostly there is one
_FAILURE_EVENT_KINDS = {
    "launchSpecUnusable",
    "launchSpecTemporarilyBlacklisted",
    "fleetProgressHalted",
}  # no errors to EC2
_ACTIVE_STATES = {"submitted", "active", "modifying"}
_ENDED_STATES = {"cancelled", "failed"}
_MISSING_FLEET_CODES = {"InvalidSpotFleetRequestId.NotFound", "InvalidSpotFleetRequestId.Malformed"}


@dataclass(frozen=True)
class FleetState:
    """The fleet's state in EC2's words, the machines it is to have, those it has, and the type of each of these."""

    state: str
    target: int
    machines: tuple[str, ...]
    types: tuple[str, ...] = ()

    @property
    def active(self) -> bool:
        return is_active_fleet_state(self.state)

    @property
    def lacks_machines(self) -> bool:
        return self.active and len(self.machines) < self.target


class ActiveFleet(NamedTuple):
    """A fleet that is active: its id, its run's start (seconds since 1970), and how many machines it is to have."""

    id: str
    start: float
    target: int


def has_fleet_ended(state: str) -> bool:
    """Return whether a fleet in this state of EC2's has no machines any more, and starts none."""
    return state in _ENDED_STATES


def is_active_fleet_state(state: str) -> bool:
    """Whether a fleet in this state of EC2's may start machines."""
    return state in _ACTIVE_STATES


def create_fleet(ec2: EC2Client, config: Any, sleep: Callable[[float], None]) -> str:
    """Asks for the fleet; its id. Raises CloudError where EC2 refuses; a template made just now may need a while."""
    with translate_aws_errors("requesting the spot fleet"):
        answer = retry_until_consistent(
            lambda: ec2.request_spot_fleet(SpotFleetRequestConfig=config),
            *TEMPLATE_NOT_READY_CODES,
            phrases=[_TEMPLATE_NOT_READY_PHRASE],
            sleep=sleep,
        )
    return str(answer["SpotFleetRequestId"])


def observe_fleet(ec2: EC2Client, fleet_id: str) -> FleetState | None:
    """What the fleet is and which machines it has now; None where EC2 does not know it (any more)."""
    try:
        found = ec2.describe_spot_fleet_requests(SpotFleetRequestIds=[fleet_id])["SpotFleetRequestConfigs"]
        if not found:
            return None
        machines = dict(_iter_machines(ec2, fleet_id))
    except ClientError as error:
        if get_error_code(error) in _MISSING_FLEET_CODES:
            return None
        raise
    config = found[0]["SpotFleetRequestConfig"]
    told = str(found[0]["SpotFleetRequestState"])
    return FleetState(told, config["TargetCapacity"], tuple(machines), tuple(machines.values()))


def iter_fleets(ec2: EC2Client) -> Iterator[Any]:
    """Yield EC2's descriptions of all fleets; ended ones too, which it shows for two days. Raises AWS's errors."""
    for page in ec2.get_paginator("describe_spot_fleet_requests").paginate():
        yield from page["SpotFleetRequestConfigs"]


def find_active_fleet(ec2: EC2Client, app_name: str) -> ActiveFleet | None:
    """A fleet of this app's runs that is still active, by its tags; None without."""
    with translate_aws_errors("looking for a fleet that runs already"):
        for found in iter_fleets(ec2):
            tags = get_fleet_tags(found)
            start = parse_run_start(tags.get("run", ""))  # EC2 makes the fleet seconds later
            if start is None or tags.get("app") != app_name:  # without a run it is not ours
                continue
            if is_active_fleet_state(found["SpotFleetRequestState"]):
                target = found["SpotFleetRequestConfig"]["TargetCapacity"]
                return ActiveFleet(found["SpotFleetRequestId"], start, target)
    return None


def get_fleet_tags(found: Any) -> dict[str, str]:
    """The tags of a fleet, as they are or as they were asked for."""
    asked = found["SpotFleetRequestConfig"].get("TagSpecifications", [])
    return parse_tags(found.get("Tags") or [tag for group in asked for tag in group.get("Tags", [])])


def set_fleet_target(ec2: EC2Client, fleet_id: str, target: int, on_demand: int) -> None:
    """Lets the fleet grow to `target`, or shrink to it as its machines end: none that runs is ended for it. Of these,
    `on_demand` are to be no spot machines, as far as there are so many."""
    found = ec2.describe_spot_fleet_requests(SpotFleetRequestIds=[fleet_id])["SpotFleetRequestConfigs"]
    now = found[0]["SpotFleetRequestConfig"].get("OnDemandTargetCapacity", 0) if found else 0
    request: Any = {
        "SpotFleetRequestId": fleet_id,
        "TargetCapacity": target,
        "ExcessCapacityTerminationPolicy": "noTermination",
    }
    wanted = min(max(now, on_demand), target)  # EC2: never more than the target
    if wanted != now:
        request["OnDemandTargetCapacity"] = wanted
    ec2.modify_spot_fleet_request(**request)


def cancel_fleet(ec2: EC2Client, fleet_id: str) -> FleetState | None:
    """Ends the fleet and its machines; what it was, or None where there is nothing (any more) to end. Raises CloudError
    where EC2 will not."""
    found = observe_fleet(ec2, fleet_id)
    if found is None or found.state == "cancelled" or (not found.active and not found.machines):
        return None
    if found.state != "cancelled_terminating":
        answer = ec2.cancel_spot_fleet_requests(SpotFleetRequestIds=[fleet_id], TerminateInstances=True)
        refused = answer.get("UnsuccessfulFleetRequests") or []
        if refused:
            raise CloudError(f"EC2 does not cancel it: {refused[0].get('Error', {}).get('Message', 'no reason given')}")
    return found


def list_launch_errors(ec2: EC2Client, fleet_id: str, start: float, now: float) -> Iterator[AWSEvent]:
    """What the fleet of a run that began at `start` reports of what keeps it from starting machines, at most of the
    last six hours. Raises AWS's errors.

    Mostly two calls: asked for all kinds of events at once, a large fleet would tell of its machines' launches alone.
    """
    since = datetime.fromtimestamp(max(start, now - FLEET_HISTORY_SECONDS), UTC)
    for kind in ("error", "information"):
        wanted = {"SpotFleetRequestId": fleet_id, "StartTime": since, "EventType": kind, "MaxResults": 1000}
        for event in map(_parse_event, _iter_history_records(ec2, wanted)):
            if kind == "error" or event.kind in _FAILURE_EVENT_KINDS:
                yield event


def _iter_history_records(ec2: EC2Client, wanted: dict[str, Any]) -> Iterator[Any]:
    """EC2 begins with the oldest, so what a fleet reports now may be pages later. botocore has no paginator for it."""
    token: dict[str, Any] = {}
    for _ in range(MAX_HISTORY_PAGES):
        answer = ec2.describe_spot_fleet_request_history(**wanted, **token)
        yield from answer["HistoryRecords"]
        if not answer.get("NextToken"):
            return
        token = {"NextToken": answer["NextToken"]}


def observe_fleet_problems(ec2: EC2Client, fleet_id: str, start: float, now: float) -> tuple[FleetProblem, ...]:
    """Return what keeps the fleet from starting machines, each cause once; nothing where AWS does not tell."""
    try:
        return list_fleet_problems(list_launch_errors(ec2, fleet_id, start, now))
    except AWSError:
        return ()


def _parse_event(record: Any) -> AWSEvent:
    told, at = record.get("EventInformation", {}), record.get("Timestamp")
    seconds = at.timestamp() if at else 0.0
    return AWSEvent(seconds, told.get("EventSubType") or "error", told.get("EventDescription") or "")


def _iter_machines(ec2: EC2Client, fleet_id: str) -> Iterator[tuple[str, str]]:
    """Id and type of each."""
    pages = ec2.get_paginator("describe_spot_fleet_instances").paginate(
        SpotFleetRequestId=fleet_id, PaginationConfig=EC2_PAGINATION
    )
    for page in pages:
        yield from ((machine["InstanceId"], machine.get("InstanceType", "")) for machine in page["ActiveInstances"])
