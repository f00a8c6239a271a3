"""Spot prices: the current price of an instance type in each zone, and its prices over the last week.

EC2 reports a price only when it changes, so each report is valid until the next one. A response begins with the report
that was valid at the start of the requested period. All lookups use `_request_reports`, with up to 100 types per call.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from statistics import mean
from typing import TYPE_CHECKING, Any

from distributed_something.aws.ec2_fleet import FleetState
from distributed_something.aws.instance_types import MACHINE_TYPES_PER_CALL
from distributed_something.worker import split_into_batches

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client


PRICE_REFRESH_SECONDS = 600.0  # spot prices change a few times a day
PRICE_HISTORY_PERIOD = timedelta(days=7)
SPOT_PRODUCT = "Linux/UNIX"
PRICE_REPORTS_PER_CALL = 1000  # EC2's maximum; a type has about 30 reports a week in each zone
MAX_PRICE_PAGES = 50  # for a batch of 100 types in all zones of a region, 20 are enough


@dataclass(frozen=True)
class PriceReport:
    """A price report: from `since` on, `machine_type` costs `price` (USD per hour) in `zone`."""

    machine_type: str
    zone: str
    price: float
    since: datetime


@dataclass(frozen=True)
class SpotMarket:
    """An instance type in a zone, with its current price and the week's lowest and highest prices, in USD per hour.

    `share_above_bid`: the share of the week (0 to 1) during which the price was above the bid.
    """

    machine_type: str
    zone: str
    now: float
    lowest: float
    highest: float
    share_above_bid: float


class SpotPriceCache:
    """The current spot prices of a run's instance types.

    Each type is looked up at most once every ten minutes, even if EC2 has no price for it. `fallback_price`: the price
    (USD per hour) to use for types that EC2 has no price for.
    """

    def __init__(self, fallback_price: float = 0.0) -> None:
        self._fallback_price = fallback_price
        self._prices: dict[str, float] = {}
        self._updated_at: dict[str, float] = {}

    def compute_hourly_cost(self, ec2: EC2Client, fleet: FleetState, now: float) -> float | None:
        """Return the cost of the fleet's instances in USD per hour; None if no price is available.

        AWS errors are not caught.
        """
        types = sorted({kind for kind in fleet.types if kind})
        due = [kind for kind in types if now - self._updated_at.get(kind, float("-inf")) >= PRICE_REFRESH_SECONDS]
        if due:
            self._prices |= list_spot_prices(ec2, due, now)
            self._updated_at |= dict.fromkeys(due, now)
        if not self._prices and not self._fallback_price:
            return None
        return sum(self._prices.get(kind, self._fallback_price) for kind in fleet.types)


def list_spot_prices(ec2: EC2Client, names: Collection[str], now: float) -> dict[str, float]:
    """Return the current price of each type in USD per hour, averaged over the region's zones.

    Types that EC2 has no price for are missing from the result. AWS errors are not caught.
    """
    newest: dict[str, dict[str, PriceReport]] = defaultdict(dict)
    for report in sorted(_request_reports(ec2, names, StartTime=datetime.fromtimestamp(now, UTC)), key=_get_time):
        newest[report.machine_type][report.zone] = report
    return {kind: mean(report.price for report in by_zone.values()) for kind, by_zone in newest.items()}


def list_price_reports(
    ec2: EC2Client, names: Collection[str], zones: Collection[str], now: datetime
) -> list[PriceReport]:
    """Return the last week's reports for these types in these zones.

    If no zones are given, return the reports for all zones in the region. AWS errors are not caught.
    """
    period = {"StartTime": now - PRICE_HISTORY_PERIOD, "EndTime": now}
    filters = {"Filters": [{"Name": "availability-zone", "Values": sorted(set(zones))}]} if zones else {}
    return list(_request_reports(ec2, names, **period, **filters))


def list_prices_between(
    ec2: EC2Client, names: Collection[str], start: float, end: float
) -> dict[tuple[str, str], list[PriceReport]]:
    """Return the reports that were valid between two times (seconds since 1970), oldest first, by type and zone.

    EC2 knows the prices of the last 90 days. AWS errors are not caught.
    """
    grouped: dict[tuple[str, str], list[PriceReport]] = defaultdict(list)
    period = {"StartTime": datetime.fromtimestamp(start, UTC), "EndTime": datetime.fromtimestamp(end, UTC)}
    for report in sorted(_request_reports(ec2, names, **period), key=_get_time):
        grouped[report.machine_type, report.zone].append(report)
    return dict(grouped)


def select_reports(reports: Sequence[PriceReport], start: float) -> Sequence[PriceReport]:
    """Return the reports from the one on that was valid at `start` (seconds since 1970). `reports`: oldest first."""
    earlier = [number for number, report in enumerate(reports) if report.since.timestamp() <= start]
    return reports[max(earlier, default=0) :]


def compute_mean_price(reports: Sequence[PriceReport], start: float, end: float) -> float | None:
    """Return the mean price in USD per hour between two times (seconds since 1970), weighted by time.

    `reports`: of one type in one zone, oldest first. None if there are none.
    """
    if not reports:
        return None
    since = [start, *(min(max(report.since.timestamp(), start), end) for report in reports[1:]), end]
    seconds = [second - first for first, second in pairwise(since)]
    if end <= start:
        return reports[0].price
    return sum(report.price * length for report, length in zip(reports, seconds, strict=True)) / (end - start)


def _request_reports(ec2: EC2Client, names: Collection[str], **parameters: Any) -> Iterator[PriceReport]:
    paginator = ec2.get_paginator("describe_spot_price_history")
    for batch in split_into_batches(sorted(set(names)), MACHINE_TYPES_PER_CALL):
        pages = paginator.paginate(
            InstanceTypes=batch,  # type: ignore[arg-type]
            ProductDescriptions=[SPOT_PRODUCT],
            PaginationConfig={"PageSize": PRICE_REPORTS_PER_CALL},
            **parameters,
        )
        for page in islice(pages, MAX_PRICE_PAGES):
            yield from map(_build_report, page["SpotPriceHistory"])


def _build_report(described: Any) -> PriceReport:
    return PriceReport(
        described["InstanceType"], described["AvailabilityZone"], float(described["SpotPrice"]), described["Timestamp"]
    )


def _get_time(report: PriceReport) -> datetime:
    return report.since


def build_spot_markets(reports: Iterable[PriceReport], bid: float, now: datetime) -> list[SpotMarket]:
    """Return one entry per type and zone, with the cheapest first."""
    grouped: dict[tuple[str, str], list[PriceReport]] = defaultdict(list)
    for report in reports:
        grouped[report.machine_type, report.zone].append(report)
    markets = [_build_market(group, bid, now) for group in grouped.values()]
    return sorted(markets, key=lambda market: (market.now, market.zone))


def _build_market(reports: list[PriceReport], bid: float, now: datetime) -> SpotMarket:
    ordered = sorted(reports, key=_get_time)
    prices = [report.price for report in ordered]
    spans = list(_iter_price_spans(ordered, now))
    total_seconds = sum(seconds for _, seconds in spans)
    seconds_above_bid = sum(seconds for price, seconds in spans if price > bid)
    share = seconds_above_bid / total_seconds if total_seconds else float(prices[-1] > bid)
    last = ordered[-1]
    return SpotMarket(last.machine_type, last.zone, last.price, min(prices), max(prices), share)


def _iter_price_spans(ordered: list[PriceReport], now: datetime) -> Iterator[tuple[float, float]]:
    """Yield each price with the number of seconds it was valid within the last week."""
    start = now - PRICE_HISTORY_PERIOD
    ends = [report.since for report in ordered[1:]] + [now]
    for report, end in zip(ordered, ends, strict=True):
        yield report.price, max(0.0, (end - max(report.since, start)).total_seconds())
