"""Runs the wrapped program: its own process group, any bytes as output, a time limit, and what it used."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from distributed_something.worker.job.failures import Failed
from distributed_something.worker.job.program_result import Result
from distributed_something.worker.program.launcher import LaunchedProgram, LauncherPool, LostLauncher, ProgramStartError

GRACE_SECONDS = 5.0  # between SIGTERM and SIGKILL
_CHECK_SECONDS = 0.1  # between two looks at whether the program must end


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


@dataclass(frozen=True)
class ProgramSurroundings:
    """Where a program runs: in `folder`, its output behind `log`; `shell`: its command is one text for a shell.

    `monotonic`: the clock that times it, seconds.
    """

    folder: Path
    log: Path
    shell: bool = False
    env: Mapping[str, str] = field(default_factory=lambda: os.environ)
    monotonic: Callable[[], float] = time.monotonic


def run_command(
    launcher: LauncherPool, command: list[str] | str, surroundings: ProgramSurroundings, timeout_seconds: float,
    should_stop: Callable[[], bool] = lambda: False,
) -> Result:  # fmt: skip
    """Run one command to its end. Raises Failed where it cannot be started, or its end not be told."""
    clean = {name: value for name, value in surroundings.env.items() if name not in _WORKER_VARIABLES}
    words = ["/bin/sh", "-c", str(command)] if surroundings.shell else list(command)
    try:
        with launcher.open_program(surroundings.folder) as program:
            program.start(words, clean, surroundings.log)
            return _wait_for_end(program, timeout_seconds, should_stop, surroundings.monotonic)
    except ProgramStartError as error:
        kind = "machine" if error.machine else "program"
        raise Failed(f"the program {words[0]!r} cannot be started: {error}", kind) from None
    except LostLauncher:
        reason = "the process that started the program was killed or hangs, perhaps by its doing"
        raise Failed(reason, "crash") from None


def run_commands(
    launcher: LauncherPool, commands: Sequence[list[str] | str], surroundings: ProgramSurroundings,
    timeout_seconds: float, should_stop: Callable[[], bool] = lambda: False,
) -> Result:  # fmt: skip
    """Run `commands` one after the other until one fails; return what they came to together. The time is for all."""
    together: Result | None = None
    for command in commands:
        left = timeout_seconds - (together.seconds if together else 0)
        result = run_command(launcher, command, surroundings, left, should_stop)
        together = result.add_earlier(together) if together else result
        if result.exit_code != 0 or result.timed_out or result.stopped:
            break
    assert together is not None  # a job has a command
    return together


def _wait_for_end(
    program: LaunchedProgram, timeout: float, should_stop: Callable[[], bool], monotonic: Callable[[], float]
) -> Result:
    start = monotonic()
    ending, timed_out, stopped = 0.0, False, False
    while (end := program.wait(_CHECK_SECONDS)) is None:
        now = monotonic()
        if not ending and (now - start > timeout or should_stop()):
            timed_out, stopped, ending = now - start > timeout, now - start <= timeout, now
            program.send_signal(signal.SIGTERM)
        elif ending and now - ending > GRACE_SECONDS:
            end = program.kill()
            break
    seconds = monotonic() - start
    return Result(end["exit_code"], seconds, end["peak_memory_bytes"], end["cpu_seconds"], timed_out, stopped)


def read_last_lines(log: Path, count: int = 20, most_bytes: int = 8192) -> list[str]:
    """The end of a log as text, whatever its bytes are."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - most_bytes))
        text = file.read().decode("utf-8", "replace")
    return [line[:500] for line in text.splitlines()[-count:]]
