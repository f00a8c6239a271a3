"""Finding and ending the processes of a local cloud, whoever their parent is by now.

Every process carries a mark in its environment, and children inherit it: the mark finds a program that a worker
started in a session of its own, survives the death of the daemon, and can never name a stranger that got a reused
process id. The price is a look at all of the user's processes (milliseconds on Linux, tens of them elsewhere), and a
program that empties its environment is found only by its process group.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

CLOUD_MARK = "LOCAL_CLOUD_KEY"
TASK_MARK = "LOCAL_CLOUD_TASK"

PROC_FOLDER = Path("/proc")


def list_marked_processes(name: str, value: str) -> list[int]:
    """Ids of the living processes whose environment holds NAME=VALUE; never one's own."""
    mark = f"{name}={value}"
    found = _iter_marked_in_proc(mark) if (PROC_FOLDER / "self" / "environ").exists() else _iter_marked_in_ps(mark)
    return [pid for pid in found if pid != os.getpid()]


def _iter_marked_in_proc(mark: str) -> Iterable[int]:
    wanted = mark.encode()
    for entry in PROC_FOLDER.iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):  # ended meanwhile, or another user's
            if wanted in (entry / "environ").read_bytes().split(b"\0"):
                yield int(entry.name)


def _iter_marked_in_ps(mark: str) -> Iterable[int]:
    shown = "-axEww" if sys.platform == "darwin" else "axeww"
    listing = subprocess.run(["ps", shown, "-o", "pid=,command="], capture_output=True, text=True, errors="replace")
    for line in listing.stdout.splitlines():
        pid, _, command = line.strip().partition(" ")
        if mark in command.split():
            yield int(pid)


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
