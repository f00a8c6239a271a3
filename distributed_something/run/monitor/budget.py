"""What a run costs: its machines' hours times what one costs. An estimate: the bill has more in it (data, logs)."""

from __future__ import annotations

from enum import Enum

from distributed_something.core.text import format_usd

COST_WARNING_SHARE = 0.8  # of MAX_COST
COST_REACHED_WARNING = (
    "MAX_COST is reached, {}: no new job is begun, those that run finish; the queue is kept, and startCluster goes on"
    " with it, in a run that may cost as much again"
)


class CostStage(Enum):
    """FAR from MAX_COST; NEAR it, from COST_WARNING_SHARE of it on; or it is REACHED."""

    FAR = "far"
    NEAR = "near"
    REACHED = "reached"


def format_cost_so_far(cost: float, limit: float) -> str:
    """«about 7.90 of 10.00 USD»; `limit` 0: there is none."""
    return f"about {format_usd(cost)}{f' of {format_usd(limit)}' if limit else ''} USD"


def classify_cost(cost: float, limit: float) -> CostStage:
    """Return how far the run is on its way to MAX_COST (`limit`, USD; 0: there is none)."""
    if not limit or cost < COST_WARNING_SHARE * limit:
        return CostStage.FAR
    return CostStage.NEAR if cost < limit else CostStage.REACHED


def format_cost_warning(cost: float, limit: float) -> str:
    """Return what is to be said of MAX_COST; nothing while it is far."""
    match classify_cost(cost, limit):
        case CostStage.NEAR:
            return f"warning: {format_cost_so_far(cost, limit)} (MAX_COST): once it is reached, no new job is begun"
        case CostStage.REACHED:
            return COST_REACHED_WARNING.format(format_cost_so_far(cost, limit))
        case CostStage.FAR:
            return ""
