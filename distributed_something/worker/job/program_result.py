"""How a job's program ended, and what it used."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Result:
    """How the program ended. A program that a signal ended has the signal's number, negative, as exit code."""

    exit_code: int
    seconds: float
    peak_memory_bytes: int
    cpu_seconds: float
    timed_out: bool = False
    stopped: bool = False

    def add_earlier(self, earlier: Result) -> Result:
        """This command's end with what both of them used."""
        return replace(
            self, seconds=earlier.seconds + self.seconds, cpu_seconds=earlier.cpu_seconds + self.cpu_seconds,
            peak_memory_bytes=max(earlier.peak_memory_bytes, self.peak_memory_bytes),
        )  # fmt: skip
