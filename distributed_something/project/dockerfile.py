"""The developer's part of `worker/Dockerfile`, whose last stage, `program`, builds the image with the program.

In an example's Dockerfile, the last stage has no such name. newProject names it `program` and makes the image in its
FROM line the default of BASE_IMAGE, which `base` in the Makefile sets.
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
    """FROM line of a Dockerfile: its number in the file, counted from 0, its image, and the name of its stage."""

    line: int
    image: str
    name: str | None


def parse_stages(text: str) -> list[DockerfileStage]:
    """Return the stages of a Dockerfile; skip continuations of lines that end with a backslash."""
    return [
        DockerfileStage(number, match["image"], match["name"])
        for number, line in _iter_instructions(text)
        if (match := _FROM_LINE.match(line))
    ]


def convert_to_program_stage(text: str, path: Path | str) -> str:
    """Return an example's Dockerfile with its last stage named `program`; raise InputError if it has no FROM line.

    The image of this stage becomes the default of BASE_IMAGE, unless it contains a variable or is an earlier stage.
    """
    stages = parse_stages(text)
    if not stages:
        raise InputError(path, "FROM", "this line is missing", "write FROM and the image that contains your program")
    last = stages[-1]
    is_fixed = "$" not in last.image and last.image not in {stage.name for stage in stages[:-1]}
    lines = text.splitlines()
    head = _extract_from_head(lines[last.line])
    lines[last.line] = f"{head}{'${BASE_IMAGE}' if is_fixed else last.image} AS program"
    if is_fixed:
        lines.insert(_count_directives(lines), f"ARG BASE_IMAGE={last.image}")
    return "\n".join(lines) + "\n"


def find_base_image(own: str) -> str | None:
    """Return the default of BASE_IMAGE in the developer's part, or None if there is no default."""
    match = re.search(r"^\s*ARG\s+BASE_IMAGE=[\"']?([^\s\"']+)", own, re.M | re.I)
    return match[1] if match else None


def replace_base_image(own: str, image: str) -> str:
    """Return the developer's part with `image` as the default of BASE_IMAGE."""
    return re.sub(r"^(\s*ARG\s+BASE_IMAGE=)\S+", lambda match: match[1] + image, own, count=1, flags=re.M | re.I)


def _iter_instructions(text: str) -> Iterator[tuple[int, str]]:
    is_continued = False
    for number, line in enumerate(text.splitlines()):
        is_comment = line.lstrip().startswith("#")
        if not is_continued and not is_comment:
            yield number, line
        is_continued = is_continued if is_comment else line.rstrip().endswith("\\")


def _extract_from_head(line: str) -> str:
    match = _FROM_LINE.match(line)
    assert match is not None  # parse_stages matched this line
    return match["head"]


def _count_directives(lines: list[str]) -> int:
    return next((number for number, line in enumerate(lines) if not _DIRECTIVE.match(line)), len(lines))


def replace_makefile_values(own: str, values: Mapping[str, str]) -> str:
    """Return the developer's part of a Makefile with new values of its variables, which are names of images."""
    for name, value in values.items():
        own = re.sub(rf"^({name} *= *).*$", rf"\g<1>{value}", own, count=1, flags=re.M)
    return own
