"""Checks of what the run may have and what it costs: spot quota, bid, cost an hour and its ceiling."""

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


GP3_USD_PER_GIB_MONTH = (
    0.08  # gp3 in us-east-1, aws.amazon.com/ebs/pricing, November 2026; other regions up to twice that
)
IPV4_USD_PER_HOUR = 0.005  # a public address in use, all regions, aws.amazon.com/vpc/pricing, November 2026
HOURS_PER_MONTH = 730
QUOTA_REMEDY = "ask AWS for more at Service Quotas, Amazon EC2: it may take a day"
MAX_TYPES_SHOWN = 6


def check_spot_quota(facts: Lookups) -> Iterator[Finding]:
    """The account's spot quota, in virtual CPUs, against the spot machines asked for."""
    if facts.spot_machines == 0:
        yield build_ok_finding("spot quota", "no spot machine is asked for")
        return
    yield from judge_spot_quotas(
        facts.spot_machines, facts.types.value, facts.quotas.value, others=facts.settings.ON_DEMAND_MACHINES > 0
    )


def check_ecs_limits(facts: Lookups) -> Iterator[Finding]:
    """What ECS takes in a cluster and a service. Of that a run learns when its fleet was requested already."""
    yield from judge_ecs_limits(facts.settings.CLUSTER_MACHINES, facts.settings.TASKS_PER_MACHINE)


def judge_ecs_limits(machines: int, tasks: int) -> Iterator[Finding]:
    """`tasks`: on each machine."""
    for (name, most), wanted in zip(ECS_DEFAULT_LIMITS.items(), (machines, machines * tasks), strict=True):
        if wanted > most:
            yield build_warning_finding(
                "ECS limits",
                f"{wanted:,} are more than AWS's default for «{name}» ({most:,})",
                "look at Service Quotas, Amazon ECS; if yours is no higher, take fewer, larger machines and containers "
                "with more DOCKER_CORES",
                details={"quota": name, "default": most, "needed": wanted},
            )


def judge_spot_quotas(
    count: int, types: Mapping[str, MachineType], values: Mapping[QuotaClass, float], *, others: bool = False
) -> Iterator[Finding]:
    """`values`: virtual CPUs that the account may have, for each class of types; `others`: machines that are no spot
    machines are asked for, too."""
    classes: dict[QuotaClass | None, list[MachineType]] = defaultdict(list)
    for name, machine in types.items():
        classes[find_quota_class(name)].append(machine)
    for kind, members in classes.items():
        if kind is None or kind not in values:
            yield build_warning_finding(
                "spot quota",
                f"it is not known which one {format_names([one.name for one in members])} count against",
                "look at Service Quotas, Amazon EC2",
            )
        else:
            yield _judge_quota_class(count, kind, members, values[kind], alone=len(classes) == 1 and not others)


def _judge_quota_class(
    count: int, kind: QuotaClass, members: list[MachineType], value: float, *, alone: bool
) -> Finding:
    least, most = min(one.vcpus for one in members), max(one.vcpus for one in members)
    said = f"{value:,.0f} virtual CPUs of «{kind.name}»"
    details = {"code": kind.code, "value": value, "needed": count * most}
    if value < least:
        told = f"{said}: not one spot machine can start (the smallest has {least})"
        level = FindingLevel.WRONG if alone else FindingLevel.WARNING
        return Finding(level, "spot quota", told, f"{QUOTA_REMEDY} ({kind.code})", details=details)
    if value < count * least:
        return build_warning_finding(
            "spot quota",
            f"{said}: enough for {value // least:.0f} of {count} machines",
            f"{QUOTA_REMEDY} ({kind.code}), or lower CLUSTER_MACHINES",
            details=details,
        )
    if value < count * most:
        return build_warning_finding(
            "spot quota",
            f"{said}: enough for {value // most:.0f} of {count} machines if they are the largest ({most} virtual CPUs)",
            f"{QUOTA_REMEDY} ({kind.code})",
            details=details,
        )
    return build_ok_finding(
        "spot quota",
        f"{said}, {count * most:,} asked for (other spot machines of the account count too)",
        details=details,
    )


def check_bid(facts: Lookups) -> Iterator[Finding]:
    """MACHINE_PRICE against the market, of which machines on demand know nothing."""
    if facts.spot_machines == 0:
        return
    markets = build_spot_markets(facts.prices.value, facts.settings.MACHINE_PRICE, facts.now)
    yield from judge_bid(facts.settings.MACHINE_PRICE, markets)
    silent = sorted(facts.types.value.keys() - {one.machine_type for one in markets})
    if silent:
        yield build_warning_finding(
            "bid",
            f"no spot price of the last week for {format_names(silent)} in these zones: it may not be sold there",
            "add types or zones",
        )


