"""The outcome of a run that has just ended, for `monitor` and the auto-monitor, or that is being cleaned up."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

from distributed_something.core.errors import AWSError, CloudError, translate_aws_errors
from distributed_something.core.monitor_file import parse_run_start
from distributed_something.core.text import LABEL_COLUMNS, format_count, format_wrapped_row
from distributed_something.observe.containers import StartFailure, find_start_failure, find_worker_crash
from distributed_something.observe.documents.replacements import find_replacements, load_replacements
from distributed_something.observe.documents.run_start import observe_submitted_jobs
from distributed_something.observe.documents.submissions import SubmissionReader
from distributed_something.observe.queue import count_jobs
from distributed_something.results.advice import Advice, build_batch_advice, choose_advice
from distributed_something.results.command_line import build_run_line, format_command_lines
from distributed_something.results.job_source import find_job_source
from distributed_something.results.job_table import JobTable
from distributed_something.results.next_batch import NextBatch, find_next_batch
from distributed_something.results.next_run.document import save_measurement
from distributed_something.results.next_run.measure_run import measure_next_run
from distributed_something.results.next_run.view import NextRun, format_next_run_rows
from distributed_something.results.outcome import RunOutcome, load_run_outcome
from distributed_something.results.report.numbers.attempts import AttemptTable
from distributed_something.results.retry.settled_jobs import (
    SettledJobs,
    count_open_failures,
    drop_left_jobs,
    drop_settled_jobs,
    find_settled_jobs,
)
from distributed_something.results.status.advice_causes import CRASH_CLASS, AdviceCause
from distributed_something.results.status.advice_text import format_advice
from distributed_something.results.summary import (
    DeadLetters,
    RunSummary,
    find_run_summary,
    format_retry_example,
    format_run_outcome,
)
from distributed_something.run.monitor.history import RunHistory, load_history
from distributed_something.run.monitor.policy import EndReason
from distributed_something.run.monitor.start_failure import format_worker_crash, mention_remedy
from distributed_something.run.monitor.unusable import has_useless_replacements
from distributed_something.run.notifications.messages import RunEndFacts

if TYPE_CHECKING:
    from distributed_something.aws.clients import Clients
    from distributed_something.core.monitor_file import MonitorFile
    from distributed_something.results.command_line import CommandLine
    from distributed_something.run.monitor.loop import Tick


def load_ended_outcome(
    clients: Clients, file: MonitorFile, summary: RunSummary, *, attempts: AttemptTable | None = None
) -> RunOutcome:
    """Return how the jobs of a run with this summary ended. AWS errors are not caught.

    Jobs that ended after the summary was saved, while the last containers stopped, are not in the queue any more.
    """
    jobs = summary.jobs
    submitted, left = jobs.get("submitted"), jobs.get("left") or 0
    until = summary.ended or summary.saved or math.inf
    outcome = load_run_outcome(
        clients.s3, file, submitted, left, attempts=attempts,
        replacements=load_replacements(clients.s3, file, until, until),
    )  # fmt: skip
    if "done" not in jobs:  # older versions saved no counts
        return outcome
    ended = sum(jobs.get(name) or 0 for name in ("done", "already_there", "failed"))
    left = max(0, left - max(0, outcome.counts.ended - ended))
    total = None if submitted is None else max(submitted, outcome.counts.ended + left)
    return replace(outcome, submitted=total, left=left)


def load_current_outcome(
    clients: Clients, file: MonitorFile, now: float, attempts: AttemptTable | None = None
) -> RunOutcome:
    """Return how the run's jobs ended so far, during the run or after it. AWS errors are not caught.

    `attempts`: gets each attempt.
    """
    summary = find_run_summary(clients.s3, file)
    if summary is not None and summary.is_clean:  # what is in the queue now, or was sent since, is another run's
        outcome = load_ended_outcome(clients, file, summary, attempts=attempts)
        return drop_lost_jobs(clients, file, outcome, summary.ended or summary.saved or now, now)
    history, now = load_history(clients.s3, file, now)
    left = 0 if history.ended is not None else count_jobs(clients.sqs, file.MONITOR_QUEUE_NAME)
    reader = SubmissionReader(clients.s3, file.MONITOR_BUCKET_NAME, file.MONITOR_APP_NAME)
    start, until = history.start, history.until
    submitted = observe_submitted_jobs(reader, file, start, now, until).count if start else None
    return load_run_outcome(
        clients.s3, file, submitted, left, attempts=attempts,
        replacements=find_replacements(reader, file, now, until),
    )  # fmt: skip


def drop_lost_jobs(clients: Clients, file: MonitorFile, outcome: RunOutcome, ended: float, now: float) -> RunOutcome:
    """Return the outcome without the jobs that the run left in the queue if they are not there any more.

    `submitJob --replace` has removed them, or a later run has worked on them. While the queue holds jobs that were sent
    since, they stay: the advice is then about those. Times are in seconds since 1970. AWS errors are not caught.
    """
    if not outcome.left or find_next_batch(clients, file, ended, now) is not None:
        return outcome
    settled = find_settled_jobs(clients.s3, file, [], now, outcome.left, ended)
    return drop_left_jobs(outcome) if settled.has_later_run or settled.removed else outcome


def load_recorded_failures(clients: Clients, file: MonitorFile, now: float) -> int:
    """Return how many messages of the run's failed jobs have final records.

    Return 0 if any job's end is unknown, or if the dead-letter queue was not empty at the start of the run. AWS errors
    are not caught.
    """
    history, now = load_history(clients.s3, file, now)
    if history.start is None:
        return 0
    reader = SubmissionReader(clients.s3, file.MONITOR_BUCKET_NAME, file.MONITOR_APP_NAME)
    submitted = observe_submitted_jobs(reader, file, history.start, now, history.until).count
    left = count_jobs(clients.sqs, file.MONITOR_QUEUE_NAME)
    return _count_recorded_failures(load_run_outcome(clients.s3, file, submitted, left), history)


def choose_ended_advice(
    clients: Clients, file: MonitorFile, outcome: RunOutcome, history: RunHistory, *,
    is_hopeless: bool, ended: float, settled: SettledJobs,
) -> Advice | None:  # fmt: skip
    """Return what to do after the run, which ended at `ended` (seconds since 1970). AWS errors are not caught.

    `settled`: the failed jobs about which nothing is left to do.
    """
    now = max(ended, settled.at)
    source, has_no_machine = find_job_source(clients, file, ended, now), has_useless_replacements(history)
    batch = find_next_batch(clients, file, ended, now) if now > ended else None
    outcome = drop_settled_jobs(outcome, settled)
    if batch is None and (settled.has_later_run or source.is_replaced):
        outcome = drop_left_jobs(outcome)
    is_hopeless = is_hopeless and not outcome.is_complete
    return choose_advice(outcome, is_hopeless=is_hopeless, has_no_machine=has_no_machine, source=source, batch=batch)


def count_original_failures(clients: Clients, file: MonitorFile, ended: float, now: float) -> dict[str, int]:
    """Return how many failed jobs are left of each run whose failed jobs `retry` sent to this run, if there are any.

    `ended`: when the run ended (seconds since 1970). AWS errors are not caught.
    """
    counts = {}
    for run in find_job_source(clients, file, ended, now).retried_runs:
        if (start := parse_run_start(run)) is not None:
            original = replace(file, MONITOR_START_TIME=int(start * 1000))
            counts[run] = count_open_failures(clients.s3, original, now)
    return {run: count for run, count in counts.items() if count}


def load_end_advice(clients: Clients, file: MonitorFile, now: float) -> tuple[bool, Advice | None] | None:
    """Return whether the run ended because nothing works, and the advice of `status`; None without a recorded end.

    AWS errors are not caught.
    """
    summary = find_run_summary(clients.s3, file)
    if summary is None or not summary.is_clean:
        return None
    return summary.reason == EndReason.NOTHING_WORKS.value, _load_earlier_end(clients, file, summary, now)[1]


def _load_earlier_end(
    clients: Clients, file: MonitorFile, summary: RunSummary, now: float
) -> tuple[RunOutcome, Advice | None, NextBatch | None]:
    history, now = load_history(clients.s3, file, now)
    outcome = load_ended_outcome(clients, file, summary)
    is_hopeless = summary.reason == EndReason.NOTHING_WORKS.value
    ended = summary.ended or history.ended or summary.saved or now
    settled = find_settled_jobs(clients.s3, file, outcome.failures, now)
    outcome = drop_settled_jobs(outcome, settled)
    advice = choose_ended_advice(clients, file, outcome, history, is_hopeless=is_hopeless, ended=ended, settled=settled)
    return outcome, advice, advice.batch if advice else find_next_batch(clients, file, ended, now)


def format_earlier_end(clients: Clients, file: MonitorFile, summary: RunSummary, line: CommandLine, now: float) -> str:
    """Return the text of an earlier end, with the commands as the user types them here. AWS errors are not caught.

    If other jobs have been sent since, the commands are those that run them.
    """
    if not summary.report:
        return summary.text
    outcome, advice, batch = _load_earlier_end(clients, file, summary, now)
    if batch is not None and (advice is None or advice.cause is not AdviceCause.SENT_AGAIN):
        return "\n".join([summary.report, format_advice(build_batch_advice(batch), line)])
    advice = mention_remedy(advice, summary.start_failure)
    return "\n".join(filter(None, [summary.report, _format_steps(outcome, advice, line)]))


def _format_steps(outcome: RunOutcome, advice: Advice | None, line: CommandLine) -> str:
    """Return the commands that run failed or further jobs, and what to do first; "" if there are none."""
    batch = advice.batch if advice else None
    repeated = batch.repeated if batch else frozenset()
    others = [group for group in outcome.groups if any(failed.job not in repeated for failed in group.jobs)]
    example = format_retry_example(others, line.format_retry(has_waiting=batch is not None or outcome.left > 0))
    return "\n".join(filter(None, [example, format_advice(advice, line) if advice else ""]))


class EndedRun:
    """A run whose last tick this was. Create it before the cleanup, after which ECS does not know how workers died.

    `tick` may be replaced by a later one until the outcome is read. `attempts`: those of the run, for its report, once
    the outcome has been read; None if there are more than `max_attempts`.
    """

    def __init__(
        self, clients: Clients, file: MonitorFile, tick: Tick, max_attempts: float = math.inf
    ) -> None:  # fmt: skip
        self._clients, self.file, self.tick, self._max_attempts = clients, file, tick, max_attempts
        self.attempts: AttemptTable | None = None
        self._crash = self._find_worker_crash() if tick.snapshot.totals.failed else None
        is_unstarted = tick.end_reason is EndReason.NOTHING_WORKS and tick.history.unstarted_since is not None
        self.start_failure = self._find_start_failure() if is_unstarted else None
        self._table = JobTable()
        self._has_saved_table = False
        self._next_run: NextRun | None = None
        self._advice: Advice | None = None

    @property
    def ended(self) -> float:
        """When the run ended, in seconds since 1970."""
        return self.tick.history.ended or self.tick.snapshot.at

    @cached_property
    def outcome(self) -> RunOutcome:
        """The outcome, which is read when it is first used. AWS errors are not caught.

        Reading can take minutes for a large run, so use it only after everything that costs money is stopped.
        """
        self._table = JobTable()  # a new one, in case reading was attempted before
        if self.tick.snapshot.totals.attempts <= self._max_attempts:
            self.attempts = AttemptTable(self.file.MONITOR_START_TIME / 1000, self.tick.snapshot.at)
        snapshot, history, s3 = self.tick.snapshot, self.tick.history, self._clients.s3
        reader = SubmissionReader(s3, self.file.MONITOR_BUCKET_NAME, self.file.MONITOR_APP_NAME)
        if history.ended is None or history.start is None:
            return self._add_machines(load_run_outcome(
                s3, self.file, snapshot.submitted, snapshot.jobs, self._table,
                attempts=self.attempts, replacements=find_replacements(reader, self.file, snapshot.at),
            ))  # fmt: skip
        # Jobs that were submitted after the end belong to the next run, which may use the same queue.
        submitted = observe_submitted_jobs(reader, self.file, history.start, snapshot.at, until=history.ended)
        return self._add_machines(load_run_outcome(
            s3, self.file, submitted.count, 0, self._table, attempts=self.attempts,
            replacements=find_replacements(reader, self.file, snapshot.at, history.ended),
        ))  # fmt: skip

    def build_end_facts(self, outcome: RunOutcome | None, *, is_clean: bool) -> RunEndFacts:
        """Return what the notification about the end says. `outcome`: None if it could not be read."""
        seconds = self.ended - self.file.MONITOR_START_TIME / 1000
        others = self._advice.jobs if self._advice and self._advice.cause is AdviceCause.CANARY else 0
        cost = self.tick.history.cost or None  # 0: no monitor was there to estimate it
        return RunEndFacts(self.tick.end_reason, outcome, seconds, cost, is_clean, others)

    def count_recorded_failures(self) -> int:
        """Return the same as `load_recorded_failures`."""
        return _count_recorded_failures(self.outcome, self.tick.history)

    def save_job_table(self) -> str:
        """Save `jobs.tsv` in the bucket, and return a note if that is not possible; the run's end does not need it.

        AWS errors are caught, except while the outcome is read.
        """
        _ = self.outcome  # this fills the table
        problem = self._table.problem
        if not problem:
            try:
                with translate_aws_errors(f"writing {self.file.keys.job_table}"):
                    self._table.save(self._clients.s3, self.file)
            except CloudError as error:
                problem = str(error)
        self._has_saved_table = not problem
        return f"note: jobs.tsv, the table of the run's jobs, could not be written: {problem}" if problem else ""

    def forecast_next_run(self) -> None:
        """Forecast the next run of the Job file, and save what the run measured for `check`.

        AWS errors are caught, except while the outcome is read: the run's end does not need a forecast.
        """
        measured, s3, file = self.outcome.measured, self._clients.s3, self.file
        with suppress(*AWSError):
            self._next_run = next_run = measure_next_run(self._clients, file, measured, self.ended)
            if next_run is not None:
                bucket, app = file.MONITOR_BUCKET_NAME, file.MONITOR_APP_NAME
                save_measurement(s3, bucket, app, next_run.measurement, next_run.forecast)

    def format_outcome(self) -> str:
        """Return the text of the summary about the run's jobs."""
        seconds = self.ended - self.file.MONITOR_START_TIME / 1000
        text = format_run_outcome(
            self.outcome, self.file, seconds, self._find_dead_letters(), self.tick.history.cost,
            has_table=self._has_saved_table,
        )  # fmt: skip
        if self._next_run is not None:
            text = "\n".join([text, *format_next_run_rows(self._next_run)])
        has_crashed = any(failed.reason_class == CRASH_CLASS for failed in self.outcome.all_failures)
        if self._crash is None or not has_crashed:
            return text
        return "\n".join([text, *format_worker_crash(self._crash, build_run_line(self.file))])

    def format_next_steps(self, line: CommandLine) -> str:
        """Return what to do next; "" if every job of the Job file is done. AWS errors are not caught.

        `line`: how the user types commands.
        """
        is_hopeless = self.tick.end_reason is EndReason.NOTHING_WORKS
        advice = choose_ended_advice(
            self._clients, self.file, self.outcome, self.tick.history,
            is_hopeless=is_hopeless, ended=self.ended, settled=SettledJobs(self.ended),
        )  # fmt: skip
        self._advice = mention_remedy(advice, self.start_failure)
        steps = _format_steps(self.outcome, self._advice, line)
        if self.outcome.counts.failed:  # `retry` of this run comes first
            return steps
        counts = count_original_failures(self._clients, self.file, self.ended, self.ended)
        return "\n".join(filter(None, [steps, *(format_original_failures(*item, line) for item in counts.items())]))

    def _find_worker_crash(self) -> StartFailure | None:
        """Return how a worker died; None if none did, or if AWS does not say so: the end does not need it."""
        with suppress(*AWSError):
            return find_worker_crash(self._clients, self.file)
        return None

    def _find_start_failure(self) -> StartFailure | None:
        """Return why no container took a job; None if AWS does not say so."""
        with suppress(*AWSError):
            return find_start_failure(self._clients, self.file)
        return None

    def _add_machines(self, outcome: RunOutcome) -> RunOutcome:
        """Return the outcome with the machines that no container reported, as far as the monitor saw them."""
        return replace(outcome, machines=max(outcome.machines, self.tick.history.machines))

    def _find_dead_letters(self) -> DeadLetters | None:
        name = self.file.MONITOR_DEAD_LETTER_QUEUE
        try:
            return DeadLetters(name, count_jobs(self._clients.sqs, name), self.tick.history.dead_letters)
        except AWSError:  # this queue does not matter enough to end the summary
            return None


def format_original_failures(run: str, count: int, line: CommandLine) -> str:
    """Return that failed jobs of an earlier run are left, whose others `retry` sent, and how to send them, too."""
    jobs = f"{format_count(count, 'failed job')} of the run {run} {'is' if count == 1 else 'are'} left; to send"
    command = replace(line, monitor_file=run).format_retry(has_waiting=False)
    rows = format_wrapped_row("earlier run", f"{jobs} {'it' if count == 1 else 'them'}, type:")
    return "\n".join([rows, *format_command_lines(command, " " * LABEL_COLUMNS, " " * LABEL_COLUMNS)])


def _count_recorded_failures(outcome: RunOutcome, history: RunHistory) -> int:
    # If the queue was not empty at the start, SQS's count does not say which messages are older than the run.
    if outcome.unrecorded or outcome.unread or history.dead_letters:
        return 0
    counts = outcome.counts
    return counts.failed + counts.repeated_failures + counts.replaced_failures
