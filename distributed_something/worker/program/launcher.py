"""The worker's side of the launchers: small Python processes, one per slot, that start the programs.

If the worker started programs itself, four guarantees would be lost:

- Every process that a program leaves behind is ended. Linux gives an orphan to the nearest ancestor that adopts
  orphans. If that were the worker, nothing would show which slot's program left the orphan behind, because it may have
  left its session and cleared its environment. A launcher runs one program at a time.
- The peak memory is the program's own. The kernel's value includes the memory of the process that started the program
  (getrusage(2)): with a worker of 200 MB, `true` would seem to need 200 MB. A launcher uses little memory.
- No program outlives a worker that is killed. A launcher notices that its channel is closed.
- Programs lack permissions that the worker needs, such as to mount file systems. In a process with threads, Python
  cannot safely give up permissions between fork and exec.

A launcher for each program, instead of each slot, would keep these guarantees, but starting Python takes 30 to 50 ms
of processor time: with trivial jobs, the worker reached 0.14 of a bare loop's speed that way. All launchers are forked
from one process, because separate ones would need more memory.

Each slot has a channel to its launcher. The worker sends {words, folder, env, log} to start a program, with `identity`
if it is to run as another user, and may send {signal} while it runs. The launcher replies {error, machine} if the
program cannot be started, or {exit_code, cpu_seconds, peak_memory_bytes} when it ends. When the worker ends for any
reason, its channels close; the launchers then end their programs and exit.
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

from distributed_something.worker.processors import on_all_processors
from distributed_something.worker.program.channel import Channel
from distributed_something.worker.program.privileges import ProgramIdentity, remove_aws_variables

WORKER_HOME = Path(__file__).resolve().parents[3]  # /opt/worker in the image
# File names and text are UTF-8, whatever the image's locale is. An option, because an environment variable would also
# reach the program.
UTF8_OPTIONS = ("-X", "utf8")
LAUNCHER_START_SECONDS = 60.0  # long enough for a busy machine
KILL_WAIT_SECONDS = 10.0  # after SIGKILL, which normally ends a program at once
_SERVE_CODE = (
    "import sys; sys.path.insert(0, sys.argv[1]);"
    "from distributed_something.worker.program.launcher_process import serve_launchers;"
    "serve_launchers(sys.argv[3:], may_gain_privileges=sys.argv[2] == 'True')"
)


class ProgramStartError(Exception):
    """Raised if a program cannot be started. `is_machine_fault` is True if the machine is the cause.

    `name`: of the error, such as ENOENT.
    """

    def __init__(self, reason: str, name: str, *, is_machine_fault: bool) -> None:
        super().__init__(reason)
        self.name, self.is_machine_fault = name, is_machine_fault


class LostLauncher(Exception):
    """Raised if a launcher was killed, perhaps by its own program, or does not respond."""


def get_loader_command() -> list[str]:
    """Return the words to put before a command that runs one of the worker's own programs, such as its Python.

    In the image, these words start the worker's own loader, because the base image may not contain the libraries that
    the worker's programs need. Elsewhere, the list is empty.
    """
    loader = WORKER_HOME / "lib" / "loader.so"
    return [str(loader), "--library-path", str(loader.parent)] if loader.exists() else []


class _LauncherConnection(NamedTuple):
    """A connection to a launcher. `process` is the launcher's process id."""

    channel: Channel
    process: int


