"""Count the nuclei (bright blobs on a dark background) in one image of a DNA stain.

Usage: python3 count_cells.py IMAGE OUTPUT_DIR

Writes OUTPUT_DIR/counts.csv (one row) and OUTPUT_DIR/marked.png (the image with every nucleus outlined).

This is an example of a scientist's own program. It reads and writes files and contains nothing specific to AWS. It
needs only Pillow, and it is written to be easy to read rather than fast. The steps are the usual ones: smooth,
threshold, separate touching nuclei at their waists (a watershed on the distance to the background), and drop objects
that are too small.
"""

import csv
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageOps, UnidentifiedImageError

SMOOTHING_PX = 1.3  # standard deviation of the blur that removes camera noise
LOWEST_THRESHOLD = 16  # gray level; prevents Otsu's method from splitting the noise of a well without cells
SMALLEST_NUCLEUS_PX = 50  # area; dust and fragments are smaller
WAIST_PX = 0.3  # two hills in the distance map are separate nuclei if the pass between them is this far below both tops
SHAPE_SMOOTHING_PX = 1.4  # standard deviation of the blur for the distance map; keeps ragged nuclei in one piece
DISTANCE_SCALE = 20  # gray levels per pixel of distance; preserves fractions of a pixel in an 8-bit map
ENLARGEMENT, LINE_PX = 3, 2  # enlargement of marked.png relative to the image, and width of the outlines
COUNTED_COLOR, NEIGHBOR_COLOR = (255, 190, 0), (80, 130, 200)


@dataclass
class Nucleus:
    """A hill in the distance map: its pixels (numbered row by row) and the height of its top in gray levels."""

    pixels: list[int]
    top: int
    is_counted: bool = True


def compute_otsu_threshold(histogram: list[int]) -> int:
    """Return the gray level that best separates dark pixels (up to this level) from bright pixels (above it).

    The best level maximizes the variance between the two classes: N. Otsu, "A threshold selection method from
    gray-level histograms", IEEE Transactions on Systems, Man, and Cybernetics 9 (1979) 62-66.
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


def build_foreground_mask(image: Image.Image) -> Image.Image:
    """Return a mask that is 255 where the smoothed image is brighter than the threshold, and 0 elsewhere.

    The threshold is computed from the square roots of the gray levels, because taking the square root makes the noise
    independent of brightness (F. J. Anscombe, Biometrika 35 (1948) 246-254). This way, dim nuclei next to bright ones
    are detected.
    """
    roots = [round(math.sqrt(255 * level)) for level in range(256)]
    smooth = image.filter(ImageFilter.GaussianBlur(SMOOTHING_PX)).point(roots)
    threshold = max(compute_otsu_threshold(smooth.histogram()), roots[LOWEST_THRESHOLD])
    return smooth.point([255 * (level > threshold) for level in range(256)])


def erode_mask(mask: Image.Image, by_cross: bool) -> Image.Image:
    """Return the mask without its outermost pixels, eroded by a cross of 5 pixels or a square of 9 pixels."""
    if not by_cross:
        return mask.filter(ImageFilter.MinFilter(3))
    return mask.filter(ImageFilter.Kernel((3, 3), (0, 1, 0, 1, 1, 1, 0, 1, 0))).point([0] * 255 + [255])


def build_distance_map(mask: Image.Image) -> Image.Image:
    """Return a map in which nuclei are hills: the number of erosions that each pixel survives, smoothed.

    Alternating crosses and squares measures distances as octagons, which are close enough to circles.
    """
    heights = Image.new("L", mask.size)
    one_pixel = Image.new("L", mask.size, DISTANCE_SCALE)
    by_cross = True
    while mask.getbbox():
        heights = ImageChops.add(heights, ImageChops.multiply(mask, one_pixel))
        mask, by_cross = erode_mask(mask, by_cross), not by_cross
    return heights.filter(ImageFilter.GaussianBlur(SHAPE_SMOOTHING_PX))


def iter_neighbors(pixel: int, width: int, size: int) -> Iterator[int]:
    """Yield the pixels above, below, left, and right of a pixel, if they are inside the image."""
    if pixel >= width:
        yield pixel - width
    if pixel + width < size:
        yield pixel + width
    if pixel % width:
        yield pixel - 1
    if (pixel + 1) % width:
        yield pixel + 1


def separate_nuclei(heights: bytes, mask: bytes, width: int) -> list[Nucleus]:
    """Return the hills in the distance map.

    Pixels are visited from high to low, as if a water level were dropping. A pixel without a neighbor on a hill starts
    a new hill; any other pixel joins the hill of its highest neighbor. The pixel where two hills meet is the pass
    between them. The hills are merged unless the pass is at least WAIST_PX below the lower top.
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
    """Return whether a nucleus touches the right or the lower edge and is therefore counted in the neighboring image.

    As in a counting chamber, each nucleus that lies across two images is counted only once: H. J. G. Gundersen, "Notes
    on the estimation of the numerical density of arbitrary profiles", J. Microscopy 111 (1977) 219-223.
    """
    return any((pixel + 1) % width == 0 or pixel + width >= size for pixel in pixels)


