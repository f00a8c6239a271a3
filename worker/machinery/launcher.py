"""Programs are started by a process of its own, the launcher: a small Python without threads.

The worker's threads share one processor, as Python's do; what starting a program and looking after it takes is not
taken from them. And the peak that the kernel counts for a program begins with the memory of what started it
(getrusage(2)): of the launcher that is little.

Each slot has a channel. The worker asks {words, folder, env, log}, and may send a {signal}; the launcher answers
{error}, or at the program's end {exit_code, cpu_seconds, peak_memory_bytes, group, left}. However the worker ends, its
channels end with it; then the launcher ends, and what it started.
"""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from .channel import Channel
from .sweep import reap, sweep

HOME = Path(__file__).resolve().parent.parent  # /opt/worker in the image
_SERVE = (
    "import sys; sys.path.insert(0, sys.argv[1]); from machinery.launcher_process import serve; serve(sys.argv[2:])"
)


class CannotStart(Exception):
    """There is no such program, or it is none that this machine runs."""


class Gone(Exception):
    """The launcher has ended, as when the kernel killed it for memory."""


def loader() -> list[str]:
    """What the worker's own programs begin with in the image, whose base may lack the libraries that they need."""
    own = HOME / "lib" / "loader.so"
    return [str(own), "--library-path", str(own.parent)] if own.exists() else []


class Launcher:
    """Starts the launcher, for so many programs at a time. `lost()` is called when it is gone."""

    def __init__(self, slots: int, lost: Callable[[], None] = lambda: None) -> None:
        self._slots, self._lost = slots, lost
        self._free: SimpleQueue[Channel] = SimpleQueue()
        pairs = [socket.socketpair() for _ in range(slots)]
        theirs = [end.fileno() for _, end in pairs]
        words = [*loader(), sys.executable, "-E", "-s", "-S", "-c", _SERVE, str(HOME), *map(str, theirs)]
        # A session of its own: what is meant for the worker, such as Ctrl-C, does not reach it.
        self._process = subprocess.Popen(words, pass_fds=theirs, stdin=subprocess.DEVNULL, start_new_session=True)
        for ours, end in pairs:
            end.close()
            self._free.put(Channel(ours))

    @contextmanager
    def program(self, folder: Path) -> Iterator[Program]:
        """A program in `folder`, to be started; what runs of it at the end is ended. Waits if all slots have one."""
        channel = self._free.get()
        program = Program(channel, folder, self._lost)
        try:
            yield program
        finally:
            program.end()
            self._free.put(channel)

    def end(self) -> None:
        """When all programs are closed."""
        for _ in range(self._slots):
            self._free.get().close()
        self._process.wait()


class Program:
    """A program of the launcher's. Methods raise Gone."""

    def __init__(self, channel: Channel, folder: Path, lost: Callable[[], None]) -> None:
        self._channel, self._folder, self._lost = channel, str(folder), lost
        self._runs = False

    def start(self, words: Sequence[str], env: Mapping[str, str], log: Path) -> None:
        """Begins it, in a session of its own, its output behind `log`."""
        asked = {"words": list(words), "folder": self._folder, "env": dict(env), "log": str(log)}
        self._talk(lambda: self._channel.tell(asked))
        self._runs = True

    def signal(self, number: int) -> None:
        """Sends a signal to all of its process group."""
        self._talk(lambda: self._channel.tell({"signal": number}))

    def wait(self, seconds: float | None) -> dict[str, Any] | None:
        """How it ended; None if it still runs after so many seconds. Raises CannotStart."""
        told: dict[str, Any] | None = self._talk(lambda: self._channel.hear(seconds))
        if told is None:
            return None
        self._runs = False
        if "error" in told:
            raise CannotStart(told["error"])
        reap(told["group"], told["left"])
        return told

    def end(self) -> None:
        """Kills it if it runs."""
        if self._runs:
            with suppress(Gone, CannotStart):
                self.signal(signal.SIGKILL)
                self.wait(None)

    def _talk(self, talk: Callable[[], Any]) -> Any:
        try:
            return talk()
        except OSError as error:
            self._runs = False
            sweep(self._folder, 0)
            self._lost()
            raise Gone from error
