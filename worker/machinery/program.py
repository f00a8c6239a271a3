"""Runs the wrapped program: its own process group, any bytes as output, a time limit, and what it used."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .failures import Failed

GRACE_SECONDS = 5.0  # between SIGTERM and SIGKILL
SWEEPS = 10  # for what a program left behind, and what that starts while it is looked for
LOOKS, LOOK_PAUSE_SECONDS = 50, 0.002
_LOOK_SECONDS = 0.1  # between two looks at whether the program must end
# In the environment of all that a program starts, so that what it leaves behind can be found.
_MARK = "DISTRIBUTED_JOB_FOLDER"


@dataclass(frozen=True)
class Result:
    """How the program ended. A program that a signal ended has the signal's number, negative, as exit code."""

    exit_code: int
    seconds: float
    peak_memory_bytes: int
    cpu_seconds: float
    timed_out: bool = False
    stopped: bool = False

    def after(self, earlier: Result) -> Result:
        """This command's end with what both of them used."""
        return replace(
            self, seconds=earlier.seconds + self.seconds, cpu_seconds=earlier.cpu_seconds + self.cpu_seconds,
            peak_memory_bytes=max(earlier.peak_memory_bytes, self.peak_memory_bytes),
        )  # fmt: skip


def _own_variables() -> tuple[str, ...]:
    """What the environment holds for the worker alone: it must not reach the program.

    In the image, where Python was started with -E, PYTHONPATH and PYTHONHOME are the program's. There Python sets
    LC_CTYPE for itself if no locale is set (PEP 538), which what the kernel keeps of the start does not show.
    """
    if not sys.flags.ignore_environment:
        return ("PYTHONPATH", "PYTHONHOME")
    at_start = Path("/proc/self/environ").read_bytes().split(b"\0")
    return () if any(entry.startswith(b"LC_CTYPE=") for entry in at_start) else ("LC_CTYPE",)


_OURS = _own_variables()
_forking = threading.Lock()  # one fork at a time: a program must not inherit another one's open log


def run(
    command: list[str] | str, *, shell: bool, folder: Path, log: Path, timeout_seconds: float,
    should_stop: Callable[[], bool], started: Callable[[int], None] = lambda pid: None,
    env: Mapping[str, str] = os.environ,
) -> Result:  # fmt: skip
    """Runs `command` in `folder`, its output in `log`. Raises Failed where it cannot be started.

    `started` is told the program's process id, which is that of its process group and of its session too.
    """
    start = time.monotonic()
    clean = {name: value for name, value in env.items() if name not in _OURS} | {_MARK: str(folder)}
    words = ["/bin/sh", "-c", str(command)] if shell else list(command)
    with log.open("ab") as output:
        try:
            with _forking:
                process = subprocess.Popen(
                    words, cwd=folder, env=clean, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                    start_new_session=True,
                )  # fmt: skip
        except (OSError, ValueError) as error:
            raise Failed(f"the program {words[0]!r} cannot be started: {error}") from None
    try:
        started(process.pid)
        with _sleeper(process.pid) as sleep:
            return _wait(process, start, timeout_seconds, should_stop, sleep)
    finally:
        _end_all(process.pid, folder)


def run_all(commands: Sequence[list[str] | str], *, timeout_seconds: float, **how: Any) -> Result:
    """Runs `commands` one after the other as `run` does, until one fails; what they came to together."""
    together: Result | None = None
    for command in commands:
        left = timeout_seconds - (together.seconds if together else 0)
        result = run(command, timeout_seconds=left, **how)
        together = result.after(together) if together else result
        if result.exit_code != 0 or result.timed_out or result.stopped:
            break
    assert together is not None  # a job has a command
    return together


@contextmanager
def _sleeper(pid: int) -> Iterator[Callable[[float], object]]:
    """Sleeps so many seconds, or until the process ends. Elsewhere than on Linux in short pieces: no pidfd there."""
    try:
        fd = os.pidfd_open(pid)
    except (AttributeError, OSError):
        yield lambda seconds: time.sleep(min(seconds, 0.01))
        return
    try:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        yield lambda seconds: poll.poll(seconds * 1000)
    finally:
        os.close(fd)


def _wait(
    process: subprocess.Popen[bytes], start: float, timeout: float, should_stop: Callable[[], bool],
    sleep: Callable[[float], object],
) -> Result:  # fmt: skip
    ending, timed_out, stopped = 0.0, False, False
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        now = time.monotonic()
        if pid:
            break
        if not ending and (now - start > timeout or should_stop()):
            timed_out, stopped, ending = now - start > timeout, now - start <= timeout, now
            _signal_group(process.pid, signal.SIGTERM)
        elif ending and now - ending > GRACE_SECONDS:
            _signal_group(process.pid, signal.SIGKILL)
        sleep(_LOOK_SECONDS)
    process.returncode = os.waitstatus_to_exitcode(status)
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss: bytes on macOS, KiB on Linux
    cpu = usage.ru_utime + usage.ru_stime
    return Result(process.returncode, now - start, usage.ru_maxrss * unit, cpu, timed_out, stopped)


def _end_all(group: int, folder: Path) -> None:
    """Ends what the program started and left behind, in its process group or, on Linux, in one of its own."""
    _signal_group(group, signal.SIGKILL)
    _reap(-group)
    mark = f"{_MARK}={folder}".encode()
    for _ in range(SWEEPS):
        left = list(_marked(mark, group))
        for pid in left:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
            _reap(pid)
        if not left:
            return


def _marked(mark: bytes, first: int) -> Iterator[int]:
    """Processes with `mark` in their environment. The program's are younger than itself: on a machine of many processes
    only those are read, unless the kernel began again with small numbers meanwhile."""
    with suppress(OSError):
        newest = int(Path("/proc/loadavg").read_text().split()[-1])  # proc(5): the process made last
        for name in os.listdir("/proc"):
            if name.isdecimal() and not int(name) <= first <= newest and mark in _environment(Path("/proc", name)):
                yield int(name)


def _environment(process: Path) -> list[bytes]:
    """Empty for one that is another user's, the kernel's, or ended meanwhile. One that just becomes another program
    has its file already, but shows none for a moment, which on a busy machine may last."""
    for _ in range(LOOKS):
        try:
            if text := (process / "environ").read_bytes():
                return text.split(b"\0")
            (process / "exe").readlink()
        except OSError:
            break
        time.sleep(LOOK_PAUSE_SECONDS)
    return []


def _reap(pid: int) -> None:
    """A container's first process inherits what others left: it waits for them, or they stay as zombies."""
    with suppress(ChildProcessError):
        while os.waitpid(pid, 0)[0] and pid < 0:
            pass


def _signal_group(group: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):  # nobody of the group is left
        os.killpg(group, number)


def last_lines(log: Path, count: int = 20, most_bytes: int = 8192) -> list[str]:
    """The end of a log as text, whatever its bytes are."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - most_bytes))
        text = file.read().decode("utf-8", "replace")
    return [line[:500] for line in text.splitlines()[-count:]]
