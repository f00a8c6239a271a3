"""AWS's names for service-linked roles, which often differ from the names that moto derives from service addresses."""

from __future__ import annotations

from moto.iam.models import SERVICE_NAME_CONVERSION

SERVICE_ROLE_NAMES = {"spot": "EC2Spot", "spotfleet": "EC2SpotFleet", "ecs": "ECS", "events": "CloudWatchEvents"}


def patch_moto_iam() -> None:
    """Make moto use these names. Call this once per process."""
    SERVICE_NAME_CONVERSION.update(SERVICE_ROLE_NAMES)
