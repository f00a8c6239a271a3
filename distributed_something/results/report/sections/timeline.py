"""The run over time: what slots were used for, how many jobs were left, and what each machine did, on one axis."""

from __future__ import annotations

from collections.abc import Sequence

from distributed_something.results.report.data import USES, Report, Timeline
from distributed_something.results.report.sections.amounts import count_noun, format_mark, format_span, list_time_marks
from distributed_something.results.report.sections.drawing import (
    MIN_VISIBLE_WIDTH,
    WIDTH,
    draw_grid,
    draw_labels,
    draw_lines,
    draw_rectangles,
    draw_stretched,
    format_pixels,
)
from distributed_something.results.report.sections.lanes import draw_lanes, draw_machines, draw_rows
from distributed_something.results.report.sections.markup import Html, make_section, make_tag

_SLOT_PIXELS, _LEFT_PIXELS, _INTERRUPTION_PIXELS, _MARK_PIXELS = 150, 64, 9, 15
_STACK = ("work", "failed", "interrupted", "waiting", "startup", "idle")  # from the bottom


def draw_timeline(report: Report) -> Html:
    """Return the section with the run over time."""
    timeline = report.timeline
    if timeline is None or not timeline.jobs_left:
        lead = make_tag("p", "When programs ran is unknown.", class_="lead")
        return make_section("timeline", "The run over time", lead)
    span = measure_span(timeline)
    marks = list_time_marks(span)
    step = marks[1] if len(marks) > 1 else None
    axis = _draw_row("", draw_labels([(mark / span, format_mark(mark, step)) for mark in marks]))
    grid = [mark / span for mark in marks[1:]]
    machines = draw_rows(timeline, grid) if timeline.rows else draw_lanes(timeline, span, grid)
    return make_section(
        "timeline",
        _describe_tail(report, timeline),
        make_tag("p", _describe_drawing(report, timeline), class_="lead"),
        make_tag(
            "div",
            _draw_row(_label_slots(timeline, report), _draw_slots(timeline, span, grid)),
            _draw_row(_label_left(report), _draw_left(report, timeline, span, grid)),
            axis,
            *(_draw_row(label, drawing) for label, drawing in machines),
            axis if machines else "",
            class_="chart",
        ),
        draw_machines(timeline),
    )


def measure_span(timeline: Timeline) -> float:
    """Return how many seconds the drawings' time axis has: whole bins, so that all drawings agree."""
    return timeline.bin_seconds * max(1, len(timeline.jobs_left))


def _describe_tail(report: Report, timeline: Timeline) -> str:
    if timeline.tail is None:
        return "The run over time"
    seconds, jobs = timeline.tail
    total = format_span(report.verdict.elapsed_seconds)
    return f"The last {format_span(seconds)} of {total} were for {count_noun(jobs, 'job')}"


def _describe_drawing(report: Report, timeline: Timeline) -> Html:
    text = "Height is slots, so area is money; the colors are those of the bar at the top. "
    if timeline.interruptions:
        text += "An amber mark above: EC2 took back a machine. "
    if timeline.rows:
        most = max(row.machines for row in timeline.rows)
        text += (
            f"Below, a row is up to {count_noun(most, 'machine')}: the deeper the blue, the larger the share of the "
            "paid time at work; the height of red is the share of programs that failed."
        )
    elif timeline.lanes:
        text += (
            "Below, a line is a slot, and a piece of it is one program, in two alternating blues; red failed, amber "
            "was cut off. Machines that followed one another may share lines."
        )
    return Html(make_tag("span", text))


def _draw_row(label: object, drawing: object) -> Html:
    return make_tag("div", make_tag("div", label, class_="label"), make_tag("div", drawing), class_="row")


def _label_slots(timeline: Timeline, report: Report) -> Html:
    totals = [sum(values) for values in zip(*timeline.slots.values(), strict=True)]
    most = count_noun(round(max(totals, default=0)), "slot")
    machines = count_noun(report.verdict.machines, "machine")
    return make_tag(
        "span",
        make_tag("b", "Slots paid for"),
        " ",
        make_tag("span", f"{most} at most"),
        " ",
        make_tag("span", machines),
    )


def _label_left(report: Report) -> Html:
    total = f" of {report.verdict.submitted:,}" if report.verdict.submitted is not None else ""
    ticks = make_tag("i", class_="key k-failed") if report.verdict.failed else ""
    failed = " a job failed" if report.verdict.failed else ""
    return make_tag("span", make_tag("b", "Jobs left"), total, " ", make_tag("span", ticks, failed))


