"""Shipped files ("machinery"): newProject copies them from the template to a project, and `upgrade` replaces them.

`.machinery.json` records their hashes, so that `upgrade` can find the developer's edits before it overwrites them. It
also records config keys and hooks, so that `upgrade` can report their changes.
"""

from __future__ import annotations

import hashlib
import json
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from distributed_something.core.errors import InputError
from distributed_something.core.files import read_json_object, read_text_file, write_file_atomically

NOTE_FILE_NAME = ".machinery.json"
MACHINERY_FOLDERS = ("distributed_something", "docs")
MACHINERY_FILES = (
    "run.py",
    "LICENSE",
    "worker/.dockerignore",
    "files/requirements.txt",
    "files/requirements.in",
    "files/requirements-local.txt",
    "files/requirements-local.in",
)
_EXCLUDED_PATH_PARTS = (
    "__pycache__",
    ".DS_Store",
    "docs/plate.png",
    "docs/examples.md",
)  # the last two files belong only to the template


@dataclass(frozen=True)
class MachineryFile:
    """Shipped file, or the shipped part of a file in two parts."""

    content: bytes
    executable: bool

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.content).hexdigest()


@dataclass(frozen=True)
class MachineryNote:
    """Content of `.machinery.json`: SHA-256 hashes of files by path, config keys, and hook signatures by name."""

    files: Mapping[str, str]
    config_keys: list[str]
    hooks: Mapping[str, Mapping[str, str]]


def iter_machinery_paths(root: Path) -> Iterator[str]:
    """Yield the paths of the shipped files in the folder `root`; files in two parts are last."""
    yield from (name for name in MACHINERY_FILES if (root / name).is_file())
    for folder in MACHINERY_FOLDERS:
        for path in sorted((root / folder).rglob("*")):
            name = path.relative_to(root).as_posix()
            if path.is_file() and not any(part in name for part in _EXCLUDED_PATH_PARTS):
                yield name
    yield from (name for name in TWO_PART_FILES if (root / name).is_file())


def read_machinery(root: Path) -> dict[str, MachineryFile]:
    """Return the shipped files in the folder `root` by path."""
    return {name: read_machinery_file(root, name) for name in iter_machinery_paths(root)}


def read_machinery_file(root: Path, name: str) -> MachineryFile:
    """Return a shipped file, or its shipped part; raise InputError if a file in two parts has no marker line."""
    path = root / name
    executable = bool(path.stat().st_mode & stat.S_IXUSR)
    if name in TWO_PART_FILES:
        return MachineryFile(split_parts(read_text_file(path, "a text file"), path).machinery.encode(), executable)
    return MachineryFile(path.read_bytes(), executable)


def write_machinery_file(root: Path, name: str, new: MachineryFile) -> None:
    """Replace a file atomically, with its mode; in a file in two parts, keep the part above the marker line."""
    path, content = root / name, new.content
    if name in TWO_PART_FILES:
        own = split_parts(read_text_file(path, "a text file"), path).own
        content = join_parts(own, content.decode()).encode()
    write_file_atomically(path, content, executable=new.executable)


def build_machinery_note(
    machinery: Mapping[str, MachineryFile], config_keys: list[str], hooks: Mapping[str, Mapping[str, str]]
) -> MachineryNote:
    return MachineryNote({name: file.digest for name, file in machinery.items()}, config_keys, hooks)


def write_machinery_note(root: Path, note: MachineryNote) -> None:
    write_file_atomically(root / NOTE_FILE_NAME, (json.dumps(asdict(note), indent=1) + "\n").encode())


def read_machinery_note(root: Path) -> MachineryNote | None:
    """Return the content of `.machinery.json`, or None if the file does not exist; raise InputError if invalid."""
    if not (root / NOTE_FILE_NAME).exists():
        return None
    content: dict[str, Any] = read_json_object(root / NOTE_FILE_NAME, "the record of shipped files")
    try:
        return MachineryNote(dict(content["files"]), list(content["config_keys"]), dict(content["hooks"]))
    except (KeyError, TypeError, ValueError):
        remedy = "if you did not edit shipped files, delete this file and use --force"
        problem = "this file was changed after newProject or upgrade wrote it"
        raise InputError(root / NOTE_FILE_NAME, "", problem, remedy) from None


MACHINERY_MARKER = "# ---- The machinery, from here on"
TEMPLATE_MARKER = "# ---- The template's own, from here on"
TWO_PART_FILES = ("worker/Dockerfile", "Makefile")


class FileParts(NamedTuple):
    """Parts of a file: the developer's own part, and the shipped part, which begins with the marker line."""

    own: str
    machinery: str


def split_parts(text: str, path: Path | str) -> FileParts:
    """Return the two parts of `text`, without a third part that only the template has.

    Raise InputError with the file's `path` if there is no marker line.
    """
    start = _find_line_start(MACHINERY_MARKER, text)
    if start is None:
        remedy = "copy this line and all lines below it from the template's file"
        raise InputError(path, "", f"there is no line that begins with {MACHINERY_MARKER!r}", remedy)
    end = _find_line_start(TEMPLATE_MARKER, text, start)
    return FileParts(text[:start], text[start:end].rstrip("\n") + "\n")


def join_parts(own: str, machinery: str) -> str:
    """Return both parts joined, with an empty line between them; `own` must not contain a marker line."""
    own_text = own.rstrip("\n")
    return f"{own_text}\n\n{machinery}" if own_text else machinery


def _find_line_start(marker: str, text: str, start: int = 0) -> int | None:
    match = re.compile(f"^{re.escape(marker)}", re.M).search(text, start)
    return match.start() if match else None
