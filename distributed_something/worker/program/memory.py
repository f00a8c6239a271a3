"""Detects out-of-memory kills, and chooses which process the kernel kills first.

When a container reaches its memory limit, the kernel kills one of its processes. If that process is the program, it
seems to have been ended by an ordinary SIGKILL; if it is a child of the program, the program may simply fail. The
container's count of out-of-memory kills shows the true cause, but not whose process was killed. If several programs
run, a kill therefore counts only for a job that ended the way SIGKILL ends programs.
"""

from __future__ import annotations

import os
import re
import signal
import threading
from contextlib import suppress
from pathlib import Path

CGROUP_FOLDER = Path("/sys/fs/cgroup")  # inside a container, this is the container's own control group
OOM_COUNT_FILES = ("memory.events", "memory/memory.oom_control")  # cgroup v2; cgroup v1 since Linux 4.13
MAX_COUNT_BYTES = 4096  # of one of these files
# proc_pid_oom_score_adj(5): -1000 to 1000, in thousandths of the available memory. With this score the kernel kills a
# program before the worker, even if the worker uses more memory. Raising a score needs no special permission.
OOM_VICTIM_SCORE = 500
# Exit codes of a program that SIGKILL ended, and of a shell whose program it ended.
KILLED_EXIT_CODES = frozenset({-signal.SIGKILL, 128 + signal.SIGKILL})


def _read_file(path: Path) -> bytes:
    """Return the content of a short file in few system calls, because every job reads it."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, MAX_COUNT_BYTES)
    finally:
        os.close(descriptor)


class OomKills:
    """The out-of-memory kills in this container. Each kill can be claimed once; all slots share one object.

    If the count cannot be read (on an old kernel or on a system other than Linux), no kill can be claimed.
    """

    def __init__(self, cgroup: Path = CGROUP_FOLDER) -> None:
        self._cgroup, self._lock = cgroup, threading.Lock()
        self._claimed = 0

    def claim_kill(self, before: int, exit_code: int, *, runs_alone: bool) -> bool:
        """Claim a kill for a failed program, and return whether there was one to claim.

        `before`: what `count_kills()` returned before the program started. `exit_code`: how the program ended.
        `runs_alone`: whether the container runs one program at a time, so that the killed process was the program's.
        """
        if exit_code not in KILLED_EXIT_CODES and not runs_alone:
            return False
        with self._lock:
            unclaimed = max(self._claimed, before)
            if self.count_kills() <= unclaimed:
                return False
            self._claimed = unclaimed + 1
            return True

    def count_kills(self) -> int:
        """Return the number of out-of-memory kills so far."""
        for name in OOM_COUNT_FILES:
            with suppress(OSError):
                if match := re.search(rb"^oom_kill (\d+)$", _read_file(self._cgroup / name), re.M):
                    return int(match[1])
        return 0


def mark_oom_victim(pid: int, proc: Path = Path("/proc")) -> None:
    """Make the kernel kill process `pid` and its future child processes before the worker. Errors are ignored."""
    with suppress(OSError):
        (proc / str(pid) / "oom_score_adj").write_text(str(OOM_VICTIM_SCORE))
