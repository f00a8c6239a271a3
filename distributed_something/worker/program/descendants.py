"""All that a program starts, wherever it goes: on Linux orphans come to the launcher, which ends and reaps them."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections.abc import Collection
from contextlib import suppress

MAX_REAP_CHECKS, REAP_CHECK_SECONDS = 2500, 0.002  # at what is left: what was killed is gone within milliseconds
_PR_SET_CHILD_SUBREAPER = 36  # prctl(2)


def adopt_orphans() -> None:
    """From now on this process is the parent of its descendants whose own parents end; elsewhere than on Linux not."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def kill_descendants(group: int) -> None:
    """Kills the process group, and all descendants of this process, until none is left."""
    signal_process_group(group, signal.SIGKILL)
    for _ in range(MAX_REAP_CHECKS):
        try:
            found, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not found:
            kill_children()
            time.sleep(REAP_CHECK_SECONDS)


def kill_children(but: Collection[int] = ()) -> None:
    """Those of a child come when it has ended."""
    with suppress(OSError), open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as file:
        for child in set(map(int, file.read().split())) - set(but):
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)


def signal_process_group(group: int, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):  # nobody of the group is left
        os.killpg(group, number)
