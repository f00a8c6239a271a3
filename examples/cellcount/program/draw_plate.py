"""Draw one picture of the plate from the results of count_cells.py: every well, framed in a colour by its count.

Usage: python3 draw_plate.py RESULTS_DIR OUTPUT.png

RESULTS_DIR holds one folder a job, each with a counts.csv and a marked.png; the well is read from counts.csv, so the
folders' names do not matter. Wells without results are drawn empty and named on standard error. Pillow alone.
"""

import csv
import itertools
import sys
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

ROWS, COLUMNS = "ABCDEFGH", [f"{column:02}" for column in range(1, 13)]
PICTURE_SIZE = (124, 62)  # pixels of one well's picture in the plate; the example's pictures are twice as wide as high
FRAME, STRIP, GAP = 5, 32, 8  # pixels: the coloured frame, the strip below that holds the number, between wells
WELL_SIZE = (PICTURE_SIZE[0] + 2 * FRAME, PICTURE_SIZE[1] + FRAME + STRIP)
LEFT, TOP, RIGHT, BOTTOM = 60, 152, 136, 32  # pixels: margins; they hold row names, title, colour bar, nothing
BAR_WIDTH, TICK_LENGTH = 26, 7
INK_COLOR, PALE_INK_COLOR, EMPTY_COLOR = (33, 37, 41), (108, 117, 125), (241, 243, 245)
# Viridis (S. van der Walt and N. Smith, 2015) at nine even steps: it stays ordered in grey and for the colour-blind.
VIRIDIS_COLORS = [
    *[(68, 1, 84), (71, 44, 122), (59, 81, 139), (44, 113, 142), (33, 144, 141)],
    *[(39, 173, 129), (92, 200, 99), (170, 220, 50), (253, 231, 37)],
]

Color = tuple[int, int, int]


@dataclass(frozen=True)
class WellResult:
    cells: int
    marked: Path


def read_results(folder: Path) -> dict[str, WellResult]:
    """Return the wells that have a count and a marked picture anywhere below the folder.

    Raises ValueError, naming the file, if a counts.csv does not hold a well and a whole number of cells.
    """
    results = {}
    for path in sorted(folder.rglob("counts.csv")):
        try:
            row = next(csv.DictReader(path.read_text().splitlines()))
            result = WellResult(int(row["cells"]), path.with_name("marked.png"))
        except (StopIteration, KeyError, ValueError) as error:
            raise ValueError(f"{path}: expected the columns well and cells and one row ({error!r})") from error
        if result.marked.exists():
            results[row["well"]] = result
    return results


def compute_color(share: float) -> Color:
    """Return the colour for a share of the largest count, 0 to 1."""
    place = min(max(share, 0.0), 1.0) * (len(VIRIDIS_COLORS) - 1)
    lower = min(int(place), len(VIRIDIS_COLORS) - 2)
    part = place - lower
    red, green, blue = (
        round(a + (b - a) * part) for a, b in zip(VIRIDIS_COLORS[lower], VIRIDIS_COLORS[lower + 1], strict=True)
    )
    return red, green, blue


def choose_ink_color(colour: Color) -> Color:
    """Return white or dark ink, whichever can be read on the colour (weights of ITU-R BT.601)."""
    red, green, blue = colour
    return INK_COLOR if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else (255, 255, 255)


def choose_tick_step(largest: int) -> int:
    """Return a step of 1, 2 or 5 times a power of ten that parts 0 to `largest` into at most six."""
    steps = (n * 10**power for power in itertools.count() for n in (1, 2, 5))
    return int(next(step for step in steps if step * 6 >= largest))


