"""Finds the failed jobs that `retry` sends again, and prints what it found."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from distributed_something.cli.context import Context
from distributed_something.cli.retry.other_jobs import build_queue_error, explain_waiting_jobs, find_run_with_failures
from distributed_something.cli.retry.plan_text import (
    format_command_row,
    format_memory_advice,
    format_other_row,
    format_removal_row,
    list_group_rows,
    wrap_row,
)
from distributed_something.core.text import format_count, format_row

if TYPE_CHECKING:
    from collections.abc import Iterable

    from distributed_something.core.monitor_file import MonitorFile
    from distributed_something.jobs.submission.retry import RetryBatch
    from distributed_something.observe.queue import QueueState
    from distributed_something.results.job_counter import FailedJob
    from distributed_something.results.job_source import JobSource
    from distributed_something.results.outcome import RunOutcome
    from distributed_something.results.retry.retry_jobs import QueueView, RetryJob, RetryState

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
    later_file: Path | None = None  # the Job file that corrects these; None without `--with`
    others: dict[str, list[RetryJob]] = field(default_factory=dict)  # that `--with` leaves out, by Job file

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
        from distributed_something.observe.documents.submissions import list_queue_submissions
        from distributed_something.observe.queue import SETTLING_SECONDS
        from distributed_something.results.retry.retry_jobs import QueueView

        s3, run = self.context.clients.s3, self.run
        bucket, app, submissions = run.MONITOR_BUCKET_NAME, run.MONITOR_APP_NAME, []
        with translate_aws_errors("reading what was sent before"):
            now = read_s3_time(s3, bucket, Clock().now())
            if self.queue is not None:
                submissions = list_queue_submissions(s3, bucket, app, self.queue, now)
        settling_seconds = 0.0 if self.context.local else SETTLING_SECONDS  # the local cloud's counts are exact
        emptied = max((document.began for document in submissions if document.replaced), default=0.0)
        return QueueView(self.queue, now, settling_seconds, emptied)

    @cached_property
    def source(self) -> JobSource:
        """Where the run's jobs came from."""
        from distributed_something.core.errors import translate_aws_errors
        from distributed_something.results.job_source import find_job_source
        from distributed_something.results.summary import find_run_summary

        now = self.view.now
        with translate_aws_errors("reading which Job files the run had"):
            summary = find_run_summary(self.context.clients.s3, self.run)
            return find_job_source(self.context.clients, self.run, (summary and summary.ended) or now, now)

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

        return [
            job
            for job in self.jobs
            if job.state in self.sendable_states
            and job.message is not None
            and (self.choice.job_file is None or has_group(job.message))
        ]

    @property
    def sendable_states(self) -> tuple[RetryState, ...]:
        """The states of jobs that can be sent. `--replace` removes those that were sent before from the queue."""
        from distributed_something.results.retry.retry_jobs import RetryState

        return (RetryState.FAILED, *([RetryState.SENT] if self.choice.replace else []))

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
        from distributed_something.cli.submit.submit_command import open_worker_check
        from distributed_something.jobs.job_file import JobFile
        from distributed_something.jobs.submission.retry import has_group

        if self.choice.job_file is None:
            return
        with_groups = [job for job in self.jobs if job.message is not None and has_group(job.message)]
        batch = self.batch if self.to_send else self._build_batch(with_groups)
        if isinstance(batch.source, JobFile):
            with open_worker_check(self.context, batch.source) as complete_check:
                complete_check(batch.plan)

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
        from distributed_something.results.retry.retry_jobs import (
            RetryReader,
            RetryState,
            count_states,
            split_replaced_jobs,
        )
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
            self._choose_later_file(others)
            if 0 < len(others) < MANY_JOBS:  # of more jobs, those that have succeeded since are counted too
                states = count_states(reader.load_jobs(others, [failed.job for failed in failures]))
                self.left_out = states[RetryState.FAILED]
        return self._select_job_file(jobs)

    def _select_job_file(self, jobs: list[RetryJob]) -> list[RetryJob]:
        """Return the jobs that the corrected Job file may make again, and remember the others."""
        from distributed_something.results.retry.job_file_selection import select_by_job_file

        if (path := self.choice.job_file) is None:
            return jobs
        is_explicit = bool(self.choice.only)
        selection = select_by_job_file(jobs, self.source, str(path), self.sendable_states, is_explicit=is_explicit)
        self.others = selection.others
        return selection.jobs

    def _choose_later_file(self, others: Iterable[FailedJob]) -> None:
        """Choose the Job file from which the failed jobs can be made that `--only` leaves out."""
        from distributed_something.core.submission import is_same_path

        if (given := self.choice.job_file) is not None:
            files = [self.source.job_files.get(failed.submission or "", "") for failed in others]
            is_own = not files or not all(files) or any(is_same_path(path, str(given)) for path in files)
            self.later_file = given if is_own else Path(self.context.command_line.select_job_file(files[0]).job_file)

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
        sendable = sum(states[state] for state in self.sendable_states)
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
        self._print_other_job_files()

    def _print_other_job_files(self) -> None:
        """Print how many other jobs are left out, and the commands that send them with their own Job files."""
        only = [word for value in self.choice.only for word in ("--only", value)]
        for path, jobs in self.others.items():
            if count := sum(job.state in self.sendable_states for job in jobs):
                self.context.console.print_progress(format_other_row(path, count))
                if path:
                    words = (*only, "--with", self.context.command_line.select_job_file(path).job_file)
                    self._print_command(self.context.format_command("retry", self.run.run, "--yes", *words))

    def format_unchanged_messages(self) -> list[str]:
        """Return a note if the corrected Job file makes messages that have already failed."""
        from distributed_something.jobs.submission.retry import count_unchanged_messages

        count = count_unchanged_messages(self.batch) if self.choice.job_file and self.choice.timeout is None else 0
        if not count:
            return []
        total = self.batch.plan.count
        messages = "the message" if total == 1 else f"{count:,} of {format_count(total, 'message')}"
        text = f"{messages} made from {self.choice.job_file} {'is' if count == 1 else 'are'} the same as before."
        return wrap_row("note", f"{text} Jobs keep their groups; these fail again, unless something else is new.")

    def _list_correction(self) -> tuple[str, ...]:
        """Return the options that correct the messages, which the jobs that are sent later need too."""
        job_file, timeout = self.later_file, self.choice.timeout
        return (
            *(() if job_file is None else ("--with", str(job_file))),
            *(() if timeout is None else ("--timeout", f"{timeout:g}")),
        )

    def _print_jobs_to_send(self) -> None:
        from distributed_something.results.causes import group_failures

        console = self.context.console
        count = self.batch.plan.count if self.to_send else 0
        show = console.print_result if self.choice.dry_run else console.print_progress
        if self.choice.replace and self.to_send and self.queue and (waiting := self.queue.counts.waiting):
            show(format_removal_row(waiting, self.context.settings.SQS_QUEUE_NAME))
        show(format_row("to send", format_count(count, "job") if count else "no jobs"))
        for line in list_group_rows(group_failures([job.failed for job in self.to_send])):
            show(line)

    def _explain_empty_plan(self) -> None:
        """Print why there is nothing to send, and which earlier runs may have failed jobs."""
        rows = self.context.console.print_progress
        if self.jobs:
            if not self.has_sent_jobs:
                rows("each of these jobs has succeeded since, or a corrected job has taken its place")
            return
        rows(f"no job of the run {self.run.run} has failed{' so far' if self.outcome.left else ''}")
        if self.outcome.left:
            explain_waiting_jobs(self.context, self.run, self.outcome)
        elif earlier := find_run_with_failures(self.context, self.run, self.view):
            rows(format_row("failed jobs", f"in the run {earlier}; to send them, type:"))
            self._print_command(self.context.format_command("retry", earlier))

    def _print_command(self, command: str) -> None:
        self.context.console.print_progress(format_command_row(command))

    def _print_memory_advice(self) -> None:
        from distributed_something.results.retry.memory_advice import estimate_memory

        settings = self.context.settings
        estimate = estimate_memory(self.to_send, settings.DOCKER_CORES, settings.MEMORY)
        if estimate is not None:
            lines = wrap_row("memory", format_memory_advice(estimate, settings.MEMORY))
            self.context.console.print_progress("\n".join(lines))


def check_job_file(path: Path | None) -> None:
    """Raise InputError if this is not a Job file. What is wrong inside it is not reported here."""
    from distributed_something.core.files import check_file_kind, read_json_object

    if path is not None:
        check_file_kind(path, read_json_object(path, "a job file"), "Job file")
