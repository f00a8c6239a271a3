"""The descendants of a program, including those that have left its process group.

On Linux the launcher adopts orphaned descendants, kills them, and reaps them.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections.abc import Collection
from contextlib import suppress

MAX_REAP_CHECKS, REAP_CHECK_SECONDS = 2500, 0.002  # five seconds in total; a killed process ends within milliseconds
_PR_SET_CHILD_SUBREAPER = 36  # prctl(2)


def adopt_orphans() -> None:
    """Make this process the parent of its orphaned descendants. On systems other than Linux this does nothing."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def kill_descendants(group: int) -> None:
    """Kill the process group and all descendants of this process, and wait until none remain."""
    signal_process_group(group, signal.SIGKILL)
    for _ in range(MAX_REAP_CHECKS):
        try:
            process, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not process:
            kill_children()
            time.sleep(REAP_CHECK_SECONDS)


def kill_children(excluded: Collection[int] = ()) -> None:
    """Kill the direct children, except the `excluded` process ids.

    When a child has ended, its own children become direct children, so a later call kills them.
    """
    with suppress(OSError), open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as file:
        for child in set(map(int, file.read().split())) - set(excluded):
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)


def signal_process_group(group: int, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):  # no process of the group remains
        os.killpg(group, number)
