"""AWS's names of service-linked roles. Moto derives the names from the service's address, and they often differ."""

from __future__ import annotations

from moto.iam.models import SERVICE_NAME_CONVERSION

SERVICE_ROLE_NAMES = {"spot": "EC2Spot", "spotfleet": "EC2SpotFleet", "ecs": "ECS", "events": "CloudWatchEvents"}


def patch_moto_iam() -> None:
    """Add the names to moto. Call this once per process."""
    SERVICE_NAME_CONVERSION.update(SERVICE_ROLE_NAMES)
