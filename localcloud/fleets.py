"""Spot fleets kept true after moto has launched them: replaced, shrunk, told in their history."""

from __future__ import annotations

from typing import Any

from moto.core.utils import utcnow

from .moto_ec2 import cancel, fulfilled, ledger, naive_utc, weight


def play_fleets(backend: Any) -> None:
    """One step of all fleets of a region's EC2 backend."""
    for fleet in list(backend.spot_fleet_requests.values()):
        tell_state(fleet)
        expire(fleet)
        balance(fleet)
        tell_instances(fleet)
        settle(fleet)


def tell_state(fleet: Any) -> None:
    book = ledger(fleet)
    if not book.state:
        book.tell("fleetRequestChange", "submitted")
    if fleet.state != book.state:
        book.tell("fleetRequestChange", fleet.state)
        book.state = fleet.state


def expire(fleet: Any) -> None:
    """Cancels a fleet whose ValidUntil is over."""
    asked = ledger(fleet).asked
    if fleet.state == "active" and "ValidUntil" in asked and naive_utc(asked["ValidUntil"]) <= utcnow():
        cancel(fleet, bool(asked.get("TerminateInstancesWithExpiration")))


def balance(fleet: Any) -> None:
    """Launches what a `maintain` fleet lacks; ends the newest machines beyond the target, where its policy says so."""
    if fleet.state != "active":
        return
    have = fulfilled(fleet)
    lacks = fleet.target_capacity - have
    if lacks > 0 and ledger(fleet).type == "maintain":
        fleet.create_spot_requests(lacks)
    elif lacks < 0 and ledger(fleet).excess_policy.lower() == "default":
        end_excess(fleet, -lacks)


def end_excess(fleet: Any, excess: float) -> None:
    for request in reversed(list(fleet.spot_requests)):
        if weight(request) <= excess:
            excess -= weight(request)
            fleet.ec2_backend.terminate_instances([request.instance.id])


def tell_instances(fleet: Any) -> None:
    """Launches and ends since the last step, as history."""
    book = ledger(fleet)
    now = {request.instance.id: request.instance for request in fleet.spot_requests}
    for instance_id in book.known.keys() - now.keys():
        book.tell("instanceChange", "terminated", instance_id, **description(book.known[instance_id]))
    for instance_id in now.keys() - book.known.keys():
        book.tell("instanceChange", "launched", instance_id, **description(now[instance_id]))
    book.known = now


def description(instance: Any) -> dict[str, str]:
    return {
        "instanceType": str(instance.instance_type),
        "image": str(instance.image_id),
        "productDescription": "Linux/UNIX",
        "availabilityZone": str(instance.availability_zone),
    }


def settle(fleet: Any) -> None:
    """Capacity, activity and the last state of a cancelled fleet."""
    fleet.fulfilled_capacity = fulfilled(fleet)
    if fleet.state.startswith("cancelled_") and not fleet.spot_requests:
        fleet.state = "cancelled"
    fleet.activity_status = activity(fleet)


def activity(fleet: Any) -> str | None:
    if fleet.state == "cancelled_terminating" or fleet.fulfilled_capacity > fleet.target_capacity:
        return "pending_termination"
    if fleet.state != "active":
        return None
    return "fulfilled" if fleet.fulfilled_capacity >= fleet.target_capacity else "pending_fulfillment"
