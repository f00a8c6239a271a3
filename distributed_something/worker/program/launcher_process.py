"""The launcher processes. Each starts the programs of one slot, reports how they ended, and kills their descendants.

All launchers are forked from one process and share its memory. To keep the memory small, this module imports neither
boto3 nor any module that imports it.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import socket
import subprocess
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
from distributed_something.worker.program.privileges import drop_permissions, forbid_new_privileges
from distributed_something.worker.program.tree_memory import TreeMemory

_MACHINE_ERRNOS = {errno.EAGAIN, errno.ENOMEM, errno.ENFILE, errno.EMFILE, errno.ENOSPC, errno.EIO}


def serve_launchers(numbers: Sequence[str], *, may_gain_privileges: bool = True) -> None:
    """Run one launcher for each file descriptor in `numbers`, until the worker closes the channels."""
    drop_permissions()
    if not may_gain_privileges:
        forbid_new_privileges()
    channels = [Channel(socket.socket(fileno=int(number))) for number in numbers]
    launchers = {_fork_launcher(channel, channels) for channel in channels}
    for channel in channels:
        channel.close()
    adopt_orphans()  # so that this process can kill the processes that a killed launcher leaves running
    with suppress(ChildProcessError):
        while True:
            os.wait()
            kill_children(excluded=launchers)


def _fork_launcher(channel: Channel, channels: Sequence[Channel]) -> int:
    """Fork a launcher and return its process id.

    Only the launcher keeps its channel open, so that the worker notices when the launcher is killed.
    """
    if process := os.fork():
        return process
    for other in channels:
        if other is not channel:
            other.close()
    with suppress(OSError):  # the worker has closed the channel or has ended
        adopt_orphans()
        slot = _LauncherSlot(channel)
        channel.send_message({"pid": os.getpid()})
        while True:
            slot.run_program(channel.read_message() or {})
    os._exit(0)


class _LauncherSlot:
    """The launcher of one slot, which runs one program at a time."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._child_ended, wakeup = socket.socketpair()  # readable after each SIGCHLD
        wakeup.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wakeup.detach(), warn_on_full_buffer=False)
        self._poll = select.poll()
        for end in (channel, self._child_ended):
            self._poll.register(end, select.POLLIN)

    def run_program(self, request: dict[str, Any]) -> None:
        """Run the requested program and report how it ended.

        If the worker ends first, kill the program and raise OSError.
        """
        if "signal" in request:  # for the previous program, which has already ended
            return
        try:
            process = _start_program(request)
        except Exception as error:  # any error must affect only this program, not the launcher
            name = errno.errorcode.get(getattr(error, "errno", None) or 0, type(error).__name__)
            is_machine = _is_machine_error(error, request["log"])
            self._channel.send_message({"error": str(error), "name": name, "machine": is_machine})
            return
        mark_oom_victim(process.pid)
        try:
            result = self._wait_for_program(process.pid)
        finally:
            kill_descendants(process.pid)
            process.returncode = 0  # any value, so that Popen does not wait for the reaped process again
        self._channel.send_message(result)

    def _wait_for_program(self, program: int) -> dict[str, Any]:
        memory = TreeMemory(os.getpid())
        while True:
            pid, status, usage = os.wait3(os.WNOHANG)  # also reaps orphans that the program left behind
            memory.add_usage(usage)
            if pid == program:
                return {
                    "exit_code": os.waitstatus_to_exitcode(status),
                    "cpu_seconds": usage.ru_utime + usage.ru_stime,
                    "peak_memory_bytes": memory.peak_bytes,
                }
            if not pid:
                self._wait_for_event(program, memory.seconds_to_sample)
                memory.sample_if_due()

    def _wait_for_event(self, program: int, seconds: float | None) -> None:
        """Wait until a process ends, or pass a signal from the worker on to the program.

        Return after `seconds` even if nothing happens (None: no limit).
        """
        for end, _ in self._poll.poll(None if seconds is None else 1000 * seconds):
            if end == self._child_ended.fileno():
                self._child_ended.recv(1024)
            else:
                signal_process_group(program, (self._channel.read_message() or {})["signal"])


def _start_program(request: dict[str, Any]) -> subprocess.Popen[bytes]:
    user, group, groups = request.get("identity") or (None, None, None)
    # An earlier program may have replaced the log with a link.
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    log = os.open(request["log"], flags, 0o600)
    try:
        return subprocess.Popen(
            request["words"], cwd=request["folder"], env=request["env"], stdin=subprocess.DEVNULL, stdout=log,
            stderr=subprocess.STDOUT, start_new_session=True, user=user, group=group, extra_groups=groups,
        )  # fmt: skip
    finally:
        os.close(log)


def _is_machine_error(error: Exception, log: str) -> bool:
    """Return whether the machine, rather than the requested program, caused the error."""
    if not isinstance(error, OSError) or error.errno == errno.ELOOP:  # an earlier program replaced the log with a link
        return False
    return error.filename == log or error.errno in _MACHINE_ERRNOS
