"""Finds the failed jobs that `retry` sends again, and prints what it found."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from distributed_something.cli.context import Context
from distributed_something.core.text import (
    LABEL_COLUMNS,
    TERMINAL_COLUMNS,
    format_count,
    format_one_line,
    format_row,
    format_wrapped_lines,
)

if TYPE_CHECKING:
    from distributed_something.core.monitor_file import MonitorFile
    from distributed_something.jobs.submission.retry import RetryBatch
    from distributed_something.observe.queue import QueueState
    from distributed_something.results.outcome import RunOutcome
    from distributed_something.results.retry.memory_advice import MemoryEstimate
    from distributed_something.results.retry.retry_jobs import RetryJob

MAX_GROUPS_SHOWN = 20
MANY_JOBS = 1000  # reading the records of more jobs takes several seconds


@dataclass
class RetryChoice:
    """The options of `retry`. `interrupted_jobs`: how many jobs an interrupted `retry` of the same run sent."""

    only: tuple[str, ...]
    timeout: float | None
    job_file: Path | None
    yes: bool
    dry_run: bool
    interrupted_jobs: int = 0


@dataclass
class RetryPlanner:
    """Finds the failed jobs that will be sent, and prints them. `name`: the path that messages about them mention."""

    context: Context
    run: MonitorFile
    choice: RetryChoice
    name: Path
    jobs: list[RetryJob] = field(default_factory=list)  # those that `--only` selects

    def print_plan(self) -> bool:
        """Print what will be sent, and return whether there is anything to send.

        Raise a single InputError that lists everything that is wrong with the options, or if the queue holds jobs.
        """
        from distributed_something.core.errors import InputProblems

        console, problems = self.context.console, InputProblems()
        with problems.collect():
            self._check_queue()
        with problems.collect():
            self.jobs = self._load_selected_jobs()
        with problems.collect():
            if self.jobs:
                self._check_batch()
        problems.raise_if_any()
        console.print_progress(format_row("run", f"{self.run.run} of {self.run.MONITOR_APP_NAME}"))
        self._print_counts()
        if self.to_send:
            if self.choice.dry_run:
                console.print_result(f"the first message:\n{self.batch.plan.first}")
            self._print_memory_advice()
        return bool(self.to_send)

    @cached_property
    def queue(self) -> QueueState | None:
        from distributed_something.core.errors import translate_aws_errors
        from distributed_something.observe.queue import observe_queue

        name = self.context.settings.SQS_QUEUE_NAME
        with translate_aws_errors(f"looking for the queue {name}"):
            return observe_queue(self.context.clients.sqs, name)

    @cached_property
    def outcome(self) -> RunOutcome:
        from distributed_something.core.clock import Clock
        from distributed_something.core.errors import translate_aws_errors
        from distributed_something.run.run_outcome import load_current_outcome

        with translate_aws_errors("reading the run's journals and records"):
            return load_current_outcome(self.context.clients, self.run, Clock().now())

    @cached_property
    def to_send(self) -> list[RetryJob]:
        """The selected jobs whose messages will be sent."""
        from distributed_something.jobs.submission.retry import has_group
        from distributed_something.results.retry.retry_jobs import RetryState

        return [
            job
            for job in self.jobs
            if job.state is RetryState.FAILED
            and job.message is not None
            and (self.choice.job_file is None or has_group(job.message))
        ]

    @cached_property
    def batch(self) -> RetryBatch:
        """The messages to send. Raise InputError if the corrected Job file is not valid."""
        from distributed_something.jobs.job_keys import collect_own_names
        from distributed_something.jobs.submission.retry import FailedMessage, correct_messages, repeat_messages

        failed = [FailedMessage(job.failed.job, job.message or "", job.again_since) for job in self.to_send]
        keys, timeout = self.run.keys, self.choice.timeout
        if self.choice.job_file is None or not failed:
            return repeat_messages(keys, self.name, failed, timeout)
        own_names = collect_own_names(self.context.project / "worker")
        return correct_messages(keys, self.choice.job_file, failed, timeout, self.context.list_objects, own_names)

    def _check_batch(self) -> None:
        """Raise InputError if a corrected Job file is not valid, or if the project's worker rejects its messages."""
        from distributed_something.cli.submit_command import check_own_worker
        from distributed_something.jobs.job_file import JobFile

        if isinstance(self.batch.source, JobFile):
            check_own_worker(self.context, self.batch.source, self.batch.plan.samples)

    def _check_queue(self) -> None:
        """Raise InputError if the queue holds more jobs than an interrupted `retry` sent."""
        from distributed_something.core.errors import InputError

        waiting = self.queue.counts.jobs if self.queue else 0
        if waiting <= self.choice.interrupted_jobs or self.choice.yes:
            return
        problem = f"it still holds {format_count(waiting, 'job')}"
        if self.choice.dry_run:
            note = f"note: the queue {self.context.settings.SQS_QUEUE_NAME} {problem[3:]}; retry will need --yes"
            self.context.console.print_progress(note)
            return
        remedy = "run startCluster and monitor until they are done, or add --yes to send the failed jobs as well"
        raise InputError(f"queue {self.context.settings.SQS_QUEUE_NAME}", "", problem, remedy)

    def _load_selected_jobs(self) -> list[RetryJob]:
        from distributed_something.aws.s3 import read_s3_time
        from distributed_something.core.clock import Clock
        from distributed_something.core.errors import InputError, translate_aws_errors
        from distributed_something.observe.queue import SETTLING_SECONDS
        from distributed_something.results.causes import group_failures
        from distributed_something.results.retry.retry_jobs import QueueView, RetryReader
        from distributed_something.results.retry.retry_selection import select_failures

        failures = self.outcome.failures
        if self.choice.only and not failures:
            remedy = "leave out --only, or give the monitor file of the run whose jobs failed"
            raise InputError("--only", "", f"no job of the run {self.run.run} failed", remedy)
        selected = select_failures(group_failures(failures), self.choice.only)
        if not selected:
            return []
        if len(selected) >= MANY_JOBS:
            self.context.console.print_progress(f"reading the records of {len(selected):,} failed jobs …")
        s3 = self.context.clients.s3
        now = read_s3_time(s3, self.run.MONITOR_BUCKET_NAME, Clock().now())
        settling_seconds = 0.0 if self.context.local else SETTLING_SECONDS  # the local cloud's counts are exact
        reader = RetryReader(s3, self.run, QueueView(self.queue, now, settling_seconds))
        with translate_aws_errors("reading the records of the failed jobs"):
            return reader.load_jobs(selected, [failed.job for failed in failures])

    def _print_counts(self) -> None:
        from distributed_something.results.retry.retry_jobs import RetryState, count_states

        states, rows = count_states(self.jobs), self.context.console.print_progress
        failed, chosen = self.outcome.counts.failed, len(self.jobs)
        selected = f", {chosen:,} selected" if self.choice.only else ""
        rows(format_row("jobs failed", f"{failed:,}{selected}"))
        if failed > len(self.outcome.failures):
            rows(format_row("", f"only the first {len(self.outcome.failures):,} are considered"))
        for state, label, text in (
            (RetryState.SUCCEEDED, "succeeded", "of them since, in later runs"),
            (RetryState.SENT, "sent before", "of them, which have not ended yet"),
            (RetryState.REPLACED, "replaced", "of them, by a job with a corrected message"),
        ):
            if states[state]:
                rows(format_row(label, f"{states[state]:,} {text}"))
        if skipped := states[RetryState.FAILED] - len(self.to_send):
            reason = "its message is unknown or has no group" if skipped == 1 else "their messages are unknown"
            rows(format_row("left out", f"{skipped:,}, because {reason}"))
        if unknown := self.outcome.unrecorded + self.outcome.unread:
            rows(format_row("no record", f"{unknown:,}; send these again with submitJob"))
        self._print_jobs_to_send()

    def _print_jobs_to_send(self) -> None:
        from distributed_something.results.causes import group_failures

        console = self.context.console
        count = self.batch.plan.count if self.to_send else 0
        show = console.print_result if self.choice.dry_run else console.print_progress
        show(format_row("to send", format_count(count, "job") if count else "no jobs"))
        groups = group_failures([job.failed for job in self.to_send])
        for group in groups[:MAX_GROUPS_SHOWN]:
            text = format_one_line(f"{group.id} {format_count(len(group.jobs), 'job')}: {group.cause}")
            show("\n".join(_wrap_row("", text)))
        if len(groups) > MAX_GROUPS_SHOWN:
            show(format_row("", f"and {len(groups) - MAX_GROUPS_SHOWN} more groups"))

    def _print_memory_advice(self) -> None:
        from distributed_something.results.retry.memory_advice import estimate_memory

        settings = self.context.settings
        estimate = estimate_memory(self.to_send, settings.DOCKER_CORES, settings.MEMORY)
        if estimate is not None:
            lines = _wrap_row("memory", format_memory_advice(estimate, settings.MEMORY))
            self.context.console.print_progress("\n".join(lines))


def format_memory_advice(estimate: MemoryEstimate, memory: int) -> str:
    """Return which MEMORY would have been enough, and where to change it. `memory`: the config's MEMORY in MiB."""
    text = f"{format_count(estimate.jobs, 'job')} ran out of memory"
    if estimate.limit is not None:
        text += f" in containers with {estimate.limit:,} MiB"
    if estimate.peak is not None:
        text += f"; the largest program used {estimate.peak:,} MiB"
    text += ". " + (
        f"They need more than that; try twice the limit, MEMORY = {estimate.enough}."
        if estimate.is_guess
        else f"MEMORY = {estimate.enough} would probably have been enough (an estimate)."
    )
    if memory >= estimate.enough:
        return f"{text} The config has {memory} now."
    change = "Change MEMORY in the config, and MACHINE_TYPE if its machines have less; then run setup"
    return f"{text} {change} before startCluster."


def _wrap_row(label: str, text: str) -> list[str]:
    return format_wrapped_lines(text, format_row(label, ""), " " * LABEL_COLUMNS, TERMINAL_COLUMNS)
