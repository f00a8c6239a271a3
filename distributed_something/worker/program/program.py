"""Runs the wrapped program: its own process group, any bytes as output, a time limit, and what it used."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from distributed_something.worker.job.failures import Failed
from distributed_something.worker.program.launcher import LaunchedProgram, LauncherPool, LostLauncher, ProgramStartError

GRACE_SECONDS = 5.0  # between SIGTERM and SIGKILL
_CHECK_SECONDS = 0.1  # between two looks at whether the program must end


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


def _list_worker_variables() -> tuple[str, ...]:
    """What the environment holds for the worker alone: it must not reach the program.

    In the image, where Python was started with -E, PYTHONPATH and PYTHONHOME are the program's. There Python sets
    LC_CTYPE for itself if no locale is set (PEP 538), which what the kernel keeps of the start does not show.
    """
    if not sys.flags.ignore_environment:
        return ("PYTHONPATH", "PYTHONHOME")
    at_start = Path("/proc/self/environ").read_bytes().split(b"\0")
    return () if any(entry.startswith(b"LC_CTYPE=") for entry in at_start) else ("LC_CTYPE",)


_WORKER_VARIABLES = _list_worker_variables()


def run_command(
    launcher: LauncherPool, command: list[str] | str, *, shell: bool, folder: Path, log: Path, timeout_seconds: float,
    should_stop: Callable[[], bool], env: Mapping[str, str] = os.environ,
) -> Result:  # fmt: skip
    """Runs `command` in `folder`, its output in `log`. Raises Failed where it cannot be started, or its end not be
    told."""
    clean = {name: value for name, value in env.items() if name not in _WORKER_VARIABLES}
    words = ["/bin/sh", "-c", str(command)] if shell else list(command)
    try:
        with launcher.program(folder) as program:
            program.start(words, clean, log)
            return _wait_for_end(program, timeout_seconds, should_stop)
    except ProgramStartError as error:
        kind = "machine" if error.machine else "program"
        raise Failed(f"the program {words[0]!r} cannot be started: {error}", kind) from None
    except LostLauncher:
        raise Failed(
            "the process that started the program was killed or hangs, perhaps by its doing", "crash"
        ) from None


def run_commands(
    launcher: LauncherPool, commands: Sequence[list[str] | str], *, timeout_seconds: float, **how: Any
) -> Result:  # fmt: skip
    """Runs `commands` one after the other as `run` does, until one fails; what they came to together."""
    together: Result | None = None
    for command in commands:
        left = timeout_seconds - (together.seconds if together else 0)
        result = run_command(launcher, command, timeout_seconds=left, **how)
        together = result.after(together) if together else result
        if result.exit_code != 0 or result.timed_out or result.stopped:
            break
    assert together is not None  # a job has a command
    return together


def _wait_for_end(program: LaunchedProgram, timeout: float, should_stop: Callable[[], bool]) -> Result:
    start = time.monotonic()
    ending, timed_out, stopped = 0.0, False, False
    while (end := program.wait(_CHECK_SECONDS)) is None:
        now = time.monotonic()
        if not ending and (now - start > timeout or should_stop()):
            timed_out, stopped, ending = now - start > timeout, now - start <= timeout, now
            program.signal(signal.SIGTERM)
        elif ending and now - ending > GRACE_SECONDS:
            end = program.kill()
            break
    seconds = time.monotonic() - start
    return Result(end["exit_code"], seconds, end["peak_memory_bytes"], end["cpu_seconds"], timed_out, stopped)


def read_last_lines(log: Path, count: int = 20, most_bytes: int = 8192) -> list[str]:
    """The end of a log as text, whatever its bytes are."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - most_bytes))
        text = file.read().decode("utf-8", "replace")
    return [line[:500] for line in text.splitlines()[-count:]]
