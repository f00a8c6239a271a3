"""Out of memory: what the kernel counted, and whom it shall end first.

When a container reaches its memory limit, the kernel kills one of its processes. The program only looks killed by
SIGKILL then, or failed if it was one of its children; the container's own count of such kills says what it was.
"""

from __future__ import annotations

import re
import threading
from contextlib import suppress
from pathlib import Path

CGROUP_FOLDER = Path("/sys/fs/cgroup")  # a container sees its own control group there, and nothing of the machine's
OOM_COUNT_FILES = ("memory.events", "memory/memory.oom_control")  # in cgroup v2; in v1 since Linux 4.13
# proc_pid_oom_score_adj(5): -1000 to 1000, in thousandths of the memory there is. With it, a program goes before the
# worker although the worker may hold more at that moment; every process may make itself more likely.
OOM_VICTIM_SCORE = 500


class OomKills:
    """The kernel's kills for memory in this container, each claimed once. Slots share one object.

    Without a count that can be read (no Linux, an old kernel) nothing is ever claimed.
    """

    def __init__(self, cgroup: Path = CGROUP_FOLDER) -> None:
        self._cgroup, self._lock = cgroup, threading.Lock()
        self._claimed = 0

    def claim_kill(self, before: int) -> bool:
        """Whether there was a kill that nobody has claimed since `count_kills()` was `before`; it is claimed now."""
        with self._lock:
            unclaimed = max(self._claimed, before)
            if self.count_kills() <= unclaimed:
                return False
            self._claimed = unclaimed + 1
            return True

    def count_kills(self) -> int:
        """All kills so far."""
        for name in OOM_COUNT_FILES:
            with suppress(OSError), open(self._cgroup / name, "rb", buffering=0) as file:  # for each job: no more calls
                if found := re.search(rb"^oom_kill (\d+)$", file.read(), re.M):
                    return int(found[1])
        return 0


def mark_oom_victim(pid: int, proc: Path = Path("/proc")) -> None:
    """The kernel shall end process `pid`, and what it starts from now on, before the worker. Best effort."""
    with suppress(OSError):
        (proc / str(pid) / "oom_score_adj").write_text(str(OOM_VICTIM_SCORE))
