"""The outcome of a run that has just ended, for `monitor` and the auto-monitor."""

from __future__ import annotations

from typing import TYPE_CHECKING

from distributed_something.core.errors import AWSError, translate_aws_errors
from distributed_something.observe.queue import count_jobs
from distributed_something.results.outcome import RunOutcome, load_run_outcome
from distributed_something.results.summary import DeadLetters, format_run_outcome

if TYPE_CHECKING:
    from distributed_something.aws.clients import Clients
    from distributed_something.core.monitor_file import MonitorFile
    from distributed_something.run.monitor.loop import Tick


def load_outcome(clients: Clients, run: MonitorFile, tick: Tick) -> RunOutcome:
    """Return the outcome of the run whose last tick this was. Raise CloudError if it cannot be read.

    This can take minutes for a large run, so call it only after everything that costs money is stopped.
    """
    with translate_aws_errors("reading the journals and records of the run"):
        return load_run_outcome(clients.s3, run, tick.snapshot.submitted, tick.snapshot.jobs)


def count_recorded_failures(clients: Clients, run: MonitorFile, tick: Tick) -> int:
    """Return how many of the run's jobs failed, or 0 if not every job has a final record. AWS errors are not caught."""
    outcome = load_run_outcome(clients.s3, run, tick.snapshot.submitted, tick.snapshot.jobs)
    return 0 if outcome.unrecorded else outcome.counts.failed + outcome.counts.repeated


def format_end(clients: Clients, run: MonitorFile, tick: Tick, outcome: RunOutcome) -> str:
    """Return the text of the summary about the run's jobs."""
    ended = tick.history.ended or tick.snapshot.at
    return format_run_outcome(
        outcome, run, ended - run.MONITOR_START_TIME / 1000, _find_dead_letters(clients, run, tick)
    )


def _find_dead_letters(clients: Clients, run: MonitorFile, tick: Tick) -> DeadLetters | None:
    name = run.MONITOR_DEAD_LETTER_QUEUE
    try:
        count = count_jobs(clients.sqs, name)
    except AWSError:  # it does not matter enough to end the summary
        return None
    return DeadLetters(name, count, tick.history.dead_letters)
