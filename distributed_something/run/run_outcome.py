"""The outcome of a run that has just ended, for `monitor` and the auto-monitor, or that is being cleaned up."""

from __future__ import annotations

import math
from functools import cached_property
from typing import TYPE_CHECKING

from distributed_something.core.errors import AWSError
from distributed_something.observe.documents.run_start import observe_submitted_jobs
from distributed_something.observe.documents.submissions import SubmissionReader
from distributed_something.observe.queue import count_jobs
from distributed_something.results.outcome import RunOutcome, load_run_outcome
from distributed_something.results.summary import DeadLetters, format_run_outcome
from distributed_something.run.monitor.history import RunHistory, load_history

if TYPE_CHECKING:
    from distributed_something.aws.clients import Clients
    from distributed_something.core.monitor_file import MonitorFile
    from distributed_something.run.monitor.loop import Tick


def load_current_outcome(clients: Clients, file: MonitorFile, now: float) -> RunOutcome:
    """Return how the run's jobs ended so far, during the run or after it. AWS errors are not caught."""
    history, _ = load_history(clients.s3, file, now)
    left = 0 if history.ended is not None else count_jobs(clients.sqs, file.MONITOR_QUEUE_NAME)
    submitted = None
    if history.start is not None:
        reader = SubmissionReader(clients.s3, file.MONITOR_BUCKET_NAME, file.MONITOR_APP_NAME)
        until = math.inf if history.ended is None else history.ended
        submitted = observe_submitted_jobs(reader, file, history.start, until)
    return load_run_outcome(clients.s3, file, submitted, left)


def load_recorded_failures(clients: Clients, file: MonitorFile, now: float) -> int:
    """Return how many messages of the run's failed jobs have final records.

    Return 0 if any job's end is unknown, or if the dead-letter queue was not empty at the start of the run. AWS errors
    are not caught.
    """
    history, _ = load_history(clients.s3, file, now)
    if history.start is None:
        return 0
    reader = SubmissionReader(clients.s3, file.MONITOR_BUCKET_NAME, file.MONITOR_APP_NAME)
    submitted = observe_submitted_jobs(reader, file, history.start)
    left = count_jobs(clients.sqs, file.MONITOR_QUEUE_NAME)
    return _count_recorded_failures(load_run_outcome(clients.s3, file, submitted, left), history)


class EndedRun:
    """A run whose last tick this was."""

    def __init__(self, clients: Clients, file: MonitorFile, tick: Tick) -> None:
        self._clients, self._file, self._tick = clients, file, tick

    @cached_property
    def outcome(self) -> RunOutcome:
        """The outcome, which is read when it is first used. AWS errors are not caught.

        Reading can take minutes for a large run, so use it only after everything that costs money is stopped.
        """
        snapshot, history, s3 = self._tick.snapshot, self._tick.history, self._clients.s3
        if history.ended is None or history.start is None:
            return load_run_outcome(s3, self._file, snapshot.submitted, snapshot.jobs)
        # Jobs that were submitted after the end belong to the next run, which may use the same queue.
        reader = SubmissionReader(s3, self._file.MONITOR_BUCKET_NAME, self._file.MONITOR_APP_NAME)
        submitted = observe_submitted_jobs(reader, self._file, history.start, until=history.ended)
        return load_run_outcome(s3, self._file, submitted, left=0)

    def count_recorded_failures(self) -> int:
        """Return the same as `load_recorded_failures`."""
        return _count_recorded_failures(self.outcome, self._tick.history)

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


def _count_recorded_failures(outcome: RunOutcome, history: RunHistory) -> int:
    # If the queue was not empty at the start, SQS's count does not say which messages are older than the run.
    if outcome.unrecorded or outcome.unread or history.dead_letters:
        return 0
    return outcome.counts.failed + outcome.counts.repeated
