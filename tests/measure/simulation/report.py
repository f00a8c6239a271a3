"""Formats the comparison as a Markdown table for the screen and the docs."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from statistics import mean

from tests.measure.bench.report import Measurement
from tests.measure.simulation.model import Outcome
from tests.measure.simulation.scenarios import Comparison, Scenario, compare_policies
from tests.support.paths import ROOT

PAGE = ROOT / "docs" / "scaling.md"
TABLE_PATTERN = re.compile(r"(?<=<!-- table -->\n).*?(?=<!-- end -->)", re.S)
HEADINGS = (
    "jobs", "machines", "length of jobs", "policy", "makespan", "machine-hours", "hours above", "idle at the end",
    "longest idle", "wasted", "calls an hour", "jobs lost",
)  # fmt: skip
BENCH_SCENARIO = Scenario(20_000, 200, "lognormal")
GOAL = 1.03


def format_table(comparisons: Sequence[Comparison]) -> str:
    """Return a Markdown table with two rows for each scenario, one for each policy."""
    rows = [HEADINGS, tuple("---" for _ in HEADINGS)]
    for comparison in comparisons:
        scenario = comparison.scenario
        names = (f"{scenario.jobs:,}", f"{scenario.machines:,}", scenario.name)
        rows.append((*names, "this one", *format_cells(comparison.current)))
        rows.append(("", "", "", "published", *format_cells(comparison.published)))
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def format_cells(outcomes: Sequence[Outcome]) -> tuple[str, ...]:
    """Return the cells. Most of them are means over the seeds.

    The cell for machine-hours also shows their range, the longest idle time is the maximum, and the number of lost jobs
    is the sum.
    """

    def average(get_value: Callable[[Outcome], float]) -> float:
        return mean(map(get_value, outcomes))

    ratios = [outcome.hours_ratio for outcome in outcomes]
    return (
        f"{average(lambda outcome: outcome.makespan):.2f}",
        f"{mean(ratios):.3f} ({min(ratios):.3f}–{max(ratios):.3f})",
        f"{average(lambda outcome: outcome.machine_hours - outcome.bound_hours):,.1f}",
        f"{average(lambda outcome: outcome.tail_hours):,.1f}",
        f"{max(outcome.longest_idle for outcome in outcomes) / 60:,.1f} min",
        f"{average(lambda outcome: outcome.wasted_share):.2%}",
        f"{average(lambda outcome: outcome.calls_per_hour):,.0f}",
        f"{sum(outcome.lost_jobs for outcome in outcomes)}",
    )


def write_table(table: str) -> None:
    """Replace the table in docs/scaling.md."""
    text = PAGE.read_text()
    PAGE.write_text(TABLE_PATTERN.sub(lambda _: table, text))


def measure_simulation() -> list[Measurement]:
    """Return the simulation's measurements for `make bench`: one scenario, small enough to take half a minute."""
    (comparison,) = compare_policies([BENCH_SCENARIO])
    current, published = (
        mean(outcome.hours_ratio for outcome in outcomes) for outcomes in (comparison.current, comparison.published)
    )
    name = f"machine-hours over the bound, {BENCH_SCENARIO.jobs:,} jobs"
    return [
        Measurement(name, f"{current:.3f}", f"at most {GOAL}", current <= GOAL),
        Measurement("  with the published policy", f"{published:.3f}"),
    ]
