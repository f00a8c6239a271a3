"""The request for a Spot Fleet: the Fleet file combined with the values from the config. Nothing here calls AWS."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

from distributed_something.core.tags import build_tag_specifications
from distributed_something.fleet.launch_plan import LaunchPlan
from distributed_something.fleet.launch_specs import LAUNCH_TEMPLATE_CONFIGS_KEY, JsonObject

if TYPE_CHECKING:
    from distributed_something.core.config_settings import Settings

MAX_TOKEN_NAME_CHARACTERS = 40  # for APP_NAME in the ClientToken; EC2 accepts 64 in total
_KEYS_SET_BY_CONFIG = (
    "SpotPrice", "TargetCapacity", "OnDemandTargetCapacity", "ValidFrom", "ValidUntil", "ClientToken",
    "TerminateInstancesWithExpiration", "LaunchSpecifications", "LaunchTemplateConfigs", "TagSpecifications",
)  # fmt: skip


def build_fleet_request(settings: Settings, fleet: JsonObject, plan: LaunchPlan, start: datetime) -> JsonObject:
    """Return the SpotFleetRequestConfig for a run that starts at `start`, from which MAX_RUN_HOURS is counted.

    The ClientToken contains the run's name, so that EC2 returns the same fleet if the request is repeated.
    ReplaceUnhealthyInstances is set only if the Fleet file sets it: EC2 considers a machine unhealthy if a status check
    fails three times, which happens to a busy machine whose programs use all of its memory, and considers one healthy
    that does not join the cluster. The monitor replaces the latter (`run/monitor/unusable.py`). Besides, EC2 would
    require another permission of everybody who requests a fleet (ec2:DescribeInstanceStatus).
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
        # here EC2 accepts only this resource type:
        # https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_RequestSpotFleet.html
        "TagSpecifications": build_tag_specifications(
            fleet.get("TagSpecifications", ()), ["spot-fleet-request"], plan.tags
        ),
        LAUNCH_TEMPLATE_CONFIGS_KEY: plan.build_configs(),
    }


def format_spot_price(dollars: float) -> str:
    """Return the shortest decimal text for this number, without an exponent and without rounding."""
    return format(Decimal(str(dollars)), "f")
