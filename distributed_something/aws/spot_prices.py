"""Spot prices: what a type costs now in each zone, and what it cost over the last week.

EC2 reports a price when it changes, so each report holds until the next one; the answer begins with the report that
held at the start of the time asked for.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from distributed_something.aws.ec2_fleet import FleetState
from distributed_something.aws.instance_types import MACHINE_TYPES_PER_CALL
from distributed_something.worker import split_into_batches

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client


PRICE_REFRESH_SECONDS = 600.0  # spot prices change a few times a day


class SpotPriceCache:
    """The spot prices of a run's types, asked for now and then. `otherwise`: USD an hour where EC2 tells none."""

    def __init__(self, otherwise: float = 0.0) -> None:
        self._otherwise = otherwise
        self._asked_at = float("-inf")
        self._of: dict[str, float] = {}

    def hourly(self, ec2: EC2Client, fleet: FleetState, now: float) -> float | None:
        """USD an hour of all machines of the fleet; None where no price at all is known. Raises AWS's errors."""
        types = sorted({kind for kind in fleet.types if kind})
        if types and (now - self._asked_at >= PRICE_REFRESH_SECONDS or not self._of.keys() >= set(types)):
            self._of = self._of | list_spot_prices(ec2, types, now)
            self._asked_at = now
        if not self._of and not self._otherwise:
            return None
        return sum(self._of.get(kind, self._otherwise) for kind in fleet.types)


def list_spot_prices(ec2: EC2Client, types: list[str], now: float) -> dict[str, float]:
    """USD an hour now of each type, the mean over the region's zones. Types that EC2 tells no price of are left out."""
    found: dict[str, list[float]] = {}
    pages = ec2.get_paginator("describe_spot_price_history").paginate(
        InstanceTypes=types[:MACHINE_TYPES_PER_CALL],  # type: ignore[arg-type]
        ProductDescriptions=[SPOT_PRODUCT],
        StartTime=datetime.fromtimestamp(now, UTC),
    )
    for page in pages:
        for one in page["SpotPriceHistory"]:
            found.setdefault(one["InstanceType"], []).append(float(one["SpotPrice"]))
    return {kind: sum(prices) / len(prices) for kind, prices in found.items()}


PRICE_HISTORY_PERIOD = timedelta(days=7)
SPOT_PRODUCT = "Linux/UNIX"
PRICE_REPORTS_PER_CALL = 1000  # EC2's most; a type has about 30 a zone and week


@dataclass(frozen=True)
class PriceReport:
    """`machine_type` costs `price` (USD an hour) in `zone` from `at` on."""

    machine_type: str
    zone: str
    price: float
    at: datetime


@dataclass(frozen=True)
class SpotMarket:
    """One type in one zone: USD an hour now, the least and the most of the week, and the share of the week (0 to 1)
    in which the price was above the bid."""

    machine_type: str
    zone: str
    now: float
    least: float
    most: float
    above: float


def list_price_reports(
    ec2: EC2Client, names: Collection[str], zones: Collection[str], now: datetime
) -> list[PriceReport]:
    """The reports of the last week for these types, in these zones (none: all of the region). Raises botocore's
    errors."""
    filters = [{"Name": "availability-zone", "Values": sorted(set(zones))}] if zones else []
    found: list[PriceReport] = []
    for some in split_into_batches(sorted(set(names)), MACHINE_TYPES_PER_CALL):
        wanted: Any = {
            "InstanceTypes": some,
            "ProductDescriptions": [SPOT_PRODUCT],
            "StartTime": now - PRICE_HISTORY_PERIOD,
            "EndTime": now,
        }
        wanted |= {"Filters": filters} if filters else {}
        pages = ec2.get_paginator("describe_spot_price_history").paginate(
            **wanted, PaginationConfig={"PageSize": PRICE_REPORTS_PER_CALL}
        )
        found += [_build_report(one) for page in pages for one in page["SpotPriceHistory"]]
    return found


def build_spot_markets(reports: Iterable[PriceReport], bid: float, now: datetime) -> list[SpotMarket]:
    """One entry a type and zone, cheapest first."""
    grouped: dict[tuple[str, str], list[PriceReport]] = defaultdict(list)
    for report in reports:
        grouped[report.machine_type, report.zone].append(report)
    return sorted((_build_market(some, bid, now) for some in grouped.values()), key=lambda one: (one.now, one.zone))


def _build_market(reports: list[PriceReport], bid: float, now: datetime) -> SpotMarket:
    ordered = sorted(reports, key=lambda report: report.at)
    prices = [report.price for report in ordered]
    spans = list(_iter_price_spans(ordered, now))
    whole = sum(seconds for _, seconds in spans)
    above = sum(seconds for price, seconds in spans if price > bid)
    share = above / whole if whole else float(prices[-1] > bid)
    last = ordered[-1]
    return SpotMarket(last.machine_type, last.zone, last.price, min(prices), max(prices), share)


def _iter_price_spans(ordered: list[PriceReport], now: datetime) -> Iterator[tuple[float, float]]:
    """(price, seconds within the last week for which it held)."""
    start = now - PRICE_HISTORY_PERIOD
    ends = [report.at for report in ordered[1:]] + [now]
    for report, end in zip(ordered, ends, strict=True):
        yield report.price, max(0.0, (end - max(report.at, start)).total_seconds())


def _build_report(told: Any) -> PriceReport:
    return PriceReport(told["InstanceType"], told["AvailabilityZone"], float(told["SpotPrice"]), told["Timestamp"])