class PlateDrawing:
    """The picture under way: a white page with wells, names, title and colour bar."""

    def __init__(self, largest: int) -> None:
        """Start an empty page; `largest` is the count at the top of the colour bar."""
        self.largest = largest
        width = LEFT + len(COLUMNS) * (WELL_SIZE[0] + GAP) - GAP + RIGHT
        self.foot = TOP + len(ROWS) * (WELL_SIZE[1] + GAP) - GAP
        self.image = Image.new("RGB", (width, self.foot + BOTTOM), "white")
        self.draw = ImageDraw.Draw(self.image)

    def text(
        self, place: tuple[int, int], words: str, size: int, colour: Color = INK_COLOR, anchor: str = "mm"
    ) -> None:
        """Write words at a place; `size` in pixels, `anchor` as Pillow names them (mm: the place is the middle)."""
        self.draw.text(place, words, fill=colour, font=ImageFont.load_default(size), anchor=anchor)

    def get_well_corner(self, row: int, column: int) -> tuple[int, int]:
        """Return the upper left corner of a well."""
        return LEFT + column * (WELL_SIZE[0] + GAP), TOP + row * (WELL_SIZE[1] + GAP)

    def well(self, row: int, column: int, result: WellResult | None) -> None:
        """Draw one well: its picture in a frame with its count, or an empty one."""
        x, y = self.get_well_corner(row, column)
        box = (x, y, x + WELL_SIZE[0] - 1, y + WELL_SIZE[1] - 1)
        if result is None:
            self.draw.rounded_rectangle(box, radius=6, fill=EMPTY_COLOR, outline=(206, 212, 218), width=2)
            return
        colour = compute_color(result.cells / self.largest)
        self.draw.rounded_rectangle(box, radius=6, fill=colour)
        with Image.open(result.marked) as marked:
            small = marked.convert("RGB").resize(PICTURE_SIZE, Image.Resampling.LANCZOS)
        self.image.paste(small, (x + FRAME, y + FRAME))
        self.text((x + WELL_SIZE[0] // 2, box[3] - STRIP // 2 + 1), str(result.cells), 26, choose_ink_color(colour))

    def names(self, title: str, subtitle: str) -> None:
        """Write the title, and the names of rows and columns."""
        self.text((LEFT, 44), title, 46, anchor="lm")
        self.text((LEFT, 90), subtitle, 27, PALE_INK_COLOR, anchor="lm")
        for row, name in enumerate(ROWS):
            self.text((LEFT // 2, self.get_well_corner(row, 0)[1] + WELL_SIZE[1] // 2), name, 32)
        for column, name in enumerate(COLUMNS):
            self.text((self.get_well_corner(0, column)[0] + WELL_SIZE[0] // 2, TOP - 22), name.lstrip("0"), 32)

    def draw_color_bar(self) -> None:
        """Draw the scale of colours on the right, with round numbers beside it."""
        x, lowest, height = self.image.width - RIGHT + 36, self.foot - 1, self.foot - 1 - TOP
        for step in range(height + 1):
            self.draw.line((x, lowest - step, x + BAR_WIDTH - 1, lowest - step), fill=compute_color(step / height))
        for count in range(0, self.largest + 1, choose_tick_step(self.largest)):
            y = lowest - round(height * count / self.largest)
            self.draw.line((x + BAR_WIDTH, y, x + BAR_WIDTH + TICK_LENGTH, y), fill=INK_COLOR, width=2)
            self.text((x + BAR_WIDTH + TICK_LENGTH + 6, y), str(count), 27, anchor="lm")
        self.text((x, TOP - 22), "cells", 27, anchor="lm")


def draw_plate(results: dict[str, WellResult]) -> Image.Image:
    """Return the picture of the plate; wells that `results` lacks are empty."""
    plate = PlateDrawing(max(1, *(result.cells for result in results.values())))
    total = sum(result.cells for result in results.values())
    plate.names("Cells in each well", f"{total:,} cells in {len(results)} wells; DNA stain, every nucleus outlined")
    for row, letter in enumerate(ROWS):
        for column, number in enumerate(COLUMNS):
            plate.well(row, column, results.get(letter + number))
    plate.draw_color_bar()
    return plate.image


def main(arguments: list[str]) -> int:
    """Draw the plate; return 0, or 2 after one line on standard error if there is nothing to draw."""
    if len(arguments) != 2:
        print("usage: python3 draw_plate.py RESULTS_DIR OUTPUT.png", file=sys.stderr)
        return 2
    folder, output = Path(arguments[0]), Path(arguments[1])
    try:
        results = read_results(folder)
    except ValueError as error:
        print(f"draw_plate.py: {error}", file=sys.stderr)
        return 2
    if not results:
        print(f"draw_plate.py: no counts.csv with a marked.png beside it below {folder}", file=sys.stderr)
        return 2
    if missing := [row + column for row in ROWS for column in COLUMNS if row + column not in results]:
        print(f"draw_plate.py: {len(missing)} wells without results, drawn empty: {' '.join(missing)}", file=sys.stderr)
    output.parent.mkdir(parents=True, exist_ok=True)
    draw_plate(results).save(output)
    print(f"{output}: {sum(result.cells for result in results.values()):,} cells in {len(results)} wells")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
