"""Files of two parts: the developer's on top, and below a marker line the machinery's, which a newer version replaces.

`worker/Dockerfile` and the Makefile are such files. The template's Makefile has a third part, of its own alone.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from control.errors import InputError

MARKER = "# ---- The machinery, from here on"
TEMPLATES_OWN = "# ---- The template's own, from here on"
FILES = ("worker/Dockerfile", "Makefile")


class Parts(NamedTuple):
    """The two parts as they stand in the file; the marker line begins the machinery's."""

    own: str
    machinery: str


def split(text: str, path: Path | str) -> Parts:
    """The parts of `text`, without the template's own third; raises InputError where `path` has no marker line."""
    start = _line_that_begins(MARKER, text)
    if start is None:
        right = "put it below what is yours, as the template's has it"
        raise InputError(path, "", f"it has no line that begins with {MARKER!r}", right)
    end = _line_that_begins(TEMPLATES_OWN, text, start)
    return Parts(text[:start], text[start:end].rstrip("\n") + "\n")


def join(own: str, machinery: str) -> str:
    """The file of these parts, with one empty line between them. What has a marker line cannot be a part above it."""
    above = own.rstrip("\n")
    return f"{above}\n\n{machinery}" if above else machinery


def _line_that_begins(words: str, text: str, start: int = 0) -> int | None:
    found = re.compile(f"^{re.escape(words)}", re.M).search(text, start)
    return found.start() if found else None
