"""Count the nuclei in one picture of a DNA stain: bright blobs on a dark ground.

Usage: python3 count_cells.py IMAGE OUTPUT_DIR

Writes OUTPUT_DIR/counts.csv (one row) and OUTPUT_DIR/marked.png (the picture, every nucleus outlined).
It stands for any program that a scientist has: it knows nothing of AWS, reads a file and writes files. It needs Pillow
alone, and trades speed for being readable from top to bottom. The steps are the usual ones: smooth, threshold, part
touching nuclei at their waists (a watershed on the distance to the background), drop what is too small.
"""

import csv
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageOps, UnidentifiedImageError

SMOOTHING_PX = 1.3  # standard deviation of the blur that takes the camera's noise away
LOWEST_THRESHOLD = 16  # grey level; in a well without cells Otsu's method would part noise from noise
SMALLEST_NUCLEUS_PX = 50  # area; dust and fragments are smaller
WAIST_PX = 0.3  # two hills of the distance map are two nuclei if the pass between them lies so much below both tops
SHAPE_SMOOTHING_PX = 1.4  # standard deviation of the blur of the distance map, so that a ragged rim parts nothing
DISTANCE_SCALE = 20  # grey levels a pixel of distance: keeps fractions of a pixel in an 8-bit map
ENLARGEMENT, LINE_PX = 3, 2  # marked.png is so many times as wide and as high as the picture; lines are so wide
COUNTED_COLOR, NEIGHBOR_COLOR = (255, 190, 0), (80, 130, 200)


@dataclass
class Nucleus:
    """A hill of the distance map: its pixels (numbered row by row) and the height of its top, in grey levels."""

    pixels: list[int]
    top: int
    counted: bool = True


def compute_otsu_threshold(histogram: list[int]) -> int:
    """Return the grey level that parts the pixels best into a dark class (up to it) and a bright one (above it).

    Best is the largest variance between the classes: N. Otsu, "A threshold selection method from gray-level
    histograms", IEEE Transactions on Systems, Man, and Cybernetics 9 (1979) 62-66.
    """
    total, total_sum = sum(histogram), sum(level * n for level, n in enumerate(histogram))
    dark = dark_sum = best_level = 0
    best_variance = 0.0
    for level, n in enumerate(histogram):
        dark, dark_sum = dark + n, dark_sum + level * n
        bright = total - dark
        if dark and bright:
            variance = dark * bright * (dark_sum / dark - (total_sum - dark_sum) / bright) ** 2
            if variance > best_variance:
                best_level, best_variance = level, variance
    return best_level


def build_foreground_mask(picture: Image.Image) -> Image.Image:
    """Return a mask: 255 where the smoothed picture is brighter than the threshold, else 0.

    The threshold is sought among square roots of grey levels, where the noise of few photons and of many is alike
    (F. J. Anscombe, Biometrika 35 (1948) 246-254): dim nuclei beside bright ones are not lost.
    """
    roots = [round(math.sqrt(255 * level)) for level in range(256)]
    smooth = picture.filter(ImageFilter.GaussianBlur(SMOOTHING_PX)).point(roots)
    threshold = max(compute_otsu_threshold(smooth.histogram()), roots[LOWEST_THRESHOLD])
    return smooth.point([255 * (level > threshold) for level in range(256)])


def erode_mask(mask: Image.Image, by_cross: bool) -> Image.Image:
    """Return the mask without its outermost pixels, by a cross of 5 pixels or by a square of 9."""
    if not by_cross:
        return mask.filter(ImageFilter.MinFilter(3))
    return mask.filter(ImageFilter.Kernel((3, 3), (0, 1, 0, 1, 1, 1, 0, 1, 0))).point([0] * 255 + [255])


def build_distance_map(mask: Image.Image) -> Image.Image:
    """Return a map in which nuclei are hills: how many erosions each pixel survives, smoothed.

    Crosses and squares by turns make the distance an octagon's, close enough to a circle's.
    """
    heights = Image.new("L", mask.size)
    one_pixel = Image.new("L", mask.size, DISTANCE_SCALE)
    by_cross = True
    while mask.getbbox():
        heights = ImageChops.add(heights, ImageChops.multiply(mask, one_pixel))
        mask, by_cross = erode_mask(mask, by_cross), not by_cross
    return heights.filter(ImageFilter.GaussianBlur(SHAPE_SMOOTHING_PX))


def iter_neighbors(pixel: int, width: int, size: int) -> Iterator[int]:
    """Yield the pixels above, below, left and right of one, those that exist."""
    if pixel >= width:
        yield pixel - width
    if pixel + width < size:
        yield pixel + width
    if pixel % width:
        yield pixel - 1
    if (pixel + 1) % width:
        yield pixel + 1


