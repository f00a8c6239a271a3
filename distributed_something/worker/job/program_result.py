"""The result of running a job's program: how the program ended, and the time and memory it used."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Result:
    """The result of a program. If a signal ended the program, `exit_code` is the negated signal number.

    `peak_memory_bytes` is the peak memory of the program and all processes that it started. It is sampled each second,
    so shorter peaks can be missed, and memory that processes share is counted in each of them. It is at least the peak
    of the largest single process, as the kernel reports it; on macOS, it is that value.

    `failed_check` is what a function in the job's `command_checks` returned as the reason why the job failed.

    `started` and `ended` are in seconds since 1970: the start of the first command and the end of the last.
    """

    exit_code: int
    seconds: float
    peak_memory_bytes: int
    cpu_seconds: float
    timed_out: bool = False
    stopped: bool = False
    started: float = 0.0
    ended: float = 0.0
    failed_check: str | None = None

    def add_earlier(self, earlier: Result) -> Result:
        """Return this result with the time and memory of an earlier command of the same job added."""
        return replace(
            self, seconds=earlier.seconds + self.seconds, cpu_seconds=earlier.cpu_seconds + self.cpu_seconds,
            peak_memory_bytes=max(earlier.peak_memory_bytes, self.peak_memory_bytes), started=earlier.started,
        )  # fmt: skip


def convert_exit_code(exit_code: int | None) -> int | None:
    """Return the exit code that a shell reports (POSIX, "Exit Status for Commands"): 128 + N if signal N ended the
    program, where records have -N.

    A program's own signal and that of a program that it ran in a shell then have the same number.
    """
    return exit_code if exit_code is None or exit_code >= 0 else 128 - exit_code
