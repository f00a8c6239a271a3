"""The comparison as a table of Markdown, on the screen and in the docs."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from statistics import mean

from tests.measure.bench.report import Line
from tests.measure.simulation.model import Outcome
from tests.measure.simulation.scenarios import Compared, Scenario, compare
from tests.support.paths import ROOT

PAGE = ROOT / "docs" / "scaling.md"
MARKED = re.compile(r"(?<=<!-- table -->\n).*?(?=<!-- end -->)", re.S)
HEADING = (
    "jobs", "machines", "length of jobs", "policy", "makespan", "machine-hours", "hours above", "idle at the end",
    "longest idle", "in vain", "calls an hour", "jobs lost",
)  # fmt: skip
BENCH = Scenario(20_000, 200, "lognormal")
GOAL = 1.03


def table(compared: Sequence[Compared]) -> str:
    """Two rows a scenario."""
    rows = [HEADING, tuple("---" for _ in HEADING)]
    for one in compared:
        first = (f"{one.scenario.jobs:,}", f"{one.scenario.machines:,}", one.scenario.name)
        rows.append((*first, "this one", *cells(one.ours)))
        rows.append(("", "", "", "published", *cells(one.published)))
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def cells(outcomes: Sequence[Outcome]) -> tuple[str, ...]:
    """The seeds' means; of the machine-hours the range too."""

    def of(value: Callable[[Outcome], float]) -> float:
        return mean(map(value, outcomes))

    ratios = [one.hours_ratio for one in outcomes]
    return (
        f"{of(lambda one: one.makespan):.2f}",
        f"{mean(ratios):.3f} ({min(ratios):.3f}–{max(ratios):.3f})",
        f"{of(lambda one: one.machine_hours - one.bound_hours):,.1f}",
        f"{of(lambda one: one.tail_hours):,.1f}",
        f"{max(one.longest_idle for one in outcomes) / 60:,.1f} min",
        f"{of(lambda one: one.twice):.2%}",
        f"{of(lambda one: one.calls):,.0f}",
        f"{sum(one.undone for one in outcomes)}",
    )


def write(shown: str) -> None:
    """Puts the table into the docs."""
    text = PAGE.read_text()
    PAGE.write_text(MARKED.sub(lambda _: shown, text))


def lines() -> list[Line]:
    """The simulation's part of `make bench`: one size, small enough for half a minute."""
    (found,) = compare([BENCH])
    what = f"machine-hours over the bound, {BENCH.jobs:,} jobs"
    ours, published = (mean(one.hours_ratio for one in outcomes) for outcomes in (found.ours, found.published))
    return [
        Line(what, f"{ours:.3f}", f"at most {GOAL}", ours <= GOAL),
        Line("  with the published policy", f"{published:.3f}"),
    ]
