"""Containers played with processes: each has its own folder and ends as a whole, as with a container's end.

What belongs to a container is found by a variable of its environment, which every program in it inherits.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.processes import iter_marked_processes

MARK = "CHAOS_CONTAINER"
ABORT_SECONDS = 2.0
DISK_BYTES = 4 * 1024**3  # at most; it takes memory only for what is written


class Disk:
    """A small file system that can be filled; only root may mount it."""

    def __init__(self, place: Path) -> None:
        self.place = place
        place.mkdir()
        self.mounted = os.geteuid() == 0 and self._mount("size", DISK_BYTES, "-t", "tmpfs")

    def fill(self) -> None:
        """Leaves less than a page: the disk shrinks to what is on it."""
        for _ in range(20):  # refused where something was written since it was asked
            found = os.statvfs(self.place)
            used = (found.f_blocks - found.f_bfree) * found.f_frsize
            if self._mount("remount,size", max(used, found.f_frsize)):
                return

    def free(self) -> None:
        self._mount("remount,size", DISK_BYTES)

    def _mount(self, option: str, size: int, *words: str) -> bool:
        command = ["mount", *words, "-o", f"{option}={size}", "chaos", str(self.place)]
        return subprocess.run(command, capture_output=True).returncode == 0

    def unmount(self) -> None:
        if self.mounted:
            subprocess.run(["umount", "--lazy", str(self.place)], check=True)


@dataclass
class Container:
    """One worker process with what it starts, and its folder, new with every start."""

    name: str
    process: subprocess.Popen[bytes]
    work: Path
    started: float = field(default_factory=time.monotonic)

    def pids(self) -> list[int]:
        """Everything that lives in the container, the worker first."""
        found = iter_marked_processes(MARK, self.name)
        return sorted(found, key=lambda pid: pid != self.process.pid)

    def signal(self, number: signal.Signals, *, whole: bool) -> None:
        """To the worker alone, or to the `whole` container."""
        for pid in self.pids() if whole else [self.process.pid]:
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def abort(self) -> None:
        """A worker that should have ended writes to its log where its threads are."""
        self.process.send_signal(signal.SIGABRT)
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(ABORT_SECONDS)

    def kill(self) -> None:
        """The end of all processes and of the folder, as when a machine is lost."""
        with suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait()
        while pids := self.pids():
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)
        shutil.rmtree(self.work, ignore_errors=True)
