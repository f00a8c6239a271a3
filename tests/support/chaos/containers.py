"""Containers emulated with processes. Each has its own folder, and all of its processes end together.

A container's processes are identified by an environment variable that all of its programs inherit.
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
DISK_BYTES = 4 * 1024**3  # maximum; the disk uses memory only for its content


class Disk:
    """A small file system that can be filled. Only root can mount it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.is_mounted = os.geteuid() == 0 and self._mount("size", DISK_BYTES, "-t", "tmpfs")

    def fill(self) -> None:
        """Shrink the disk to the size of its content, so that less than a page is free."""
        for _ in range(20):  # shrinking fails if a worker has written more since the size was determined
            usage = os.statvfs(self.folder)
            used = (usage.f_blocks - usage.f_bfree) * usage.f_frsize
            if self._mount("remount,size", max(used, usage.f_frsize)):
                return

    def free(self) -> None:
        self._mount("remount,size", DISK_BYTES)

    def _mount(self, option: str, size: int, *words: str) -> bool:
        command = ["mount", *words, "-o", f"{option}={size}", "chaos", str(self.folder)]
        return subprocess.run(command, capture_output=True).returncode == 0

    def unmount(self) -> None:
        if self.is_mounted:
            subprocess.run(["umount", "--lazy", str(self.folder)], check=True)


@dataclass
class Container:
    """One worker process, its children, and its folder, which is new for each container."""

    name: str
    process: subprocess.Popen[bytes]
    work: Path
    started: float = field(default_factory=time.monotonic)

    def pids(self) -> list[int]:
        """Return the IDs of all processes in the container, the worker first."""
        return sorted(iter_marked_processes(MARK, self.name), key=lambda pid: pid != self.process.pid)

    def send_signal(self, number: signal.Signals, *, to_all: bool) -> None:
        """Send a signal to the worker, or to all processes in the container."""
        for pid in self.pids() if to_all else [self.process.pid]:
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def abort(self) -> None:
        """Abort a worker that should have ended, so that it writes its threads' stack traces to its log."""
        self.process.send_signal(signal.SIGABRT)
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(ABORT_SECONDS)

    def kill(self) -> None:
        """Kill all processes and delete the folder, as when a machine is lost."""
        with suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait()
        while pids := self.pids():
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)
        shutil.rmtree(self.work, ignore_errors=True)
