"""The request for a Spot Fleet: the Fleet file, with all that the config decides. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

from distributed_something.core.tags import build_tag_specifications
from distributed_something.fleet.launch_plan import LaunchPlan
from distributed_something.fleet.launch_specs import LAUNCH_TEMPLATE_CONFIGS_KEY, JsonObject

if TYPE_CHECKING:
    from distributed_something.core.config_settings import Settings

MAX_TOKEN_NAME_CHARACTERS = 40  # of APP_NAME in the ClientToken; EC2 takes 64 characters in all
_KEYS_SET_BY_CONFIG = (
    "SpotPrice", "TargetCapacity", "OnDemandTargetCapacity", "ValidFrom", "ValidUntil", "ClientToken",
    "TerminateInstancesWithExpiration", "LaunchSpecifications", "LaunchTemplateConfigs", "TagSpecifications",
)  # fmt: skip


def build_fleet_request(fleet: JsonObject, settings: Settings, plan: LaunchPlan, start: datetime) -> JsonObject:
    """Return the SpotFleetRequestConfig of a run that begins at `start`, from which its longest time counts.

    Its ClientToken names the run: EC2 answers a repeated request with the same fleet.
    """
    request: JsonObject = {"Type": "maintain", "AllocationStrategy": "priceCapacityOptimized"}
    request |= {key: value for key, value in fleet.items() if key not in _KEYS_SET_BY_CONFIG}
    request |= {"OnDemandTargetCapacity": settings.ON_DEMAND_MACHINES} if settings.ON_DEMAND_MACHINES else {}
    return request | {
        "TargetCapacity": settings.CLUSTER_MACHINES,
        "SpotPrice": format_spot_price(settings.MACHINE_PRICE),
        "ValidUntil": start.replace(microsecond=0) + timedelta(hours=settings.MAX_RUN_HOURS),
        "TerminateInstancesWithExpiration": True,
        "ClientToken": f"{settings.APP_NAME[:MAX_TOKEN_NAME_CHARACTERS]}-{plan.tags['run']}",
        # EC2 takes no other kind here: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_RequestSpotFleet.html
        "TagSpecifications": build_tag_specifications(
            fleet.get("TagSpecifications", ()), ["spot-fleet-request"], plan.tags
        ),
        LAUNCH_TEMPLATE_CONFIGS_KEY: plan.build_configs(),
    }


def format_spot_price(dollars: float) -> str:
    """As the config says it: the shortest text that is this number, never with an exponent, never rounded."""
    return format(Decimal(str(dollars)), "f")
