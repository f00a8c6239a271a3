"""Draws a terminal screen as SVG, with its colors on a dark background."""

from __future__ import annotations

from html import escape
from itertools import groupby

from terminal import WIDTH

CELL_WIDTH, LINE_HEIGHT, MARGIN = 8.4, 18, 14  # px, for a font of 14 px
FOREGROUND, DIM = "#d6d9de", "#8b919b"
# The colors of SGR codes 30 to 37 and 90 to 97.
COLORS = ("#5c6370", "#f07178", "#7fd88f", "#e5c07b", "#6cb2f5", "#d48ef0", "#5fd0d8", "#d6d9de")


def draw_screen(lines: list[list[tuple[str, str]]], title: str) -> str:
    """Return an SVG of lines of cells: (character, SGR codes)."""
    width, height = WIDTH * CELL_WIDTH + 2 * MARGIN, len(lines) * LINE_HEIGHT + 2 * MARGIN
    shapes = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height}">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{width:g}" height="{height}" rx="8" class="screen" fill="#16181d"/>',
        '<g class="screen-text" font-size="14" '
        "font-family=\"ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace\">",
    ]
    for row, line in enumerate(lines):
        column = 0
        for style, cells in groupby(line, key=lambda cell: cell[1]):
            text = "".join(character for character, _ in cells)
            if text.strip():
                x, y = MARGIN + column * CELL_WIDTH, MARGIN + row * LINE_HEIGHT + 13
                # Not on the group: browsers give each text element their own style for spaces, which collapses them.
                shapes.append(
                    f'<text xml:space="preserve" x="{x:g}" y="{y}" textLength="{len(text) * CELL_WIDTH:g}" '
                    f'style="fill: {find_color(style)}">{escape(text)}</text>'
                )
            column += len(text)
    return "\n".join([*shapes, "</g>", "</svg>", ""])


def find_color(style: str) -> str:
    """Return the color of SGR codes, such as `1;31`."""
    codes = [int(code) for code in style.split(";") if code]
    for code in reversed(codes):
        if 30 <= code <= 37 or 90 <= code <= 97:
            return COLORS[code % 10]
    return DIM if 2 in codes else FOREGROUND
