"""Creates, observes, resizes, and cancels Spot Fleets. `fleet/request.py` builds the request.

Only this module calls EC2's API for Spot Fleets, which AWS calls legacy, so that another API can replace it (see
"Spot Fleet and EC2 Fleet" in docs/architecture.md).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from botocore.exceptions import ClientError

from distributed_something.aws.clients import EC2_PAGINATION
from distributed_something.aws.retry import retry_until_consistent
from distributed_something.core.aws_errors import FLEET_FAILURE_PATTERNS, AWSEvent, FailurePattern, find_failure_pattern
from distributed_something.core.errors import AWSError, CloudError, get_error_code, translate_aws_errors
from distributed_something.core.failures.remedies import format_remedy
from distributed_something.core.monitor_file import parse_run_start
from distributed_something.core.tags import parse_tags
from distributed_something.core.text import format_one_line

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client


# EC2's error codes for a launch template, or a version of one, that is so new that EC2 cannot find it yet.
TEMPLATE_NOT_READY_CODES = (
    "InvalidLaunchTemplateId.NotFound",
    "InvalidLaunchTemplateId.NotFoundException",
    "InvalidLaunchTemplateId.VersionNotFound",
    "InvalidLaunchTemplateName.NotFound",
    "InvalidLaunchTemplateName.NotFoundException",
)
# RequestSpotFleet reports the same problem, and roles and instance profiles that are too new, with these phrases; its
# error code means only that the request is invalid.
_NOT_READY_ERRORS = tuple(
    (code, phrase)
    for code in ("InvalidSpotFleetRequestConfig", "InvalidParameterValue")
    for phrase in ("The specified launch template", "IamFleetRole", "IAM Instance Profile")
)
_BUSY_CODE = "FleetNotInModifiableState"  # the previous change of the fleet is still in progress
FLEET_HISTORY_SECONDS = 6 * 3600.0  # how far back the fleet's events are read
MAX_HISTORY_PAGES = 5  # per kind of event; a page has up to 1,000 events, and one page is usually enough
# Events that keep a fleet from starting instances, although EC2 does not report them as errors.
_FAILURE_EVENT_KINDS = {"launchSpecUnusable", "launchSpecTemporarilyBlacklisted", "fleetProgressHalted"}
_ACTIVE_STATES = {"submitted", "active", "modifying"}
_ENDED_STATES = {"cancelled", "failed"}
_MISSING_FLEET_CODES = {"InvalidSpotFleetRequestId.NotFound", "InvalidSpotFleetRequestId.Malformed"}


@dataclass(frozen=True)
class FleetState:
    """A fleet's state as EC2 reports it, its target number of instances, and the ids and types of its instances."""

    state: str
    target: int
    machines: tuple[str, ...]
    types: tuple[str, ...] = ()

    @property
    def is_active(self) -> bool:
        return is_active_fleet_state(self.state)

    @property
    def has_missing_machines(self) -> bool:
        return self.is_active and len(self.machines) < self.target


class ActiveFleet(NamedTuple):
    """An active fleet: its id, the start of its run (seconds since 1970), and its target number of instances."""

    id: str
    start: float
    target: int


def has_fleet_ended(state: str) -> bool:
    """Return whether a fleet in this EC2 state has no instances left and will not start any."""
    return state in _ENDED_STATES


def is_active_fleet_state(state: str) -> bool:
    """Return whether a fleet in this EC2 state may start instances."""
    return state in _ACTIVE_STATES


def create_fleet(ec2: EC2Client, config: Any, sleep: Callable[[float], None]) -> str:
    """Request the fleet and return its id. Retry while EC2 cannot find a new launch template or role yet.

    Raise CloudError if the request fails.
    """
    with translate_aws_errors("requesting the spot fleet"):
        response = retry_until_consistent(
            lambda: ec2.request_spot_fleet(SpotFleetRequestConfig=config),
            *TEMPLATE_NOT_READY_CODES,
            *_NOT_READY_ERRORS,
            "InvalidGroup.NotFound",
            sleep=sleep,
        )
    return str(response["SpotFleetRequestId"])


def observe_fleet(ec2: EC2Client, fleet_id: str) -> FleetState | None:
    """Return the fleet's state and its instances; None if the fleet does not exist (anymore)."""
    try:
        fleet = describe_fleet(ec2, fleet_id)
        if fleet is None:
            return None
        types_by_id = dict(_iter_instance_types(ec2, fleet_id))
    except ClientError as error:
        if get_error_code(error) in _MISSING_FLEET_CODES:
            return None
        raise
    config = fleet["SpotFleetRequestConfig"]
    state = str(fleet["SpotFleetRequestState"])
    return FleetState(state, config["TargetCapacity"], tuple(types_by_id), tuple(types_by_id.values()))


