"""A job's own folder: made fresh for each attempt and removed after it, whatever its program made in it.

shutil.rmtree calls itself for each folder in a folder: a thousand of them end the thread. Nor does it remove what is in
a folder that nobody may write to.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path

from .job import Folders

log = logging.getLogger("worker")


def make(work_dir: Path) -> Folders:
    """Raises OSError where it cannot be made."""
    return Folders(Path(tempfile.mkdtemp(prefix="job-", dir=work_dir)))


def remove(folders: Folders) -> None:
    """Removes it with the log beside it. Raises nothing: what cannot be removed is told in the worker's log."""
    with suppress(OSError):
        folders.log.unlink()
    free_names = (f"{folders.root}-{number}" for number in count())
    todo = [str(folders.root)]
    while todo:
        folder = todo.pop()
        try:
            os.chmod(folder, 0o700)
            todo += _empty(folder, free_names)
            os.rmdir(folder)
        except OSError as error:
            log.warning("what a job made cannot be removed: %s", error)


def _empty(folder: str, free_names: Iterator[str]) -> list[str]:
    """Moves the folders in it beside the job's own, so that no path grows too long; these."""
    moved = []
    for entry in list(os.scandir(folder)):
        with suppress(OSError):  # rmdir() tells that something is left
            if entry.is_dir(follow_symlinks=False):
                if _was_empty(entry.path):
                    continue
                os.chmod(entry.path, 0o700)  # moving it changes it
                name = next(free_names)
                os.rename(entry.path, name)
                moved.append(name)
            else:
                os.unlink(entry.path)
    return moved


def _was_empty(folder: str) -> bool:
    """Removes it if it is: no more is to be done for most folders."""
    with suppress(OSError):
        os.rmdir(folder)
        return True
    return False
