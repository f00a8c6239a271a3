"""How long programs took, how much memory and processor time they used, and what jobs cost on each type of machine."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from distributed_something.core.text import format_usd
from distributed_something.results.report.data import Histogram, Report, TypeCost
from distributed_something.results.report.sections.amounts import (
    MIN_JOBS_FOR_PRICE,
    UNKNOWN,
    format_bytes,
    format_mark,
    format_span,
    list_linear_marks,
    list_log_marks,
)
from distributed_something.results.report.sections.drawing import WIDTH, draw_labels, draw_lines, draw_stretched
from distributed_something.results.report.sections.lanes import describe_purchase
from distributed_something.results.report.sections.markup import Html, make_section, make_tag

_BAR_PIXELS, _TICK_PIXELS = 110, 12
MIN_JOBS_FOR_99_PERCENT = 200


@dataclass(frozen=True)
class Scale:
    """Maps a number to a position from 0 to 1 between `start` and `end`. `is_log`: on a logarithmic scale."""

    start: float
    end: float
    is_log: bool

    def find_position(self, number: float) -> float:
        """Return the position of `number`."""
        if self.is_log:
            return math.log(max(number, self.start) / self.start) / math.log(self.end / self.start)
        return (number - self.start) / (self.end - self.start)


def draw_distributions(report: Report) -> Html:
    """Return the section about the programs of the run."""
    charts = [
        _draw_histogram("Time of the program", report.program_seconds, format_span),
        _draw_histogram("Peak memory", report.peak_memory, format_bytes),
        _draw_histogram("Processors in use", report.processors, _format_processors),
    ]
    if not any(charts) and not report.type_costs:
        lead = make_tag("p", "How long programs took is unknown.", class_="lead")
        return make_section("distributions", "The programs", lead)
    has_failed = any(histogram is not None and sum(histogram.failed_counts) for histogram in _list_histograms(report))
    failed = [make_tag("i", class_="key k-failed"), " below the line: programs that failed."] if has_failed else []
    lead = make_tag("p", "Blue: programs of jobs that are done. ", *failed, class_="lead")
    return make_section(
        "distributions", _describe_times(report.program_seconds), lead, make_tag("div", *charts, class_="histograms"),
        _draw_type_costs(report.type_costs),
    )  # fmt: skip


def _list_histograms(report: Report) -> list[Histogram | None]:
    return [report.program_seconds, report.peak_memory, report.processors]


def _describe_times(histogram: Histogram | None) -> str:
    if histogram is None or histogram.median is None:
        return "What the programs used"
    text = f"Half of the programs took less than {format_span(histogram.median)}"
    slowest = _bound_99_percent(histogram)
    return text if slowest is None else f"{text}, 99 % less than {format_span(slowest)}"


def _bound_99_percent(histogram: Histogram) -> float | None:
    """Return the upper edge of the bin that contains the 99 % quantile, or None with too few jobs."""
    total, count = sum(histogram.counts), 0
    if total < MIN_JOBS_FOR_99_PERCENT:
        return None
    for number, edge in zip(histogram.counts, histogram.edges[1:], strict=True):
        count += number
        if count >= 0.99 * total:
            return edge
    return None


def _draw_histogram(title: str, histogram: Histogram | None, format_number: Callable[[float], str]) -> Html:
    if histogram is None or len(histogram.edges) < 2 or not (sum(histogram.counts) or sum(histogram.failed_counts)):
        return make_tag("figure", make_tag("figcaption", make_tag("b", title)), make_tag("p", UNKNOWN, class_="note"))
    scale = _choose_scale(histogram)
    bars = draw_stretched(
        _BAR_PIXELS + _TICK_PIXELS, *_draw_bars(histogram, scale, format_number),
        make_tag("path", class_="base", d=f"M0 {_BAR_PIXELS}H{WIDTH}"), *_draw_marks(histogram, scale),
        class_="histogram", label=_describe_histogram(title, histogram, format_number),
    )  # fmt: skip
    kind = " (log scale)" if scale.is_log else ""
    axis = draw_labels(_list_axis_labels(histogram, scale, format_number))
    done = sum(histogram.counts)
    highest = f"Highest bar: {max(histogram.counts):,} of {done:,}." if done else "No program of a job that is done."
    return make_tag(
        "figure", make_tag("figcaption", make_tag("b", title), make_tag("span", kind, class_="muted")),
        draw_labels(_list_limit_labels(histogram, scale, format_number), 15, "axis marks"),
        draw_labels(_list_median_labels(histogram, scale, format_number), 15, "axis marks"),
        bars, axis, make_tag("p", highest, class_="note"),
    )  # fmt: skip


def _choose_scale(histogram: Histogram) -> Scale:
    start, end = histogram.edges[0], histogram.edges[-1]
    if histogram.unit == "seconds":
        start = start if start > 0 else min(histogram.edges[1] / 2, 1.0)
        return Scale(start, max(end, start * 1.01), is_log=True)
    end = max(end, histogram.limit * 1.02 if histogram.limit is not None else end)
    return Scale(start, end if end > start else start + 1, is_log=False)


def _draw_bars(histogram: Histogram, scale: Scale, format_number: Callable[[float], str]) -> list[Html]:
    highest = max(histogram.counts, default=0) or 1
    most_failed = max(histogram.failed_counts, default=0) or 1
    bars = list[Html]()
    edges = list(zip(histogram.edges, histogram.edges[1:], strict=False))
    for number, (low, high) in enumerate(edges):
        x, end = (round(WIDTH * scale.find_position(edge)) for edge in (low, high))
        span = f"{format_number(low)} to {format_number(high)}"
        width = max(8, end - x - 20)
        if count := histogram.counts[number]:
            height = max(1.0, _BAR_PIXELS * count / highest)
            title = make_tag("title", f"{count:,} done: {span}")
            place = {"x": x + 10, "y": f"{_BAR_PIXELS - height:.1f}", "width": width, "height": f"{height:.1f}"}
            bars.append(make_tag("rect", title, class_="u-work", **place))
        if failed := histogram.failed_counts[number] if histogram.failed_counts else 0:
            height = 4 + (_TICK_PIXELS - 5) * failed / most_failed
            title = make_tag("title", f"{failed:,} failed: {span}")
            place = {"x": x + 10, "y": _BAR_PIXELS + 1, "width": width, "height": f"{height:.1f}"}
            bars.append(make_tag("rect", title, class_="u-failed", **place))
    return bars


def _draw_marks(histogram: Histogram, scale: Scale) -> list[Html]:
    marks = list[Html]()
    if histogram.median is not None:
        marks.append(draw_lines([scale.find_position(histogram.median)], 0, _BAR_PIXELS, "mark dashed"))
    if histogram.limit is not None and scale.start <= histogram.limit <= scale.end:
        marks.append(draw_lines([scale.find_position(histogram.limit)], 0, _BAR_PIXELS, "mark"))
    return marks


def _list_limit_labels(
    histogram: Histogram, scale: Scale, format_number: Callable[[float], str]
) -> list[tuple[float, str]]:
    if histogram.limit is None or histogram.limit > scale.end:
        return []
    return [(scale.find_position(histogram.limit), f"limit {format_number(histogram.limit)}")]


def _list_median_labels(
    histogram: Histogram, scale: Scale, format_number: Callable[[float], str]
) -> list[tuple[float, str]]:
    if histogram.median is None:
        return []
    return [(scale.find_position(histogram.median), f"median {format_number(histogram.median)}")]


def _list_axis_labels(
    histogram: Histogram, scale: Scale, format_number: Callable[[float], str]
) -> Sequence[tuple[float, str]]:
    if scale.is_log:
        marks = list_log_marks(scale.start, scale.end, 5)
    else:
        marks = list_linear_marks(scale.start, scale.end, base=2 if histogram.unit == "bytes" else 10)
    format_label = format_mark if scale.is_log else format_number
    return [(scale.find_position(mark), format_label(mark) if mark else "0") for mark in marks]


def _describe_histogram(title: str, histogram: Histogram, format_number: Callable[[float], str]) -> str:
    median = "" if histogram.median is None else f", median {format_number(histogram.median)}"
    return f"{title} of {sum(histogram.counts):,} programs{median}"


def _format_processors(number: float) -> str:
    return f"{number:.2f}".rstrip("0").rstrip(".") or "0"


def _draw_type_costs(costs: tuple[TypeCost, ...]) -> Html:
    if not costs:
        return Html()
    ordered = sorted(costs, key=lambda cost: cost.cost_per_1000)
    highest = max(cost.cost_per_1000 for cost in ordered) or 1.0
    names = ("type", "zone", "bought as")
    head = [*(make_tag("th", name) for name in names), *(make_tag("th", name, class_="number") for name in
            ("jobs done", "USD for 1,000")), make_tag("th", class_="bar")]  # fmt: skip
    rows = [_draw_type_cost(cost, highest) for cost in ordered]
    lead = "The cheapest first, from the time of programs only: start-up and idle time are left out."
    table = make_tag("table", make_tag("thead", make_tag("tr", *head)), make_tag("tbody", *rows), class_="costs")
    wide = make_tag("div", table, class_="wide", tabindex=0)
    return make_tag("div", make_tag("h3", _describe_costs(ordered)), make_tag("p", lead, class_="lead"), wide)


def _describe_costs(ordered: list[TypeCost]) -> str:
    known = [cost for cost in ordered if cost.jobs >= MIN_JOBS_FOR_PRICE]
    if len(known) < 2:
        return "What jobs cost by type of machine"
    first, last = known[0], known[-1]
    if first.cost_per_1000 > 0 and last.cost_per_1000 >= 1.05 * first.cost_per_1000:
        more = f"{100 * (last.cost_per_1000 / first.cost_per_1000 - 1):.0f} %"
        names = [_name_place(cost, has_purchase=first.is_spot != last.is_spot) for cost in (last, first)]
        return f"Jobs cost {more} more on {names[0]} than on {names[1]}"
    return "What jobs cost by type of machine"


def _name_place(cost: TypeCost, *, has_purchase: bool) -> str:
    """Return the type and the zone. `has_purchase`: also how the machine was bought, which explains much of a price."""
    place = f"{cost.type} in {cost.zone}" if cost.zone else cost.type
    return f"{place} ({describe_purchase(cost.is_spot)})" if has_purchase else place


def _format_price(amount: float) -> str:
    return "under 0.0001" if 0 < amount < 0.0001 else format_usd(amount)


def _draw_type_cost(cost: TypeCost, highest: float) -> Html:
    width = f"{100 * cost.cost_per_1000 / highest:.2f}%"
    bar = make_tag("svg", make_tag("rect", class_="u-work", width=width, height=8), height=8, aria_hidden="true")
    return make_tag(
        "tr", make_tag("td", cost.type), make_tag("td", cost.zone or UNKNOWN),
        make_tag("td", describe_purchase(cost.is_spot)), make_tag("td", f"{cost.jobs:,}", class_="number"),
        make_tag("td", make_tag("b", _format_price(cost.cost_per_1000)), class_="number"),
        make_tag("td", bar, class_="bar"),
    )  # fmt: skip