class LauncherPool:
    """The launchers of all slots. Threads may share one pool.

    Without `may_gain_privileges`, no program can regain permissions that its user does not have, such as with `sudo`.
    """

    def __init__(self, slots: int, *, may_gain_privileges: bool = True) -> None:
        self._slots, self._may_gain_privileges = slots, may_gain_privileges
        # None stands for a lost launcher, which is replaced when a program needs a launcher.
        self._free: SimpleQueue[_LauncherConnection | None] = SimpleQueue()
        self._processes: list[subprocess.Popen[bytes]] = []
        for connection in self._start_launchers(slots):
            self._free.put(connection)

    @contextmanager
    def open_program(self, folder: Path) -> Iterator[LaunchedProgram]:
        """Yield a program to start in `folder`. If the program is still running when the context ends, kill it.

        Wait while all launchers are in use. Raise OSError if a lost launcher cannot be replaced now.
        """
        connection = self._free.get()
        try:
            connection = connection or self._start_launchers(1)[0]
            program = LaunchedProgram(connection.channel, folder)
            try:
                yield program
            finally:
                program.end()
                if program.is_lost:
                    _drop_connection(connection, program.is_hanging)
                    connection = None
        finally:
            self._free.put(connection)

    def end(self) -> None:
        """Close all channels and wait until the launchers have ended. Call this only after all programs have ended."""
        for _ in range(self._slots):
            if connection := self._free.get():
                connection.channel.close()
        for process in self._processes:
            try:
                process.wait(KILL_WAIT_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def _start_launchers(self, slots: int) -> list[_LauncherConnection]:
        """Start one process with `slots` launchers and return the connections. Raise OSError if that fails."""
        pairs = [socket.socketpair() for _ in range(slots)]
        launcher_ends = [end.fileno() for _, end in pairs]
        python = [*get_loader_command(), sys.executable, *UTF8_OPTIONS, "-E", "-s", "-S"]
        options = [str(WORKER_HOME), str(self._may_gain_privileges)]
        words = [*python, "-c", _SERVE_CODE, *options, *map(str, launcher_ends)]
        # LD_PRELOAD is meant for the program, not for the launcher. Programs can read the launcher's environment.
        env = {name: value for name, value in remove_aws_variables(os.environ).items() if name != "LD_PRELOAD"}
        # Use a new session, so that signals meant for the worker, such as Ctrl-C, do not reach the launchers.
        with on_all_processors():
            process = subprocess.Popen(
                words, env=env, pass_fds=launcher_ends, stdin=subprocess.DEVNULL, start_new_session=True
            )
        self._processes.append(process)
        for _, end in pairs:
            end.close()
        return [_open_connection(Channel(worker_end)) for worker_end, _ in pairs]


def _open_connection(channel: Channel) -> _LauncherConnection:
    message = channel.read_message(LAUNCHER_START_SECONDS)
    if message is None:
        raise TimeoutError(f"the program launcher did not start within {LAUNCHER_START_SECONDS:.0f} s")
    return _LauncherConnection(channel, message["pid"])


def _drop_connection(connection: _LauncherConnection, is_hanging: bool) -> None:
    connection.channel.close()
    if is_hanging:
        with suppress(ProcessLookupError):
            # The launcher's parent then ends the processes that the launcher started.
            os.kill(connection.process, signal.SIGKILL)


class LaunchedProgram:
    """A program that a launcher runs.

    Methods raise LostLauncher if the launcher is lost. `is_lost` is then True, and `is_hanging` is True if the launcher
    still exists but does not respond.
    """

    def __init__(self, channel: Channel, folder: Path) -> None:
        self._channel, self._folder = channel, str(folder)
        self.is_lost = self.is_hanging = self._is_running = False

    def start(
        self, words: Sequence[str], env: Mapping[str, str], log: Path, identity: ProgramIdentity | None = None
    ) -> None:
        """Start the program in a new session and append its output to `log`."""
        request: dict[str, Any] = {"words": list(words), "folder": self._folder, "env": dict(env), "log": str(log)}
        if identity is not None:
            request["identity"] = list(identity)
        self._call_launcher(lambda: self._channel.send_message(request))
        self._is_running = True

    def send_signal(self, number: int) -> None:
        """Send a signal to the process group of the program."""
        self._call_launcher(lambda: self._channel.send_message({"signal": number}))

    def wait(self, seconds: float) -> dict[str, Any] | None:
        """Return how the program ended, or None if it is still running after `seconds`.

        Raise ProgramStartError if the program could not be started.
        """
        reply: dict[str, Any] | None = self._call_launcher(lambda: self._channel.read_message(seconds))
        if reply is None:
            return None
        self._is_running = False
        if "error" in reply:
            raise ProgramStartError(reply["error"], reply["name"], is_machine_fault=reply["machine"])
        return reply

    def end(self) -> None:
        """Kill the program if it is running."""
        if self._is_running:
            with suppress(LostLauncher, ProgramStartError):
                self.kill()

    def kill(self) -> dict[str, Any]:
        """Kill the program and return how it ended."""
        self.send_signal(signal.SIGKILL)
        reply = self.wait(KILL_WAIT_SECONDS)
        if reply is None:
            self.is_hanging = True
            self._mark_lost()
        return reply

    def _call_launcher(self, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except OSError:
            self._mark_lost()

    def _mark_lost(self) -> NoReturn:
        self._is_running, self.is_lost = False, True
        raise LostLauncher
