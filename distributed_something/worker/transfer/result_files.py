"""Selects the files that are a job's results, and builds their keys in the bucket."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path

from distributed_something.worker.job.addresses import MAX_KEY_BYTES
from distributed_something.worker.job.checks import is_left_out
from distributed_something.worker.job.failures import (
    BadData,
    Failed,
    UploadError,
    describe_outside_folder,
    is_name_error,
)
from distributed_something.worker.job.job import Folders, Job
from distributed_something.worker.safe_path import SafePath
from distributed_something.worker.visible_text import show_name

MAX_SHOWN_CHARACTERS = 100  # of a name that is too long
_MISSING_FOLDER_PROBLEM = "does not exist: the program removed it, or did not create it"


def get_output_folder(job: Job, folders: Folders) -> SafePath:
    """Return the folder with the job's results, whose files can only be opened if they are in the job's folder."""
    return SafePath.build(job.output_dir or folders.output_dir, folders.root)


def list_result_files(folder: Path, location: str, leave_out: Sequence[str] = ()) -> dict[str, Path]:
    """Return the files that `upload_results` uploads, as a mapping from keys to paths.

    `folder`: the output folder, from `get_output_folder`; for any other path, its parent is the job's folder.
    `location` is the prefix of the keys. Files that match a pattern in `leave_out` are not results. Raise BadData if
    the name or path of a file is too long or not UTF-8, Failed if a file cannot become an object in S3 for another
    reason, and UploadError if a folder cannot be read.
    """
    root = (folder.start if isinstance(folder, SafePath) else None) or folder.parent
    _check_folder(folder, root)
    files = _list_files(Path(folder), root)
    _check_hard_links(files, root)
    return {_build_key(location, name): path for name, path, _ in files if not is_left_out(name, leave_out)}


def _check_folder(folder: Path, root: Path) -> None:
    """Raise Failed if the output folder is not in the job's folder `root`, does not exist, is not a folder, or if it or
    a folder above it was replaced with a link."""
    if not folder.is_relative_to(root) or ".." in folder.relative_to(root).parts:
        raise Failed(describe_outside_folder(folder))
    path, mode = root, 0
    for part in ("", *folder.relative_to(root).parts):
        path = path / part
        try:
            mode = os.lstat(path).st_mode
        except (FileNotFoundError, NotADirectoryError):
            mode = 0
            break
        if stat.S_ISLNK(mode):
            name = path.relative_to(root.parent).as_posix()
            raise Failed(
                f"the program or a hook replaced '{show_name(name)}' with a link, so its results cannot be uploaded"
            )
    if not stat.S_ISDIR(mode):
        problem = "is not a folder: the program replaced it" if mode else _MISSING_FOLDER_PROBLEM
        raise Failed(f"the output folder '{show_name(folder.relative_to(root).as_posix())}' {problem}")


def _list_files(folder: Path, job_root: Path) -> list[tuple[str, Path, os.stat_result]]:
    """Return the name (relative to `folder`), path, and status of every result file, sorted by name."""
    files: list[tuple[str, Path, os.stat_result]] = []
    try:
        for root, folders, names in os.walk(folder, onerror=_raise_error):
            for path in (Path(root, name) for name in folders + names):
                if found := _find_result_file(path, folder, job_root):
                    files.append((path.relative_to(folder).as_posix(), *found))
    except RecursionError:  # os.walk calls itself for each level; a key with as many slashes would be too long anyway
        raise BadData("the output folder has too many folders inside each other") from None
    except OSError as error:
        if is_name_error(error):
            name = os.path.relpath(str(error.filename), folder)
            problem = f"has a path of {len(name.encode(errors='replace')):,} bytes ({error.strerror})"
            raise BadData(f"the output {show_name(name[:MAX_SHOWN_CHARACTERS])}… {problem}") from None
        raise UploadError(f"the output folder cannot be read: {error}") from None
    return sorted(files)


def _check_hard_links(files: Sequence[tuple[str, Path, os.stat_result]], job_root: Path) -> None:
    """Raise Failed if a file has another name outside the job's folder, because it is then also a file of others."""
    linked = [(name, status) for name, _, status in files if status.st_nlink > 1]
    if not linked:
        return
    own_names = Counter(_iter_inodes(job_root, job_root.with_name(f"{job_root.name}.tmp")))
    for name, status in linked:
        if own_names[status.st_dev, status.st_ino] < status.st_nlink:
            problem = "is a hard link to a file outside the job's folder; copy the file instead"
            raise Failed(f"the output '{show_name(name)}' {problem}")


def _iter_inodes(*folders: Path) -> Iterator[tuple[int, int]]:
    """Yield the device and inode of each file in the folders."""
    for root, _, names in chain.from_iterable(map(os.walk, folders)):
        for name in names:
            with suppress(OSError):
                status = os.lstat(os.path.join(root, name))
                yield status.st_dev, status.st_ino


def _raise_error(error: OSError) -> None:
    raise error


def _find_result_file(path: Path, folder: Path, job_root: Path) -> tuple[Path, os.stat_result] | None:
    """Return the file to upload for `path`, if any, and its status.

    A link to a file in the job's folder counts as that file.

    Raise Failed if a link has no target, leads outside the job's folder, or leads to a folder outside the output
    folder: a job must never publish files from outside its folder, and a missing result must not go unnoticed.
    """
    status = os.lstat(path)
    if not stat.S_ISLNK(status.st_mode):
        return (SafePath.build(path, job_root), status) if stat.S_ISREG(status.st_mode) else None
    name, target = path.relative_to(folder).as_posix(), Path(os.path.realpath(path))
    folder, job_root = Path(os.path.realpath(folder)), Path(os.path.realpath(job_root))
    if not target.is_relative_to(job_root):
        raise Failed(f"the output '{show_name(name)}' is a link to a path outside the job's folder")
    if not target.exists():
        raise Failed(f"the output '{show_name(name)}' is a link whose target does not exist")
    if target.is_dir() and not target.is_relative_to(folder):
        raise Failed(f"the output '{show_name(name)}' is a link to a folder outside the output folder")
    # Files in a linked folder inside the output folder are uploaded under their real names.
    return (SafePath.build(target, job_root), os.lstat(target)) if target.is_file() else None


def _build_key(location: str, name: str) -> str:
    key = f"{location}/{name}"
    try:
        length = len(key.encode())
    except UnicodeEncodeError:
        raise BadData(f"the name of the output '{show_name(name)}' is not UTF-8") from None
    if length > MAX_KEY_BYTES:
        start = key[:MAX_SHOWN_CHARACTERS]
        raise BadData(f"an output's key is {length:,} bytes long, but S3 allows only {MAX_KEY_BYTES:,}: {start}…")
    return key
