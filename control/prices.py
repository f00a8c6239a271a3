"""Spot prices: what a type costs now in each zone, and what it cost over the last week.

EC2 reports a price when it changes, so each report holds until the next one; the answer begins with the report that
held at the start of the time asked for.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from control.machines import TYPES_A_CALL, in_batches

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client

WEEK = timedelta(days=7)
PRODUCT = "Linux/UNIX"
REPORTS_A_CALL = 1000  # EC2's most; a type has about 30 a zone and week


@dataclass(frozen=True)
class Report:
    """`machine_type` costs `price` (USD an hour) in `zone` from `at` on."""

    machine_type: str
    zone: str
    price: float
    at: datetime


@dataclass(frozen=True)
class Market:
    """One type in one zone: USD an hour now, the least and the most of the week, and the share of the week (0 to 1)
    in which the price was above the bid."""

    machine_type: str
    zone: str
    now: float
    least: float
    most: float
    above: float


def look_up(ec2: EC2Client, names: Collection[str], zones: Collection[str], now: datetime) -> list[Report]:
    """The reports of the last week for these types, in these zones (none: all of the region). Raises botocore's
    errors."""
    filters = [{"Name": "availability-zone", "Values": sorted(set(zones))}] if zones else []
    found: list[Report] = []
    for some in in_batches(sorted(set(names)), TYPES_A_CALL):
        wanted: Any = {"InstanceTypes": some, "ProductDescriptions": [PRODUCT], "StartTime": now - WEEK, "EndTime": now}
        wanted |= {"Filters": filters} if filters else {}
        pages = ec2.get_paginator("describe_spot_price_history").paginate(
            **wanted, PaginationConfig={"PageSize": REPORTS_A_CALL}
        )
        found += [_report(one) for page in pages for one in page["SpotPriceHistory"]]
    return found


def markets(reports: Iterable[Report], bid: float, now: datetime) -> list[Market]:
    """One entry a type and zone, cheapest first."""
    grouped: dict[tuple[str, str], list[Report]] = defaultdict(list)
    for report in reports:
        grouped[report.machine_type, report.zone].append(report)
    return sorted((_market(some, bid, now) for some in grouped.values()), key=lambda one: (one.now, one.zone))


def _market(reports: list[Report], bid: float, now: datetime) -> Market:
    ordered = sorted(reports, key=lambda report: report.at)
    prices = [report.price for report in ordered]
    spans = list(_spans(ordered, now))
    whole = sum(seconds for _, seconds in spans)
    above = sum(seconds for price, seconds in spans if price > bid)
    share = above / whole if whole else float(prices[-1] > bid)
    last = ordered[-1]
    return Market(last.machine_type, last.zone, last.price, min(prices), max(prices), share)


def _spans(ordered: list[Report], now: datetime) -> Iterator[tuple[float, float]]:
    """(price, seconds within the last week for which it held)."""
    start = now - WEEK
    ends = [report.at for report in ordered[1:]] + [now]
    for report, end in zip(ordered, ends, strict=True):
        yield report.price, max(0.0, (end - max(report.at, start)).total_seconds())


def _report(told: Any) -> Report:
    return Report(told["InstanceType"], told["AvailabilityZone"], float(told["SpotPrice"]), told["Timestamp"])