def _draw_slots(timeline: Timeline, span: float, grid: Sequence[float]) -> Html:
    """Return the stacked areas, in steps, and above them a mark for each interruption."""
    bins = len(timeline.jobs_left)
    bottoms = [0.0] * bins
    stacks = list[tuple[str, list[float], list[float]]]()
    for use in _STACK:
        values = timeline.slots.get(use, ())
        tops = [
            bottom + value for bottom, value in zip(bottoms, [*values, *[0.0] * (bins - len(values))], strict=False)
        ]
        stacks.append((use, bottoms, tops))
        bottoms = tops
    highest = max(bottoms, default=0.0) or 1.0
    areas = [_draw_area(use, low, high, highest) for use, low, high in stacks if low != high]
    label = f"Slots paid for over time, by use: {', '.join(USES)}"
    drawing = draw_stretched(_SLOT_PIXELS, *areas, draw_grid(grid, _SLOT_PIXELS), class_="slots", label=label)
    return Html(_draw_interruptions(timeline, span) + drawing)


def _draw_area(use: str, bottoms: Sequence[float], tops: Sequence[float], highest: float) -> Html:
    """Return the area between two lines of steps, both with one value per bin."""
    width = WIDTH / len(tops)
    scale = _SLOT_PIXELS / highest

    def list_steps(values: Sequence[float], numbers: Sequence[int], *, is_back: bool) -> str:
        parts, last = list[str](), None
        for number in numbers:
            y = format_pixels(_SLOT_PIXELS - values[number] * scale)
            if y != last:  # equal steps are one line
                parts.append(f"H{round((number + is_back) * width)}V{y}")
            last = y
        return "".join(parts)

    there = list_steps(tops, range(len(tops)), is_back=False)
    back = list_steps(bottoms, range(len(tops) - 1, -1, -1), is_back=True)
    return make_tag("path", class_=f"u-{use}", d=f"M0 {_SLOT_PIXELS}{there}H{WIDTH}{back}H0z")


def _draw_interruptions(timeline: Timeline, span: float) -> Html:
    if not timeline.interruptions:
        return Html()
    marks = [(WIDTH * end / span - 25, 0, 50, _INTERRUPTION_PIXELS) for end in timeline.interruptions]
    return draw_stretched(_INTERRUPTION_PIXELS, draw_rectangles(marks, "u-interrupted"), label="Interruptions")


def _draw_left(report: Report, timeline: Timeline, span: float, grid: Sequence[float]) -> Html:
    most = max(report.verdict.submitted or 0, *timeline.jobs_left) or 1
    bins, left = len(timeline.jobs_left), [most, *timeline.jobs_left]
    points = "".join(
        f"L{round(WIDTH * number / bins)} {format_pixels(_LEFT_PIXELS * (1 - value / most))}"
        for number, value in enumerate(left)
    )
    area = make_tag("path", class_="left-area", d=f"M0 {_LEFT_PIXELS}{points}V{_LEFT_PIXELS}z")
    reached = {percent: seconds / span for percent, seconds in sorted(timeline.marks.items())}
    marks = draw_lines(reached.values(), 0, _LEFT_PIXELS, "mark")
    ends = [row.ended for row in report.jobs.rows if row.state == "failed" and row.ended is not None]
    failed = draw_rectangles(
        ((WIDTH * end / span, _LEFT_PIXELS - 10, MIN_VISIBLE_WIDTH, 10) for end in ends[:5000]), "u-failed"
    )
    label = "Jobs left over time. " + ", ".join(_describe_mark(*mark) for mark in timeline.marks.items())
    drawing = draw_stretched(_LEFT_PIXELS, area, draw_grid(grid, _LEFT_PIXELS), failed, marks, label=label)
    return Html(_label_marks(timeline, span) + drawing)


def _label_marks(timeline: Timeline, span: float) -> Html:
    """Return the labels of the marks with lines down to them. Each has its own line: the last mark is at the top."""
    marks = sorted(timeline.marks.items(), key=lambda mark: -mark[1])
    height = len(marks) * _MARK_PIXELS
    parts = list[Html]()
    for number, (percent, seconds) in enumerate(marks):
        position, top = min(1.0, seconds / span), number * _MARK_PIXELS
        x, is_left = f"{100 * position:.2f}%", position > 0.4
        place = {"x": x, "dx": -5 if is_left else 5, "y": top + 11, "text_anchor": "end" if is_left else "start"}
        parts.append(make_tag("line", class_="mark", x1=x, x2=x, y1=top + 1, y2=height))
        parts.append(make_tag("text", _describe_mark(percent, seconds), **place))
    return make_tag("svg", *parts, class_="axis marks", height=height, aria_hidden="true") if parts else Html()


def _describe_mark(percent: int, seconds: float) -> str:
    return f"{percent} % after {format_span(seconds)}"
