"""Checks the bid and estimates the hourly cost of a run."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from statistics import median
from typing import TYPE_CHECKING, Any

from distributed_something.aws.spot_prices import SpotMarket, build_spot_markets
from distributed_something.aws.task_definition import choose_journal_seconds
from distributed_something.core.text import format_count, format_names, format_usd
from distributed_something.diagnose.check.findings import (
    Finding,
    FindingLevel,
    build_ok_finding,
    build_warning_finding,
    build_wrong_finding,
)
from distributed_something.diagnose.check.lookups import Lookups
from distributed_something.fleet.network import find_default_route_target, has_gateway_endpoint

if TYPE_CHECKING:
    from distributed_something.core.config_settings import Settings


# List prices in us-east-1, looked up in November 2026; up to twice as much in other regions.
PRICE_SOURCE = "estimates, list prices of us-east-1 in November 2026"
GP3_USD_PER_GIB_MONTH = 0.08  # aws.amazon.com/ebs/pricing
IPV4_USD_PER_HOUR = 0.005  # for one public address, in any region: aws.amazon.com/vpc/pricing
NAT_USD_PER_GB = 0.045  # aws.amazon.com/vpc/pricing; the gateway itself also costs money, with or without a run
LOGS_USD_PER_GB = 0.50  # "Collect", standard class: aws.amazon.com/cloudwatch/pricing
S3_USD_PER_PUT, S3_USD_PER_GET = 0.005 / 1000, 0.0004 / 1000  # S3 Standard: aws.amazon.com/s3/pricing
HOURS_PER_MONTH = 730
BYTES_PER_GB = 1 << 30  # AWS bills by the binary gigabyte
# What the estimate assumes about a job; check cannot know it.
ASSUMED_JOB_MINUTES, ASSUMED_PUTS, ASSUMED_GETS, ASSUMED_LOG_BYTES_PER_SECOND = 10, 10, 20, 1000
MAX_TYPES_SHOWN = 6
# The other JSON keys equal the attribute names.
_MARKET_JSON_KEYS = {"lowest": "least", "highest": "most", "share_above_bid": "above"}


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

    Yields one finding for each type with a problem, which is often the most expensive one, one for each of the first
    `MAX_TYPES_SHOWN` other types, and one for all that remain.
    """
    by_type: dict[str, list[SpotMarket]] = defaultdict(list)
    for market in markets:
        by_type[market.machine_type].append(market)
    findings = [_judge_type_bid(price, each, is_only_type=len(by_type) == 1) for each in by_type.values()]
    hidden = [finding for finding in findings if finding.level is FindingLevel.OK][MAX_TYPES_SHOWN:]
    yield from (finding for finding in findings if finding not in hidden)
    if hidden:
        yield build_ok_finding(
            "bid",
            f"and {format_count(len(hidden), 'more type')} (--json lists them all)",
            details={"markets": [market for finding in hidden for market in finding.details["markets"]]},
            is_tabulated=True,
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
    text = f"{message}; MACHINE_PRICE is {format_usd(price)}"
    return build_ok_finding("bid", text, details=details, is_tabulated=True)


def _format_bid_remedy(by_type: Mapping[str, list[SpotMarket]]) -> str:
    lowest_maximum = min(max(market.highest for market in markets) for markets in by_type.values())
    return f"raise MACHINE_PRICE above {format_usd(lowest_maximum)}; you pay the market price, not the bid"


def check_cost(lookups: Lookups) -> Iterator[Finding]:
    """Estimate the run's expected and maximum hourly cost, with its parts, and name costs that are not included."""
    settings, markets = lookups.settings, []
    if lookups.spot_machines:
        markets = build_spot_markets(lookups.prices.value, settings.MACHINE_PRICE, lookups.now)
    yield judge_cost(settings.model_copy(update={"ASSIGN_IP": lookups.has_public_addresses}), markets)
    yield from judge_log_cost(settings)
    yield from judge_nat_cost(lookups.subnets.result or {}, list((lookups.routes.result or {}).values()))
    if settings.ON_DEMAND_MACHINES:
        message = f"the list price of {format_count(settings.ON_DEMAND_MACHINES, 'on-demand machine')} is not looked up"
        if settings.MAX_COST:
            message += "; MAX_COST assumes spot prices for them, so the run may cost more"
        yield build_warning_finding("cost", message, "look it up at aws.amazon.com/ec2/pricing")


def judge_cost(settings: Settings, markets: Iterable[SpotMarket]) -> Finding:
    """Return the expected and maximum hourly cost while all machines are running, with its parts.

    The expected cost uses the median of the current prices that do not exceed the bid; the maximum cost uses the bid.
    Both include everything else that a run pays for by the hour, except the prices of on-demand machines.
    """
    on_demand = settings.ON_DEMAND_MACHINES
    spot = settings.CLUSTER_MACHINES - on_demand
    extras = compute_hourly_extras(settings)
    affordable_prices = [market.now for market in markets if market.now <= settings.MACHINE_PRICE]
    highest = spot * settings.MACHINE_PRICE
    machines = spot * median(affordable_prices) if affordable_prices else highest
    ceiling, expected = highest + sum(extras.values()), machines + sum(extras.values())
    parts = ({"spot machines": machines} if spot else {}) | extras
    subject = format_count(settings.CLUSTER_MACHINES, "machine")
    subject += f", without the price of {format_count(on_demand, 'on-demand machine')}" if on_demand else ""
    details = {"ceiling": ceiling, "extras": sum(extras.values()), "parts": parts}
    if affordable_prices or not spot:
        details["expected"] = expected
        total = f"about {format_usd(expected)} USD an hour for {subject}"
        total += f", at most {format_usd(ceiling)}" if spot else ""
    else:
        total = f"at most {format_usd(ceiling)} USD an hour for {subject}"
    listed = ", ".join(f"{name} {format_usd(amount)}" for name, amount in parts.items())
    return build_ok_finding("cost", f"{total}: {listed} ({PRICE_SOURCE})", details=details, is_tabulated=True)


def compute_hourly_extras(settings: Settings) -> dict[str, float]:
    """Return what a run costs beside its machines, in USD an hour, keyed by what it is for.

    S3 requests and log streams depend on the jobs. The estimate assumes that a job takes ASSUMED_JOB_MINUTES, makes
    ASSUMED_PUTS and ASSUMED_GETS, and prints ASSUMED_LOG_BYTES_PER_SECOND.
    """
    machines = settings.CLUSTER_MACHINES
    jobs = settings.slots * 60 / ASSUMED_JOB_MINUTES
    journals = machines * settings.TASKS_PER_MACHINE * 3600 / choose_journal_seconds(settings)
    puts, gets = journals + jobs * ASSUMED_PUTS, jobs * ASSUMED_GETS
    extras = {"disks": machines * settings.EBS_VOL_SIZE * GP3_USD_PER_GIB_MONTH / HOURS_PER_MONTH}
    if settings.ASSIGN_IP:
        extras["public addresses"] = machines * IPV4_USD_PER_HOUR
    extras["S3 requests"] = puts * S3_USD_PER_PUT + gets * S3_USD_PER_GET
    if settings.STREAM_JOB_LOGS:
        extras["log streams"] = compute_hourly_log_cost(settings)
    return extras


def compute_hourly_log_cost(settings: Settings) -> float:
    """Return what CloudWatch charges for the output of all jobs in USD an hour, by the assumption above."""
    return settings.slots * ASSUMED_LOG_BYTES_PER_SECOND * 3600 / BYTES_PER_GB * LOGS_USD_PER_GB


def judge_log_cost(settings: Settings) -> Iterator[Finding]:
    """Say what the jobs' log streams cost, if there are any, and how to turn them off."""
    amount = compute_hourly_log_cost(settings)
    if settings.STREAM_JOB_LOGS:
        yield build_ok_finding(
            "cost",
            f"CloudWatch charges {format_usd(LOGS_USD_PER_GB)} USD per GB of the jobs' output: {format_usd(amount)} "
            f"USD an hour if each running job prints {ASSUMED_LOG_BYTES_PER_SECOND:,} bytes a second",
            "for programs that print more, set STREAM_JOB_LOGS to 'False'; each job's log is in the bucket anyway",
            details={"usd_per_gb": LOGS_USD_PER_GB, "usd_per_hour": amount},
        )


def judge_nat_cost(subnets: Mapping[str, Any], tables: Sequence[Any]) -> Iterator[Finding]:
    """Warn about subnets whose traffic a NAT gateway carries, which costs money for each GB.

    A gateway endpoint in the same route table carries the traffic to S3 for nothing.
    """
    names = [
        name for name, subnet in subnets.items() if find_default_route_target(name, subnet["VpcId"], tables) == "nat"
    ]
    without_endpoint = [name for name in names if not has_gateway_endpoint(name, subnets[name]["VpcId"], tables)]
    price = f"{NAT_USD_PER_GB} USD per GB, which the total does not include"
    if without_endpoint:
        yield build_warning_finding(
            "cost",
            f"a NAT gateway carries everything that machines in {format_names(without_endpoint)} read and write, also "
            f"inputs and results: {price}",
            "create a gateway endpoint for S3 in this network: it costs nothing and carries the traffic to S3",
            details={"usd_per_gb": NAT_USD_PER_GB, "subnets": without_endpoint},
        )
    elif names:
        yield build_ok_finding(
            "cost",
            f"a NAT gateway carries what machines in {format_names(names)} read from other places than S3: {price}",
            details={"usd_per_gb": NAT_USD_PER_GB, "subnets": names},
        )
