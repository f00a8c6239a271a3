"""Paths below which a program may have replaced anything, and which are opened without following any link.

A program owns its job's folder. At any time, it can replace a file, a folder, or its log with a link to any file of the
container. Checking a path before opening it would be too early, so each part of the path is opened without following
links, relative to the part before it.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PosixPath
from typing import IO, Any

_FOLDER_FLAGS = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_CLOEXEC", 0)
_FILE_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)  # a pipe must not block
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)


class SafePath(PosixPath):
    """A path that can only be read. From `start` on, no part of it may be a link; what precedes `start` is trusted.

    Without `start`, only the path itself must not be a link. `open` and `stat` raise OSError (ELOOP or ENOTDIR) for a
    link, and `open` does so (EINVAL) for anything else that is not a regular file.
    """

    start: Path | None = None

    @classmethod
    def build(cls, path: Path, start: Path | None = None) -> SafePath:
        """Return the safe path for `path`, which must be `start` or below it."""
        safe = cls(path)
        safe.start = start
        return safe

    def open(self, mode: str = "r", *arguments: Any, **options: Any) -> IO[Any]:  # type: ignore[override]
        """Open the file for reading, like Path.open."""
        with self._open_parent() as (parent, name):
            descriptor = os.open(name, _FILE_FLAGS | _NO_LINK, dir_fd=parent)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise OSError(errno.EINVAL, "not a regular file", str(self))
            return open(descriptor, mode, *arguments, **options)
        except BaseException:  # whatever it is, the descriptor must not stay open
            os.close(descriptor)
            raise

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        """Return the state of the file, like Path.stat, but raise OSError instead of following a link."""
        with self._open_parent() as (parent, name):
            result = os.stat(name, dir_fd=parent, follow_symlinks=False)
        if follow_symlinks and stat.S_ISLNK(result.st_mode):
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(self))
        return result

    @contextmanager
    def _open_parent(self) -> Iterator[tuple[int | None, str]]:
        """Yield the open folder that contains the path, and the path's name in it.

        If no folder between `start` and the path must be opened, yield None and the whole path.
        """
        start = self.start or self
        parts = self.relative_to(start).parts
        if ".." in parts:
            raise OSError(errno.EINVAL, "the path contains ..", str(self))
        if not parts:
            yield None, str(self)
            return
        parent = os.open(start, _FOLDER_FLAGS | _NO_LINK)
        try:
            for folder in parts[:-1]:
                child = os.open(folder, _FOLDER_FLAGS | _NO_LINK, dir_fd=parent)
                os.close(parent)
                parent = child
            yield parent, parts[-1]
        finally:
            os.close(parent)
