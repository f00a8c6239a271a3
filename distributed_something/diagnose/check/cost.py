"""Checks the limits and the cost of a run: ECS limits, spot quota, bid, and hourly cost."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from statistics import median
from typing import TYPE_CHECKING

from distributed_something.aws.instance_types import ECS_DEFAULT_LIMITS, MachineType, QuotaClass, find_quota_class
from distributed_something.aws.spot_prices import SpotMarket, build_spot_markets
from distributed_something.core.text import format_count, format_names, format_usd
from distributed_something.diagnose.check.findings import (
    Finding,
    FindingLevel,
    build_ok_finding,
    build_warning_finding,
    build_wrong_finding,
)
from distributed_something.diagnose.check.lookups import Lookups

if TYPE_CHECKING:
    from distributed_something.core.config_settings import Settings


# gp3 in us-east-1, aws.amazon.com/ebs/pricing, November 2026; up to twice as much in other regions
GP3_USD_PER_GIB_MONTH = 0.08
IPV4_USD_PER_HOUR = 0.005  # one public address, in any region, aws.amazon.com/vpc/pricing, November 2026
HOURS_PER_MONTH = 730
MAX_TYPES_SHOWN = 6
# The other JSON keys equal the attribute names.
_MARKET_JSON_KEYS = {"lowest": "least", "highest": "most", "share_above_bid": "above"}


def check_spot_quota(lookups: Lookups) -> Iterator[Finding]:
    """Compare the account's spot quota (in virtual CPUs) with the requested spot machines."""
    if lookups.spot_machines == 0:
        yield build_ok_finding("spot quota", "no spot machines requested")
        return
    has_on_demand = lookups.settings.ON_DEMAND_MACHINES > 0
    yield from judge_spot_quotas(
        lookups.spot_machines, lookups.types.value, lookups.quotas.value, has_on_demand=has_on_demand
    )


def check_ecs_limits(lookups: Lookups) -> Iterator[Finding]:
    """Compare the run's size with ECS's limits, which a run would hit only after requesting its fleet."""
    yield from judge_ecs_limits(lookups.settings.CLUSTER_MACHINES, lookups.settings.TASKS_PER_MACHINE)


def judge_ecs_limits(machines: int, tasks: int) -> Iterator[Finding]:
    """Compare the number of machines, with `tasks` tasks each, to ECS's default limits for a cluster and a service."""
    for (name, limit), needed in zip(ECS_DEFAULT_LIMITS.items(), (machines, machines * tasks), strict=True):
        if needed > limit:
            yield build_warning_finding(
                "ECS limits",
                f'{needed:,} exceeds AWS\'s default for "{name}" ({limit:,})',
                "check your limit under Service Quotas, Amazon ECS; if it is not higher, use fewer, larger machines "
                "and containers with more DOCKER_CORES",
                details={"quota": name, "default": limit, "needed": needed},
            )


def judge_spot_quotas(
    count: int, types: Mapping[str, MachineType], quotas: Mapping[QuotaClass, float], *, has_on_demand: bool = False
) -> Iterator[Finding]:
    """Compare `count` spot machines with the account's quotas.

    `quotas`: the account's quota, in virtual CPUs, for each class of machine types. `has_on_demand`: whether on-demand
    machines are requested. A quota that is too small gets only a warning if on-demand machines or another class of
    machine types can still start.
    """
    classes: dict[QuotaClass | None, list[MachineType]] = defaultdict(list)
    for name, machine_type in types.items():
        classes[find_quota_class(name)].append(machine_type)
    for quota_class, machine_types in classes.items():
        if quota_class is None or quota_class not in quotas:
            names = format_names([machine_type.name for machine_type in machine_types])
            yield build_warning_finding(
                "spot quota", f"unknown quota for {names}", "look it up under Service Quotas, Amazon EC2"
            )
        else:
            is_only_class = len(classes) == 1 and not has_on_demand
            yield _judge_quota_class(
                count, quota_class, machine_types, quotas[quota_class], is_only_class=is_only_class
            )


