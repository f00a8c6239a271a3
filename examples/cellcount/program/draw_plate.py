"""Draw an image of the plate from the results of count_cells.py. The color of each well's frame shows its count.

Usage: python3 draw_plate.py RESULTS_DIR OUTPUT.png

RESULTS_DIR contains one folder per job, each with a counts.csv and a marked.png. The folders' names do not matter,
because counts.csv contains the name of the well. Wells without results are drawn empty and listed on standard error.
The program needs only Pillow.
"""

import csv
import itertools
import sys
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

ROWS, COLUMNS = "ABCDEFGH", [f"{column:02}" for column in range(1, 13)]
IMAGE_SIZE = (124, 62)  # pixels; size of one well's image, which is twice as wide as high, like the example's images
FRAME, STRIP, GAP = 5, 32, 8  # pixels: width of the frame, height of the strip with the count, gap between wells
WELL_SIZE = (IMAGE_SIZE[0] + 2 * FRAME, IMAGE_SIZE[1] + FRAME + STRIP)
# Margins in pixels: for the row names, for the title, for the color bar, and an empty margin.
LEFT, TOP, RIGHT, BOTTOM = 60, 152, 136, 32
BAR_WIDTH, TICK_LENGTH = 26, 7  # pixels
INK_COLOR, PALE_INK_COLOR, EMPTY_COLOR = (33, 37, 41), (108, 117, 125), (241, 243, 245)
# Viridis (S. van der Walt and N. Smith, 2015) in nine even steps. The order of the colors is visible in grayscale and
# to color-blind people.
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
    """Return the results, keyed by well, from all folders below `folder` that have a counts.csv and a marked.png.

    Raise ValueError with the file's name if a counts.csv does not contain a well and a whole number as the cell count.
    """
    results = {}
    for path in sorted(folder.rglob("counts.csv")):
        try:
            row = next(csv.DictReader(path.read_text().splitlines()))
            result = WellResult(int(row["cells"]), path.with_name("marked.png"))
        except (StopIteration, KeyError, ValueError) as error:
            raise ValueError(f"{path}: the columns `well` and `cells` cannot be read ({error!r})") from error
        if result.marked.exists():
            results[row["well"]] = result
    return results


def compute_color(share: float) -> Color:
    """Return the color for a count. `share`: the count as a fraction of the largest count, from 0 to 1."""
    position = min(max(share, 0.0), 1.0) * (len(VIRIDIS_COLORS) - 1)
    lower = min(int(position), len(VIRIDIS_COLORS) - 2)
    fraction = position - lower
    red, green, blue = (
        round(a + (b - a) * fraction) for a, b in zip(VIRIDIS_COLORS[lower], VIRIDIS_COLORS[lower + 1], strict=True)
    )
    return red, green, blue


def choose_ink_color(color: Color) -> Color:
    """Return white or dark ink, whichever is readable on the color.

    Brightness is computed with the weights of ITU-R BT.601.
    """
    red, green, blue = color
    return INK_COLOR if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else (255, 255, 255)


def choose_tick_step(largest: int) -> int:
    """Return 1, 2, or 5 times a power of ten: the smallest step that divides 0 to `largest` into at most six steps."""
    steps = (n * 10**power for power in itertools.count() for n in (1, 2, 5))
    return int(next(step for step in steps if step * 6 >= largest))


