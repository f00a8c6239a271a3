"""What a run costs: its machines' hours times what one costs. An estimate: the bill has more in it (data, logs)."""

from __future__ import annotations

from datetime import UTC, datetime
from math import floor, log10
from typing import TYPE_CHECKING

from control.fleet import FleetState
from control.machines import TYPES_A_CALL
from control.prices import PRODUCT

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client

REFRESH_SECONDS = 600.0  # spot prices change a few times a day
WARN_SHARE = 0.8  # of MAX_COST
REACHED = (
    "MAX_COST is reached, {}: no new job is begun, those that run finish; the queue is kept, and startCluster goes on"
    " with it, in a run that may cost as much again"
)


class Prices:
    """The spot prices of a run's types, asked for now and then. `otherwise`: USD an hour where EC2 tells none."""

    def __init__(self, otherwise: float = 0.0) -> None:
        self._otherwise = otherwise
        self._asked_at = float("-inf")
        self._of: dict[str, float] = {}

    def hourly(self, ec2: EC2Client, fleet: FleetState, now: float) -> float | None:
        """USD an hour of all machines of the fleet; None where no price at all is known. Raises AWS's errors."""
        types = sorted({kind for kind in fleet.types if kind})
        if types and (now - self._asked_at >= REFRESH_SECONDS or not self._of.keys() >= set(types)):
            self._of = self._of | current(ec2, types, now)
            self._asked_at = now
        if not self._of and not self._otherwise:
            return None
        return sum(self._of.get(kind, self._otherwise) for kind in fleet.types)


def current(ec2: EC2Client, types: list[str], now: float) -> dict[str, float]:
    """USD an hour now of each type, the mean over the region's zones. Types that EC2 tells no price of are left out."""
    found: dict[str, list[float]] = {}
    pages = ec2.get_paginator("describe_spot_price_history").paginate(
        InstanceTypes=types[:TYPES_A_CALL],  # type: ignore[arg-type]
        ProductDescriptions=[PRODUCT],
        StartTime=datetime.fromtimestamp(now, UTC),
    )
    for page in pages:
        for one in page["SpotPriceHistory"]:
            found.setdefault(one["InstanceType"], []).append(float(one["SpotPrice"]))
    return {kind: sum(prices) / len(prices) for kind, prices in found.items()}


def usd(amount: float) -> str:
    """Three figures that count, and at least cents: 0.0312, 1.25, 1,250.00."""
    places = 2 if amount <= 0 else max(2, 2 - floor(log10(amount)))
    whole, _, rest = f"{amount:,.{places}f}".partition(".")
    return f"{whole}.{rest.rstrip('0'):0<2}"


def so_far(cost: float, limit: float) -> str:
    """«about 7.90 of 10.00 USD»; `limit` 0: there is none."""
    return f"about {usd(cost)}{f' of {usd(limit)}' if limit else ''} USD"


def stage(cost: float, limit: float) -> str:
    """Where the run is on its way to MAX_COST (`limit`; 0: there is none): «near» it from 80 % on, then «reached»."""
    if not limit or cost < WARN_SHARE * limit:
        return ""
    return "near" if cost < limit else "reached"


def warning(cost: float, limit: float) -> str:
    """What is to be said of MAX_COST; nothing while it is far."""
    match stage(cost, limit):
        case "near":
            return f"warning: {so_far(cost, limit)} (MAX_COST): once it is reached, no new job is begun"
        case "reached":
            return REACHED.format(so_far(cost, limit))
    return ""
