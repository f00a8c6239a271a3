"""Runs the wrapped program in its own process group with a time limit, and measures its time and memory."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from distributed_something.worker.job.failures import Failed, ProgramNotStarted
from distributed_something.worker.job.program_result import Result
from distributed_something.worker.program.explanations.script_faults import explain_program
from distributed_something.worker.program.launcher import LaunchedProgram, LauncherPool, LostLauncher, ProgramStartError
from distributed_something.worker.program.privileges import ProgramIdentity, remove_aws_variables
from distributed_something.worker.visible_text import make_visible, split_lines

MAX_LAST_LINES = 20  # lines at the end of a log that a record shows
GRACE_SECONDS = 5.0  # between SIGTERM and SIGKILL
_CHECK_SECONDS = 0.1  # between two checks of whether the program must end


def _list_worker_variables() -> tuple[str, ...]:
    """Return the environment variables that are meant only for the worker and must not reach the program.

    In the image, the worker's Python runs with -E, so PYTHONPATH and PYTHONHOME are meant for the program. Python sets
    LC_CTYPE itself if no locale is set (PEP 538). If LC_CTYPE is missing from the kernel's copy of the initial
    environment, Python set it.
    """
    names = () if sys.flags.ignore_environment else ("PYTHONPATH", "PYTHONHOME")
    try:
        at_start = Path("/proc/self/environ").read_bytes().split(b"\0")
    except OSError:  # not on Linux
        return names
    return names if any(entry.startswith(b"LC_CTYPE=") for entry in at_start) else (*names, "LC_CTYPE")


_WORKER_VARIABLES = _list_worker_variables()


@dataclass(frozen=True)
class ProgramSurroundings:
    """The surroundings of a program, which runs in `folder` and appends its output to `log`.

    If `shell` is set, the command is one string for a shell. The program gets no AWS credentials unless `may_use_aws`
    is set. It runs as `identity`, or as the worker's user if that is None. `home` replaces HOME unless it is "".
    `own_env`: the job's own environment variables, which override those in `env`. `monotonic` is the clock, in seconds,
    that times the program; `now` returns the time in seconds since 1970.
    """

    folder: Path
    log: Path
    shell: bool = False
    may_use_aws: bool = False
    identity: ProgramIdentity | None = None
    home: str = ""
    env: Mapping[str, str] = field(default_factory=lambda: os.environ)
    own_env: Mapping[str, str] = field(default_factory=dict)
    monotonic: Callable[[], float] = time.monotonic
    now: Callable[[], float] = time.time


def run_command(
    launcher: LauncherPool, command: list[str] | str, surroundings: ProgramSurroundings, timeout_seconds: float,
    should_stop: Callable[[], bool] = lambda: False,
) -> Result:  # fmt: skip
    """Run one command until it ends. Raise Failed if it cannot be started or its launcher is lost."""
    env = surroundings.env if surroundings.may_use_aws else remove_aws_variables(surroundings.env)
    clean = {name: value for name, value in env.items() if name not in _WORKER_VARIABLES}
    if surroundings.home:
        clean["HOME"] = surroundings.home
    clean |= surroundings.own_env
    words = ["/bin/sh", "-c", str(command)] if surroundings.shell else list(command)
    try:
        with launcher.open_program(surroundings.folder) as program:
            started = surroundings.now()
            program.start(words, clean, surroundings.log, surroundings.identity)
            result = _wait_for_end(program, timeout_seconds, should_stop, surroundings.monotonic)
            return replace(result, started=started, ended=surroundings.now())
    except ProgramStartError as error:
        kind = "machine" if error.is_machine_fault else "program"
        explanation = explain_program(words[0], surroundings.folder, clean)
        reason = f"{error}; {explanation}" if explanation else str(error)
        raise ProgramNotStarted(f"the program {words[0]!r} cannot be started: {reason}", kind, error.name) from None
    except LostLauncher:
        reason = "the program's launcher was killed or hangs; the program itself may be the cause"
        raise Failed(reason, "crash") from None


def run_commands(
    launcher: LauncherPool, commands: Sequence[list[str] | str], surroundings: ProgramSurroundings,
    timeout_seconds: float, should_stop: Callable[[], bool] = lambda: False,
    check_command: Callable[[int], str | None] = lambda _: None,
) -> Result:  # fmt: skip
    """Run `commands` one after the other until one fails, and return their combined result.

    `timeout_seconds` is the limit for all commands together. `check_command` is called with the index of each command
    that ended with exit code 0. If it returns a reason, no further command runs, and the result contains the reason.
    """
    combined: Result | None = None
    for index, command in enumerate(commands):
        remaining = timeout_seconds - (combined.seconds if combined else 0)
        result = run_command(launcher, command, surroundings, remaining, should_stop)
        combined = result.add_earlier(combined) if combined else result
        if result.exit_code != 0 or result.timed_out or result.stopped:
            break
        if reason := check_command(index):
            combined = replace(combined, failed_check=reason)
            break
    assert combined is not None  # a job has at least one command
    return combined


def _wait_for_end(
    program: LaunchedProgram, timeout: float, should_stop: Callable[[], bool], monotonic: Callable[[], float]
) -> Result:
    start = monotonic()
    terminated_at, timed_out, stopped = 0.0, False, False
    while (reply := program.wait(_CHECK_SECONDS)) is None:
        now = monotonic()
        if not terminated_at and (now - start > timeout or should_stop()):
            timed_out, stopped, terminated_at = now - start > timeout, now - start <= timeout, now
            program.send_signal(signal.SIGTERM)
        elif terminated_at and now - terminated_at > GRACE_SECONDS:
            reply = program.kill()
            break
    seconds = monotonic() - start
    return Result(reply["exit_code"], seconds, reply["peak_memory_bytes"], reply["cpu_seconds"], timed_out, stopped)


def read_last_lines(log: Path, count: int = MAX_LAST_LINES, max_bytes: int = 8192) -> list[str]:
    """Return the last lines of a log, at most `count`, without bytes that are not UTF-8 or not safe in a terminal."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - max_bytes))
        text = file.read().decode("utf-8", "replace")
    return [make_visible(line)[:500] for line in split_lines(text)[-count:]]
