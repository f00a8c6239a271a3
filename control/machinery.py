"""Which files of a project are the machinery: taken whole into an implementation, and replaced by a newer version.

What was put there is noted as hashes in `.machinery.json`, so that an edit of the developer's is seen before it would
be lost, and with it what the config and the hooks were, so that what is new can be said.
"""

from __future__ import annotations

import hashlib
import json
import stat
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from control import parts
from control.errors import InputError
from control.files import read_json_object, read_text, write_file

NOTE = ".machinery.json"
FOLDERS = ("control", "localcloud", "worker/machinery", "docs")
SINGLE = (
    "run.py", "LICENSE", "worker/run-worker.sh", "worker/.dockerignore", "worker/requirements.txt",
    "worker/requirements.in", "files/requirements.txt", "files/requirements.in", "files/requirements-local.txt",
    "files/requirements-local.in",
)  # fmt: skip
_NOT_OURS = ("__pycache__", ".DS_Store", "docs/plate.png", "docs/examples.md")  # the last two: the template's own


@dataclass(frozen=True)
class Piece:
    """A file of the machinery, or the machinery's part of one."""

    content: bytes
    executable: bool

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.content).hexdigest()


@dataclass(frozen=True)
class Note:
    """What a version put into an implementation. `files`: path and SHA-256; `hooks`: name, and what describes it."""

    files: Mapping[str, str]
    config_keys: list[str]
    hooks: Mapping[str, Mapping[str, str]]


def names(root: Path) -> Iterator[str]:
    """The paths of the machinery at `root`, whole files first."""
    yield from (name for name in SINGLE if (root / name).is_file())
    for folder in FOLDERS:
        for path in sorted((root / folder).rglob("*")):
            name = path.relative_to(root).as_posix()
            if path.is_file() and not any(word in name for word in _NOT_OURS):
                yield name
    yield from (name for name in parts.FILES if (root / name).is_file())


def read(root: Path) -> dict[str, Piece]:
    """The machinery at `root`."""
    return {name: piece(root, name) for name in names(root)}


def piece(root: Path, name: str) -> Piece:
    """One file of it; of a file of two parts the machinery's. Raises InputError where that has none."""
    path = root / name
    executable = bool(path.stat().st_mode & stat.S_IXUSR)
    if name in parts.FILES:
        return Piece(parts.split(read_text(path, "a file of two parts"), path).machinery.encode(), executable)
    return Piece(path.read_bytes(), executable)


def write(root: Path, name: str, new: Piece) -> None:
    """Puts it there at once, rights included; in a file of two parts, what is above the marker stays."""
    path, content = root / name, new.content
    if name in parts.FILES:
        own = parts.split(read_text(path, "a file of two parts"), path).own
        content = parts.join(own, content.decode()).encode()
    write_file(path, content, executable=new.executable)


def note(machinery: Mapping[str, Piece], config_keys: list[str], hooks: Mapping[str, Mapping[str, str]]) -> Note:
    return Note({name: one.digest for name, one in machinery.items()}, config_keys, hooks)


def write_note(root: Path, one: Note) -> None:
    write_file(root / NOTE, (json.dumps(asdict(one), indent=1) + "\n").encode())


def read_note(root: Path) -> Note | None:
    """What is noted in an implementation; None where nothing is. Raises InputError for a note that was broken."""
    if not (root / NOTE).exists():
        return None
    found: dict[str, Any] = read_json_object(root / NOTE, "the note of the machinery")
    try:
        return Note(dict(found["files"]), list(found["config_keys"]), dict(found["hooks"]))
    except (KeyError, TypeError, ValueError):
        right = "delete it and use --force, if nothing of the machinery was edited"
        raise InputError(root / NOTE, "", "this is not what newProject or upgrade wrote", right) from None
