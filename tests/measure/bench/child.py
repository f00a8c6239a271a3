"""Measures processes from outside, so that the time for starting Python and importing modules is included."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.paths import ROOT

_RSS_UNIT = 1 if sys.platform == "darwin" else 1024  # getrusage(2): bytes on macOS, KiB on Linux


@dataclass(frozen=True)
class ProcessResult:
    """The wall time, peak memory, and output (standard output and standard error combined) of one process.

    `processor_seconds`: of the process and of those that it started and waited for. Other load on the computer changes
    these much less than the wall time.
    """

    seconds: float
    processor_seconds: float
    peak_bytes: int
    output: str


def run_python(arguments: Sequence[str], env: Mapping[str, str], cwd: Path = ROOT) -> ProcessResult:
    """Run `python ARGUMENTS…` until it exits. Raise RuntimeError if its exit code is not 0."""
    start, pipe = time.perf_counter(), subprocess.PIPE
    command = [sys.executable, *arguments]
    with subprocess.Popen(command, env=dict(env), cwd=cwd, stdout=pipe, stderr=subprocess.STDOUT) as process:
        assert process.stdout is not None
        output = process.stdout.read().decode()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - start
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)}: exit code {process.returncode}: {output}")
    return ProcessResult(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * _RSS_UNIT, output)


def build_environment(**variables: str) -> dict[str, str]:
    """Return this process's environment without AWS_ variables, so that no benchmark can reach an AWS account.

    Python keeps the modules that it compiles, as on a user's computer. Compiling them again takes 0.3 s.
    """
    left_out = ("AWS_", "PYTHONDONTWRITEBYTECODE")
    return {name: value for name, value in os.environ.items() if not name.startswith(left_out)} | variables
