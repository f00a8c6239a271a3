"""Detects truncated image files, because many programs read and measure them without reporting an error."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

# TIFF 6.0 and BigTIFF: the tags with the offsets and lengths of strips or tiles, and the number types used in these
# tags.
_OFFSET_TAGS, _LENGTH_TAGS = (273, 324), (279, 325)
_NUMBER_FORMATS = {3: "H", 4: "I", 16: "Q"}
_PNG_START, _PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"
_MAX_PAGES = 100_000


def find_image_damage(path: Path) -> str | None:
    """Return how a TIFF or PNG file is damaged, or None if it is complete.

    For other formats, only detect empty files.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        if not start:
            return "is empty"
        if start == _PNG_START:
            file.seek(-min(size, 64), 2)
            return None if _PNG_END in file.read() else f"is truncated: its {size:,} bytes contain no end marker"
        if start[:4] not in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
            return None
        try:
            needed = max(_iter_part_ends(file, "<" if start[:2] == b"II" else ">"), default=0)
        except struct.error:
            return f"is truncated: its {size:,} bytes end in the image's description"
    return f"is truncated: it has {size:,} of {needed:,} bytes" if needed > size else None


def _iter_part_ends(file: BinaryIO, order: str) -> Iterator[int]:
    """Yield the offset where each strip or tile on each page ends. Raise struct.error if a description is cut off."""

    def read(offset: int, code: str) -> tuple[int, ...]:
        file.seek(offset)
        return struct.unpack(order + code, file.read(struct.calcsize(order + code)))

    big = read(2, "H") == (43,)
    count, word, entry = ("Q", "Q", 20) if big else ("H", "I", 12)
    page = read(8 if big else 4, word)[0]
    for _ in range(_MAX_PAGES):
        if not page:
            return
        first, entries = page + struct.calcsize(order + count), read(page, count)[0]
        values: dict[int, tuple[int, ...]] = {}
        for start in range(first, first + entries * entry, entry):
            tag, kind, number = read(start, f"HH{word}")
            if tag in _OFFSET_TAGS + _LENGTH_TAGS and kind in _NUMBER_FORMATS:
                code, offset = f"{number}{_NUMBER_FORMATS[kind]}", start + entry - struct.calcsize(order + word)
                fits = struct.calcsize(order + code) <= struct.calcsize(order + word)
                values[tag] = read(offset if fits else read(offset, word)[0], code)
        for offsets, lengths in zip(_OFFSET_TAGS, _LENGTH_TAGS, strict=True):
            yield from map(sum, zip(values.get(offsets, ()), values.get(lengths, ()), strict=False))
        page = read(first + entries * entry, word)[0]
