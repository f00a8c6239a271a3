"""Patterns for file names: `{plate}/{well}_s{site}.tif` reads `P1/A01_s3.tif` as plate P1, well A01, site 3.

Each part, like `*`, matches one or more characters other than `/`, as few as possible. A part that occurs twice in a
pattern must have the same value both times.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from distributed_something.core.errors import InputError

_TOKEN = re.compile(r"\{([A-Za-z_]\w*)\}|(\*)|([^{}*]+)|([{}])")


class NamePattern:
    """A pattern with named parts. `parts`: the names of the parts, in order."""

    def __init__(self, text: str, option: str = "--match") -> None:
        self.parts: list[str] = []
        self._pattern = re.compile(
            "".join(self._build_pattern_piece(match, text, option) for match in _TOKEN.finditer(text))
        )
        if not self.parts:
            raise InputError(
                option, "", f"{text!r} has no named part", "write a pattern such as '{plate}/{well}_s{site}.tif'"
            )

    def read(self, name: str) -> Mapping[str, str] | None:
        """Return the values of the parts in `name`, or None if `name` does not match."""
        match = self._pattern.fullmatch(name)
        return match.groupdict() if match else None

    def _build_pattern_piece(self, match: re.Match[str], text: str, option: str) -> str:
        part, star, plain, brace = match.groups()
        if brace:
            remedy = "write parts as {name}, with letters, digits, and _"
            raise InputError(option, "", f"{text!r} has a {brace!r} that does not belong to a part", remedy)
        if star:
            return "[^/]+?"
        if plain:
            return re.escape(plain)
        if part in self.parts:
            return f"(?P={part})"
        self.parts.append(part)
        return f"(?P<{part}>[^/]+?)"