def _judge_quota_class(
    count: int, quota_class: QuotaClass, machine_types: list[MachineType], quota: float, *, is_only_class: bool
) -> Finding:
    smallest = min(machine_type.vcpus for machine_type in machine_types)
    largest = max(machine_type.vcpus for machine_type in machine_types)
    message = f'the quota "{quota_class.name}" is {quota:,.0f} virtual CPUs'
    remedy = f"request more ({quota_class.code}) under Service Quotas, Amazon EC2; this may take a day"
    details = {"code": quota_class.code, "value": quota, "needed": count * largest}
    if quota < smallest:
        message += f": no spot machine can start (the smallest type needs {smallest})"
        level = FindingLevel.WRONG if is_only_class else FindingLevel.WARNING
        return Finding(level, "spot quota", message, remedy, details=details)
    if quota < count * smallest:
        return build_warning_finding(
            "spot quota",
            f"{message}: enough for {quota // smallest:.0f} of {count} machines",
            f"{remedy}; or lower CLUSTER_MACHINES",
            details=details,
        )
    if quota < count * largest:
        return build_warning_finding(
            "spot quota",
            f"{message}: enough for {quota // largest:.0f} of {count} machines of the largest type "
            f"({largest} virtual CPUs)",
            remedy,
            details=details,
        )
    return build_ok_finding(
        "spot quota",
        f"{message}; this run needs up to {count * largest:,} (the account's other spot machines count too)",
        details=details,
    )


def check_bid(lookups: Lookups) -> Iterator[Finding]:
    """Compare MACHINE_PRICE with spot prices, unless only on-demand machines are requested."""
    if lookups.spot_machines == 0:
        return
    markets = build_spot_markets(lookups.prices.value, lookups.settings.MACHINE_PRICE, lookups.now)
    yield from judge_bid(lookups.settings.MACHINE_PRICE, markets)
    unpriced_types = sorted(lookups.types.value.keys() - {market.machine_type for market in markets})
    if unpriced_types:
        yield build_warning_finding(
            "bid",
            f"no spot price in the last week for {format_names(unpriced_types)} in these zones; AWS may not offer "
            "spot machines there",
            "add types or zones",
        )


def judge_bid(price: float, markets: Iterable[SpotMarket]) -> Iterator[Finding]:
    """Compare the bid with each machine type's current prices and last week's prices in all its zones.

    Yields one finding for each of the first `MAX_TYPES_SHOWN` types and one for all others.
    """
    by_type: dict[str, list[SpotMarket]] = defaultdict(list)
    for market in markets:
        by_type[market.machine_type].append(market)
    for type_markets in list(by_type.values())[:MAX_TYPES_SHOWN]:
        yield _judge_type_bid(price, type_markets, is_only_type=len(by_type) == 1)
    hidden_markets = list(by_type.values())[MAX_TYPES_SHOWN:]
    if hidden_markets:
        yield build_ok_finding(
            "bid",
            f"and {len(hidden_markets)} more types (--json lists them all)",
            details={
                "markets": [_build_market_json(market) for type_markets in hidden_markets for market in type_markets]
            },
        )
    if len(by_type) > 1 and all(market.lowest > price for type_markets in by_type.values() for market in type_markets):
        yield build_wrong_finding(
            "bid",
            f"MACHINE_PRICE {format_usd(price)} is below every price of the last week, so no machine would start",
            _format_bid_remedy(by_type),
            is_user_error=True,
        )


def _build_market_json(market: SpotMarket) -> dict[str, object]:
    """Return the market for `check --json`, whose keys never change."""
    return {_MARKET_JSON_KEYS.get(name, name): value for name, value in vars(market).items()}


