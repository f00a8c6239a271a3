"""The launcher itself: starts programs, tells of their ends, and ends what they leave behind.

It loads little, so that it is small: no boto3, nothing that loads it.
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from .channel import Channel
from .memory import prefer_as_victim
from .sweep import signal_group, sweep


def serve(numbers: Sequence[str]) -> None:
    """Serves the channels that have these file descriptors, until one of them ends."""
    programs = [_Slot(Channel(socket.socket(fileno=int(number)))) for number in numbers]
    ended, bell = socket.socketpair()
    bell.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(bell.fileno())
    with selectors.DefaultSelector() as selector:
        selector.register(ended, selectors.EVENT_READ)
        for program in programs:
            selector.register(program.channel, selectors.EVENT_READ, program)
        try:
            while True:
                for key, _ in selector.select():
                    if key.data is None:
                        ended.recv(1024)
                    else:
                        key.data.hear()
                for program in programs:
                    program.look()
        except OSError:  # the worker is gone
            for program in programs:
                program.end()


class _Slot:
    """A channel, and the program that runs for it."""

    def __init__(self, channel: Channel) -> None:
        self.channel, self._folder = channel, ""
        self._process: subprocess.Popen[bytes] | None = None

    def hear(self) -> None:
        """Starts a program or signals the one that runs, as the worker asks."""
        asked = self.channel.hear() or {}
        if "signal" not in asked:
            self._start(asked)
        elif self._process is not None:  # it may have ended while the worker asked
            signal_group(self._process.pid, asked["signal"])

    def look(self) -> None:
        """Tells of the program's end, once."""
        if self._process is None:
            return
        pid, status, usage = os.wait4(self._process.pid, os.WNOHANG)
        if not pid:
            return
        self._process.returncode = os.waitstatus_to_exitcode(status)
        unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss: bytes on macOS, KiB on Linux
        self.channel.tell({
            "exit_code": self._process.returncode,
            "cpu_seconds": usage.ru_utime + usage.ru_stime,
            "peak_memory_bytes": usage.ru_maxrss * unit,
            "group": pid,
            "left": sweep(self._folder, pid),
        })  # fmt: skip
        self._process = None

    def end(self) -> None:
        if self._process is not None:
            sweep(self._folder, self._process.pid)

    def _start(self, asked: dict[str, Any]) -> None:
        self._folder = asked["folder"]
        try:
            with open(asked["log"], "ab") as log:
                self._process = subprocess.Popen(
                    asked["words"], cwd=asked["folder"], env=asked["env"], stdin=subprocess.DEVNULL, stdout=log,
                    stderr=subprocess.STDOUT, start_new_session=True,
                )  # fmt: skip
        except (OSError, ValueError) as error:
            self.channel.tell({"error": str(error)})
        else:
            prefer_as_victim(self._process.pid)
