"""Recognizes the hidden files that macOS adds to folders, archives, and disks of other systems. They are never data."""

from __future__ import annotations

_NAMES = frozenset({
    ".DS_Store", "__MACOSX", ".AppleDouble", ".AppleDB", ".AppleDesktop", ".LSOverride", ".Spotlight-V100", ".Trashes",
    ".fseventsd", ".TemporaryItems", ".DocumentRevisions-V100", ".apdisk", "Icon\r",
})  # fmt: skip


def is_macos_file(path: str) -> bool:
    """Return whether a path or key, whose parts are separated by slashes, is such a file or below such a folder.

    A file `._NAME` beside `NAME` contains its attributes (AppleDouble).
    """
    return any(part.startswith("._") or part in _NAMES for part in path.split("/"))
