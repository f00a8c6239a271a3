"""The names of service-linked roles, which moto derives from the service's address, and often not as AWS names them."""

from __future__ import annotations

from moto.iam.models import SERVICE_NAME_CONVERSION

SERVICE_ROLE_NAMES = {"spot": "EC2Spot", "spotfleet": "EC2SpotFleet", "ecs": "ECS", "events": "CloudWatchEvents"}


def patch_moto_iam() -> None:
    """Put them into moto, once per process."""
    SERVICE_NAME_CONVERSION.update(SERVICE_ROLE_NAMES)
