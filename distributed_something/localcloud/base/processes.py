"""Finds and kills the processes of a local cloud, even after their parent has ended.

Every process has a mark in its environment, which its child processes inherit. The mark identifies even programs that a
worker started in a new session, remains after the daemon dies, and cannot match an unrelated process that reuses a
process ID. A search reads the environments of all the user's processes, which takes only milliseconds. A program that
clears its environment can be found only by its process group.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator

import psutil

CLOUD_MARK = "LOCAL_CLOUD_KEY"
TASK_MARK = "LOCAL_CLOUD_TASK"


def list_marked_processes(name: str, value: str) -> list[int]:
    """Return the IDs of running processes with NAME=VALUE in their environment, except the caller's."""
    own_pid = os.getpid()
    return [
        process.pid for process in psutil.process_iter() if process.pid != own_pid and has_mark(process, name, value)
    ]


def has_mark(process: psutil.Process, name: str, value: str) -> bool:
    """Return whether a process has NAME=VALUE in its environment. Return False if the process cannot be read."""
    try:
        return process.environ().get(name) == value
    except (psutil.Error, OSError):
        return False


def kill_process(pid: int) -> None:
    """Send SIGKILL to a process and, if it leads a process group, to the whole group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if os.getpgid(pid) == pid:
            os.killpg(pid, signal.SIGKILL)
        os.kill(pid, signal.SIGKILL)


def kill_marked_processes(name: str, value: str, *, seconds: float = 5) -> None:
    """Kill all processes with the mark. Return when none are running, or after `seconds`."""

    def kill_remaining() -> bool:
        remaining = list_marked_processes(name, value)
        for pid in remaining:
            kill_process(pid)
        return not remaining

    wait_for_condition(kill_remaining, seconds)


@contextlib.contextmanager
def ignore_interrupts() -> Iterator[None]:
    """Ignore Ctrl-C while the block runs. In a thread other than the main one, which cannot do that, do nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


def wait_for_condition(
    condition: Callable[[], bool],
    seconds: float,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> bool:
    """Check the condition every 20 ms. Return whether it became true within `seconds`."""
    deadline = clock() + seconds
    while not condition():
        if clock() > deadline:
            return False
        sleep(0.02)
    return True
