"""Simulates spot fleets after launch: replacing machines, scaling in, expiring, and recording the history.

Moto launches a fleet's machines once and does nothing afterward.
"""

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
    """Advance all fleets in a region's EC2 backend by one step."""
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
    """Cancel a fleet whose ValidUntil has passed."""
    config = get_fleet_ledger(fleet).request_config
    if fleet.state == "active" and "ValidUntil" in config and convert_to_naive_utc(config["ValidUntil"]) <= utcnow():
        cancel_fleet(fleet, bool(config.get("TerminateInstancesWithExpiration")))


def balance_fleet(fleet: Any) -> None:
    """Launch a `maintain` fleet's missing machines. Terminate excess machines, newest first, if the policy says so."""
    if fleet.state != "active":
        return
    missing = fleet.target_capacity - sum_fulfilled_capacity(fleet)
    if missing > 0 and get_fleet_ledger(fleet).type == "maintain":
        fleet.create_spot_requests(missing)
    elif missing < 0 and get_fleet_ledger(fleet).excess_policy.lower() == "default":
        terminate_excess_instances(fleet, -missing)


def terminate_excess_instances(fleet: Any, excess: float) -> None:
    for request in reversed(list(fleet.spot_requests)):
        if get_request_weight(request) <= excess:
            excess -= get_request_weight(request)
            fleet.ec2_backend.terminate_instances([request.instance.id])


def record_instance_changes(fleet: Any) -> None:
    """Add launches and terminations since the last step to the fleet's history."""
    ledger = get_fleet_ledger(fleet)
    current = {request.instance.id: request.instance for request in fleet.spot_requests}
    for instance_id, instance in ledger.recorded_instances.items():
        if instance_id not in current:
            ledger.record_event("instanceChange", "terminated", instance_id, **build_instance_description(instance))
    for instance_id, instance in current.items():
        if instance_id not in ledger.recorded_instances:
            ledger.record_event("instanceChange", "launched", instance_id, **build_instance_description(instance))
    ledger.recorded_instances = current


def build_instance_description(instance: Any) -> dict[str, str]:
    return {
        "instanceType": str(instance.instance_type),
        "image": str(instance.image_id),
        "productDescription": "Linux/UNIX",
        "availabilityZone": str(instance.availability_zone),
    }


def update_fleet_status(fleet: Any) -> None:
    """Update a fleet's capacity and activity status, and mark a canceled fleet without machines as `cancelled`."""
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
