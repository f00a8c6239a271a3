"""The command `retry`: sends the failed jobs of a run again."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import click

from distributed_something.cli.context import Context, shorten_path
from distributed_something.cli.group import Command, Number
from distributed_something.cli.submit_command import SETTLING_SECONDS, SubmitView
from distributed_something.core.text import (
    LABEL_COLUMNS,
    TERMINAL_COLUMNS,
    format_count,
    format_one_line,
    format_row,
    format_wrapped_lines,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from distributed_something.core.monitor_file import MonitorFile
    from distributed_something.jobs.submission.journal import SubmissionJournal
    from distributed_something.jobs.submission.retry import RetryBatch
    from distributed_something.observe.queue import QueueState
    from distributed_something.results.memory_advice import MemoryEstimate
    from distributed_something.results.outcome import RunOutcome
    from distributed_something.results.retry_jobs import RetryJob

MAX_MINUTES = 11 * 60.0  # SQS ends the lease of a received message after 12 hours
MAX_GROUPS_SHOWN = 20


@click.command(
    "retry",
    cls=Command,
    needs="A run that has failed jobs. Its records in the bucket are enough, so it may have been cleaned up.",
    examples=("retry --dry-run", "retry --only time-out --timeout 60", "retry --with files/exampleJob.json"),
    next_step="startCluster FLEETFILE, then monitor MONITORFILE",
)
@click.argument("monitor_file", required=False, metavar="[MONITORFILE]", type=click.Path(path_type=Path))
@click.option(
    "--only", multiple=True, metavar="ID|CAUSE|JOB",
    help="Only these jobs: a group's ID (at least 3 characters of it), a cause such as time-out, or a job's ID. May be "
    "given several times.",
)  # fmt: skip
@click.option("--timeout", metavar="MINUTES", type=Number(0, MAX_MINUTES, min_open=True),
              help="Another time limit for the programs.")  # fmt: skip
@click.option("--with", "job_file", metavar="JOBFILE", type=click.Path(path_type=Path),
              help="Take everything but the groups from this corrected Job file.")  # fmt: skip
@click.option("--yes", is_flag=True, help="Send the jobs even if the queue holds other jobs.")
@click.option("--dry-run", is_flag=True, help="Print which jobs would be sent and the first message, but send nothing.")
@click.pass_obj
def retry(
    context: Context,
    monitor_file: Path | None,
    only: tuple[str, ...],
    timeout: float | None,
    job_file: Path | None,
    yes: bool,
    dry_run: bool,
) -> None:
    """Send the failed jobs of a run again."""
    from distributed_something.jobs.submission.journal import SubmissionJournal

    run = _load_run(context, monitor_file)
    choice = RetryChoice(only, timeout, job_file, yes=yes, dry_run=dry_run)
    # This Job file does not exist; the journal and messages about it only need a name for the run's retries.
    name = shorten_path(context.project / "files" / f"{run.MONITOR_APP_NAME}-{run.run}.retry")
    if dry_run:
        RetryPlanner(context, run, choice, name).print_plan()
        return
    journal = SubmissionJournal(name, replace=True, command="retry of this run")
    with closing(journal):
        journal.lock()
        choice.interrupted_jobs = _settle_interruption(context, run, journal)
        planner = RetryPlanner(context, run, choice, name)
        if planner.print_plan():
            _send_jobs(context, planner.batch, journal)
        else:
            journal.discard()
        if planner.to_send or choice.interrupted_jobs:
            _print_next_steps(context, run)


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
                _ = self.batch
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
        from distributed_something.results.retry_jobs import RetryState

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
        from distributed_something.jobs.submission.retry import FailedMessage, correct_messages, repeat_messages

        failed = [FailedMessage(job.failed.job, job.message or "", job.again_since) for job in self.to_send]
        keys, timeout = self.run.keys, self.choice.timeout
        if self.choice.job_file is None or not failed:
            return repeat_messages(keys, self.name, failed, timeout)
        return correct_messages(keys, self.choice.job_file, failed, timeout, self.context.list_objects)

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
        from distributed_something.core.errors import translate_aws_errors
        from distributed_something.results.causes import group_failures
        from distributed_something.results.retry_jobs import QueueView, RetryReader
        from distributed_something.results.retry_selection import select_failures

        failures = self.outcome.failures
        selected = select_failures(group_failures(failures), self.choice.only if failures else ())
        if not selected:
            return []
        s3 = self.context.clients.s3
        now = read_s3_time(s3, self.run.MONITOR_BUCKET_NAME, Clock().now())
        settling_seconds = 0.0 if self.context.local else SETTLING_SECONDS  # the local cloud's counts are exact
        reader = RetryReader(s3, self.run, QueueView(self.queue, now, settling_seconds))
        with translate_aws_errors("reading the records of the failed jobs"):
            return reader.load_jobs(selected, [failed.job for failed in failures])

    def _print_counts(self) -> None:
        from distributed_something.results.retry_jobs import RetryState, count_states

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
        from distributed_something.results.memory_advice import estimate_memory

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


def _load_run(context: Context, path: Path | None) -> MonitorFile:
    """Return the run of the given monitor file, or the app's newest run. Raise InputError if it is another app's."""
    from distributed_something.core.errors import InputError
    from distributed_something.core.monitor_file import load_monitor_file
    from distributed_something.run.monitor_file_copy import load_default_monitor_file

    settings = context.settings
    if path is None:
        run, source = load_default_monitor_file(context.clients.s3, settings, context.project)
    else:
        run, source = load_monitor_file(path), path
    if run.MONITOR_APP_NAME != settings.APP_NAME:
        problem = f"this is a run of {run.MONITOR_APP_NAME}, but {context.config_file} has APP_NAME {settings.APP_NAME}"
        raise InputError(source, "MONITOR_APP_NAME", problem, "give that app's config: --config FILE")
    return run


def _settle_interruption(context: Context, run: MonitorFile, journal: SubmissionJournal) -> int:
    """Correct the documents of an interrupted `retry`, and return how many jobs it sent."""
    from distributed_something.aws.s3 import read_s3_time
    from distributed_something.core.clock import Clock
    from distributed_something.core.errors import translate_aws_errors
    from distributed_something.jobs.submission.document import DocumentWriter
    from distributed_something.jobs.submission.retry import settle_interrupted_retry

    if not journal.is_interrupted:
        return 0
    s3, bucket, clock = context.clients.s3, context.settings.AWS_BUCKET, Clock()
    with translate_aws_errors("reading what an interrupted retry sent"):
        writer = DocumentWriter(s3, bucket, clock, read_s3_time(s3, bucket, clock.now()) - clock.now())
        return settle_interrupted_retry(s3, bucket, run.keys, journal, writer)


def _send_jobs(context: Context, batch: RetryBatch, journal: SubmissionJournal) -> None:
    """Create what `setup` creates, and send the jobs."""
    from distributed_something.core.clock import Clock
    from distributed_something.jobs.submission.document import find_git_commit
    from distributed_something.jobs.submission.submit import Submission, submit_jobs
    from distributed_something.run.setup import set_up_run

    clients, settings, print_progress = context.clients, context.settings, context.console.print_progress
    set_up_run(clients, settings, print_progress, Clock().sleep)
    commit = find_git_commit(context.project)
    submission = Submission(batch.source, batch.plan, journal, git_commit=commit, retry=batch)
    with SubmitView(batch.plan.count, context.console) as progress:
        sent = submit_jobs(clients, settings, submission, Clock(), progress=progress, print_progress=print_progress)
    print_progress(format_row("jobs", f"{sent:,} of {batch.plan.count:,} sent to {settings.SQS_QUEUE_NAME}"))


def _print_next_steps(context: Context, run: MonitorFile) -> None:
    """Print the commands that run the jobs: only `monitor` if the app's containers are still running."""
    from distributed_something.core.errors import translate_aws_errors
    from distributed_something.core.monitor_file import build_monitor_file_path
    from distributed_something.run.setup import find_active_run

    with translate_aws_errors("looking for an active run"):
        is_active = find_active_run(context.clients, context.settings) is not None
    path = build_monitor_file_path(context.project, run.MONITOR_APP_NAME)
    commands = [("monitor", str(shorten_path(path)))]
    if not is_active:
        commands.insert(0, ("startCluster", str(shorten_path(_find_fleet_file(context)))))
    for number, words in enumerate(commands):
        context.console.print_progress(f"{'then' if number else 'next'}: {context.format_command(*words)}")


def _find_fleet_file(context: Context) -> Path:
    """Return the app's Fleet file, or the only one in `files/`; a name to replace if there are several."""
    folder = context.project / "files"
    own = folder / f"{context.settings.APP_NAME}Fleet.json"
    files: Sequence[Path] = [own] if own.exists() else sorted(folder.glob("*[Ff]leet.json"))
    return files[0] if len(files) == 1 else folder / "YOURFleet.json"


def _wrap_row(label: str, text: str) -> list[str]:
    return format_wrapped_lines(text, format_row(label, ""), " " * LABEL_COLUMNS, TERMINAL_COLUMNS)
