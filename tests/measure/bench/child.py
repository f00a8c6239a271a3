"""Processes that are measured from outside: wall time in seconds, peak memory in bytes."""

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
class Measured:
    """What one process took, and what it printed."""

    seconds: float
    peak_bytes: int
    output: str


def run(arguments: Sequence[str], env: Mapping[str, str], cwd: Path = ROOT) -> Measured:
    """Runs `python ARGUMENTS…` to its end; raises RuntimeError where it fails."""
    start, pipe = time.perf_counter(), subprocess.PIPE
    command = [sys.executable, *arguments]
    with subprocess.Popen(command, env=dict(env), cwd=cwd, stdout=pipe, stderr=subprocess.STDOUT) as process:
        assert process.stdout is not None
        output = process.stdout.read().decode()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - start
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}: {output}")
    return Measured(seconds, usage.ru_maxrss * _RSS_UNIT, output)


def environment(**more: str) -> dict[str, str]:
    """This process's environment without what it says of AWS, so that no benchmark ever reaches an account."""
    return {name: value for name, value in os.environ.items() if not name.startswith("AWS_")} | more
