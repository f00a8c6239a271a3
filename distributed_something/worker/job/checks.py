"""What `failure()` in generic-worker.py can ask of a job's files. Each check is None, or the reason why the job failed.

Checks read as an `or`, the first reason counts:

    return missing_files(folders.output_dir, 3, "*.csv") or wrong_text(folders.output_dir / "cp.is.done", "Complete")

Whatever a program wrote, a check answers: it raises nothing and reads no more of a file than MAX_CHECKED_BYTES.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from distributed_something.worker.job.job import Folders, Job
from distributed_something.worker.job.program_result import Result

MAX_CHECKED_BYTES = 4 * 1024 * 1024  # of one file; JSON takes some twenty times that in memory


class _UnreadableFile(Exception):
    """The file cannot be read as asked; the text says why."""


def usual_failure(job: Job, folders: Folders, result: Result) -> str | None:
    """As shipped: whether the exit code is other than 0, or fewer files were written than the job expects."""
    if result.exit_code != 0:
        return f"exit code {result.exit_code}"
    written = sum(path.is_file() for path in (job.output_dir or folders.output_dir).rglob("*"))
    if written < job.expected_files:
        return f"{written} files written, {job.expected_files} expected"
    return None


def missing_files(folder: Path, at_least: int, match: str = "*", min_bytes: int = 0) -> str | None:
    """Whether `folder`, subfolders too, has fewer files than `at_least` with a name like `match` and that many bytes.

    `match` is a glob: `*.csv`, or with folders `masks/*.png`, wherever those are below `folder`.
    """
    try:
        found = sum(1 for _ in islice(_iter_matching_files(folder, match, min_bytes), at_least))
    except (OSError, ValueError, NotImplementedError) as error:  # the last two: of a pattern that is none
        return f"the files {match!r} cannot be counted: {error}"
    size = f" of {min_bytes} bytes or more" if min_bytes else ""
    return None if found >= at_least else f"{found} files {match!r}{size}, {at_least} expected"


def wrong_text(path: Path, equals: str) -> str | None:
    """Whether the file's text, without space around it, is another than `equals`."""
    try:
        text = _read_text(path)
    except _UnreadableFile as error:
        return str(error)
    if text.strip() != equals.strip():
        return f"{_format_name(path)} says {_format_excerpt(text.strip())}, not {_format_excerpt(equals.strip())}"
    return None


def missing_text(path: Path, contains: str) -> str | None:
    """Whether `contains` is nowhere in the file's text, or only beyond its first MAX_CHECKED_BYTES. Bytes need no
    encoding."""
    try:
        start = _read_start(path)
    except _UnreadableFile as error:
        return str(error)
    if contains.encode("utf-8", "surrogatepass") not in start[:MAX_CHECKED_BYTES]:
        whole = len(start) <= MAX_CHECKED_BYTES
        where = _format_name(path) if whole else f"the first {MAX_CHECKED_BYTES} bytes of {_format_name(path)}"
        return f"{where} does not contain {_format_excerpt(contains)}"
    return None


def missing_key(path: Path, *keys: str | int) -> str | None:
    """Whether the JSON file lacks `keys`, each inside the one before; a number is a place in a list, from 0."""
    try:
        value = _load_json(path)
    except _UnreadableFile as error:
        return str(error)
    for depth, key in enumerate(keys, 1):
        if not _has_key(value, key):
            return f"{_format_name(path)} has no {'.'.join(map(str, keys[:depth]))}"
        value = value[key]
    return None


def _iter_matching_files(folder: Path, match: str, min_bytes: int) -> Iterator[Path]:
    return (path for path in folder.rglob(match) if path.is_file() and path.stat().st_size >= min_bytes)


def _has_key(value: Any, key: str | int) -> bool:
    if isinstance(value, list):
        return isinstance(key, int) and 0 <= key < len(value)
    return isinstance(value, dict) and key in value


def _load_json(path: Path) -> Any:
    text = _read_text(path)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _UnreadableFile(f"{_format_name(path)} is no JSON: {error}") from None


def _read_text(path: Path) -> str:
    start = _read_start(path)
    if len(start) > MAX_CHECKED_BYTES:
        raise _UnreadableFile(f"{_format_name(path)} is larger than the {MAX_CHECKED_BYTES} bytes that a check reads")
    try:
        return start.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _UnreadableFile(f"{_format_name(path)} is not UTF-8 (byte {error.start})") from None


def _read_start(path: Path) -> bytes:
    """At most one byte more than MAX_CHECKED_BYTES, which tells a file that is too large."""
    try:
        if not path.is_file():  # before it is opened: a pipe would wait for a writer
            raise _UnreadableFile(f"{_format_name(path)} is {'no file' if path.exists() else 'not there'}")
        with path.open("rb") as file:
            return file.read(MAX_CHECKED_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        raise _UnreadableFile(f"{_format_name(path)} cannot be read: {error}") from None


def _format_name(path: Path) -> str:
    return path.name.encode("utf-8", "backslashreplace").decode()


def _format_excerpt(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:80] + "…")