def describe_fleet(ec2: EC2Client, fleet_id: str) -> Any | None:
    """Return EC2's description of the fleet; None if it lists none. AWS errors are not caught."""
    fleets = ec2.describe_spot_fleet_requests(SpotFleetRequestIds=[fleet_id])["SpotFleetRequestConfigs"]
    return fleets[0] if fleets else None


def iter_fleets(ec2: EC2Client) -> Iterator[Any]:
    """Yield EC2's description of each fleet, including fleets that ended in the last two days.

    AWS errors are not caught.
    """
    for page in ec2.get_paginator("describe_spot_fleet_requests").paginate():
        yield from page["SpotFleetRequestConfigs"]


def find_active_fleet(ec2: EC2Client, app_name: str) -> ActiveFleet | None:
    """Return an active fleet with this app's tags; None if there is none. Raise CloudError if the lookup fails."""
    with translate_aws_errors("looking for an active fleet"):
        for fleet in iter_fleets(ec2):
            tags = get_fleet_tags(fleet)
            start = parse_run_start(tags.get("run", ""))  # not the fleet's creation time, which is seconds later
            if start is None or tags.get("app") != app_name:  # without a run's start, it is not ours
                continue
            if is_active_fleet_state(fleet["SpotFleetRequestState"]):
                target = fleet["SpotFleetRequestConfig"]["TargetCapacity"]
                return ActiveFleet(fleet["SpotFleetRequestId"], start, target)
    return None


def get_fleet_tags(fleet: Any) -> dict[str, str]:
    """Return the tags in EC2's description of a fleet or, if it contains none, the tags in the fleet's request."""
    requested = fleet["SpotFleetRequestConfig"].get("TagSpecifications", [])
    return parse_tags(fleet.get("Tags") or [tag for group in requested for tag in group.get("Tags", [])])


def set_fleet_target(ec2: EC2Client, fleet_id: str, target: int, on_demand: int) -> None:
    """Set the fleet's target number of instances. A smaller target does not terminate running instances.

    `on_demand`: the minimum number of on-demand instances in the target. The fleet's on-demand target never decreases,
    unless it would exceed the target.
    """
    fleet = describe_fleet(ec2, fleet_id) or {}
    current = fleet.get("SpotFleetRequestConfig", {}).get("OnDemandTargetCapacity", 0)
    request: Any = {
        "SpotFleetRequestId": fleet_id,
        "TargetCapacity": target,
        "ExcessCapacityTerminationPolicy": "noTermination",
    }
    on_demand_target = min(max(current, on_demand), target)  # EC2 rejects a larger number than the target
    if on_demand_target != current:
        request["OnDemandTargetCapacity"] = on_demand_target
    ec2.modify_spot_fleet_request(**request)


def is_fleet_busy(error: BaseException) -> bool:
    """Return whether EC2 refused a change because the fleet's previous change is still in progress.

    Until then, EC2 still shows the old target.
    """
    return get_error_code(error) == _BUSY_CODE


def cancel_new_fleet(ec2: EC2Client, fleet_id: str, sleep: Callable[[float], None]) -> None:
    """Cancel a fleet that was requested a moment ago, and terminate its instances. AWS errors are not caught.

    Retry while EC2 cannot find the fleet or its tags, on which the permission depends.
    """

    missing_codes = (*_MISSING_FLEET_CODES, "fleetRequestIdDoesNotExist")
    retry_until_consistent(
        partial(request_cancellation, ec2, fleet_id), *missing_codes, until_allowed=True, sleep=sleep
    )


def request_cancellation(ec2: EC2Client, fleet_id: str) -> None:
    """Cancel the fleet and terminate its instances.

    AWS errors are not caught. A failure that EC2 reports inside a successful response is raised as ClientError too.
    """
    failure = _cancel_by_id(ec2, fleet_id)
    if failure is not None:
        raise ClientError({"Error": failure}, "CancelSpotFleetRequests")


def _cancel_by_id(ec2: EC2Client, fleet_id: str) -> Any | None:
    """Request the cancellation; return the error inside EC2's response, or None if there is none."""
    response: Any = ec2.cancel_spot_fleet_requests(SpotFleetRequestIds=[fleet_id], TerminateInstances=True)
    failures = response.get("UnsuccessfulFleetRequests") or []
    return failures[0].get("Error", {}) if failures else None


