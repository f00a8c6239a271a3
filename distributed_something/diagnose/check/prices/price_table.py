"""The table of prices that `check` and `startCluster` print: spot prices, the parts of an hour's cost, and its limits.

The numbers are those of the findings about the bid, the cost, and the next run, which are then not printed as text.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from distributed_something.core.text import (
    TERMINAL_COLUMNS,
    format_count,
    format_names,
    format_usd,
    format_wrapped_lines,
    shorten_text,
)
from distributed_something.diagnose.check.findings import Finding
from distributed_something.diagnose.check.prices.check_next_run import TOPIC

if TYPE_CHECKING:
    from distributed_something.core.config_settings import Settings

MAX_TYPES_SHOWN = 6
LOCAL_PRICE_TEXT = "PRICES: nothing costs money with --local"
_INDENT = "  "
_TYPE_COLUMNS, _ZONE_COLUMNS, _PRICE_COLUMNS, _RANGE_COLUMNS = 18, 26, 16, 18


@dataclass(frozen=True)
class TypePrices:
    """The spot prices of a machine type in some zones, in USD per hour: now, and in the last week."""

    machine_type: str
    zones: tuple[str, ...]
    now: tuple[float, float]
    week: tuple[float, float]


@dataclass(frozen=True)
class PriceTable:
    """What an hour of a run costs in USD. `parts`: what it consists of, expected; all machines are running.

    `machines`, `on_demand`: how many there are in total, and how many are on-demand machines, whose price is not
    included. `expected`: None if no current spot price is up to the bid. `ceiling`: at the bid. `max_cost`: of the run;
    0 if there is no limit. `next_run`: the forecast of the next run, in a sentence; "" if there is none.
    """

    types: Sequence[TypePrices]
    machines: int
    on_demand: int
    bid: float
    parts: Mapping[str, float]
    expected: float | None
    ceiling: float
    max_cost: float
    max_hours: float
    region: str
    next_run: str = ""


def format_prices(findings: Iterable[Finding], settings: Settings, *, is_local: bool) -> str:
    """Return the table as text; "" if the findings have no cost. With the local cloud, say that there is none."""
    findings = list(findings)
    if is_local:
        return "\n".join(["", LOCAL_PRICE_TEXT, *_format_next_run(_find_next_run(findings))])
    table = build_price_table(findings, settings)
    return format_price_table(table) if table else ""


def build_price_table(findings: Sequence[Finding], settings: Settings) -> PriceTable | None:
    """Return the table with the numbers of these findings; None if they have no cost, such as without permissions."""
    costs = [finding.details for finding in findings if finding.topic == "cost" and "parts" in finding.details]
    if not costs:
        return None
    markets = [
        market for finding in findings if finding.topic == "bid" for market in finding.details.get("markets", ())
    ]
    return PriceTable(
        list(_group_markets(markets)), settings.CLUSTER_MACHINES, settings.ON_DEMAND_MACHINES, settings.MACHINE_PRICE,
        costs[0]["parts"], costs[0].get("expected"), costs[0]["ceiling"], settings.MAX_COST, settings.MAX_RUN_HOURS,
        settings.AWS_REGION, _find_next_run(findings),
    )  # fmt: skip


def _find_next_run(findings: Iterable[Finding]) -> str:
    return "".join(finding.message for finding in findings if finding.topic == TOPIC and finding.is_tabulated)


def _group_markets(markets: Iterable[Mapping[str, object]]) -> Iterator[TypePrices]:
    """Yield the prices of each type, in the order of the markets: the cheapest type first."""
    by_type: dict[str, list[Mapping[str, object]]] = defaultdict(list)
    for market in markets:
        by_type[str(market["machine_type"])].append(market)
    for machine_type, group in by_type.items():
        now, least, most = ([float(str(market[key])) for market in group] for key in ("now", "least", "most"))
        zones = tuple(sorted(str(market["zone"]) for market in group))
        yield TypePrices(machine_type, zones, (min(now), max(now)), (min(least), max(most)))


def format_price_table(table: PriceTable) -> str:
    """Return the table in lines of at most TERMINAL_COLUMNS columns."""
    lines = ["", "PRICES IN USD AN HOUR"]
    if table.types:
        lines.append(_format_columns("type", "zones", "spot now", "last week"))
        lines += [_format_type(prices, table.region) for prices in table.types[:MAX_TYPES_SHOWN]]
        if more := len(table.types) - MAX_TYPES_SHOWN:
            lines += [f"{_INDENT}and {format_count(more, 'more type')} (--json lists them all)"] if more > 0 else []
    lines += [_format_part(name, amount) for name, amount in _iter_parts(table)]
    lines += _wrap(_format_ceiling(table))
    return "\n".join([*lines, *_format_next_run(table.next_run)])


def _format_next_run(text: str) -> list[str]:
    return _wrap(f"next run: {text}") if text else []


def _iter_parts(table: PriceTable) -> Iterator[tuple[str, str]]:
    """Yield the parts of an hour's cost and their sum, with their amounts."""
    spot = table.machines - table.on_demand
    names = {"spot machines": format_count(spot, "spot machine")}
    yield from ((names.get(name, name), format_usd(amount)) for name, amount in table.parts.items())
    if table.on_demand:
        yield format_count(table.on_demand, "on-demand machine"), "not looked up"
    if table.expected is not None:
        yield "total", format_usd(table.expected)
    if spot or table.expected is None:
        yield f"at most, at MACHINE_PRICE {format_usd(table.bid)}", format_usd(table.ceiling)


def _format_ceiling(table: PriceTable) -> str:
    """Return how much the run can cost at most."""
    hours = f"after MAX_RUN_HOURS ({table.max_hours:g} h), all machines end"
    hours += f": at most {format_usd(table.ceiling * table.max_hours)} USD"
    hours += " without on-demand machines" if table.on_demand else ""
    if not table.max_cost:
        return f"ceiling: MAX_COST is 0, so it limits nothing; {hours}"
    return f"ceiling: at MAX_COST ({format_usd(table.max_cost)} USD for machines), no new jobs start; {hours}"


def _format_type(prices: TypePrices, region: str) -> str:
    zones = [zone.removeprefix(region) for zone in prices.zones]
    shown = f"{region}: {format_names(zones, 6)}" if all(zones) else format_names(prices.zones, 2)
    shown = shown if len(shown) < _ZONE_COLUMNS else shown.replace(", ", ",")
    return _format_columns(prices.machine_type, shown, _format_range(prices.now), _format_range(prices.week))


def _format_range(prices: tuple[float, float]) -> str:
    low, high = map(format_usd, prices)
    return low if low == high else f"{low}–{high}"


def _format_columns(machine_type: str, zones: str, now: str, week: str) -> str:
    cells = (
        f"{shorten_text(machine_type, _TYPE_COLUMNS - 1):<{_TYPE_COLUMNS}}",
        f"{shorten_text(zones, _ZONE_COLUMNS - 1):<{_ZONE_COLUMNS}}",
        f"{now:<{_PRICE_COLUMNS - 1}} ",
        f"{week:<{_RANGE_COLUMNS}}",
    )
    return f"{_INDENT}{''.join(cells)}".rstrip()


def _format_part(name: str, amount: str) -> str:
    return f"{_INDENT}{name:<{_TYPE_COLUMNS + _ZONE_COLUMNS}}{amount}"


def _wrap(text: str) -> list[str]:
    return format_wrapped_lines(text, _INDENT, f"{_INDENT}{_INDENT}", TERMINAL_COLUMNS)
