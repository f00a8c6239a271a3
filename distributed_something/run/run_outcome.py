"""The outcome of a run that has just ended, for `monitor` and the auto-monitor."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from distributed_something.core.errors import AWSError
from distributed_something.observe.queue import count_jobs
from distributed_something.results.outcome import RunOutcome, load_run_outcome
from distributed_something.results.summary import DeadLetters, format_run_outcome

if TYPE_CHECKING:
    from distributed_something.aws.clients import Clients
    from distributed_something.core.monitor_file import MonitorFile
    from distributed_something.run.monitor.loop import Tick


class EndedRun:
    """A run whose last tick this was."""

    def __init__(self, clients: Clients, file: MonitorFile, tick: Tick) -> None:
        self._clients, self._file, self._tick = clients, file, tick

    @cached_property
    def outcome(self) -> RunOutcome:
        """The outcome, which is read when it is first used. AWS errors are not caught.

        Reading can take minutes for a large run, so use it only after everything that costs money is stopped.
        """
        snapshot = self._tick.snapshot
        return load_run_outcome(self._clients.s3, self._file, snapshot.submitted, snapshot.jobs)

    def count_recorded_failures(self) -> int:
        """Return how many messages of failed jobs have final records; 0 if any job has no final record."""
        counts = self.outcome.counts
        return 0 if self.outcome.unrecorded or self.outcome.unread else counts.failed + counts.repeated

    def format_outcome(self) -> str:
        """Return the text of the summary about the run's jobs."""
        ended = self._tick.history.ended or self._tick.snapshot.at
        seconds = ended - self._file.MONITOR_START_TIME / 1000
        return format_run_outcome(self.outcome, self._file, seconds, self._find_dead_letters())

    def _find_dead_letters(self) -> DeadLetters | None:
        name = self._file.MONITOR_DEAD_LETTER_QUEUE
        try:
            return DeadLetters(name, count_jobs(self._clients.sqs, name), self._tick.history.dead_letters)
        except AWSError:  # this queue does not matter enough to end the summary
            return None
