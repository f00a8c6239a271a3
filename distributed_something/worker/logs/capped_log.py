"""The cap on a job's log: the start and the end are kept, and the middle is left out.

The program writes to its log file directly, so the worker cannot refuse what it writes. Instead, it frees the disk
blocks in the middle of a file that has grown too large (fallocate(2)); the file keeps its length. Where the file system
does not support this, the log takes up its full length on the disk, but only its start and end are uploaded.
"""

from __future__ import annotations

import ctypes
import io
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

HEAD_BYTES, TAIL_BYTES = 16 * 1024 * 1024, 48 * 1024 * 1024
MAX_LOG_BYTES = HEAD_BYTES + TAIL_BYTES
SLACK_BYTES = 16 * 1024 * 1024  # how much a log may exceed the cap before its middle is removed
BLOCK_BYTES = 512  # the unit of st_blocks, see stat(2)
_KEEP_SIZE, _PUNCH_HOLE = 1, 2  # fallocate(2)


def remove_middle(log: Path) -> None:
    """Free the disk blocks in the middle of a log that exceeds the cap. Errors are ignored."""
    with suppress(OSError):
        status = os.stat(log, follow_symlinks=False)
        if status.st_blocks * BLOCK_BYTES > MAX_LOG_BYTES + SLACK_BYTES and sys.platform == "linux":
            file = os.open(log, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                _punch_hole(file, HEAD_BYTES, status.st_size - TAIL_BYTES - HEAD_BYTES)
            finally:
                os.close(file)


def _punch_hole(file: int, start: int, size: int) -> None:
    offsets = (ctypes.c_int64(start), ctypes.c_int64(size))
    ctypes.CDLL(None).fallocate64(file, _KEEP_SIZE | _PUNCH_HOLE, *offsets)


def format_omission(count: int) -> str:
    """Return the line that stands for `count` bytes of a log."""
    return f"(worker) {count:,} bytes of this log were left out here"


def skip_hole(file: int) -> int:
    """Move the position of an open log past the middle that was removed, and return how many bytes were skipped."""
    position = os.lseek(file, 0, os.SEEK_CUR)
    if position < HEAD_BYTES or os.fstat(file).st_size <= MAX_LOG_BYTES or not hasattr(os, "SEEK_DATA"):
        return 0
    try:
        return os.lseek(file, position, os.SEEK_DATA) - position
    except OSError:  # no data follows
        os.lseek(file, position, os.SEEK_SET)
        return 0


class CappedLog(io.RawIOBase):
    """What is kept of a log: all of it, or its start, a line that says how much was left out, and its end.

    The content is that of the file at the moment when this object was created.
    """

    def __init__(self, file: BinaryIO) -> None:
        size = os.fstat(file.fileno()).st_size
        self._file, self._position = file, 0
        self._line, self._skipped = b"", max(0, size - MAX_LOG_BYTES)
        if self._skipped:
            self._line = f"\n{format_omission(self._skipped)}\n".encode()
        self._size = size - self._skipped + len(self._line)

    def readinto(self, buffer: Any) -> int:
        chunk = self._read_chunk(min(len(buffer), self._size - self._position))
        buffer[: len(chunk)] = chunk
        self._position += len(chunk)
        return len(chunk)

    def _read_chunk(self, size: int) -> bytes:
        line_start, line_end = HEAD_BYTES, HEAD_BYTES + len(self._line)
        if not self._skipped:
            return self._read_file(self._position, size)
        if self._position < line_start:
            return self._read_file(self._position, min(size, line_start - self._position))
        if self._position < line_end:
            return self._line[self._position - line_start :][:size]
        return self._read_file(self._position - len(self._line) + self._skipped, size)

    def _read_file(self, start: int, size: int) -> bytes:
        self._file.seek(start)
        return self._file.read(max(0, size))

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, origin + offset)
        return self._position

    def tell(self) -> int:
        return self._position

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True
