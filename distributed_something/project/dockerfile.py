"""The developer's part of `worker/Dockerfile`: stages of which the last one, `program`, is the image with the program.

An example's Dockerfile knows nothing of that: its last stage is its image. Put into an implementation it becomes the
stage `program`, and the image that it begins with the default of BASE_IMAGE, which the Makefile's `base` names.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from distributed_something.core.errors import InputError

_FROM_LINE = re.compile(
    r"^(?P<head>\s*FROM(?:\s+--\S+)*\s+)(?P<image>\S+)(?:\s+AS\s+(?P<name>\S+))?\s*$", re.IGNORECASE
)  # fmt: skip
_DIRECTIVE = re.compile(r"#\s*(syntax|escape|check)\s*=", re.IGNORECASE)  # must stay the first lines of a Dockerfile


class DockerfileStage(NamedTuple):
    """A FROM line: its number in the file from 0, what it begins with, and the stage's name if it has one."""

    line: int
    image: str
    name: str | None


def parse_stages(text: str) -> list[DockerfileStage]:
    """Every FROM of a Dockerfile. A line that a backslash continues is no instruction of its own."""
    return [
        DockerfileStage(number, match["image"], match["name"])
        for number, line in _iter_instructions(text)
        if (match := _FROM_LINE.match(line))
    ]


def convert_to_program_stage(text: str, path: Path | str) -> str:
    """An example's Dockerfile as the developer's part; raises InputError where it has no FROM.

    An image that is no fixed name (`${VERSION}`, or an earlier stage) stays where it stands.
    """
    found = parse_stages(text)
    if not found:
        raise InputError(path, "FROM", "there is no such line", "begin with the image that has your program")
    last = found[-1]
    fixed = "$" not in last.image and last.image not in {stage.name for stage in found[:-1]}
    lines = text.splitlines()
    head = _extract_from_head(lines[last.line])
    lines[last.line] = f"{head}{'${BASE_IMAGE}' if fixed else last.image} AS program"
    if fixed:
        lines.insert(_count_directives(lines), f"ARG BASE_IMAGE={last.image}")
    return "\n".join(lines) + "\n"


def find_base_image(own: str) -> str | None:
    """The default of BASE_IMAGE in a developer's part; None where it has none."""
    found = re.findall(r"^\s*ARG\s+BASE_IMAGE=[\"']?([^\s\"']+)", own, re.M | re.I)
    return found[0] if found else None


def replace_base_image(own: str, image: str) -> str:
    """The developer's part with another default of BASE_IMAGE."""
    return re.sub(r"^(\s*ARG\s+BASE_IMAGE=)\S+", lambda match: match[1] + image, own, count=1, flags=re.M | re.I)


def _iter_instructions(text: str) -> Iterator[tuple[int, str]]:
    continued = False
    for number, line in enumerate(text.splitlines()):
        comment = line.lstrip().startswith("#")
        if not continued and not comment:
            yield number, line
        continued = continued if comment else line.rstrip().endswith("\\")


def _extract_from_head(line: str) -> str:
    match = _FROM_LINE.match(line)
    assert match is not None  # stages() found it
    return match["head"]


def _count_directives(lines: list[str]) -> int:
    return next((number for number, line in enumerate(lines) if not _DIRECTIVE.match(line)), len(lines))


def replace_makefile_values(own: str, values: Mapping[str, str]) -> str:
    """The developer's part of a Makefile with other values (images' names) of its variables."""
    for name, value in values.items():
        own = re.sub(rf"^({name} *= *).*$", rf"\g<1>{value}", own, count=1, flags=re.M)
    return own
