"""Lists the files of an `upload` folder: what will be uploaded, and what will be left out and why.

Links are followed, also to folders. Nothing is left out silently.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from distributed_something.core.errors import InputError, InputProblems
from distributed_something.core.text import format_one_line
from distributed_something.worker import is_macos_file

MAX_KEY_BYTES = 1024  # of a key in UTF-8; S3's limit
HIDDEN_REASON, CACHE_REASON = "a hidden file of macOS", "Python's cache"


@dataclass(frozen=True)
class UploadFile:
    """A file and its key in the bucket.

    `changed_at`: when the file or a folder above it last changed, in seconds since 1970. A file that was moved, or
    copied with its time, keeps its own time of modification, but it or the folder in which it is now has changed.
    """

    path: Path
    key: str
    size: int
    changed_at: float


@dataclass
class UploadList:
    """The files of a folder, and why each path that is left out is not among them."""

    files: list[UploadFile] = field(default_factory=list)
    left_out: dict[Path, str] = field(default_factory=dict)


def list_upload_files(folder: Path, prefix: str) -> UploadList:
    """Return the files in `folder`, sorted, with their keys below `prefix`. `folder` may also be a single file."""
    found = UploadList()
    if folder.is_dir():
        _list_folder(found, folder, prefix.rstrip("/"), 0.0, frozenset())
    else:
        _list_path(found, folder, prefix + folder.name if prefix.endswith("/") else prefix, 0.0, frozenset())
    return found


def _list_folder(
    found: UploadList, folder: Path, prefix: str, changed_at: float, above: frozenset[tuple[int, int]]
) -> None:
    try:
        status = folder.stat()
        names = sorted(os.listdir(folder))
    except OSError as error:
        found.left_out[folder] = f"cannot be read ({error.strerror})"
        return
    identity = (status.st_dev, status.st_ino)
    if identity in above:
        found.left_out[folder] = "a link to a folder above it"
        return
    changed_at = max(changed_at, _get_change_time(status))
    for name in names:
        path = folder / name
        if is_macos_file(name):
            found.left_out[path] = HIDDEN_REASON
        elif name == "__pycache__":
            found.left_out[path] = CACHE_REASON
        else:
            _list_path(found, path, f"{prefix}/{name}", changed_at, above | {identity})


def _list_path(found: UploadList, path: Path, key: str, changed_at: float, above: frozenset[tuple[int, int]]) -> None:
    try:
        changed_at = max(changed_at, _get_change_time(path.lstat()))
        status = path.stat()
    except OSError as error:
        is_link = path.is_symlink()
        found.left_out[path] = (
            "a link to a file that does not exist" if is_link else f"cannot be read ({error.strerror})"
        )
        return
    if stat.S_ISDIR(status.st_mode):
        _list_folder(found, path, key, changed_at, above)
    elif not stat.S_ISREG(status.st_mode):
        found.left_out[path] = "not a regular file"
    elif not os.access(path, os.R_OK):
        found.left_out[path] = "cannot be read (Permission denied)"
    else:
        found.files.append(UploadFile(path, key, status.st_size, max(changed_at, _get_change_time(status))))


def _get_change_time(status: os.stat_result) -> float:
    return max(status.st_mtime, status.st_ctime)


def iter_upload_problems(job_file: Path, folder: Path, prefix: str, key: str) -> Iterator[InputError]:
    """Yield an error for each file that cannot have a key in S3. `key`: the place in the Job file."""
    for file in list_upload_files(folder, prefix).files:
        try:
            length = len(file.key.encode())
        except UnicodeEncodeError:
            shown = os.fsencode(file.path).decode("utf-8", "backslashreplace")
            problem = f"the name of {format_one_line(shown)} is not UTF-8 text"
            yield InputError(job_file, key, problem, "rename it")
            continue
        if length > MAX_KEY_BYTES:
            problem = f"the key of {file.path} would have {length:,} bytes, but S3 allows only {MAX_KEY_BYTES:,}"
            yield InputError(job_file, key, problem, "shorten the names of its folders")


def check_upload_names(job_file: Path, folders: Mapping[Path, tuple[str, str]]) -> None:
    """Raise InputError with all files that cannot be uploaded because of their names.

    `folders`: the prefix in the bucket and the place in the Job file for each folder.
    """
    problems = InputProblems()
    for folder, (prefix, key) in folders.items():
        for problem in iter_upload_problems(job_file, folder, prefix, key):
            problems.add(problem)
    problems.raise_if_any()
