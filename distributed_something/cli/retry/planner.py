"""Finds the failed jobs that `retry` sends again, and prints what it found."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from itertools import compress
from operator import not_
from pathlib import Path
from typing import TYPE_CHECKING

from distributed_something.cli.context import Context
from distributed_something.cli.retry.other_jobs import build_queue_error, find_end, find_run_with_failures
from distributed_something.core.text import (
    LABEL_COLUMNS,
    TERMINAL_COLUMNS,
    format_count,
    format_row,
    format_wrapped_lines,
    wrap_text,
)

if TYPE_CHECKING:
    from distributed_something.core.monitor_file import MonitorFile
    from distributed_something.jobs.submission.retry import RetryBatch
    from distributed_something.observe.queue import QueueState
    from distributed_something.results.outcome import RunOutcome
    from distributed_something.results.retry.memory_advice import MemoryEstimate
    from distributed_something.results.retry.retry_jobs import QueueView, RetryJob

MAX_GROUPS_SHOWN = 20
MAX_CAUSE_LINES = 4
MANY_JOBS = 1000  # reading the records of more jobs takes several seconds
SUBMIT_REMEDY = "send the Job file again, which skips the jobs that are done"


@dataclass
class RetryChoice:
    """The options of `retry`. `interrupted_jobs`: how many jobs an interrupted `retry` of the same run sent."""

    only: tuple[str, ...]
    timeout: float | None
    job_file: Path | None
    yes: bool
    dry_run: bool
    replace: bool = False
    interrupted_jobs: int = 0


@dataclass
class RetryPlanner:
    """Finds the failed jobs that will be sent, and prints them. `name`: the path that messages about them mention."""

    context: Context
    run: MonitorFile
    choice: RetryChoice
    name: Path
    jobs: list[RetryJob] = field(default_factory=list)  # those that `--only` selects
    left_out: int = 0  # how many others can be sent later

    def print_plan(self) -> bool:
        """Print what will be sent, and return whether there is anything to send.

        Raise a single InputError that lists everything that is wrong with the options, or if the queue holds jobs, or
        if jobs failed but cannot be sent.
        """
        console = self.context.console
        self._check_options()
        console.print_progress(format_row("run", f"{self.run.run} of {self.run.MONITOR_APP_NAME}"))
        self._print_counts()
        if not self.to_send:
            self._explain_empty_plan()
            return False
        if self.choice.dry_run:
            console.print_result(f"the first message:\n{self.batch.plan.first}")
        self._print_memory_advice()
        return True

    def _check_options(self) -> None:
        from distributed_something.core.errors import InputProblems

        problems = InputProblems()
        with problems.collect():
            self._check_queue()
        with problems.collect():
            self.jobs = self._load_selected_jobs()
            self._check_messages()
        with problems.collect():
            check_job_file(self.choice.job_file)
            if self.jobs:
                self._check_batch()
        problems.raise_if_any()

    @cached_property
    def queue(self) -> QueueState | None:
        from distributed_something.core.errors import translate_aws_errors
        from distributed_something.observe.queue import observe_queue

        name = self.context.settings.SQS_QUEUE_NAME
        with translate_aws_errors(f"looking for the queue {name}"):
            return observe_queue(self.context.clients.sqs, name)

    @cached_property
    def view(self) -> QueueView:
        """What the queue tells about jobs that were sent before."""
        from distributed_something.aws.s3 import read_s3_time
        from distributed_something.core.clock import Clock
        from distributed_something.core.errors import translate_aws_errors
        from distributed_something.observe.queue import SETTLING_SECONDS
        from distributed_something.results.retry.retry_jobs import QueueView

        with translate_aws_errors("reading the time in AWS"):
            now = read_s3_time(self.context.clients.s3, self.run.MONITOR_BUCKET_NAME, Clock().now())
        settling_seconds = 0.0 if self.context.local else SETTLING_SECONDS  # the local cloud's counts are exact
        return QueueView(self.queue, now, settling_seconds)

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
            if job.state in (RetryState.FAILED, *([RetryState.SENT] if self.choice.replace else []))
            and job.message is not None
            and (self.choice.job_file is None or has_group(job.message))
        ]

    @property
    def has_sent_jobs(self) -> bool:
        """Whether some of the selected jobs, sent by an earlier `retry`, may still wait in the queue or be running."""
        from distributed_something.results.retry.retry_jobs import RetryState

        return bool(self.choice.interrupted_jobs) or any(job.state is RetryState.SENT for job in self.jobs)

    @cached_property
    def batch(self) -> RetryBatch:
        """The messages to send. Raise InputError if the corrected Job file is not valid."""
        return self._build_batch(self.to_send)

    def _build_batch(self, jobs: list[RetryJob]) -> RetryBatch:
        from distributed_something.jobs.job_keys import collect_own_names
        from distributed_something.jobs.submission.retry import FailedMessage, correct_messages, repeat_messages

        failed = [FailedMessage(job.failed.job, job.message or "", job.again_since, job.submission) for job in jobs]
        keys, timeout = self.run.keys, self.choice.timeout
        if self.choice.job_file is None or not failed:
            return repeat_messages(keys, self.name, failed, timeout)
        own_names = collect_own_names(self.context.project / "worker")
        return correct_messages(keys, self.choice.job_file, failed, timeout, self.context.list_objects, own_names)

    def _check_batch(self) -> None:
        """Raise InputError if a corrected Job file is not valid, or if the project's worker rejects its messages.

        The file is also checked if there is nothing to send, with the groups of all selected jobs.
        """
        from distributed_something.cli.submit_command import check_own_worker
        from distributed_something.jobs.job_file import JobFile
        from distributed_something.jobs.submission.retry import has_group

        if self.choice.job_file is None:
            return
        with_groups = [job for job in self.jobs if job.message is not None and has_group(job.message)]
        batch = self.batch if self.to_send else self._build_batch(with_groups)
        if isinstance(batch.source, JobFile):
            check_own_worker(self.context, batch.source, batch.plan.count)

    def _check_messages(self) -> None:
        """Raise InputError if there is nothing to send, although jobs failed or have no record."""
        from distributed_something.core.errors import InputError
        from distributed_something.results.retry.retry_jobs import RetryState

        line, run = self.context.command_line, f"run {self.run.run}"
        remedy, commands = SUBMIT_REMEDY, [line.format_command("submitJob", line.job_file)]
        unsent = [job for job in self.jobs if job.state is RetryState.FAILED]
        unknown = self.outcome.unrecorded + self.outcome.unread
        if unsent and not self.to_send:
            count = format_count(len(unsent), "failed job")
            if all(job.message is None for job in unsent) or self.choice.job_file is None:
                problem = f"{count} cannot be sent again, because the records do not contain the messages"
                raise InputError(run, "", problem, remedy, commands=commands)
            problem = f"{count} cannot be sent with the Job file, because the failed messages have no group"
            raise InputError(run, "", problem, "leave out --with to send them unchanged, or correct what sent them")
        if unknown and not self.outcome.failures:
            problem = f"{format_count(unknown, 'job')} neither ended nor are in the queue, and no other job failed"
            raise InputError(run, "", problem, remedy, commands=commands)

    def _check_queue(self) -> None:
        """Raise InputError if the queue holds more jobs than an interrupted `retry` sent."""
        waiting = self.queue.counts.jobs if self.queue else 0
        if waiting <= self.choice.interrupted_jobs or self.choice.yes or self.choice.replace:
            return
        if self.choice.dry_run:
            jobs, queue = format_count(waiting, "job"), self.context.settings.SQS_QUEUE_NAME
            self.context.console.print_progress(f"note: the queue {queue} still holds {jobs}; retry will need --yes")
            return
        raise build_queue_error(self.context, waiting)

    def _load_selected_jobs(self) -> list[RetryJob]:
        from distributed_something.core.errors import InputError, translate_aws_errors
        from distributed_something.results.causes import group_failures
        from distributed_something.results.retry.retry_jobs import RetryReader, RetryState, count_states
        from distributed_something.results.retry.retry_selection import select_failures

        failures = self.outcome.failures
        if self.choice.only and not failures:
            earlier = find_run_with_failures(self.context, self.run, self.view)
            commands = [self.context.format_command("retry", earlier)] if earlier else []
            remedy = f"jobs failed in the run {earlier}: type" if earlier else "no earlier run has failed jobs to send"
            raise InputError("--only", "", f"no job of the run {self.run.run} failed", remedy, commands=commands)
        selected = select_failures(group_failures(failures), self.choice.only)
        if not selected:
            return []
        if len(selected) >= MANY_JOBS:
            self.context.console.print_progress(f"reading the records of {len(selected):,} failed jobs …")
        reader = RetryReader(self.context.clients.s3, self.run, self.view)
        names = {failed.job for failed in selected}
        others = [failed for failed in failures if failed.job not in names]
        with translate_aws_errors("reading the records of the failed jobs"):
            jobs = reader.load_jobs(selected, [failed.job for failed in failures])
            if self.choice.replace and not self.choice.only:
                jobs, left_out = split_replaced_jobs(jobs)
                others += [job.failed for job in left_out]
            self.left_out = len(others)
            if 0 < len(others) < MANY_JOBS:  # of more jobs, those that have succeeded since are counted too
                states = count_states(reader.load_jobs(others, [failed.job for failed in failures]))
                self.left_out = states[RetryState.FAILED]
        return jobs

    def _print_counts(self) -> None:
        from distributed_something.results.retry.retry_jobs import RetryState, count_states

        states, rows = count_states(self.jobs), self.context.console.print_progress
        failed, chosen = self.outcome.counts.failed, len(self.jobs)
        selected = f", {chosen:,} selected" if self.choice.only else ""
        rows(format_row("jobs failed", f"{failed:,}{selected}"))
        if replaced := self.outcome.counts.replaced_failures:
            rows(format_row("replaced", f"{format_count(replaced, 'other failed job')}, by submitJob --replace"))
        if failed > len(self.outcome.failures):
            rows(format_row("", f"only the first {len(self.outcome.failures):,} are considered"))
        sent = "of them, whose messages are replaced" if self.choice.replace else "of them, which have not ended yet"
        for state, label, text in (
            (RetryState.SUCCEEDED, "succeeded", "of them since, in later runs"),
            (RetryState.SENT, "sent before", sent),
            (RetryState.REPLACED, "replaced", "of them, by a job with a corrected message"),
        ):
            if states[state]:
                rows(format_row(label, f"{states[state]:,} {text}"))
        sendable = states[RetryState.FAILED] + (states[RetryState.SENT] if self.choice.replace else 0)
        if skipped := sendable - len(self.to_send):
            reason = "its message is unknown or has no group" if skipped == 1 else "their messages are unknown"
            rows(format_row("left out", f"{skipped:,}, because {reason}"))
        if unknown := self.outcome.unrecorded + self.outcome.unread:
            rows(format_row("no record", f"{unknown:,}; send these again with submitJob"))
        self._print_jobs_to_send()
        if self.left_out:
            text = f"{format_count(self.left_out, 'other failed job')}; to send them later, type:"
            rows(format_row("not selected", text))
            self._print_command(self.context.format_command("retry", self.run.run, *self._list_correction()))

    def format_unchanged_messages(self) -> list[str]:
        """Return a note if the corrected Job file makes messages that have already failed."""
        from distributed_something.jobs.submission.retry import count_unchanged_messages

        count = count_unchanged_messages(self.batch) if self.choice.job_file and self.choice.timeout is None else 0
        if not count:
            return []
        total = self.batch.plan.count
        messages = "the message" if total == 1 else f"{count:,} of {format_count(total, 'message')}"
        text = f"{messages} made from {self.choice.job_file} {'is' if count == 1 else 'are'} the same as before."
        return _wrap_row("note", f"{text} Such jobs fail again, unless something else was corrected.")

    def _list_correction(self) -> tuple[str, ...]:
        """Return the options that correct the messages, which the jobs that are sent later need too."""
        job_file, timeout = self.choice.job_file, self.choice.timeout
        return (
            *(() if job_file is None else ("--with", str(job_file))),
            *(() if timeout is None else ("--timeout", f"{timeout:g}")),
        )

    def _print_jobs_to_send(self) -> None:
        from distributed_something.results.causes import group_failures

        console = self.context.console
        count = self.batch.plan.count if self.to_send else 0
        show = console.print_result if self.choice.dry_run else console.print_progress
        show(format_row("to send", format_count(count, "job") if count else "no jobs"))
        groups = group_failures([job.failed for job in self.to_send])
        for group in groups[:MAX_GROUPS_SHOWN]:
            text = f"{group.id} {format_count(len(group.jobs), 'job')}: {group.cause}"
            lines = wrap_text(text, TERMINAL_COLUMNS - LABEL_COLUMNS, MAX_CAUSE_LINES)
            show("\n".join(format_row("", line) for line in lines))
        if len(groups) > MAX_GROUPS_SHOWN:
            show(format_row("", f"and {len(groups) - MAX_GROUPS_SHOWN} more groups"))

    def _explain_empty_plan(self) -> None:
        """Print why there is nothing to send, and which earlier runs may have failed jobs."""
        rows = self.context.console.print_progress
        if self.jobs:
            if not self.has_sent_jobs:
                rows("each of these jobs has succeeded since, or a corrected job has taken its place")
            return
        rows(f"no job of the run {self.run.run} has failed{' so far' if self.outcome.left else ''}")
        if self.outcome.left:
            self._explain_waiting_jobs()
        elif earlier := find_run_with_failures(self.context, self.run, self.view):
            rows(format_row("failed jobs", f"in the run {earlier}; to send them, type:"))
            self._print_command(self.context.format_command("retry", earlier))

    def _explain_waiting_jobs(self) -> None:
        """Print what to do about the run's jobs in the queue, although some of them may fail at each attempt."""
        from distributed_something.results.status.advice_text import format_advice

        rows, line = self.context.console.print_progress, self.context.build_run_line(None, self.run)
        end, failing = find_end(self.context, self.run), len(self.outcome.failing)
        if failing:
            left = format_count(self.outcome.left, "job")
            rows(format_row("in the queue", f"{left}; attempts of {format_count(failing, 'job')} have failed"))
        if end is not None and end.advice is not None:
            rows(format_advice(end.advice, line))
        elif failing:
            rows(format_row("", "to see why, and what to do, type:"))
            self._print_command(line.format_command("why", self.run.run))

    def _print_command(self, command: str) -> None:
        from distributed_something.results.command_line import format_command_lines

        indent = " " * LABEL_COLUMNS
        self.context.console.print_progress("\n".join(format_command_lines(command, indent, indent)))

    def _print_memory_advice(self) -> None:
        from distributed_something.results.retry.memory_advice import estimate_memory

        settings = self.context.settings
        estimate = estimate_memory(self.to_send, settings.DOCKER_CORES, settings.MEMORY)
        if estimate is not None:
            lines = _wrap_row("memory", format_memory_advice(estimate, settings.MEMORY))
            self.context.console.print_progress("\n".join(lines))


def split_replaced_jobs(jobs: list[RetryJob]) -> tuple[list[RetryJob], list[RetryJob]]:
    """Return the jobs that the latest `retry` sent or that may wait in the queue, and the others.

    If none was sent yet, all jobs are among the former.
    """
    from distributed_something.results.retry.retry_jobs import RetryState

    latest = max((job.sent for job in jobs), default=0.0)
    is_chosen = [job.sent == latest or job.state is RetryState.SENT for job in jobs]
    return list(compress(jobs, is_chosen)), list(compress(jobs, map(not_, is_chosen)))


def check_job_file(path: Path | None) -> None:
    """Raise InputError if this is not a Job file. What is wrong inside it is not reported here."""
    from distributed_something.core.files import check_file_kind, read_json_object

    if path is not None:
        check_file_kind(path, read_json_object(path, "a job file"), "Job file")


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
