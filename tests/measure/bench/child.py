"""Measures processes from outside, so that the time for starting Python and importing modules is included."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.measure.bench import starter
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
    read_end, write_end = os.pipe()
    command = [sys.executable, *arguments]
    starter_command = [sys.executable, "-I", "-S", starter.__file__, str(write_end)]
    process = subprocess.run(
        [*starter_command, *command], env=dict(env), cwd=cwd, check=True, pass_fds=[write_end],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    os.close(write_end)
    with open(read_end, "rb") as file:
        numbers = json.load(file)
    output = process.stdout.decode()
    if numbers["exit_code"]:
        raise RuntimeError(f"{' '.join(command)}: exit code {numbers['exit_code']}: {output}")
    peak_bytes = numbers["max_rss"] * _RSS_UNIT
    return ProcessResult(numbers["seconds"], numbers["processor_seconds"], peak_bytes, output)


def build_environment(**variables: str) -> dict[str, str]:
    """Return this process's environment without AWS_ variables, so that no benchmark can reach an AWS account.

    Python keeps the modules that it compiles, as on a user's computer. Compiling them again takes 0.3 s.
    """
    left_out = ("AWS_", "PYTHONDONTWRITEBYTECODE")
    return {name: value for name, value in os.environ.items() if not name.startswith(left_out)} | variables
