"""What a run costs: its machines' hours times what one costs. An estimate: the bill has more in it (data, logs)."""

from __future__ import annotations

from distributed_something.core.text import format_usd

COST_WARNING_SHARE = 0.8  # of MAX_COST
COST_REACHED_WARNING = (
    "MAX_COST is reached, {}: no new job is begun, those that run finish; the queue is kept, and startCluster goes on"
    " with it, in a run that may cost as much again"
)


def format_cost_so_far(cost: float, limit: float) -> str:
    """«about 7.90 of 10.00 USD»; `limit` 0: there is none."""
    return f"about {format_usd(cost)}{f' of {format_usd(limit)}' if limit else ''} USD"


def classify_cost(cost: float, limit: float) -> str:
    """Where the run is on its way to MAX_COST (`limit`; 0: there is none): «near» it from 80 % on, then «reached»."""
    if not limit or cost < COST_WARNING_SHARE * limit:
        return ""
    return "near" if cost < limit else "reached"


def format_cost_warning(cost: float, limit: float) -> str:
    """What is to be said of MAX_COST; nothing while it is far."""
    match classify_cost(cost, limit):
        case "near":
            return f"warning: {format_cost_so_far(cost, limit)} (MAX_COST): once it is reached, no new job is begun"
        case "reached":
            return COST_REACHED_WARNING.format(format_cost_so_far(cost, limit))
    return ""