def detect_nuclei(image: Image.Image) -> list[Nucleus]:
    """Return all nuclei in a grayscale image, including those that are counted in a neighboring image."""
    mask = build_foreground_mask(image)
    hills = separate_nuclei(build_distance_map(mask).tobytes(), mask.tobytes(), image.width)
    nuclei = [hill for hill in hills if len(hill.pixels) >= SMALLEST_NUCLEUS_PX]
    for nucleus in nuclei:
        nucleus.is_counted = not is_cut_by_edge(nucleus.pixels, image.width, image.width * image.height)
    return nuclei


def write_counts(path: Path, well: str, nuclei: list[Nucleus], image_area: int) -> None:
    """Write a header and one row: well, cell count, mean cell area in pixels, and percentage of the image covered."""
    areas = [len(nucleus.pixels) for nucleus in nuclei if nucleus.is_counted]
    covered = 100 * sum(len(nucleus.pixels) for nucleus in nuclei) / image_area
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["well", "cells", "mean_area_px", "foreground_percent"])
        rows.writerow([well, len(areas), f"{sum(areas) / max(len(areas), 1):.1f}", f"{covered:.1f}"])


def draw_marked_image(image: Image.Image, nuclei: list[Nucleus]) -> Image.Image:
    """Return the enlarged image with an outline around each nucleus.

    The outline's color shows whether the nucleus is counted.
    """
    width, size, scale = image.width, image.width * image.height, ENLARGEMENT
    gray = ImageOps.autocontrast(image, cutoff=(0, 0.05))
    marked = gray.resize((width * scale, image.height * scale), Image.Resampling.BICUBIC).convert("RGB")
    draw = ImageDraw.Draw(marked)
    for nucleus in nuclei:
        inside = set(nucleus.pixels)
        for pixel in nucleus.pixels:
            for neighbor in iter_neighbors(pixel, width, size):
                if neighbor not in inside:
                    color = COUNTED_COLOR if nucleus.is_counted else NEIGHBOR_COLOR
                    draw.line(compute_shared_side(pixel, neighbor, width, scale), fill=color, width=LINE_PX)
    return marked


def compute_shared_side(pixel: int, neighbor: int, width: int, scale: int) -> tuple[int, int, int, int]:
    """Return the line (x, y, x, y) between two neighboring pixels of an image enlarged by `scale`."""
    (row, column), (neighbor_row, neighbor_column) = divmod(pixel, width), divmod(neighbor, width)
    left, top = max(column, neighbor_column) * scale, max(row, neighbor_row) * scale
    return (left, top, left + scale, top) if column == neighbor_column else (left, top, left, top + scale)


def main(arguments: list[str]) -> int:
    """Count the cells in one image. Return 0, or 2 if the arguments or the image are invalid."""
    if len(arguments) != 2:
        print("usage: python3 count_cells.py IMAGE OUTPUT_DIR", file=sys.stderr)
        return 2
    source, output = Path(arguments[0]), Path(arguments[1])
    try:
        image = Image.open(source).convert("L")
    except (UnidentifiedImageError, OSError) as error:
        print(f"count_cells.py: {source} cannot be read as an image: {error}", file=sys.stderr)
        return 2
    nuclei = detect_nuclei(image)
    output.mkdir(parents=True, exist_ok=True)
    write_counts(output / "counts.csv", source.stem, nuclei, image.width * image.height)
    draw_marked_image(image, nuclei).save(output / "marked.png")
    print(f"{source.stem}: {sum(nucleus.is_counted for nucleus in nuclei)} cells")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
