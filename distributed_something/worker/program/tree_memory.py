"""Measures the peak memory of a program together with all processes that it started.

The kernel reports only the peak of the largest single process. A program that works in many processes needs the sum,
so the launcher adds up the resident memory of its descendants once a second. The result is an estimate: a peak between
two samples is missed, and memory that processes share is counted in each of them. On systems other than Linux, only the
kernel's value is available.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

SAMPLE_SECONDS = 1.0
_MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024  # getrusage(2): bytes on macOS, KiB on Linux
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class TreeMemory:
    """The peak memory of all descendants of process `root`, which runs one program at a time.

    `monotonic` is a clock in seconds. The first sample is due `SAMPLE_SECONDS` after the object was created.
    """

    def __init__(self, root: int, monotonic: Callable[[], float] = time.monotonic, proc: Path = Path("/proc")) -> None:
        self._root, self._monotonic, self._proc = root, monotonic, proc
        self._next_sample = monotonic() + SAMPLE_SECONDS
        self.peak_bytes = 0

    @property
    def seconds_to_sample(self) -> float | None:
        """Seconds until the next sample is due; None if this system does not allow any."""
        return max(0.0, self._next_sample - self._monotonic()) if sys.platform == "linux" else None

    def add_usage(self, usage: resource.struct_rusage) -> None:
        """Take the peak of a process that has ended into account, as the kernel reports it."""
        self.peak_bytes = max(self.peak_bytes, usage.ru_maxrss * _MAXRSS_UNIT)

    def sample_if_due(self) -> None:
        """Add up the memory of all descendants if the next sample is due."""
        if self.seconds_to_sample == 0.0:
            self.peak_bytes = max(self.peak_bytes, measure_descendants(self._root, self._proc))
            self._next_sample = self._monotonic() + SAMPLE_SECONDS


def measure_descendants(root: int, proc: Path = Path("/proc")) -> int:
    """Return the sum of the resident memory of all descendants of process `root`, in bytes.

    The walk follows the lists of children, and so does not read the other processes of the machine.
    """
    total, pending = 0, list(_iter_children(root, proc))
    while pending:
        process = pending.pop()
        total += _read_resident_bytes(process, proc)
        pending.extend(_iter_children(process, proc))
    return total


def _iter_children(process: int, proc: Path) -> Iterator[int]:
    """Yield the children of all threads of a process; none if the process has ended."""
    tasks = f"{proc}/{process}/task"
    with suppress(OSError):
        for thread in os.listdir(tasks):
            with suppress(OSError), open(f"{tasks}/{thread}/children", "rb", buffering=0) as file:
                yield from map(int, file.read().split())


def _read_resident_bytes(process: int, proc: Path) -> int:
    """Return the resident memory of a process (the second number in statm, see proc(5)); 0 if it has ended."""
    with suppress(OSError), open(f"{proc}/{process}/statm", "rb", buffering=0) as file:
        return int(file.read().split()[1]) * _PAGE_BYTES
    return 0
