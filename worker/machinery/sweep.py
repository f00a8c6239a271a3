"""Ends what a program left behind: in its process group or, on Linux, wherever it went.

All that a program starts has the job's folder in its environment, by which it is found.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

VARIABLE = "DISTRIBUTED_JOB_FOLDER"
SWEEPS = 10  # for what is left, and what that starts while it is looked for
LOOKS, PAUSE_SECONDS = 50, 0.002
FEW = 1000  # processes that are asked one by one; of more, those that are there are listed first


def sweep(folder: str, group: int) -> list[int]:
    """Kills the group, and all that has `folder` as its mark and is younger than the group (0: however old); what was
    found beyond the group."""
    signal_group(group, signal.SIGKILL)
    mark = f"{VARIABLE}={folder}".encode()
    found: dict[int, None] = {}
    for _ in range(SWEEPS):
        left = [pid for pid in _younger(group) if mark in _environment(pid)]
        for pid in left:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        if not left:
            break
        found |= dict.fromkeys(left)
        time.sleep(PAUSE_SECONDS)  # until they are gone, and with them what they just start
    return list(found)


def signal_group(group: int, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):  # nobody of the group is left
        if group:
            os.killpg(group, number)


def reap(group: int, others: Iterable[int]) -> None:
    """A container's first process inherits what others left: it waits for them, or they stay as zombies."""
    if os.getpid() != 1:
        return
    for pid in (-group, *others):
        with suppress(ChildProcessError):
            while pid and os.waitpid(pid, 0)[0] and pid < 0:
                pass


def _younger(first: int) -> Iterator[int]:
    """Processes that were made after `first`; all, if the kernel began again with small numbers meanwhile."""
    with suppress(OSError):
        newest = int(Path("/proc/loadavg").read_text().split()[-1])  # proc(5): the process made last
        if 0 <= newest - first <= FEW:
            yield from range(first + 1, newest + 1)
        else:
            numbers = (int(name) for name in os.listdir("/proc") if name.isdecimal())
            yield from (number for number in numbers if not number <= first <= newest)


def _environment(pid: int, proc: str = "/proc") -> list[bytes]:
    """Empty for one that is another user's, the kernel's, or ended meanwhile. One that just becomes another program
    has its file already, but shows none for a moment, which on a busy machine may last."""
    for _ in range(LOOKS):
        try:
            with open(f"{proc}/{pid}/environ", "rb", buffering=0) as file:
                if text := file.read():
                    return text.split(b"\0")
            os.readlink(f"{proc}/{pid}/exe")
        except OSError:
            break
        time.sleep(PAUSE_SECONDS)
    return []
