"""Job folders: one is created for each attempt and removed afterward, whatever the program wrote there.

shutil.rmtree is not sufficient. It recurses once per folder level, so it fails at about a thousand levels, and it
cannot remove files in write-protected folders or at paths longer than the kernel accepts.
"""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from itertools import count
from pathlib import Path

from distributed_something.worker.job.job import Folders, Job
from distributed_something.worker.program.privileges import ProgramIdentity, ProgramUser, choose_identity

LONG_PATH_CHARACTERS = 900  # up to 4 bytes each; with a 255-byte name added, still below the kernel's limit of 4,096
MAX_SIMPLE_LEVELS = 3  # most jobs have no deeper folders
log = logging.getLogger("worker")


def build_job_folders(work_dir: Path) -> Folders:
    """Return the folders for a new attempt, under a unique name, without creating them."""
    return Folders(work_dir / f"job-{secrets.token_hex(6)}")


def make_job_folder(folders: Folders) -> None:
    """Create the job folder and the program's TMPDIR. Raise OSError if that fails."""
    folders.root.mkdir(mode=0o700)
    folders.temp_dir.mkdir(mode=0o700)
    if folders.short_temp_dir != folders.temp_dir:
        folders.short_temp_dir.symlink_to(folders.temp_dir)


def give_folders(folders: Folders, user: ProgramUser) -> ProgramIdentity:
    """Give the content of a job's folders to `user`, and return the identity with which programs can enter them.

    The folders themselves stay the worker's, so that only their new group can enter them. So do shared inputs, which
    all jobs can read and none may change. Raise OSError if that fails.
    """
    identity = choose_identity(user)
    for folder in (folders.root, folders.temp_dir):
        for path in _iter_own_paths(folder, folders.shared_dir):
            os.chown(path, identity.user, identity.group, follow_symlinks=False)
        os.chown(folder, 0, identity.group)
        os.chmod(folder, 0o770)
    descriptor = os.open(folders.log, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        os.fchown(descriptor, identity.user, identity.group)  # so that programs can open /dev/stderr
        os.fchmod(descriptor, 0o600)
    finally:
        os.close(descriptor)
    return identity


def _iter_own_paths(folder: Path, shared_dir: Path) -> Iterator[str]:
    """Yield everything below a folder except shared inputs: files below `shared_dir` that are also in the store."""
    for root, folders, files in os.walk(folder):
        is_shared = Path(root).is_relative_to(shared_dir)
        yield from (os.path.join(root, name) for name in folders)
        for path in (os.path.join(root, name) for name in files):
            if not is_shared or os.lstat(path).st_nlink == 1:
                yield path


def remove_job_folder(folders: Folders) -> None:
    """Remove the job folder, its TMPDIR, and its log. Failures are logged, not raised."""
    remove_temp_dir(folders)
    for path in (folders.log, folders.root):  # the program may have replaced the root with a link
        with suppress(OSError):
            path.unlink()
    _remove_folder(folders.root)


def build_own_environment(job: Job, folders: Folders) -> dict[str, str]:
    """Return the environment variables that only this job's program gets."""
    shared = {"SHARED_DIR": str(folders.shared_dir)} if job.shared_inputs else {}
    return {"TMPDIR": str(folders.short_temp_dir)} | shared


def remove_temp_dir(folders: Folders) -> None:
    """Remove the folder for temporary files and the link to it. Failures are logged, not raised."""
    if folders.short_temp_dir != folders.temp_dir:
        with suppress(OSError):
            folders.short_temp_dir.unlink()
    with suppress(OSError):  # most programs leave nothing there, and each system call takes time
        os.rmdir(folders.temp_dir)
        return
    with suppress(OSError):  # the program may have replaced the folder with a link
        folders.temp_dir.unlink()
    _remove_folder(folders.temp_dir)


def _remove_folder(root: Path) -> None:
    """Remove a folder, if it exists, whatever it contains. Failures are logged, not raised."""
    with suppress(OSError):
        _remove_simple_folder(str(root))
        return
    free_names = (f"{root}-{number}" for number in count())
    nested_folders = [str(root)] if root.exists() else []
    for folder in nested_folders:  # _empty_folder appends to the list
        _try_removal(partial(_empty_folder, folder, nested_folders, free_names))
    for folder in reversed(nested_folders):
        _try_removal(partial(os.rmdir, folder))


def _remove_simple_folder(folder: str, levels: int = MAX_SIMPLE_LEVELS) -> None:
    """Remove a folder in few system calls. Raise OSError if it is missing, write-protected, or deeper than `levels`."""
    for entry in list(os.scandir(folder)):
        if not entry.is_dir(follow_symlinks=False):
            os.unlink(entry.path)
        elif levels:
            _remove_simple_folder(entry.path, levels - 1)
    os.rmdir(folder)


def _empty_folder(folder: str, nested_folders: list[str], free_names: Iterator[str]) -> None:
    """Remove the folder's files and append its subfolders to `nested_folders`, moving deep ones up first."""
    os.chmod(folder, 0o700)
    for entry in list(os.scandir(folder)):
        with suppress(OSError):  # if anything remains, the later rmdir() fails, which is logged
            if entry.is_dir(follow_symlinks=False):
                nested_folders.append(_move_deep_folder(entry.path, free_names))
            else:
                os.unlink(entry.path)


def _move_deep_folder(folder: str, free_names: Iterator[str]) -> str:
    if len(folder) < LONG_PATH_CHARACTERS:
        return folder
    os.chmod(folder, 0o700)  # renaming a folder changes its `..` entry, so the folder must be writable
    name = next(free_names)
    os.rename(folder, name)
    return name


def _try_removal(remove: Callable[[], None]) -> None:
    try:
        remove()
    except OSError as error:
        log.warning("a job's file or folder cannot be removed: %s", error)
