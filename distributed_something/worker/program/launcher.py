"""Programs are started by processes of their own, the launchers: small Pythons, one a slot.

The worker's threads share one processor, as Python's do; what starting a program and looking after it takes is not
taken from them. The peak that the kernel counts for a program begins with the memory of what started it
(getrusage(2)): of a launcher that is little. And all that a program leaves behind is its launcher's to end.

A slot has a channel to its launcher. The worker asks {words, folder, env, log}, and may send a {signal}; the launcher
answers {error, machine}, or at the program's end {exit_code, cpu_seconds, peak_memory_bytes}. However the worker ends,
its channels end with it; then the launchers end, and what they started.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NamedTuple, NoReturn

from distributed_something.worker.program.channel import Channel
from distributed_something.worker.program.processors import run_on_all_processors

WORKER_HOME = Path(__file__).resolve().parents[3]  # /opt/worker in the image
LAUNCHER_START_SECONDS = 60.0  # of a machine that does much else
KILL_WAIT_SECONDS = 10.0  # after SIGKILL, which ends a program at once
_SERVE_CODE = (
    "import sys; sys.path.insert(0, sys.argv[1]);"
    "from distributed_something.worker.program.launcher_process import serve_launchers; serve_launchers(sys.argv[2:])"
)


class ProgramStartError(Exception):
    """There is no such program, or it is none that this machine runs; `machine`: or it is the machine's fault."""

    def __init__(self, reason: str, *, machine: bool) -> None:
        super().__init__(reason)
        self.machine = machine


class LostLauncher(Exception):
    """The launcher was killed, perhaps by its own program, or does not answer."""


def get_loader_command() -> list[str]:
    """What the worker's own programs begin with in the image, whose base may lack the libraries that they need."""
    own = WORKER_HOME / "lib" / "loader.so"
    return [str(own), "--library-path", str(own.parent)] if own.exists() else []


class _LauncherConnection(NamedTuple):
    """To a launcher; `process`: its process id."""

    channel: Channel
    process: int


class LauncherPool:
    """The launchers of so many slots. Threads may share one object."""

    def __init__(self, slots: int) -> None:
        self._slots = slots
        # None: one that was lost, to be started when it is wanted.
        self._free: SimpleQueue[_LauncherConnection | None] = SimpleQueue()
        self._processes: list[subprocess.Popen[bytes]] = []
        for line in self._start_launchers(slots):
            self._free.put(line)

    @contextmanager
    def open_program(self, folder: Path) -> Iterator[LaunchedProgram]:
        """A program in `folder`, to be started; what runs of it at the end is ended. Waits if all slots have one.

        Raises OSError where a launcher that was lost cannot be replaced now.
        """
        line = self._free.get()
        try:
            line = line or self._start_launchers(1)[0]
            program = LaunchedProgram(line.channel, folder)
            try:
                yield program
            finally:
                program.end()
                if program.is_lost:
                    _drop_connection(line, program.hangs)
                    line = None
        finally:
            self._free.put(line)

    def end(self) -> None:
        """When all programs are through."""
        for _ in range(self._slots):
            if line := self._free.get():
                line.channel.close()
        for process in self._processes:
            try:
                process.wait(KILL_WAIT_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def _start_launchers(self, slots: int) -> list[_LauncherConnection]:
        """New launchers. Raises OSError where they cannot be started."""
        pairs = [socket.socketpair() for _ in range(slots)]
        theirs = [end.fileno() for _, end in pairs]
        python = [*get_loader_command(), sys.executable, "-E", "-s", "-S"]
        words = [*python, "-c", _SERVE_CODE, str(WORKER_HOME), *map(str, theirs)]
        env = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}  # which is for the program
        # A session of their own: what is meant for the worker, such as Ctrl-C, does not reach them.
        with run_on_all_processors():
            process = subprocess.Popen(
                words, env=env, pass_fds=theirs, stdin=subprocess.DEVNULL, start_new_session=True
            )
        self._processes.append(process)
        for _, end in pairs:
            end.close()
        return [_open_connection(Channel(ours)) for ours, _ in pairs]


def _open_connection(channel: Channel) -> _LauncherConnection:
    told = channel.read_message(LAUNCHER_START_SECONDS)
    if told is None:
        raise TimeoutError("what starts programs does not start itself")
    return _LauncherConnection(channel, told["pid"])


def _drop_connection(line: _LauncherConnection, hangs: bool) -> None:
    line.channel.close()
    if hangs:
        with suppress(ProcessLookupError):
            os.kill(line.process, signal.SIGKILL)  # what it started is then ended by its parent


class LaunchedProgram:
    """A program of a launcher's. Methods raise LostLauncher; then `is_lost` is set, and `hangs` if the launcher is
    there."""

    def __init__(self, channel: Channel, folder: Path) -> None:
        self._channel, self._folder = channel, str(folder)
        self.is_lost = self.hangs = self._runs = False

    def start(self, words: Sequence[str], env: Mapping[str, str], log: Path) -> None:
        """Begins it, in a session of its own, its output behind `log`."""
        asked = {"words": list(words), "folder": self._folder, "env": dict(env), "log": str(log)}
        self._call_launcher(lambda: self._channel.send_message(asked))
        self._runs = True

    def send_signal(self, number: int) -> None:
        """Sends a signal to all of its process group."""
        self._call_launcher(lambda: self._channel.send_message({"signal": number}))

    def wait(self, seconds: float) -> dict[str, Any] | None:
        """How it ended; None if it still runs after so many seconds. Raises ProgramStartError."""
        told: dict[str, Any] | None = self._call_launcher(lambda: self._channel.read_message(seconds))
        if told is None:
            return None
        self._runs = False
        if "error" in told:
            raise ProgramStartError(told["error"], machine=told["machine"])
        return told

    def end(self) -> None:
        """Kills it if it runs."""
        if self._runs:
            with suppress(LostLauncher, ProgramStartError):
                self.kill()

    def kill(self) -> dict[str, Any]:
        """Kills it; how it ended."""
        self.send_signal(signal.SIGKILL)
        end = self.wait(KILL_WAIT_SECONDS)
        if end is None:
            self.hangs = True
            self._mark_lost()
        return end

    def _call_launcher(self, talk: Callable[[], Any]) -> Any:
        try:
            return talk()
        except OSError:
            self._mark_lost()

    def _mark_lost(self) -> NoReturn:
        self._runs, self.is_lost = False, True
        raise LostLauncher
