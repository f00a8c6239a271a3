"""Parts of drawings: SVG that stretches to the page's width, and axes, whose text never stretches.

The page's content security policy forbids `style` attributes. Positions are therefore attributes of SVG elements: in
units of a stretched drawing, which is WIDTH units wide, or in percent of a drawing that does not stretch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from distributed_something.results.report.sections.markup import Html, make_tag

WIDTH = 10_000
MIN_VISIBLE_WIDTH = 11  # units; about one pixel


def draw_stretched(height: int, *children: object, class_: str = "", label: str = "", **attributes: object) -> Html:
    """Return an SVG of `height` pixels that stretches to the width of its place. It must not contain text."""
    return make_tag(
        "svg", *children, class_=f"stretched {class_}".strip(), viewBox=f"0 0 {WIDTH} {height}", height=height,
        preserveAspectRatio="none", **({"role": "img", "aria_label": label} if label else {"aria_hidden": "true"}),
        **attributes,
    )  # fmt: skip


def draw_labels(labels: Iterable[tuple[float, str]], height: int = 18, class_: str = "axis") -> Html:
    """Return a line of labels. Each is a position from 0 to 1 and a text, which stays inside the drawing."""
    texts = [
        make_tag("text", text, x=f"{100 * position:.2f}%", y=height - 5, text_anchor=_choose_anchor(position))
        for position, text in labels
        if 0 <= position <= 1
    ]
    return make_tag("svg", *texts, class_=class_, height=height, aria_hidden="true")


def draw_rectangles(rectangles: Iterable[tuple[float, float, float, float]], class_: str) -> Html:
    """Return one path of rectangles, each (x, y, width, height) in units and pixels; nothing if there are none."""
    parts = [
        f"M{round(x)} {format_pixels(y)}h{max(1, round(width))}v{format_pixels(height)}h-{max(1, round(width))}z"
        for x, y, width, height in rectangles
        if width > 0 and height > 0 and math.isfinite(x + width)
    ]
    return make_tag("path", class_=class_, d="".join(parts)) if parts else Html()


def draw_grid(positions: Sequence[float], height: int) -> Html:
    """Return vertical lines at these positions, each from 0 to 1."""
    return draw_lines(positions, 0, height, "grid")


def draw_lines(positions: Iterable[float], top: float, bottom: float, class_: str) -> Html:
    """Return one path of vertical lines between two heights, in pixels."""
    parts = [f"M{round(WIDTH * position)} {format_pixels(top)}V{format_pixels(bottom)}" for position in positions]
    return make_tag("path", class_=class_, d="".join(parts)) if parts else Html()


def format_pixels(pixels: float) -> str:
    """Return a number of pixels with at most two decimals."""
    return f"{pixels:.2f}".rstrip("0").rstrip(".") if pixels % 1 else f"{pixels:.0f}"


def _choose_anchor(position: float) -> str:
    return "start" if position < 0.06 else "end" if position > 0.9 else "middle"
