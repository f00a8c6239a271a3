"""The pages of the documentation, wherever they are below docs/, and the tables in them."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from tests.support.paths import ROOT


@cache
def read_pages() -> dict[Path, str]:
    """Return the text of README.md and of every page below docs/ that people wrote.

    Not what `make docs` builds, and not the pages that the code writes: they would mention every option and constant.
    """
    built = {"_build", "options.md", "constants.md"}
    pages = [path for path in sorted((ROOT / "docs").rglob("*.md")) if not built.intersection(path.parts)]
    return {path.relative_to(ROOT): path.read_text() for path in (ROOT / "README.md", *pages)}


@cache
def read_docs() -> str:
    """Return the text of all pages."""
    return "\n".join(read_pages().values())


def list_code(text: str) -> list[str]:
    """Return the pieces of code in a text: what is between backticks in a line, and indented or fenced blocks."""
    inline = re.findall(r"`([^`\n]+)`", text)
    indented = re.findall(r"(?m)(?:^ {4,}\S.*\n)+", text)
    return [*inline, *indented, *re.findall(r"(?ms)^```.*?^```", text)]


def find_table_keys(*wanted: str) -> set[str]:
    """Return the keys in the first column of all tables whose first columns contain each `wanted` key."""
    keys = set()
    for table in re.findall(r"(?m)(?:^\|.*\n)+", read_docs() + "\n"):
        first = {key for row in table.splitlines() for key in re.findall(r"`([^`]+)`", row.split("|")[1])}
        if first.issuperset(wanted):
            keys |= first
    assert keys, f"no table in docs/ has the keys {wanted}"
    return keys
