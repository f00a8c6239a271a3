"""What each machine did over time: a line per slot, or, of many machines, a row for several of them together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from distributed_something.results.report.data import Lane, LaneRow, Piece, Timeline
from distributed_something.results.report.sections.amounts import UNKNOWN, count_noun, format_span
from distributed_something.results.report.sections.drawing import (
    MIN_VISIBLE_WIDTH,
    WIDTH,
    draw_grid,
    draw_rectangles,
    draw_stretched,
)
from distributed_something.results.report.sections.markup import Html, make_tag

_ALL_LANES_PIXELS, _MAX_LANE_PIXELS, _MIN_LANE_PIXELS, _GAP_PIXELS = 640, 8, 2, 2
Place = tuple[str, str, str]  # type, zone, and how the machine was bought
_ROW_PIXELS, _DEPTHS = 9, 8  # of rows: height, and how many blues


@dataclass
class Band:
    """Lines of machines that share them because they followed one another. `lines`: the lanes of each line."""

    end: float
    lines: list[list[Lane]] = field(default_factory=list)


def pack_lanes(lanes: Sequence[Lane], span: float) -> list[tuple[Place, list[Band]]]:
    """Return the lanes by type, zone, and purchase, the largest groups first, in the order in which they are drawn."""
    groups = dict[Place, list[Lane]]()
    for lane in lanes:
        groups.setdefault((lane.type or UNKNOWN, lane.zone or UNKNOWN, describe_purchase(lane.is_spot)), []).append(
            lane
        )
    ordered = sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))
    return [(place, _pack_group(members, span)) for place, members in ordered]


def describe_purchase(is_spot: bool | None) -> str:
    """Return how a machine was bought."""
    return UNKNOWN if is_spot is None else "spot" if is_spot else "on-demand"


def _pack_group(lanes: list[Lane], span: float) -> list[Band]:
    machines = [list(members) for _, members in groupby(sorted(lanes, key=_sort_lane), key=lambda lane: lane.machine)]
    machines.sort(key=lambda members: (members[0].launched, members[0].machine))
    bands = list[Band]()
    for members in machines:
        start = members[0].launched
        end = max(span if lane.ended is None else lane.ended for lane in members)
        band = next((b for b in bands if b.end <= start and len(b.lines) == len(members)), None)
        if band is None:
            band = Band(end, [[] for _ in members])
            bands.append(band)
        band.end = end
        for line, lane in zip(band.lines, members, strict=True):
            line.append(lane)
    return bands


def _sort_lane(lane: Lane) -> tuple[str, int]:
    return lane.machine, lane.slot


def draw_lanes(timeline: Timeline, span: float, grid: Sequence[float]) -> list[tuple[Html, Html]]:
    """Return the label and the drawing of each group of lanes."""
    pixels = max(_MIN_LANE_PIXELS, min(_MAX_LANE_PIXELS, _ALL_LANES_PIXELS // max(1, len(timeline.lanes))))
    return [
        (_label_group(place, bands), _draw_group(bands, pixels, span, grid))
        for place, bands in pack_lanes(timeline.lanes, span)
    ]


def _label_group(place: Place, bands: list[Band]) -> Html:
    machines = len({lane.machine for band in bands for line in band.lines for lane in line})
    type_, zone, purchase = place
    bought = count_noun(machines, f"{purchase} machine" if purchase != UNKNOWN else "machine")
    names = [zone, bought] if zone != UNKNOWN else [bought]
    title = make_tag("b", type_ if type_ != UNKNOWN else "type unknown")
    return make_tag("span", title, *(part for name in names for part in (" ", make_tag("span", name))))


def _draw_group(bands: list[Band], pixels: int, span: float, grid: Sequence[float]) -> Html:
    tops, y = list[tuple[int, list[Lane]]](), 0
    for band in bands:
        for line in band.lines:
            tops.append((y, line))
            y += pixels
        y += _GAP_PIXELS
    height = max(pixels, y - _GAP_PIXELS)
    scale = WIDTH / span
    kinds: dict[str, list[tuple[float, float, float, float]]] = {
        name: [] for name in ("idle", "startup", "work", "work-2", "interrupted", "failed")
    }
    for top, line in tops:
        for lane in line:
            _add_lane(kinds, lane, (top, pixels), (scale, span))
    paths = [draw_rectangles(rectangles, f"u-{kind}") for kind, rectangles in kinds.items()]
    return draw_stretched(
        height, draw_grid(grid, height), *paths, class_="lanes", label="What the machines did over time",
        data_tops=",".join(str(top) for top, _ in tops), data_pixels=pixels,
    )  # fmt: skip


def _add_lane(
    kinds: dict[str, list[tuple[float, float, float, float]]],
    lane: Lane,
    place: tuple[int, int],
    scale_and_span: tuple[float, float],
) -> None:
    """Add the rectangles of a lane. `place`: its top and its height, in pixels."""
    (top, pixels), (scale, span) = place, scale_and_span
    start, end = lane.launched, span if lane.ended is None else lane.ended
    first = min((piece.start for piece in lane.pieces), default=start)  # a slot without a program was idle
    kinds["idle"].append((first * scale, top, (end - first) * scale, pixels))
    kinds["startup"].append((start * scale, top, (first - start) * scale, pixels))
    for number, piece in enumerate(lane.pieces):
        kind = _name_kind(piece, number)
        least = MIN_VISIBLE_WIDTH if piece.state != "done" else 1
        kinds[kind].append((piece.start * scale, top, max(least, (piece.end - piece.start) * scale), pixels))


def _name_kind(piece: Piece, number: int) -> str:
    if piece.state not in ("done", "running"):
        return piece.state if piece.state in ("failed", "interrupted") else "idle"
    return "work-2" if number % 2 else "work"


def list_lines(timeline: Timeline, span: float) -> list[list[Lane]]:
    """Return the lanes of each line, in the order of the drawings, for the script's tooltips."""
    return [line for _, bands in pack_lanes(timeline.lanes, span) for band in bands for line in band.lines]


