"""A job's own folder: made fresh for each attempt and removed after it, whatever its program made in it.

shutil.rmtree calls itself for each folder in a folder: a thousand of them end the thread. Nor does it remove what is in
a folder that nobody may write to, nor a path that is longer than the kernel takes.
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

from distributed_something.worker.job.job import Folders

LONG_PATH_CHARACTERS = 900  # characters, of up to 4 bytes; the kernel takes 4096 bytes, with a name of 255 in them
log = logging.getLogger("worker")


def build_job_folders(work_dir: Path) -> Folders:
    """A folder of a name of its own, which is not there yet."""
    return Folders(work_dir / f"job-{secrets.token_hex(6)}")


def make_job_folder(folders: Folders) -> None:
    """Raises OSError where it cannot be made."""
    folders.root.mkdir(mode=0o700)


def remove_job_folder(folders: Folders) -> None:
    """Removes it with the log beside it. Raises nothing: what cannot be removed is told in the worker's log."""
    for path in (folders.log, folders.root):  # which its program may have replaced by a link
        with suppress(OSError):
            path.unlink()
    free_names = (f"{folders.root}-{number}" for number in count())
    found = [str(folders.root)] if folders.root.exists() else []  # it is made when its job is begun
    for folder in found:  # which grows meanwhile
        _try_removal(partial(_empty_folder, folder, found, free_names))
    for folder in reversed(found):
        _try_removal(partial(os.rmdir, folder))


def _empty_folder(folder: str, found: list[str], free_names: Iterator[str]) -> None:
    """Removes the files in it; adds the folders in it to `found`, of which those far down are moved up first."""
    os.chmod(folder, 0o700)
    for entry in list(os.scandir(folder)):
        with suppress(OSError):  # rmdir() tells that something is left
            if entry.is_dir(follow_symlinks=False):
                found.append(_move_deep_folder(entry.path, free_names))
            else:
                os.unlink(entry.path)


def _move_deep_folder(folder: str, free_names: Iterator[str]) -> str:
    if len(folder) < LONG_PATH_CHARACTERS:
        return folder
    os.chmod(folder, 0o700)  # moving it changes it
    name = next(free_names)
    os.rename(folder, name)
    return name


def _try_removal(remove: Callable[[], None]) -> None:
    try:
        remove()
    except OSError as error:
        log.warning("what a job made cannot be removed: %s", error)
