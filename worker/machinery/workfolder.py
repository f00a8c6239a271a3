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
    free_names = (folders.root.with_name(f"{folders.root.name}-{number}") for number in count())
    todo = [folders.root]
    while todo:
        folder = todo.pop()
        try:
            todo += _empty(folder, free_names)
            folder.rmdir()
        except OSError as error:
            log.warning("what a job made cannot be removed: %s", error)


def _empty(folder: Path, free_names: Iterator[Path]) -> list[Path]:
    """Moves the folders in it beside the job's own, so that no path grows too long; these."""
    moved = []
    folder.chmod(0o700)
    for entry in list(os.scandir(folder)):
        with suppress(OSError):  # rmdir() tells that something is left
            if entry.is_dir(follow_symlinks=False):
                os.chmod(entry.path, 0o700)  # moving it changes it
                moved.append(Path(entry.path).rename(next(free_names)))
            else:
                os.unlink(entry.path)
    return moved
