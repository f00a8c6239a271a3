"""The launchers themselves: each starts the programs of one slot, tells of their ends, and leaves nothing of them.

They share what they load, which is little: no boto3, nothing that loads it.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from distributed_something.worker.program.channel import Channel
from distributed_something.worker.program.descendants import (
    adopt_orphans,
    kill_children,
    kill_descendants,
    signal_process_group,
)
from distributed_something.worker.program.memory import mark_oom_victim

_MACHINE_ERRNOS = {errno.EAGAIN, errno.ENOMEM, errno.ENFILE, errno.EMFILE, errno.ENOSPC, errno.EIO}


def serve_launchers(numbers: Sequence[str]) -> None:
    """A process for each of the channels that have these file descriptors, until the worker closes them."""
    channels = [Channel(socket.socket(fileno=int(number))) for number in numbers]
    launchers = {_fork_launcher(channel, channels) for channel in channels}
    for channel in channels:
        channel.close()
    adopt_orphans()  # what one of them leaves that was killed
    with suppress(ChildProcessError):
        while True:
            os.wait()
            kill_children(but=launchers)


def _fork_launcher(channel: Channel, channels: Sequence[Channel]) -> int:
    """Its process id. Only it has the channel: who listens at the other end hears when it is killed."""
    if process := os.fork():
        return process
    for other in channels:
        if other is not channel:
            other.close()
    with suppress(OSError):  # the worker has closed the channel, or is gone
        adopt_orphans()
        slot = _LauncherSlot(channel)
        channel.send_message({"pid": os.getpid()})
        while True:
            slot.run_program(channel.read_message() or {})
    os._exit(0)


class _LauncherSlot:
    """Runs one program at a time."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._ended, bell = socket.socketpair()
        bell.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(bell.detach(), warn_on_full_buffer=False)
        self._poll = select.poll()
        for end in (channel, self._ended):
            self._poll.register(end, select.POLLIN)

    def run_program(self, asked: dict[str, Any]) -> None:
        """A whole program, as the worker asks. Raises OSError when the worker is gone, and then the program too."""
        if "signal" in asked:  # the program ended before it came
            return
        try:
            process = _start_program(asked)
        except Exception as error:  # whatever it is, it costs this program alone
            self._channel.send_message({"error": str(error), "machine": _is_machine_error(error, asked["log"])})
            return
        mark_oom_victim(process.pid)
        try:
            end = self._wait_for_program(process.pid)
        finally:
            kill_descendants(process.pid)
            process.returncode = 0  # it was waited for
        self._channel.send_message(end)

    def _wait_for_program(self, program: int) -> dict[str, Any]:
        while True:
            pid, status, usage = os.wait3(os.WNOHANG)  # of what it left behind too, as that ends
            if pid == program:
                unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss: bytes on macOS, KiB on Linux
                return {
                    "exit_code": os.waitstatus_to_exitcode(status),
                    "cpu_seconds": usage.ru_utime + usage.ru_stime,
                    "peak_memory_bytes": usage.ru_maxrss * unit,
                }
            if not pid:
                self._wait_for_event(program)

    def _wait_for_event(self, program: int) -> None:
        """Waits for the end of a process, or for the worker's word."""
        for end, _ in self._poll.poll():
            if end == self._ended.fileno():
                self._ended.recv(1024)
            else:
                signal_process_group(program, (self._channel.read_message() or {})["signal"])


def _start_program(asked: dict[str, Any]) -> subprocess.Popen[bytes]:
    with open(asked["log"], "ab") as log:
        return subprocess.Popen(
            asked["words"], cwd=asked["folder"], env=asked["env"], stdin=subprocess.DEVNULL, stdout=log,
            stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip


def _is_machine_error(error: Exception, log: str) -> bool:
    """Whether it is the machine that cannot, and not a program that is none."""
    return isinstance(error, OSError) and (error.filename == log or error.errno in _MACHINE_ERRNOS)
