"""Checks of what the run may have and what it costs: spot quota, bid, cost an hour and its ceiling."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from statistics import median
from typing import TYPE_CHECKING

from control import prices, quotas
from control.checks_fleet import some
from control.costs import usd
from control.facts import Facts
from control.findings import Finding, Level, counted, ok, warning, wrong
from control.machines import MachineType
from control.prices import Market
from control.quotas import Quota

if TYPE_CHECKING:
    from control.settings import Settings

GP3_USD_GIB_MONTH = 0.08  # gp3 in us-east-1, aws.amazon.com/ebs/pricing, November 2026; other regions up to twice that
IPV4_USD_HOUR = 0.005  # a public address in use, all regions, aws.amazon.com/vpc/pricing, November 2026
HOURS_A_MONTH = 730
QUOTA_PAGE = "ask AWS for more at Service Quotas, Amazon EC2: it may take a day"
TYPES_SHOWN = 6


def quota(facts: Facts) -> Iterator[Finding]:
    """The account's spot quota, in virtual CPUs, against the spot machines asked for."""
    if facts.spot_machines == 0:
        yield ok("spot quota", "no spot machine is asked for")
        return
    yield from judge_quotas(
        facts.spot_machines, facts.types, facts.quotas, others=facts.settings.ON_DEMAND_MACHINES > 0
    )


def ecs_limits(facts: Facts) -> Iterator[Finding]:
    """What ECS takes in a cluster and a service. Of that a run learns when its fleet was requested already."""
    yield from judge_ecs(facts.settings.CLUSTER_MACHINES, facts.settings.TASKS_PER_MACHINE)


def judge_ecs(machines: int, tasks: int) -> Iterator[Finding]:
    """`tasks`: on each machine."""
    for (name, most), wanted in zip(quotas.ECS_DEFAULTS.items(), (machines, machines * tasks), strict=True):
        if wanted > most:
            yield warning(
                "ECS limits",
                f"{wanted:,} are more than AWS's default for «{name}» ({most:,})",
                "look at Service Quotas, Amazon ECS; if yours is no higher, take fewer, larger machines and containers "
                "with more DOCKER_CORES",
                details={"quota": name, "default": most, "needed": wanted},
            )


def judge_quotas(
    count: int, types: Mapping[str, MachineType], values: Mapping[Quota, float], *, others: bool = False
) -> Iterator[Finding]:
    """`values`: virtual CPUs that the account may have, for each class of types; `others`: machines that are no spot
    machines are asked for, too."""
    classes: dict[Quota | None, list[MachineType]] = defaultdict(list)
    for name, machine in types.items():
        classes[quotas.class_of(name)].append(machine)
    for kind, members in classes.items():
        if kind is None or kind not in values:
            yield warning(
                "spot quota",
                f"it is not known which one {some([one.name for one in members])} count against",
                "look at Service Quotas, Amazon EC2",
            )
        else:
            yield _judge_quota(count, kind, members, values[kind], alone=len(classes) == 1 and not others)


def _judge_quota(count: int, kind: Quota, members: list[MachineType], value: float, *, alone: bool) -> Finding:
    least, most = min(one.vcpus for one in members), max(one.vcpus for one in members)
    said = f"{value:,.0f} virtual CPUs of «{kind.name}»"
    details = {"code": kind.code, "value": value, "needed": count * most}
    if value < least:
        told = f"{said}: not one spot machine can start (the smallest has {least})"
        level = Level.WRONG if alone else Level.WARNING
        return Finding(level, "spot quota", told, f"{QUOTA_PAGE} ({kind.code})", details=details)
    if value < count * least:
        return warning(
            "spot quota",
            f"{said}: enough for {value // least:.0f} of {count} machines",
            f"{QUOTA_PAGE} ({kind.code}), or lower CLUSTER_MACHINES",
            details=details,
        )
    if value < count * most:
        return warning(
            "spot quota",
            f"{said}: enough for {value // most:.0f} of {count} machines if they are the largest ({most} virtual CPUs)",
            f"{QUOTA_PAGE} ({kind.code})",
            details=details,
        )
    return ok(
        "spot quota",
        f"{said}, {count * most:,} asked for (other spot machines of the account count too)",
        details=details,
    )


def bid(facts: Facts) -> Iterator[Finding]:
    """MACHINE_PRICE against the market, of which machines on demand know nothing."""
    if facts.spot_machines == 0:
        return
    markets = prices.markets(facts.prices, facts.settings.MACHINE_PRICE, facts.now)
    yield from judge_bid(facts.settings.MACHINE_PRICE, markets)
    silent = sorted(facts.types.keys() - {one.machine_type for one in markets})
    if silent:
        yield warning(
            "bid",
            f"no spot price of the last week for {some(silent)} in these zones: it may not be sold there",
            "add types or zones",
        )


