"""Conversion of a project of an older form, which had a copy of all code, to one that carries the package as a wheel.

Older versions copied their code into the project, and recorded a hash of each file in `.machinery.json`. Files with
the recorded hash are deleted. Files that were edited are kept by default: the conversion stops and names them.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from distributed_something.core.errors import InputError, UserFacingError
from distributed_something.core.files import read_json_object, read_text_file, write_file_atomically
from distributed_something.core.text import format_names, format_row
from distributed_something.project.new import add_wheel, write_requirements
from distributed_something.project.older_version import OLDER_PACKAGE, find_older_imports
from distributed_something.project.starter import PROGRAM_REQUIREMENTS
from distributed_something.project.template import SKELETON, find_template_file

RECORD_NAME = ".machinery.json"
SHIPPED_PART_MARKER = (
    "# ---- The machinery, from here on"  # in Makefile and worker/Dockerfile; the user's part is above
)
_FILES_IN_TWO_PARTS = ("Makefile", "worker/Dockerfile")
_OLDER_FOLDERS = ("control", "localcloud", "worker/machinery", "distributed_something", "docs")
_REPLACED_FILES = ("run.py", "LICENSE")
# Above the marker, a Makefile that the user has not edited has only comments and these settings.
_SHIPPED_MAKEFILE_LINE = re.compile(r"#|(user|project|tag|config|base) *=")
EDITED_FILES_SHOWN = 10  # files that one line names


@dataclass
class ConversionPlan:
    """The shipped files to delete, and those among them that the user has edited."""

    deleted: list[str] = field(default_factory=list)
    edited: list[str] = field(default_factory=list)


def is_older_form(project: Path) -> bool:
    """Return whether the project has a copy of an older version's code."""
    return (project / RECORD_NAME).is_file()


def plan_conversion(project: Path) -> ConversionPlan:
    """Return what a conversion would delete.

    Raise InputError if the record of shipped files is invalid, or if the conversion would replace a file of the user's.
    """
    content: dict[str, Any] = read_json_object(project / RECORD_NAME, "the record of shipped files")
    files = content.get("files")
    if not isinstance(files, dict):
        remedy = "restore the file from the project's history"
        raise InputError(project / RECORD_NAME, "files", "this key is missing or not an object", remedy)
    if _has_own_requirements(project) and (project / PROGRAM_REQUIREMENTS).exists():
        problem = f"requirements.txt must be renamed to {PROGRAM_REQUIREMENTS}, which exists already"
        raise InputError(project, "", problem, f"append its lines to {PROGRAM_REQUIREMENTS}, and delete it")
    plan = ConversionPlan()
    for name, digest in files.items():
        path = project / name
        if not path.is_file() or not path.resolve().is_relative_to(project.resolve()):
            continue
        if not _is_converted(project, name) and _is_edited(path, name, digest):
            plan.edited.append(name)
        if name not in _FILES_IN_TWO_PARTS:
            plan.deleted.append(name)
    return plan


def _is_converted(project: Path, name: str) -> bool:
    """Return whether an interrupted conversion has already replaced this file."""
    path = project / name
    if name == "worker/Dockerfile":
        return SHIPPED_PART_MARKER not in read_text_file(path, "a Dockerfile")
    new = SKELETON / name if name == "Makefile" else find_template_file(name) if name in _REPLACED_FILES else None
    return new is not None and path.read_bytes() == new.read_bytes()


def _is_edited(path: Path, name: str, digest: str) -> bool:
    """Return whether the user has edited a shipped file, or added something to the Makefile that would be lost."""
    content = _read_shipped_part(path) if name in _FILES_IN_TWO_PARTS else path.read_bytes()
    if hashlib.sha256(content).hexdigest() != digest:
        return True
    if name != "Makefile":
        return False
    own_part = read_text_file(path, "a Makefile").partition(SHIPPED_PART_MARKER)[0]
    return any(line.strip() and not _SHIPPED_MAKEFILE_LINE.match(line) for line in own_part.splitlines())


def check_no_edits(plan: ConversionPlan, project: Path) -> None:
    """Raise InputError if the conversion would delete edits."""
    if plan.edited:
        names = format_names(plan.edited, EDITED_FILES_SHOWN)
        remedy = "commit them, so that you can look at them later, then add --force"
        raise InputError(project, "", f"upgrade would delete your edits in: {names}", remedy)