def judge_bid(price: float, markets: Iterable[SpotMarket]) -> Iterator[Finding]:
    """One line a type: now and over the week, in all its zones; then how many pools the bid can have now."""
    by_type: dict[str, list[SpotMarket]] = defaultdict(list)
    for market in markets:
        by_type[market.machine_type].append(market)
    for some_markets in list(by_type.values())[:MAX_TYPES_SHOWN]:
        yield _judge_type_bid(price, some_markets, alone=len(by_type) == 1)
    hidden = len(by_type) - MAX_TYPES_SHOWN
    if hidden > 0:
        yield build_ok_finding(
            "bid",
            f"and {hidden} more types (all with --json)",
            details={"markets": [vars(one) for rest in list(by_type.values())[MAX_TYPES_SHOWN:] for one in rest]},
        )
    if len(by_type) > 1 and all(one.least > price for rest in by_type.values() for one in rest):
        yield build_wrong_finding(
            "bid",
            f"{format_usd(price)} is below every price of the week: no machine would start",
            _format_bid_remedy(by_type),
            by_user=True,
        )


def _judge_type_bid(price: float, markets: list[SpotMarket], *, alone: bool) -> Finding:
    cheap, dear = min(one.now for one in markets), max(one.now for one in markets)
    most, above = max(one.most for one in markets), max(one.above for one in markets)
    now = format_usd(cheap) if cheap == dear else f"{format_usd(cheap)} to {format_usd(dear)}"
    zones = format_count(len(markets), "zone")
    said = f"{markets[0].machine_type}: {now} USD/h now in {zones}, {format_usd(most)} at most in the week"
    details = {"bid": price, "markets": [vars(one) for one in markets]}
    if cheap > price:
        never = all(one.least > price for one in markets)
        level = FindingLevel.WRONG if alone and never else FindingLevel.WARNING
        when = "at any time of it" if never else "now"
        told = f"{said}; MACHINE_PRICE {format_usd(price)} is below: none would start {when}"
        return Finding(level, "bid", told, _format_bid_remedy({"": markets}), by_user=True, details=details)
    if above > 0:
        return build_warning_finding(
            "bid",
            f"{said}; above MACHINE_PRICE {format_usd(price)} for up to {above:.0%} of it: machines would be taken away"
            " then",
            f"raise MACHINE_PRICE above {format_usd(most)}",
            details=details,
        )
    return build_ok_finding("bid", f"{said}; MACHINE_PRICE is {format_usd(price)}", details=details)


def _format_bid_remedy(by_type: Mapping[str, list[SpotMarket]]) -> str:
    most = min(max(one.most for one in markets) for markets in by_type.values())
    return f"raise MACHINE_PRICE above {format_usd(most)}; you pay the market's price, not the bid"


def check_cost(facts: Lookups) -> Iterator[Finding]:
    """What an hour of the whole fleet costs, and what it can cost at most."""
    if facts.spot_machines:
        markets = build_spot_markets(facts.prices.value, facts.settings.MACHINE_PRICE, facts.now)
        yield judge_cost(facts.settings, markets)
    if on_demand := facts.settings.ON_DEMAND_MACHINES:
        said = f"{format_count(on_demand, 'machine')} on demand cost AWS's list price, which is not looked up"
        if facts.settings.MAX_COST:
            said += ": MAX_COST counts spot prices for them, so that the run may cost more"
        yield build_warning_finding(
            "cost", said, "look it up at aws.amazon.com/ec2/pricing, and at the quota for on-demand machines"
        )


def judge_cost(settings: Settings, markets: Iterable[SpotMarket]) -> Finding:
    """Of the spot machines. Expected: at the median of the prices now that the bid reaches. Disks and public addresses
    are added to both."""
    count = settings.CLUSTER_MACHINES - settings.ON_DEMAND_MACHINES
    machines = format_count(count, "spot machine" if settings.ON_DEMAND_MACHINES else "machine")
    extras = count * compute_hourly_extras(settings)
    ceiling = count * settings.MACHINE_PRICE + extras
    reached = [one.now for one in markets if one.now <= settings.MACHINE_PRICE]
    with_extras = f"disks{' and public addresses' if settings.ASSIGN_IP else ''} {format_usd(extras)} of it"
    if not reached:
        return build_ok_finding(
            "cost",
            f"at most {format_usd(ceiling)} USD an hour for {machines} ({with_extras})",
            details={"ceiling": ceiling},
        )
    expected = count * median(reached) + extras
    return build_ok_finding(
        "cost",
        f"about {format_usd(expected)} USD an hour for {machines} ({with_extras}), at most {format_usd(ceiling)}",
        details={"expected": expected, "ceiling": ceiling, "extras": extras},
    )


def compute_hourly_extras(settings: Settings) -> float:
    """USD an hour of a machine's disk (EBS_VOL_SIZE, gp3) and public address."""
    disk = settings.EBS_VOL_SIZE * GP3_USD_PER_GIB_MONTH / HOURS_PER_MONTH
    return disk + (IPV4_USD_PER_HOUR if settings.ASSIGN_IP else 0.0)
