"""The estimated cost of a run: machine-hours times the current spot price.

The actual bill is higher, because it also includes disks, public addresses, data transfer, storage, and logs.
"""

from __future__ import annotations

from enum import Enum

from distributed_something.core.text import MIN_SHOWN_USD, format_cost, format_usd

COST_WARNING_SHARE = 0.8  # fraction of MAX_COST
COST_REACHED_WARNING = (
    "MAX_COST is reached ({}): running jobs will finish, but no new jobs will start. The queue is kept; startCluster"
    " continues with it in a new run, which may cost as much again"
)


class CostStage(Enum):
    """How close the cost is to MAX_COST. NEAR begins at COST_WARNING_SHARE × MAX_COST."""

    FAR = "far"
    NEAR = "near"
    REACHED = "reached"


def format_cost_so_far(cost: float, limit: float) -> str:
    """Return text such as "about 7.90 of 10.00 USD"; `limit` is 0 if there is no limit."""
    if 0 < limit < MIN_SHOWN_USD:  # such as in the local cloud
        return f"about {format_usd(cost)} of {format_usd(limit)} USD"
    about = "" if 0 < cost < MIN_SHOWN_USD else "about "  # "under 0.01" is not an estimate
    return f"{about}{format_cost(cost)}{f' of {format_cost(limit)}' if limit else ''} USD"


def classify_cost(cost: float, limit: float) -> CostStage:
    """Return how close `cost` is to MAX_COST (`limit`, USD; 0 if there is no limit)."""
    if not limit or cost < COST_WARNING_SHARE * limit:
        return CostStage.FAR
    return CostStage.NEAR if cost < limit else CostStage.REACHED


def format_cost_warning(cost: float, limit: float) -> str:
    """Return the warning about MAX_COST, or an empty string while the cost is far below MAX_COST."""
    match classify_cost(cost, limit):
        case CostStage.NEAR:
            return f"warning: {format_cost_so_far(cost, limit)}; no new jobs will start at MAX_COST"
        case CostStage.REACHED:
            return COST_REACHED_WARNING.format(format_cost_so_far(cost, limit))
        case CostStage.FAR:
            return ""
