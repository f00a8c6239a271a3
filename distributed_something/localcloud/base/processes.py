"""Finding and ending the processes of a local cloud, whoever their parent is by now.

Every process carries a mark in its environment, and children inherit it: the mark finds a program that a worker
started in a session of its own, survives the death of the daemon, and can never name a stranger that got a reused
process id. The price is a look at all of the user's processes (milliseconds), and a program that empties its
environment is found only by its process group.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable

import psutil

CLOUD_MARK = "LOCAL_CLOUD_KEY"
TASK_MARK = "LOCAL_CLOUD_TASK"


def list_marked_processes(name: str, value: str) -> list[int]:
    """Return the ids of the living processes whose environment holds NAME=VALUE, but for the caller's own."""
    own = os.getpid()
    return [process.pid for process in psutil.process_iter() if process.pid != own and has_mark(process, name, value)]


def has_mark(process: psutil.Process, name: str, value: str) -> bool:
    """Return whether the environment of a process holds NAME=VALUE; False if it ended or is another user's."""
    try:
        return process.environ().get(name) == value
    except (psutil.Error, OSError):
        return False


def kill_process(pid: int) -> None:
    """SIGKILL to a process and, where it leads a group, to the group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if os.getpgid(pid) == pid:
            os.killpg(pid, signal.SIGKILL)
        os.kill(pid, signal.SIGKILL)


def kill_marked_processes(name: str, value: str, *, seconds: float = 5) -> None:
    """Ends all processes with the mark and returns when they are gone, or after `seconds`."""

    def none_left() -> bool:
        left = list_marked_processes(name, value)
        for pid in left:
            kill_process(pid)
        return not left

    wait_for_condition(none_left, seconds)


def wait_for_condition(
    condition: Callable[[], bool],
    seconds: float,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> bool:
    """Asks every 20 ms; False if the condition did not come true within `seconds`."""
    deadline = clock() + seconds
    while not condition():
        if clock() > deadline:
            return False
        sleep(0.02)
    return True