def convert_project(project: Path, plan: ConversionPlan) -> list[str]:
    """Convert the project and return lines that report what was done and what the user must change.

    config.py, files/, and generic-worker.py stay as they are. Raise UserFacingError if files cannot be written; the
    same command then completes the conversion.
    """
    try:
        lines = [_convert_dockerfile(project)]
        lines += _move_program_requirements(project)
        wheel = add_wheel(project)
        write_requirements(project, wheel)
        _copy_new_files(project)
        for name in plan.deleted:
            if name not in _REPLACED_FILES:
                (project / name).unlink(missing_ok=True)
        _delete_empty_folders(project)
        (project / RECORD_NAME).unlink()
    except OSError as error:
        remedy = "run the same command again to complete the conversion"
        raise UserFacingError(error.strerror or str(error), remedy, action=f"converting {project}") from None
    lines = [format_row("converted", f"{len(plan.deleted)} files became one wheel, {wheel.name}"), *filter(None, lines)]
    for path, number in find_older_imports(project):
        file = path.relative_to(project)
        lines.append(
            format_row("EDIT", f"{file}, line {number}: import from distributed_something.worker, not {OLDER_PACKAGE}")
        )
    lines.append(format_row("EDIT", "README.md, if it still describes the older form"))
    return [*lines, "next: look at the changes, then run make venv and make build"]


def _read_shipped_part(path: Path) -> bytes:
    """Return the part below the user's part, as it was hashed: without a third part that only the template had."""
    text = read_text_file(path, "a text file")
    start = text.find(SHIPPED_PART_MARKER)
    return (text[start:].rstrip("\n") + "\n").encode() if start >= 0 else b""


def _convert_dockerfile(project: Path) -> str:
    """Keep the user's part of worker/Dockerfile, with the base image of the Makefile; return a line that reports it."""
    path, makefile = project / "worker" / "Dockerfile", project / "Makefile"
    if not path.is_file():
        return ""
    own = read_text_file(path, "a Dockerfile").partition(SHIPPED_PART_MARKER)[0].rstrip("\n") + "\n"
    base = re.search(r"^base *= *(\S+)", read_text_file(makefile, "a Makefile"), re.M) if makefile.is_file() else None
    if base is not None:
        own = re.sub(r"^(\s*ARG\s+BASE_IMAGE=)\S+", lambda match: match[1] + base[1], own, count=1, flags=re.M | re.I)
    write_file_atomically(path, own.encode())
    return format_row("worker", "worker/Dockerfile now has only your part; make build adds the worker")


def _has_own_requirements(project: Path) -> bool:
    """Return whether requirements.txt is the user's, in any encoding, instead of one that `upgrade` wrote."""
    path = project / "requirements.txt"
    return path.is_file() and b"distributed_something-" not in path.read_bytes()


def _move_program_requirements(project: Path) -> list[str]:
    """Keep a requirements.txt of the user's under another name, because requirements.txt now installs the package."""
    if not _has_own_requirements(project):
        return []
    (project / "requirements.txt").rename(project / PROGRAM_REQUIREMENTS)
    return [format_row("renamed", f"requirements.txt to {PROGRAM_REQUIREMENTS}")]


def _copy_new_files(project: Path) -> None:
    for name in _REPLACED_FILES:
        shutil.copy(find_template_file(name), project / name)
    shutil.copy(SKELETON / "Makefile", project / "Makefile")
    _ignore_new_files(project / ".gitignore")


def _ignore_new_files(path: Path) -> None:
    """Add the lines that a project needs to its .gitignore, and keep the others, which may be in any encoding."""
    content = path.read_bytes() if path.is_file() else b""
    lines = content.splitlines()
    needed = (line for line in (SKELETON / "gitignore").read_bytes().splitlines() if line and line[:1] != b"#")
    missing = [line + b"\n" for line in needed if line not in lines]
    if missing:
        separator = b"" if not content or content.endswith(b"\n") else b"\n"
        write_file_atomically(path, content + separator + b"".join(missing))


def _delete_empty_folders(project: Path) -> None:
    """Delete the folders of the older code, unless they contain a file of the user's."""
    for name in _OLDER_FOLDERS:
        folder = project / name
        for cache in list(folder.rglob("__pycache__")):
            shutil.rmtree(cache, ignore_errors=True)
        for path in sorted(folder.rglob("*"), reverse=True):
            if path.is_dir() and not any(path.iterdir()):
                path.rmdir()
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
