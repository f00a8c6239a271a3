"""Add a downsampled copy of the lowest resolution of each image to an OME-Zarr (NGFF 0.4).

Usage: python3 add_downsampling.py ZARR FACTOR

ZARR is a plate or a single image. Each new pixel is the mean of FACTOR x FACTOR old pixels; incomplete blocks at the
right and lower edges are dropped. A new pixel is FACTOR times as large as an old one, so the scale is multiplied by
FACTOR. Its center is shifted by half the difference between the two pixel sizes, which is added to the translation.

The script needs Python 3.9 and zarr 2, or newer versions. zarr is used only to read and write the pixels; the metadata
are JSON files.
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

MAX_PARALLEL_IMAGES = 4


class IncompleteZarr(Exception):
    """Raised if metadata are missing. The message says which."""


def iter_images(root: Path) -> Iterator[Path]:
    """Yield the folder of each image in a plate, or `root` if `root` is a single image.

    Raise IncompleteZarr if `root` is neither, or if the metadata of a well or an image are missing.
    """
    attributes = _read_attributes(root)
    if "plate" not in attributes:
        _require_key(root, attributes, "multiscales", "neither the key plate nor multiscales")
        yield root
        return
    for well in attributes["plate"]["wells"]:
        folder = root / well["path"]
        for image in _require_key(folder, _read_attributes(folder), "well")["images"]:
            _require_key(folder / image["path"], _read_attributes(folder / image["path"]), "multiscales")
            yield folder / image["path"]


def add_level(image: Path, factor: int) -> None:
    """Write a new resolution level next to the last one, and add it to the image's metadata."""
    attributes = _read_attributes(image)
    datasets = attributes["multiscales"][0]["datasets"]
    last = datasets[-1]
    name = str(int(last["path"]) + 1) if last["path"].isdecimal() else str(len(datasets))
    _shrink_level(image / last["path"], image / name, factor)
    datasets.append({"path": name, "coordinateTransformations": build_transformations(last, factor)})
    _write_json(image / ".zattrs", attributes)


def build_transformations(last: dict[str, Any], factor: int) -> list[dict[str, Any]]:
    """Return the scale and translation of a level downsampled from the level `last`. The last two axes are y and x."""
    values = {step["type"]: step[step["type"]] for step in last["coordinateTransformations"]}
    scale = values["scale"]
    translation = values.get("translation", [0.0] * len(scale))
    new_scale = [*scale[:-2], *(size * factor for size in scale[-2:])]
    center = [shift + (new - old) / 2 for shift, new, old in zip(translation, new_scale, scale)]  # noqa: B905
    return [{"type": "scale", "scale": new_scale}, {"type": "translation", "translation": center}]


def _shrink_level(source: Path, target: Path, factor: int) -> None:
    metadata = _read_json(source / ".zarray")
    height, width = (max(1, size // factor) for size in metadata["shape"][-2:])
    metadata["shape"][-2:] = [height, width]
    metadata["chunks"][-2:] = [min(height, metadata["chunks"][-2]), min(width, metadata["chunks"][-1])]
    target.mkdir()
    _write_json(target / ".zarray", metadata)
    old, new = zarr.open_array(str(source), mode="r"), zarr.open_array(str(target), mode="r+")
    chunk_height, chunk_width = metadata["chunks"][-2:]
    for plane in np.ndindex(*metadata["shape"][:-2]):
        for y, x in itertools.product(range(0, height, chunk_height), range(0, width, chunk_width)):
            rows, columns = min(chunk_height, height - y), min(chunk_width, width - x)
            pixels = old[(*plane, slice(y * factor, (y + rows) * factor), slice(x * factor, (x + columns) * factor))]
            new[(*plane, slice(y, y + rows), slice(x, x + columns))] = _average_blocks(pixels, rows, columns).astype(
                old.dtype
            )


def _average_blocks(pixels: Any, rows: int, columns: int) -> Any:
    """Return the mean of each block, rounded if the pixels are integers.

    An image smaller than the factor is one block.
    """
    means = pixels.reshape(rows, pixels.shape[0] // rows, columns, pixels.shape[1] // columns).mean(axis=(1, 3))
    return np.rint(means) if np.issubdtype(pixels.dtype, np.integer) else means


def _read_attributes(folder: Path) -> Any:
    path = folder / ".zattrs"
    try:
        return _read_json(path)
    except FileNotFoundError:
        raise IncompleteZarr(f"{path} does not exist") from None
    except ValueError as error:
        raise IncompleteZarr(f"{path} is not valid JSON ({error})") from None


def _require_key(folder: Path, attributes: Any, key: str, missing: str = "") -> Any:
    if not isinstance(attributes, dict) or key not in attributes:
        raise IncompleteZarr(f"{folder / '.zattrs'} has {missing or f'no key {key}'}")
    return attributes[key]


def _read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2), encoding="utf-8")


def main(root: str, factor: str) -> int:
    if not factor.isdecimal() or int(factor) < 2:
        print(f"add_downsampling.py: FACTOR: {factor!r} is not a whole number greater than 1; write 4", file=sys.stderr)
        return 2
    try:
        images = list(iter_images(Path(root)))
    except IncompleteZarr as error:
        print(f"add_downsampling.py: {error}", file=sys.stderr)
        return 1
    with ThreadPoolExecutor(MAX_PARALLEL_IMAGES) as pool:
        for _ in pool.map(lambda image: add_level(image, int(factor)), images):
            pass
    print(f"{root}: {len(images)} images have a new level that is {factor} times smaller")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