def _judge_type_bid(price: float, markets: list[SpotMarket], *, is_only_type: bool) -> Finding:
    lowest, highest = min(market.now for market in markets), max(market.now for market in markets)
    week_maximum, share_above = (
        max(market.highest for market in markets),
        max(market.share_above_bid for market in markets),
    )
    now = format_usd(lowest) if lowest == highest else f"{format_usd(lowest)} to {format_usd(highest)}"
    zones = format_count(len(markets), "zone")
    message = (
        f"{markets[0].machine_type}: {now} USD/h now in {zones}, at most {format_usd(week_maximum)} in the last week"
    )
    details = {"bid": price, "markets": [_build_market_json(market) for market in markets]}
    if lowest > price:
        is_never_reached = all(market.lowest > price for market in markets)
        level = FindingLevel.WRONG if is_only_type and is_never_reached else FindingLevel.WARNING
        when = " or have started at any time that week" if is_never_reached else ""
        message += f"; MACHINE_PRICE {format_usd(price)} is lower, so no machine would start now{when}"
        return Finding(level, "bid", message, _format_bid_remedy({"": markets}), is_user_error=True, details=details)
    if share_above > 0:
        return build_warning_finding(
            "bid",
            f"{message}; the price was above MACHINE_PRICE {format_usd(price)} for up to {share_above:.0%} of that "
            "week; AWS would have taken the machines back then",
            f"raise MACHINE_PRICE above {format_usd(week_maximum)}",
            details=details,
        )
    return build_ok_finding("bid", f"{message}; MACHINE_PRICE is {format_usd(price)}", details=details)


def _format_bid_remedy(by_type: Mapping[str, list[SpotMarket]]) -> str:
    lowest_maximum = min(max(market.highest for market in markets) for markets in by_type.values())
    return f"raise MACHINE_PRICE above {format_usd(lowest_maximum)}; you pay the market price, not the bid"


def check_cost(lookups: Lookups) -> Iterator[Finding]:
    """Estimate the fleet's expected and maximum hourly cost."""
    if lookups.spot_machines:
        markets = build_spot_markets(lookups.prices.value, lookups.settings.MACHINE_PRICE, lookups.now)
        yield judge_cost(lookups.settings, markets)
    if on_demand := lookups.settings.ON_DEMAND_MACHINES:
        message = f"the list price of {format_count(on_demand, 'on-demand machine')} is not looked up"
        if lookups.settings.MAX_COST:
            message += "; MAX_COST assumes spot prices for them, so the run may cost more"
        yield build_warning_finding(
            "cost", message, "look it up at aws.amazon.com/ec2/pricing, and check your quota for on-demand machines"
        )


def judge_cost(settings: Settings, markets: Iterable[SpotMarket]) -> Finding:
    """Return the expected and maximum hourly cost of the spot machines.

    The expected cost uses the median of the current prices that do not exceed the bid; the maximum cost uses the bid.
    Both include disks and public addresses.
    """
    count = settings.CLUSTER_MACHINES - settings.ON_DEMAND_MACHINES
    machines = format_count(count, "spot machine" if settings.ON_DEMAND_MACHINES else "machine")
    extras = count * compute_hourly_extras(settings)
    ceiling = count * settings.MACHINE_PRICE + extras
    affordable_prices = [market.now for market in markets if market.now <= settings.MACHINE_PRICE]
    extras_note = f"including {format_usd(extras)} for disks{' and public addresses' if settings.ASSIGN_IP else ''}"
    if not affordable_prices:
        return build_ok_finding(
            "cost",
            f"at most {format_usd(ceiling)} USD an hour for {machines} ({extras_note})",
            details={"ceiling": ceiling},
        )
    expected = count * median(affordable_prices) + extras
    return build_ok_finding(
        "cost",
        f"about {format_usd(expected)} USD an hour for {machines} ({extras_note}), at most {format_usd(ceiling)}",
        details={"expected": expected, "ceiling": ceiling, "extras": extras},
    )


def compute_hourly_extras(settings: Settings) -> float:
    """Return the cost of a machine's disk (EBS_VOL_SIZE, gp3) and public address in USD an hour."""
    disk = settings.EBS_VOL_SIZE * GP3_USD_PER_GIB_MONTH / HOURS_PER_MONTH
    return disk + (IPV4_USD_PER_HOUR if settings.ASSIGN_IP else 0.0)
