"""Spot fleets kept true after moto has launched them: replaced, shrunk, told in their history."""

from __future__ import annotations

from typing import Any

from moto.core.utils import utcnow

from distributed_something.localcloud.emulators.moto_ec2 import (
    cancel_fleet,
    convert_to_naive_utc,
    get_fleet_ledger,
    get_request_weight,
    sum_fulfilled_capacity,
)


def update_fleets(backend: Any) -> None:
    """One step of all fleets of a region's EC2 backend."""
    for fleet in list(backend.spot_fleet_requests.values()):
        record_fleet_state(fleet)
        expire_fleet(fleet)
        balance_fleet(fleet)
        record_instance_changes(fleet)
        update_fleet_status(fleet)


def record_fleet_state(fleet: Any) -> None:
    ledger = get_fleet_ledger(fleet)
    if not ledger.state:
        ledger.record_event("fleetRequestChange", "submitted")
    if fleet.state != ledger.state:
        ledger.record_event("fleetRequestChange", fleet.state)
        ledger.state = fleet.state


def expire_fleet(fleet: Any) -> None:
    """Cancels a fleet whose ValidUntil is over."""
    asked = get_fleet_ledger(fleet).asked
    if fleet.state == "active" and "ValidUntil" in asked and convert_to_naive_utc(asked["ValidUntil"]) <= utcnow():
        cancel_fleet(fleet, bool(asked.get("TerminateInstancesWithExpiration")))


def balance_fleet(fleet: Any) -> None:
    """Launches what a `maintain` fleet lacks; ends the newest machines beyond the target, where its policy says so."""
    if fleet.state != "active":
        return
    have = sum_fulfilled_capacity(fleet)
    lacks = fleet.target_capacity - have
    if lacks > 0 and get_fleet_ledger(fleet).type == "maintain":
        fleet.create_spot_requests(lacks)
    elif lacks < 0 and get_fleet_ledger(fleet).excess_policy.lower() == "default":
        terminate_excess_instances(fleet, -lacks)


def terminate_excess_instances(fleet: Any, excess: float) -> None:
    for request in reversed(list(fleet.spot_requests)):
        if get_request_weight(request) <= excess:
            excess -= get_request_weight(request)
            fleet.ec2_backend.terminate_instances([request.instance.id])


def record_instance_changes(fleet: Any) -> None:
    """Launches and ends since the last step, as history."""
    ledger = get_fleet_ledger(fleet)
    now = {request.instance.id: request.instance for request in fleet.spot_requests}
    for instance_id, instance in ledger.known.items():
        if instance_id not in now:
            ledger.record_event("instanceChange", "terminated", instance_id, **build_instance_description(instance))
    for instance_id, instance in now.items():
        if instance_id not in ledger.known:
            ledger.record_event("instanceChange", "launched", instance_id, **build_instance_description(instance))
    ledger.known = now


def build_instance_description(instance: Any) -> dict[str, str]:
    return {
        "instanceType": str(instance.instance_type),
        "image": str(instance.image_id),
        "productDescription": "Linux/UNIX",
        "availabilityZone": str(instance.availability_zone),
    }


def update_fleet_status(fleet: Any) -> None:
    """Capacity, activity and the last state of a cancelled fleet."""
    fleet.fulfilled_capacity = sum_fulfilled_capacity(fleet)
    if fleet.state.startswith("cancelled_") and not fleet.spot_requests:
        fleet.state = "cancelled"
    fleet.activity_status = compute_activity_status(fleet)


def compute_activity_status(fleet: Any) -> str | None:
    if fleet.state == "cancelled_terminating" or fleet.fulfilled_capacity > fleet.target_capacity:
        return "pending_termination"
    if fleet.state != "active":
        return None
    return "fulfilled" if fleet.fulfilled_capacity >= fleet.target_capacity else "pending_fulfillment"