def draw_rows(timeline: Timeline, grid: Sequence[float]) -> list[tuple[Html, Html]]:
    """Return the label and the drawing of the rows, grouped by type and zone if they are known."""
    groups = groupby(timeline.rows, key=_name_group)
    return [_draw_row_group(name, list(rows), grid) for name, rows in groups]


def _name_group(row: LaneRow) -> tuple[str, str]:
    return row.type or "", row.zone or ""


def _draw_row_group(name: tuple[str, str], rows: list[LaneRow], grid: Sequence[float]) -> tuple[Html, Html]:
    machines = count_noun(sum(row.machines for row in rows), "machine")
    each = f"up to {max(row.machines for row in rows):,} in a row" if len(rows) > 1 else ""
    label = make_tag(
        "span",
        make_tag("b", name[0] or "Machines"),
        *(part for text in (name[1], machines, each) if text for part in (" ", make_tag("span", text))),
    )
    height = len(rows) * (_ROW_PIXELS + 1) - 1
    depths: dict[int, list[tuple[float, float, float, float]]] = {depth: [] for depth in range(1, _DEPTHS + 1)}
    failed = list[tuple[float, float, float, float]]()
    for number, row in enumerate(rows):
        _add_row(row, number * (_ROW_PIXELS + 1), depths, failed)
    paths = [draw_rectangles(rectangles, f"depth d{depth}") for depth, rectangles in depths.items()]
    text = "How much of the paid time the machines were at work, over time"
    children = (draw_grid(grid, height), *paths, draw_rectangles(failed, "u-failed"))
    return label, draw_stretched(height, *children, class_="rows", label=text)


def _add_row(
    row: LaneRow,
    top: int,
    depths: dict[int, list[tuple[float, float, float, float]]],
    failed: list[tuple[float, float, float, float]],
) -> None:
    width = WIDTH / max(1, len(row.busy))
    start = 0
    levels = [round(_DEPTHS * min(1.0, share) + 0.49) if share > 0 else 0 for share in row.busy]
    for depth, members in groupby(levels):
        end = start + len(list(members))
        if depth:
            depths[min(_DEPTHS, depth)].append((start * width, top, (end - start) * width, _ROW_PIXELS))
        start = end
    for number, share in enumerate(row.failed):
        if share > 0:
            pixels = max(1.0, round(_ROW_PIXELS * min(1.0, share), 1))
            failed.append((number * width, top + _ROW_PIXELS - pixels, width, pixels))


def draw_machines(timeline: Timeline) -> Html:
    """Return a folded table of the machines, if there are lanes."""
    if not timeline.lanes:
        return Html()
    machines = [
        list(lanes) for _, lanes in groupby(sorted(timeline.lanes, key=_sort_lane), key=lambda lane: lane.machine)
    ]
    machines.sort(key=lambda lanes: (lanes[0].launched, lanes[0].machine))
    head = make_tag("tr", *_make_cells("th", ["machine", "type", "zone", "bought as", "slots", "launched after",
                                              "ended after", "why it ended"]))  # fmt: skip
    rows = [make_tag("tr", *_make_cells("td", _list_cells(lanes))) for lanes in machines]
    table = make_tag("table", make_tag("thead", head), make_tag("tbody", *rows))
    summary = make_tag("summary", f"the {count_noun(len(machines), 'machine')}")
    return make_tag("details", summary, make_tag("div", table, class_="wide", tabindex=0))


def _make_cells(name: str, texts: Iterable[str]) -> list[Html]:
    return [make_tag(name, text) for text in texts]


def _list_cells(lanes: list[Lane]) -> list[str]:
    lane = lanes[0]
    ended = format_span(lane.ended) if lane.ended is not None else "not known to have ended"
    return [
        lane.machine, lane.type or UNKNOWN, lane.zone or UNKNOWN, describe_purchase(lane.is_spot), str(len(lanes)),
        format_span(lane.launched), ended, lane.end_reason or (UNKNOWN if lane.ended is not None else ""),
    ]  # fmt: skip
