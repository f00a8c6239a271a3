"""Checks on a job's files, for use in the hook `failure()` in generic-worker.py.

Each check returns None if it passes, and otherwise the reason why the job failed. Combine checks with `or`; the first
reason is used:

    return missing_files(folders.output_dir, 3, "*.csv") or wrong_text(folders.output_dir / "cp.is.done", "Complete")

The worker also checks the exit code. If your program may succeed with another exit code than 0, add
`or EXIT_CODE_ACCEPTED` at the end.

A check never raises an exception, whatever the program wrote, and reads at most MAX_CHECKED_BYTES of a file.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from enum import StrEnum
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import Path
from typing import Any

from distributed_something.worker.job.job import Folders, Job
from distributed_something.worker.job.program_result import Result
from distributed_something.worker.visible_text import show_name

MAX_CHECKED_BYTES = 4 * 1024 * 1024  # per file; parsed JSON takes about twenty times as much memory


class HookVerdict(StrEnum):
    """A value that `failure()` may return instead of a reason or None. It is a string, as the hook's reasons are."""

    EXIT_CODE_ACCEPTED = "the exit code is accepted"


EXIT_CODE_ACCEPTED = HookVerdict.EXIT_CODE_ACCEPTED  # for a program that may succeed with another exit code than 0


class _UnreadableFile(Exception):
    """Raised for a file whose content cannot be checked. The error message is the reason."""


def find_failure(reason: str | None, result: Result) -> str | None:
    """Return why an attempt failed, or None if it succeeded. `reason`: what the hook `failure()` returned.

    A reason from `command_checks` comes first, because commands after that one did not run. The exit code is checked
    even if the hook does not look at it: with another exit code than 0, an attempt succeeds
    only if the hook returns EXIT_CODE_ACCEPTED.
    """
    if result.failed_check:
        return result.failed_check
    if reason is HookVerdict.EXIT_CODE_ACCEPTED:
        return None
    return _check_exit_code(result) if reason is None else reason


def usual_failure(job: Job, folders: Folders, result: Result) -> str | None:
    """Return a failure reason if the exit code is not 0 or fewer than `job.expected_files` files will be uploaded, else
    None. Files that match a pattern in `job.leave_out` do not count."""
    if reason := _check_exit_code(result):
        return reason
    if not job.expected_files:
        return None
    count = _count_results(job.output_dir or folders.output_dir, job.leave_out)
    if count < job.expected_files:
        return f"{count} of {job.expected_files} expected files written"
    return None


def is_left_out(name: str, patterns: Sequence[str]) -> bool:
    """Return whether a pattern in `leave_out` matches `name`, a path below the output folder.

    A pattern without `/` is compared only with the last part of `name`.
    """
    return any(fnmatchcase(name if "/" in pattern else name.rpartition("/")[2], pattern) for pattern in patterns)


def missing_files(folder: Path, at_least: int, match: str = "*", min_bytes: int = 0) -> str | None:
    """Return a failure reason if `folder` and its subfolders contain fewer than `at_least` matching files, else None.

    A file counts if it matches the glob `match` and has at least `min_bytes` bytes. `match` is a file name pattern such
    as `*.csv`, or one with folders such as `masks/*.png`; it matches at any depth below `folder`.
    """
    try:
        count = sum(1 for _ in islice(_iter_matching_files(folder, match, min_bytes), at_least))
    except (OSError, ValueError, NotImplementedError) as error:  # the last two mean an invalid pattern
        return f"files that match {match!r} cannot be counted: {error}"
    size = " and are not empty" if min_bytes == 1 else f" and have {min_bytes} bytes or more" if min_bytes else ""
    return None if count >= at_least else f"{count} of {at_least} expected files match {match!r}{size}"


def wrong_text(path: Path, equals: str) -> str | None:
    """Return a failure reason if the file's text is not `equals`, else None. White space at both ends is ignored."""
    try:
        text = _read_text(path)
    except _UnreadableFile as error:
        return str(error)
    if text.strip() != equals.strip():
        return f"{_format_name(path)} contains {_format_excerpt(text.strip())}, not {_format_excerpt(equals.strip())}"
    return None


def missing_text(path: Path, contains: str) -> str | None:
    """Return a failure reason if the first MAX_CHECKED_BYTES of the file do not contain `contains`, else None.

    The file need not be valid UTF-8. The check looks for the UTF-8 bytes of `contains`.
    """
    try:
        start = _read_start(path)
    except _UnreadableFile as error:
        return str(error)
    if contains.encode("utf-8", "surrogatepass") not in start[:MAX_CHECKED_BYTES]:
        is_complete = len(start) <= MAX_CHECKED_BYTES
        where = _format_name(path) if is_complete else f"the first {MAX_CHECKED_BYTES} bytes of {_format_name(path)}"
        return f"{where} does not contain {_format_excerpt(contains)}"
    return None


def missing_key(path: Path, *keys: str | int) -> str | None:
    """Return a failure reason if the JSON file has no value at `keys`, else None.

    Each key is looked up in the value of the previous key. A number is an index into a list, starting at 0.
    """
    try:
        value = _load_json(path)
    except _UnreadableFile as error:
        return str(error)
    for depth, key in enumerate(keys, 1):
        if not _has_key(value, key):
            return f"{_format_name(path)} has no key {'.'.join(map(str, keys[:depth]))}"
        value = value[key]
    return None


def _check_exit_code(result: Result) -> str | None:
    return f"exit code {result.exit_code}" if result.exit_code != 0 else None


def _count_results(folder: Path, leave_out: Sequence[str]) -> int:
    """Return how many files in `folder` will be uploaded. Files that cannot be found, because their paths are too long,
    do not count; the upload then explains this."""
    count = 0
    with suppress(OSError, RecursionError):
        for root, _, names in os.walk(folder):
            paths = (Path(root, name) for name in names)
            count += sum(
                path.is_file() and not is_left_out(path.relative_to(folder).as_posix(), leave_out) for path in paths
            )
    return count


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
        raise _UnreadableFile(f"{_format_name(path)} is not valid JSON: {error}") from None


def _read_text(path: Path) -> str:
    start = _read_start(path)
    if len(start) > MAX_CHECKED_BYTES:
        raise _UnreadableFile(f"{_format_name(path)} is larger than {MAX_CHECKED_BYTES} bytes, the limit for checks")
    try:
        return start.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _UnreadableFile(f"{_format_name(path)} is not UTF-8 (byte {error.start})") from None


def _read_start(path: Path) -> bytes:
    """Return the first MAX_CHECKED_BYTES, and one more byte if the file is larger."""
    try:
        if not path.is_file():  # checked before opening, because opening a pipe would wait for a writer
            problem = "is not a regular file" if path.exists() else "does not exist"
            raise _UnreadableFile(f"{_format_name(path)} {problem}")
        with path.open("rb") as file:
            return file.read(MAX_CHECKED_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: the name contains a null byte
        raise _UnreadableFile(f"{_format_name(path)} cannot be read: {error}") from None


def _format_name(path: Path) -> str:
    return show_name(path.name)


def _format_excerpt(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:80] + "…")
