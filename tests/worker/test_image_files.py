"""Truncated images: the end of each TIFF and PNG file must be there."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from distributed_something.worker import find_image_damage


def build_tiff(order: str, big: bool, tiled: bool = False) -> bytes:
    """Return a TIFF file.

    Its first page has two strips (or tiles) of 10 bytes each, and its second page has one strip of 7 bytes.
    """
    word, count, first = ("Q", "Q", 16) if big else ("I", "H", 8)
    tags = (324, 325) if tiled else (273, 279)
    size = struct.calcsize(order + word)
    directory = struct.calcsize(order + count) + 2 * (4 + 2 * size) + size
    pages = [first, first + directory]
    data = first + 2 * directory
    arrays = struct.pack(f"{order}2{word}2{word}", data + 4 * size, data + 4 * size + 10, 10, 10)
    kind = 16 if big else 4

    def page(number: int, following: int, offsets: int, lengths: int) -> bytes:
        entries = [
            struct.pack(f"{order}HH{word}{word}", tag, kind, number, value)
            for tag, value in zip(tags, (offsets, lengths), strict=True)
        ]
        return struct.pack(order + count, 2) + b"".join(entries) + struct.pack(order + word, following)

    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "H", 43 if big else 42)
    head += (
        struct.pack(order + "HH", 8, 0) + struct.pack(order + "Q", first) if big else struct.pack(order + "I", first)
    )
    end = data + 4 * size + 20
    return head + page(2, pages[1], data, data + 2 * size) + page(1, 0, end, 7) + arrays + b"." * 27


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("tiled", [False, True])
def test_an_image_truncated_at_any_position_is_detected(tmp_path: Path, order: str, big: bool, tiled: bool) -> None:
    image = build_tiff(order, big, tiled)
    path = tmp_path / "a.tif"
    path.write_bytes(image)
    assert find_image_damage(path) is None
    path.write_bytes(image + b"more")
    assert find_image_damage(path) is None
    for length in range(4, len(image)):
        path.write_bytes(image[:length])
        assert "is truncated" in (find_image_damage(path) or "")


@pytest.mark.parametrize(
    ("content", "damage"),
    [
        (b"", "is empty"),
        (b"\x89PNG\r\n\x1a\nrest", "contain no end marker"),
        (b"\x89PNG\r\n\x1a\nrest\0\0\0\0IEND\xaeB`\x82", None),
        (b"any other file", None),
    ],
)
def test_damage_is_detected_in_empty_files_and_pngs_but_not_in_unknown_formats(
    tmp_path: Path, content: bytes, damage: str | None
) -> None:
    (tmp_path / "a").write_bytes(content)
    actual = find_image_damage(tmp_path / "a")
    assert actual is None if damage is None else damage in actual