def judge_bid(price: float, markets: Iterable[Market]) -> Iterator[Finding]:
    """One line a type: now and over the week, in all its zones; then how many pools the bid can have now."""
    by_type: dict[str, list[Market]] = defaultdict(list)
    for market in markets:
        by_type[market.machine_type].append(market)
    for some_markets in list(by_type.values())[:TYPES_SHOWN]:
        yield _judge_type(price, some_markets, alone=len(by_type) == 1)
    hidden = len(by_type) - TYPES_SHOWN
    if hidden > 0:
        yield ok(
            "bid",
            f"and {hidden} more types (all with --json)",
            details={"markets": [vars(one) for rest in list(by_type.values())[TYPES_SHOWN:] for one in rest]},
        )
    if len(by_type) > 1 and all(one.least > price for rest in by_type.values() for one in rest):
        yield wrong(
            "bid",
            f"{usd(price)} is below every price of the week: no machine would start",
            _raise(by_type),
            by_user=True,
        )


def _judge_type(price: float, markets: list[Market], *, alone: bool) -> Finding:
    cheap, dear = min(one.now for one in markets), max(one.now for one in markets)
    most, above = max(one.most for one in markets), max(one.above for one in markets)
    now = usd(cheap) if cheap == dear else f"{usd(cheap)} to {usd(dear)}"
    zones = counted(len(markets), "zone")
    said = f"{markets[0].machine_type}: {now} USD/h now in {zones}, {usd(most)} at most in the week"
    details = {"bid": price, "markets": [vars(one) for one in markets]}
    if cheap > price:
        never = all(one.least > price for one in markets)
        level = Level.WRONG if alone and never else Level.WARNING
        told = (
            f"{said}; MACHINE_PRICE {usd(price)} is below: none would start {'at any time of it' if never else 'now'}"
        )
        return Finding(level, "bid", told, _raise({"": markets}), by_user=True, details=details)
    if above > 0:
        return warning(
            "bid",
            f"{said}; above MACHINE_PRICE {usd(price)} for up to {above:.0%} of it: machines would be taken away then",
            f"raise MACHINE_PRICE above {usd(most)}",
            details=details,
        )
    return ok("bid", f"{said}; MACHINE_PRICE is {usd(price)}", details=details)


def _raise(by_type: Mapping[str, list[Market]]) -> str:
    most = min(max(one.most for one in markets) for markets in by_type.values())
    return f"raise MACHINE_PRICE above {usd(most)}; you pay the market's price, not the bid"


def cost(facts: Facts) -> Iterator[Finding]:
    """What an hour of the whole fleet costs, and what it can cost at most."""
    if facts.spot_machines:
        markets = prices.markets(facts.prices, facts.settings.MACHINE_PRICE, facts.now)
        yield judge_cost(facts.settings, markets)
    if on_demand := facts.settings.ON_DEMAND_MACHINES:
        said = f"{counted(on_demand, 'machine')} on demand cost AWS's list price, which is not looked up"
        if facts.settings.MAX_COST:
            said += ": MAX_COST counts spot prices for them, so that the run may cost more"
        yield warning("cost", said, "look it up at aws.amazon.com/ec2/pricing, and at the quota for on-demand machines")


def judge_cost(settings: Settings, markets: Iterable[Market]) -> Finding:
    """Of the spot machines. Expected: at the median of the prices now that the bid reaches. Disks and public addresses
    are added to both."""
    count = settings.CLUSTER_MACHINES - settings.ON_DEMAND_MACHINES
    machines = counted(count, "spot machine" if settings.ON_DEMAND_MACHINES else "machine")
    extras = count * extras_an_hour(settings)
    ceiling = count * settings.MACHINE_PRICE + extras
    reached = [one.now for one in markets if one.now <= settings.MACHINE_PRICE]
    with_extras = f"disks{' and public addresses' if settings.ASSIGN_IP else ''} {usd(extras)} of it"
    if not reached:
        return ok(
            "cost",
            f"at most {usd(ceiling)} USD an hour for {machines} ({with_extras})",
            details={"ceiling": ceiling},
        )
    expected = count * median(reached) + extras
    return ok(
        "cost",
        f"about {usd(expected)} USD an hour for {machines} ({with_extras}), at most {usd(ceiling)}",
        details={"expected": expected, "ceiling": ceiling, "extras": extras},
    )


def extras_an_hour(settings: Settings) -> float:
    """USD an hour of a machine's disk (EBS_VOL_SIZE, gp3) and public address."""
    disk = settings.EBS_VOL_SIZE * GP3_USD_GIB_MONTH / HOURS_A_MONTH
    return disk + (IPV4_USD_HOUR if settings.ASSIGN_IP else 0.0)