def cancel_fleet(ec2: EC2Client, fleet_id: str) -> FleetState | None:
    """Cancel the fleet and terminate its instances.

    Return the fleet's state before the cancellation, or None if there was nothing to cancel. Raise CloudError if EC2
    reports that it did not cancel the fleet. AWS errors are not caught.
    """
    fleet = observe_fleet(ec2, fleet_id)
    if fleet is None or fleet.state == "cancelled" or (not fleet.is_active and not fleet.machines):
        return None
    if fleet.state != "cancelled_terminating":
        failure = _cancel_by_id(ec2, fleet_id)
        if failure is not None:
            raise CloudError(f"EC2 did not cancel the fleet: {failure.get('Message', 'no reason given')}")
    return fleet


def list_launch_errors(ec2: EC2Client, fleet_id: str, start: float, now: float) -> Iterator[AWSEvent]:
    """Yield the events since the run's `start` that keep the fleet from starting instances.

    Events older than six hours are not read. Reading usually takes two calls, one per kind of event; if one call
    requested all kinds, a large fleet's launches would fill the response. AWS errors are not caught.
    """
    since = datetime.fromtimestamp(max(start, now - FLEET_HISTORY_SECONDS), UTC)
    for kind in ("error", "information"):
        request = {"SpotFleetRequestId": fleet_id, "StartTime": since, "EventType": kind, "MaxResults": 1000}
        for event in map(_parse_event, _iter_history_records(ec2, request)):
            if kind == "error" or event.kind in _FAILURE_EVENT_KINDS:
                yield event


def _iter_history_records(ec2: EC2Client, request: dict[str, Any]) -> Iterator[Any]:
    """Yield events from several pages, oldest first. botocore has no paginator for this call."""
    token: dict[str, Any] = {}
    for _ in range(MAX_HISTORY_PAGES):
        response = ec2.describe_spot_fleet_request_history(**request, **token)
        yield from response["HistoryRecords"]
        if not response.get("NextToken"):
            return
        token = {"NextToken": response["NextToken"]}


def observe_fleet_problems(ec2: EC2Client, fleet_id: str, start: float, now: float) -> tuple[FleetProblem, ...]:
    """Return the problems that keep the fleet from starting instances, one per cause; empty if a call fails."""
    try:
        return list_fleet_problems(list_launch_errors(ec2, fleet_id, start, now))
    except AWSError:
        return ()


def _parse_event(record: Any) -> AWSEvent:
    information, timestamp = record.get("EventInformation", {}), record.get("Timestamp")
    seconds = timestamp.timestamp() if timestamp else 0.0
    return AWSEvent(seconds, information.get("EventSubType") or "error", information.get("EventDescription") or "")


def _iter_instance_types(ec2: EC2Client, fleet_id: str) -> Iterator[tuple[str, str]]:
    """Yield the id and type of each instance in the fleet."""
    pages = ec2.get_paginator("describe_spot_fleet_instances").paginate(
        SpotFleetRequestId=fleet_id, PaginationConfig=EC2_PAGINATION
    )
    for page in pages:
        yield from ((instance["InstanceId"], instance.get("InstanceType", "")) for instance in page["ActiveInstances"])


@dataclass(frozen=True)
class FleetProblem:
    """A problem that keeps a fleet from starting machines: the first event that reports it, and its explanation.

    `pattern` is None if no pattern in the table matches the event.
    """

    event: AWSEvent
    pattern: FailurePattern | None

    @property
    def cause(self) -> Hashable:
        """Return a value that is the same for all events that report the same problem."""
        return self.pattern or (self.event.kind, self.event.message)


def list_fleet_problems(events: Iterable[AWSEvent]) -> tuple[FleetProblem, ...]:
    """Return the problems that a fleet's events report, one per cause."""
    problems: dict[Hashable, FleetProblem] = {}
    for event in events:
        pattern = find_failure_pattern(FLEET_FAILURE_PATTERNS, event.kind, event.message)
        problem = FleetProblem(event, pattern)
        problems.setdefault(problem.cause, problem)
    return tuple(problems.values())


def format_fleet_problem(problem: FleetProblem) -> str:
    """Return the cause, its remedy, and EC2's message on one line; for an unknown event, return only EC2's message."""
    message = format_one_line(f"{problem.event.kind}: {problem.event.message}")
    pattern = problem.pattern
    return f"{pattern.cause} — {format_remedy(pattern.remedy)} ({message})" if pattern else message