def separate_nuclei(heights: bytes, mask: bytes, width: int) -> list[Nucleus]:
    """Return the hills of the distance map: its pixels are visited from high to low, as sinking water uncovers them.

    A pixel beside no hill is a new top; else it joins the hill of its highest neighbour. Where hills meet is the pass
    between them, and they become one unless it lies WAIST_PX below the lower top.
    """
    hill_of: dict[int, Nucleus] = {}
    for pixel in sorted((p for p, inside in enumerate(mask) if inside), key=lambda p: -heights[p]):
        uncovered = [near for near in iter_neighbors(pixel, width, len(mask)) if near in hill_of]
        highest = max(uncovered, key=lambda near: heights[near], default=None)
        hill = Nucleus([], heights[pixel]) if highest is None else hill_of[highest]
        hill.pixels.append(pixel)
        hill_of[pixel] = hill
        for other in (hill_of[near] for near in uncovered):
            if other is not hill and min(hill.top, other.top) - heights[pixel] < WAIST_PX * DISTANCE_SCALE:
                hill.pixels += other.pixels
                hill.top = max(hill.top, other.top)
                hill_of.update(dict.fromkeys(other.pixels, hill))
    return list({id(hill): hill for hill in hill_of.values()}.values())


def is_cut_by_edge(pixels: list[int], width: int, size: int) -> bool:
    """Tell whether a nucleus is cut by the right or the lower edge: it is then the neighbouring picture's.

    So a nucleus on the line between two pictures is counted once, as in a counting chamber: H. J. G. Gundersen,
    "Notes on the estimation of the numerical density of arbitrary profiles", J. Microscopy 111 (1977) 219-223.
    """
    return any((pixel + 1) % width == 0 or pixel + width >= size for pixel in pixels)


def detect_nuclei(picture: Image.Image) -> list[Nucleus]:
    """Return all nuclei of a grey picture, also those that belong to its neighbours."""
    mask = build_foreground_mask(picture)
    hills = separate_nuclei(build_distance_map(mask).tobytes(), mask.tobytes(), picture.width)
    nuclei = [hill for hill in hills if len(hill.pixels) >= SMALLEST_NUCLEUS_PX]
    for nucleus in nuclei:
        nucleus.counted = not is_cut_by_edge(nucleus.pixels, picture.width, picture.width * picture.height)
    return nuclei


def write_counts(path: Path, well: str, nuclei: list[Nucleus], picture_area: int) -> None:
    """Write a header and one row: well, cells, their mean area in pixels, and how much of the picture nuclei cover."""
    areas = [len(nucleus.pixels) for nucleus in nuclei if nucleus.counted]
    covered = 100 * sum(len(nucleus.pixels) for nucleus in nuclei) / picture_area
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["well", "cells", "mean_area_px", "foreground_percent"])
        rows.writerow([well, len(areas), f"{sum(areas) / max(len(areas), 1):.1f}", f"{covered:.1f}"])


def draw_marked_picture(picture: Image.Image, nuclei: list[Nucleus]) -> Image.Image:
    """Return the picture enlarged, with a line around each nucleus: one colour if counted, another if a neighbour's."""
    width, size, scale = picture.width, picture.width * picture.height, ENLARGEMENT
    grey = ImageOps.autocontrast(picture, cutoff=(0, 0.05))
    marked = grey.resize((width * scale, picture.height * scale), Image.Resampling.BICUBIC).convert("RGB")
    draw = ImageDraw.Draw(marked)
    for nucleus in nuclei:
        inside = set(nucleus.pixels)
        for pixel in nucleus.pixels:
            for near in iter_neighbors(pixel, width, size):
                if near not in inside:
                    colour = COUNTED_COLOR if nucleus.counted else NEIGHBOR_COLOR
                    draw.line(compute_shared_side(pixel, near, width, scale), fill=colour, width=LINE_PX)
    return marked


def compute_shared_side(pixel: int, near: int, width: int, scale: int) -> tuple[int, int, int, int]:
    """Return the line (x, y, x, y) between two neighbouring pixels of a picture enlarged by `scale`."""
    (row, column), (near_row, near_column) = divmod(pixel, width), divmod(near, width)
    left, top = max(column, near_column) * scale, max(row, near_row) * scale
    return (left, top, left + scale, top) if column == near_column else (left, top, left, top + scale)


def main(arguments: list[str]) -> int:
    """Count one picture; return 0, or 2 after one line on standard error if the input is wrong."""
    if len(arguments) != 2:
        print("usage: python3 count_cells.py IMAGE OUTPUT_DIR", file=sys.stderr)
        return 2
    source, output = Path(arguments[0]), Path(arguments[1])
    try:
        picture = Image.open(source).convert("L")
    except (UnidentifiedImageError, OSError) as error:
        print(f"count_cells.py: {source} cannot be read as a picture: {error}", file=sys.stderr)
        return 2
    nuclei = detect_nuclei(picture)
    output.mkdir(parents=True, exist_ok=True)
    write_counts(output / "counts.csv", source.stem, nuclei, picture.width * picture.height)
    draw_marked_picture(picture, nuclei).save(output / "marked.png")
    print(f"{source.stem}: {sum(nucleus.counted for nucleus in nuclei)} cells")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
