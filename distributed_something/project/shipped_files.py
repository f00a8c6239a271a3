"""Which files of a project are the machinery: taken whole into an implementation, and replaced by a newer version.

What was put there is noted as hashes in `.machinery.json`, so that an edit of the developer's is seen before it would
be lost, and with it what the config and the hooks were, so that what is new can be said.
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
)  # the last two: the template's own


@dataclass(frozen=True)
class MachineryFile:
    """A file of the machinery, or the machinery's part of one."""

    content: bytes
    executable: bool

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.content).hexdigest()


@dataclass(frozen=True)
class MachineryNote:
    """What a version put into an implementation. `files`: path and SHA-256; `hooks`: name, and what describes it."""

    files: Mapping[str, str]
    config_keys: list[str]
    hooks: Mapping[str, Mapping[str, str]]


def iter_machinery_paths(root: Path) -> Iterator[str]:
    """The paths of the machinery at `root`, whole files first."""
    yield from (name for name in MACHINERY_FILES if (root / name).is_file())
    for folder in MACHINERY_FOLDERS:
        for path in sorted((root / folder).rglob("*")):
            name = path.relative_to(root).as_posix()
            if path.is_file() and not any(word in name for word in _EXCLUDED_PATH_PARTS):
                yield name
    yield from (name for name in TWO_PART_FILES if (root / name).is_file())


def read_machinery(root: Path) -> dict[str, MachineryFile]:
    """The machinery at `root`."""
    return {name: read_machinery_file(root, name) for name in iter_machinery_paths(root)}


def read_machinery_file(root: Path, name: str) -> MachineryFile:
    """One file of it; of a file of two parts the machinery's. Raises InputError where that has none."""
    path = root / name
    executable = bool(path.stat().st_mode & stat.S_IXUSR)
    if name in TWO_PART_FILES:
        return MachineryFile(
            split_parts(read_text_file(path, "a file of two parts"), path).machinery.encode(), executable
        )
    return MachineryFile(path.read_bytes(), executable)


def write_machinery_file(root: Path, name: str, new: MachineryFile) -> None:
    """Puts it there at once, rights included; in a file of two parts, what is above the marker stays."""
    path, content = root / name, new.content
    if name in TWO_PART_FILES:
        own = split_parts(read_text_file(path, "a file of two parts"), path).own
        content = join_parts(own, content.decode()).encode()
    write_file_atomically(path, content, executable=new.executable)


def build_machinery_note(
    machinery: Mapping[str, MachineryFile], config_keys: list[str], hooks: Mapping[str, Mapping[str, str]]
) -> MachineryNote:
    return MachineryNote({name: one.digest for name, one in machinery.items()}, config_keys, hooks)


def write_machinery_note(root: Path, one: MachineryNote) -> None:
    write_file_atomically(root / NOTE_FILE_NAME, (json.dumps(asdict(one), indent=1) + "\n").encode())


def read_machinery_note(root: Path) -> MachineryNote | None:
    """What is noted in an implementation; None where nothing is. Raises InputError for a note that was broken."""
    if not (root / NOTE_FILE_NAME).exists():
        return None
    found: dict[str, Any] = read_json_object(root / NOTE_FILE_NAME, "the note of the machinery")
    try:
        return MachineryNote(dict(found["files"]), list(found["config_keys"]), dict(found["hooks"]))
    except (KeyError, TypeError, ValueError):
        right = "delete it and use --force, if nothing of the machinery was edited"
        raise InputError(root / NOTE_FILE_NAME, "", "this is not what newProject or upgrade wrote", right) from None


MACHINERY_MARKER = "# ---- The machinery, from here on"
TEMPLATE_MARKER = "# ---- The template's own, from here on"
TWO_PART_FILES = ("worker/Dockerfile", "Makefile")


class FileParts(NamedTuple):
    """The two parts as they stand in the file; the marker line begins the machinery's."""

    own: str
    machinery: str


def split_parts(text: str, path: Path | str) -> FileParts:
    """The parts of `text`, without the template's own third; raises InputError where `path` has no marker line."""
    start = _find_line_start(MACHINERY_MARKER, text)
    if start is None:
        right = "put it below what is yours, as the template's has it"
        raise InputError(path, "", f"it has no line that begins with {MACHINERY_MARKER!r}", right)
    end = _find_line_start(TEMPLATE_MARKER, text, start)
    return FileParts(text[:start], text[start:end].rstrip("\n") + "\n")


def join_parts(own: str, machinery: str) -> str:
    """The file of these parts, with one empty line between them. What has a marker line cannot be a part above it."""
    above = own.rstrip("\n")
    return f"{above}\n\n{machinery}" if above else machinery


def _find_line_start(words: str, text: str, start: int = 0) -> int | None:
    found = re.compile(f"^{re.escape(words)}", re.M).search(text, start)
    return found.start() if found else None