class PlateDrawing:
    """An image of the plate: a white page with wells, row and column names, a title, and a color bar."""

    def __init__(self, largest: int) -> None:
        """Create an empty page. `largest`: the count at the top of the color bar."""
        self.largest = largest
        width = LEFT + len(COLUMNS) * (WELL_SIZE[0] + GAP) - GAP + RIGHT
        self.foot = TOP + len(ROWS) * (WELL_SIZE[1] + GAP) - GAP
        self.image = Image.new("RGB", (width, self.foot + BOTTOM), "white")
        self.draw = ImageDraw.Draw(self.image)

    def draw_text(
        self, position: tuple[int, int], text: str, size: int, color: Color = INK_COLOR, anchor: str = "mm"
    ) -> None:
        """Draw text at a position. `size`: in pixels. `anchor`: as in Pillow (mm: centered on the position)."""
        self.draw.text(position, text, fill=color, font=ImageFont.load_default(size), anchor=anchor)

    def get_well_corner(self, row: int, column: int) -> tuple[int, int]:
        """Return the upper left corner of a well."""
        return LEFT + column * (WELL_SIZE[0] + GAP), TOP + row * (WELL_SIZE[1] + GAP)

    def draw_well(self, row: int, column: int, result: WellResult | None) -> None:
        """Draw one well: its image in a frame with the count, or an empty well if it has no result."""
        x, y = self.get_well_corner(row, column)
        box = (x, y, x + WELL_SIZE[0] - 1, y + WELL_SIZE[1] - 1)
        if result is None:
            self.draw.rounded_rectangle(box, radius=6, fill=EMPTY_COLOR, outline=(206, 212, 218), width=2)
            return
        color = compute_color(result.cells / self.largest)
        self.draw.rounded_rectangle(box, radius=6, fill=color)
        with Image.open(result.marked) as marked:
            small = marked.convert("RGB").resize(IMAGE_SIZE, Image.Resampling.LANCZOS)
        self.image.paste(small, (x + FRAME, y + FRAME))
        self.draw_text((x + WELL_SIZE[0] // 2, box[3] - STRIP // 2 + 1), str(result.cells), 26, choose_ink_color(color))

    def draw_names(self, title: str, subtitle: str) -> None:
        """Draw the title, the subtitle, and the names of the rows and columns."""
        self.draw_text((LEFT, 44), title, 46, anchor="lm")
        self.draw_text((LEFT, 90), subtitle, 27, PALE_INK_COLOR, anchor="lm")
        for row, name in enumerate(ROWS):
            self.draw_text((LEFT // 2, self.get_well_corner(row, 0)[1] + WELL_SIZE[1] // 2), name, 32)
        for column, name in enumerate(COLUMNS):
            self.draw_text((self.get_well_corner(0, column)[0] + WELL_SIZE[0] // 2, TOP - 22), name.lstrip("0"), 32)

    def draw_color_bar(self) -> None:
        """Draw the color bar on the right, labeled with round numbers."""
        x, lowest, height = self.image.width - RIGHT + 36, self.foot - 1, self.foot - 1 - TOP
        for step in range(height + 1):
            self.draw.line((x, lowest - step, x + BAR_WIDTH - 1, lowest - step), fill=compute_color(step / height))
        for count in range(0, self.largest + 1, choose_tick_step(self.largest)):
            y = lowest - round(height * count / self.largest)
            self.draw.line((x + BAR_WIDTH, y, x + BAR_WIDTH + TICK_LENGTH, y), fill=INK_COLOR, width=2)
            self.draw_text((x + BAR_WIDTH + TICK_LENGTH + 6, y), str(count), 27, anchor="lm")
        self.draw_text((x, TOP - 22), "cells", 27, anchor="lm")


def draw_plate(results: dict[str, WellResult]) -> Image.Image:
    """Return the image of the plate. Wells without results are empty."""
    plate = PlateDrawing(max(1, *(result.cells for result in results.values())))
    total = sum(result.cells for result in results.values())
    plate.draw_names(
        "Cells in each well", f"{total:,} cells in {len(results)} wells; DNA stain, every nucleus outlined"
    )
    for row, letter in enumerate(ROWS):
        for column, number in enumerate(COLUMNS):
            plate.draw_well(row, column, results.get(letter + number))
    plate.draw_color_bar()
    return plate.image


def main(arguments: list[str]) -> int:
    """Draw the plate. Return 0, or 2 if the arguments are invalid or there are no results to draw."""
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
        print(f"draw_plate.py: {folder}: no subfolder has a counts.csv and a marked.png", file=sys.stderr)
        return 2
    if missing := [row + column for row in ROWS for column in COLUMNS if row + column not in results]:
        print(f"draw_plate.py: {len(missing)} wells without results, drawn empty: {' '.join(missing)}", file=sys.stderr)
    output.parent.mkdir(parents=True, exist_ok=True)
    draw_plate(results).save(output)
    print(f"{output}: {sum(result.cells for result in results.values()):,} cells in {len(results)} wells")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
