"""Whether an image file is whole. CellProfiler reads one that is cut off without a word, and measures what is left."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

# TIFF 6.0 and BigTIFF: where strips or tiles begin, how many bytes each has, and the types that such numbers have.
OFFSET_TAGS, LENGTH_TAGS = (273, 324), (279, 325)
NUMBER_FORMATS = {3: "H", 4: "I", 16: "Q"}
PNG_START, PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"
MAX_PAGES = 100_000


def find_image_damage(path: Path) -> str | None:
    """Why a TIFF or PNG is not whole, or None; of other files only whether they are empty."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        if not start:
            return "is empty"
        if start == PNG_START:
            file.seek(-min(size, 64), 2)
            return None if PNG_END in file.read() else f"is cut off: its {size:,} bytes have no end"
        if start[:4] not in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
            return None
        try:
            needed = max(_iter_part_ends(file, "<" if start[:2] == b"II" else ">"), default=0)
        except struct.error:
            return f"is cut off: its {size:,} bytes end where the picture is described"
    return f"is cut off: it has {size:,} of {needed:,} bytes" if needed > size else None


def _iter_part_ends(file: BinaryIO, order: str) -> Iterator[int]:
    """Where each strip or tile of each page ends. Raises struct.error where the file ends before that is known."""

    def read(at: int, code: str) -> tuple[int, ...]:
        file.seek(at)
        return struct.unpack(order + code, file.read(struct.calcsize(order + code)))

    big = read(2, "H") == (43,)
    count, word, entry = ("Q", "Q", 20) if big else ("H", "I", 12)
    page = read(8 if big else 4, word)[0]
    for _ in range(MAX_PAGES):
        if not page:
            return
        first, entries = page + struct.calcsize(order + count), read(page, count)[0]
        found: dict[int, tuple[int, ...]] = {}
        for at in range(first, first + entries * entry, entry):
            tag, kind, number = read(at, f"HH{word}")
            if tag in OFFSET_TAGS + LENGTH_TAGS and kind in NUMBER_FORMATS:
                code, place = f"{number}{NUMBER_FORMATS[kind]}", at + entry - struct.calcsize(order + word)
                fits = struct.calcsize(order + code) <= struct.calcsize(order + word)
                found[tag] = read(place if fits else read(place, word)[0], code)
        for offsets, lengths in zip(OFFSET_TAGS, LENGTH_TAGS, strict=True):
            yield from map(sum, zip(found.get(offsets, ()), found.get(lengths, ()), strict=False))
        page = read(first + entries * entry, word)[0]
