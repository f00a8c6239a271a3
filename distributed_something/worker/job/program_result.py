"""The result of running a job's program: how the program ended, and the time and memory it used."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Result:
    """The result of a program. If a signal ended the program, `exit_code` is the negated signal number."""

    exit_code: int
    seconds: float
    peak_memory_bytes: int
    cpu_seconds: float
    timed_out: bool = False
    stopped: bool = False

    def add_earlier(self, earlier: Result) -> Result:
        """Return this result with the time and memory of an earlier command of the same job added."""
        return replace(
            self, seconds=earlier.seconds + self.seconds, cpu_seconds=earlier.cpu_seconds + self.cpu_seconds,
            peak_memory_bytes=max(earlier.peak_memory_bytes, self.peak_memory_bytes),
        )  # fmt: skip
