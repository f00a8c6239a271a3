"""add_downsampling.py ZARR FACTOR: adds a smaller copy of each picture's last resolution to an OME-Zarr (NGFF 0.4).

ZARR is a plate or one picture. Each new pixel is the mean of FACTOR x FACTOR pixels; what is left over at the right and
lower edge belongs to none. It stands for FACTOR times their size, so its scale is theirs multiplied by FACTOR, and its
middle lies half of that, less half of their size, further on: the translation.

Needs Python 3.9 and zarr 2, or newer. Only chunks pass through zarr: the metadata are JSON files.
"""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import zarr

PICTURES_AT_ONCE = 4  # pictures


def iter_pictures(root: Path) -> Iterator[Path]:
    """Every picture of a plate, or the one that `root` is."""
    attributes = _read_json(root / ".zattrs")
    if "plate" not in attributes:
        yield root
        return
    for well in attributes["plate"]["wells"]:
        for image in _read_json(root / well["path"] / ".zattrs")["well"]["images"]:
            yield root / well["path"] / image["path"]


def add_level(picture: Path, factor: int) -> None:
    """Writes the level beside the last one, and only then tells of it."""
    attributes = _read_json(picture / ".zattrs")
    datasets = attributes["multiscales"][0]["datasets"]
    last = datasets[-1]
    name = str(int(last["path"]) + 1) if last["path"].isdecimal() else str(len(datasets))
    _shrink_level(picture / last["path"], picture / name, factor)
    datasets.append({"path": name, "coordinateTransformations": build_transformations(last, factor)})
    _write_json(picture / ".zattrs", attributes)


def build_transformations(last: dict[str, Any], factor: int) -> list[dict[str, Any]]:
    """Scale and translation of a level that is made from `last`; y and x are the last two axes."""
    given = {one["type"]: one[one["type"]] for one in last["coordinateTransformations"]}
    scale = given["scale"]
    translation = given.get("translation", [0.0] * len(scale))
    larger = [*scale[:-2], *(one * factor for one in scale[-2:])]
    middle = [old + (new - one) / 2 for old, new, one in zip(translation, larger, scale)]  # noqa: B905
    return [{"type": "scale", "scale": larger}, {"type": "translation", "translation": middle}]


def _shrink_level(source: Path, target: Path, factor: int) -> None:
    described = _read_json(source / ".zarray")
    height, width = (max(1, size // factor) for size in described["shape"][-2:])
    described["shape"][-2:] = [height, width]
    described["chunks"][-2:] = [min(height, described["chunks"][-2]), min(width, described["chunks"][-1])]
    target.mkdir()
    _write_json(target / ".zarray", described)
    old, new = zarr.open_array(str(source), mode="r"), zarr.open_array(str(target), mode="r+")
    tall, wide = described["chunks"][-2:]
    for plane in np.ndindex(*described["shape"][:-2]):
        for y, x in itertools.product(range(0, height, tall), range(0, width, wide)):
            rows, columns = min(tall, height - y), min(wide, width - x)
            part = old[(*plane, slice(y * factor, (y + rows) * factor), slice(x * factor, (x + columns) * factor))]
            new[(*plane, slice(y, y + rows), slice(x, x + columns))] = _average_blocks(part, rows, columns).astype(
                old.dtype
            )


def _average_blocks(part: Any, rows: int, columns: int) -> Any:
    """Whole numbers are rounded to the nearest. A picture smaller than the factor is one block."""
    blocks = part.reshape(rows, part.shape[0] // rows, columns, part.shape[1] // columns).mean(axis=(1, 3))
    return np.rint(blocks) if np.issubdtype(part.dtype, np.integer) else blocks


def _read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2), encoding="utf-8")


def main(root: str, factor: str) -> int:
    if not factor.isdecimal() or int(factor) < 2:
        print(f"FACTOR is {factor!r}; it must be a whole number from 2", file=sys.stderr)
        return 2
    todo = list(iter_pictures(Path(root)))
    with ThreadPoolExecutor(PICTURES_AT_ONCE) as pool:
        for _ in pool.map(lambda picture: add_level(picture, int(factor)), todo):
            pass
    print(f"{root}: {len(todo)} pictures have a level {factor} times smaller")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
