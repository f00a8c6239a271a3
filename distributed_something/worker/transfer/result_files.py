"""Which files of a job's folder are results, and the key that each gets in the bucket."""

from __future__ import annotations

import os
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from distributed_something.worker.job.failures import Failed, UploadError

MAX_KEY_BYTES = 1024  # S3


def list_result_files(folder: Path, location: str, leave_out: Sequence[str] = ()) -> dict[str, Path]:
    """Return what `upload_results` brings to S3: keys and paths.

    Raises Failed for a file that cannot be an object, UploadError for one that cannot be read.
    """
    return {_build_key(location, name): path for name, path in _list_files(folder) if not _is_left_out(name, leave_out)}


def _list_files(folder: Path) -> list[tuple[str, Path]]:
    """Name below `folder` and path of every file, in order of names."""
    found: list[tuple[str, Path]] = []
    try:
        for root, folders, names in os.walk(folder, onerror=_raise_error):
            paths = (Path(root, name) for name in folders + names)
            found += ((path.relative_to(folder).as_posix(), path) for path in paths if _is_result_file(path, folder))
    except OSError as error:
        raise UploadError(f"an output cannot be read: {error}") from None
    return sorted(found)


def _is_left_out(name: str, patterns: Sequence[str]) -> bool:
    """A pattern without `/` is about the file's own name, wherever it lies."""
    return any(fnmatchcase(name if "/" in pattern else name.rpartition("/")[2], pattern) for pattern in patterns)


def _raise_error(error: OSError) -> None:
    raise error


def _is_result_file(path: Path, folder: Path) -> bool:
    """Whether `path` is a file to upload. A link counts as the file that it points to, within the job's folder.

    A job's values must never make it publish other files; nor may a result be missing without a word.
    """
    if not path.is_symlink():
        return path.is_file()
    name, target = path.relative_to(folder).as_posix(), Path(os.path.realpath(path))
    if not target.is_relative_to(folder.resolve().parent):
        raise Failed(f"the output {name!r} is a link out of the job's folder")
    if not target.exists():
        raise Failed(f"the output {name!r} is a link to nothing")
    if target.is_dir() and not target.is_relative_to(folder.resolve()):
        raise Failed(f"the output {name!r} is a link to a folder outside the output folder")
    return target.is_file()  # a folder in the output folder: its files go up under their own names


def _build_key(location: str, name: str) -> str:
    key = f"{location}/{name}"
    try:
        length = len(key.encode())
    except UnicodeEncodeError:
        raise Failed(f"an output's name is not UTF-8: {name!r}") from None
    if length > MAX_KEY_BYTES:
        raise Failed(f"an output's key would have {length:,} bytes, S3 allows {MAX_KEY_BYTES:,}: {key[:100]}…")
    return key
