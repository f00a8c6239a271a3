"""distributed_something.fleet.request."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

from distributed_something.core.monitor_file import build_run_name
from distributed_something.core.tags import build_tag_specifications, build_tags
from distributed_something.fleet.launch_specs import LAUNCH_TEMPLATE_CONFIGS_KEY, JsonObject, build_launch_specs

if TYPE_CHECKING:
    from distributed_something.core.config_settings import Settings

_KEYS_SET_BY_CONFIG = (
    "SpotPrice", "TargetCapacity", "OnDemandTargetCapacity", "ValidFrom", "ValidUntil", "ClientToken",
    "TerminateInstancesWithExpiration", "LaunchSpecifications", "LaunchTemplateConfigs", "TagSpecifications",
)  # fmt: skip


def build_fleet_request(
    fleet: JsonObject, settings: Settings, start: datetime, token: str, owner: str = ""
) -> JsonObject:
    """The SpotFleetRequestConfig: the Fleet file, with all that the config decides.

    `start`: of the run, which names it and from which its longest time counts. `token` makes the request idempotent:
    EC2 answers a repeated one with the same fleet. Each kind of machine is a version of the run's launch template.
    """
    marks = build_tags(settings, owner, build_run_name(start.timestamp()))
    request: JsonObject = {"Type": "maintain", "AllocationStrategy": "priceCapacityOptimized"}
    request |= {key: value for key, value in fleet.items() if key not in _KEYS_SET_BY_CONFIG}
    request |= {"OnDemandTargetCapacity": settings.ON_DEMAND_MACHINES} if settings.ON_DEMAND_MACHINES else {}
    return request | {
        "TargetCapacity": settings.CLUSTER_MACHINES,
        "SpotPrice": build_price_string(settings.MACHINE_PRICE),
        "ValidUntil": start.replace(microsecond=0) + timedelta(hours=settings.MAX_RUN_HOURS),
        "TerminateInstancesWithExpiration": True,
        "ClientToken": token,
        # EC2 takes no other kind here: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_RequestSpotFleet.html
        "TagSpecifications": build_tag_specifications(
            fleet.get("TagSpecifications", ()), ["spot-fleet-request"], marks
        ),
        LAUNCH_TEMPLATE_CONFIGS_KEY: list(_iter_template_configs(fleet, settings, build_template_name(marks))),
    }


def build_template_name(marks: Mapping[str, str]) -> str:
    """The name of the run's launch template; `marks`: the run's tags."""
    return f"{marks['app']}-{marks['run']}"


def build_price_string(dollars: float) -> str:
    """As the config says it: the shortest text that is this number, never with an exponent, never rounded."""
    return format(Decimal(str(dollars)), "f")


def _iter_template_configs(fleet: JsonObject, settings: Settings, name: str) -> Iterator[JsonObject]:
    """EC2 numbers a template's versions in the order in which they are made."""
    for number, kind in enumerate(build_launch_specs(fleet, settings), 1):
        version = {"LaunchTemplateName": name, "Version": str(number)}
        yield {"LaunchTemplateSpecification": version, "Overrides": kind.overrides}
