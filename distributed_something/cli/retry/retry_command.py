"""The command `retry`: sends the failed jobs of a run again."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from distributed_something.cli.completion.values import ProjectFile, complete_failures
from distributed_something.cli.context import Context, shorten_path
from distributed_something.cli.group import Command, Number
from distributed_something.cli.retry.planner import RetryChoice, RetryPlanner, check_job_file
from distributed_something.cli.submit.submit_command import SubmitView, record_sent_jobs
from distributed_something.core.text import format_row
from distributed_something.worker import MAX_JOB_SECONDS

if TYPE_CHECKING:
    from distributed_something.core.monitor_file import MonitorFile
    from distributed_something.jobs.submission.journal import SubmissionJournal

MAX_MINUTES = MAX_JOB_SECONDS / 60


@click.command(
    "retry",
    cls=Command,
    needs="A run that has failed jobs: its monitor file or its name, or neither for the newest run. Its records in the "
    "bucket are enough, so it may have been cleaned up.",
    examples=(
        "retry --dry-run",
        "retry --only time-out --timeout 60",
        "retry --with files/exampleJob.json",
        "retry 20261123T104500Z",
    ),
    next_step="startCluster FLEETFILE, then monitor MONITORFILE",
)
@click.argument("monitor_file", required=False, metavar="[MONITORFILE]", type=ProjectFile("monitor file"))
@click.option(
    "--only", multiple=True, metavar="ID|CAUSE|JOB", shell_complete=complete_failures,
    help="Only these jobs: a group's ID (at least 3 characters of it), a cause such as time-out, a job's ID, or a "
    "value of its group. May be given several times.",
)  # fmt: skip
@click.option("--timeout", metavar="MINUTES", type=Number(0, MAX_MINUTES, min_open=True),
              help="Another time limit for the programs.")  # fmt: skip
@click.option("--with", "job_file", metavar="JOBFILE", type=ProjectFile("Job file"),
              help="Take everything but the groups from this corrected Job file.")  # fmt: skip
@click.option("--replace", is_flag=True,
              help="First remove all waiting jobs from the queue, also those of scripts and other Job files, for "
              "example after a retry with a wrong command. Without --only, send the jobs of that retry again. Without "
              "--replace, retry removes nothing from the queue.")  # fmt: skip
@click.option("--yes", is_flag=True, help="Send the jobs even if the queue holds other jobs.")
@click.option("--dry-run", is_flag=True, help="Print which jobs would be sent and the first message, but send nothing.")
@click.pass_obj
def retry(context: Context, /, monitor_file: Path | None, **options: Any) -> None:
    """Send the failed jobs of a run again."""
    from distributed_something.jobs.submission.journal import SubmissionJournal

    choice = RetryChoice(**options)
    context.runs_workers = not choice.dry_run
    run = _load_run(context, monitor_file, choice.job_file)
    # This Job file does not exist; the journal and messages about it only need a name for the run's retries.
    name = shorten_path(context.project / "files" / f"{run.MONITOR_APP_NAME}-{run.run}.retry")
    if choice.dry_run:
        planner = RetryPlanner(context, run, choice, name)
        if planner.print_plan():
            _print_unchanged_messages(context, planner)
            _print_changed_uploads(planner)
        return
    journal = SubmissionJournal(name, replace=True, command="retry of this run")
    with closing(journal):
        journal.lock()
        choice.interrupted_jobs = _settle_interruption(context, run, journal)
        planner = RetryPlanner(context, run, choice, name)
        if planner.print_plan():
            _send_jobs(context, run, planner, journal)
            _print_changed_uploads(planner)
        else:
            journal.discard()
        if planner.to_send or planner.has_sent_jobs:
            _print_next_steps(context, run)


def _load_run(context: Context, given: Path | None, job_file: Path | None) -> MonitorFile:
    """Return the monitor file of the given run, or of the app's newest run.

    Raise a single InputError if there is no such run, or if it is another app's. It then also says what is wrong with
    the Job file, which is otherwise reported together with what is wrong in the run.
    """
    from distributed_something.core.errors import InputProblems

    problems = InputProblems()
    with problems.collect():
        return context.load_run(given, "retry", accepts_other_apps=False)
    with problems.collect():
        check_job_file(job_file)
    problems.raise_if_any()
    raise AssertionError("there is a problem")


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


def _send_jobs(context: Context, run: MonitorFile, planner: RetryPlanner, journal: SubmissionJournal) -> None:
    """Create what `setup` creates, and send the jobs.

    A run of an older version first gets a copy of its monitor file, with which later commands find it by its name.
    """
    from distributed_something.core.clock import Clock
    from distributed_something.jobs.submission.document import find_git_commit
    from distributed_something.jobs.submission.submit import Submission, submit_jobs
    from distributed_something.run.monitor_file_copy import save_run_copy
    from distributed_something.run.setup import set_up_run

    clients, settings, print_progress = context.clients, context.settings, context.console.print_progress
    save_run_copy(clients.s3, settings.AWS_BUCKET, run)
    set_up_run(clients, settings, print_progress, Clock().sleep)
    commit, batch = find_git_commit(context.project), planner.batch
    submission = Submission(
        batch.source, batch.plan, journal, replace=planner.choice.replace, git_commit=commit, retry=batch,
        unchanged_notes=tuple(planner.format_unchanged_messages()),
    )  # fmt: skip
    with SubmitView(batch.plan.count, context.console) as progress:
        sent = submit_jobs(clients, settings, submission, Clock(), progress=progress, print_progress=print_progress)
    print_progress(format_row("jobs", f"{sent:,} of {batch.plan.count:,} sent to {settings.SQS_QUEUE_NAME}"))
    record_sent_jobs(context)


def _print_unchanged_messages(context: Context, planner: RetryPlanner) -> None:
    """Print a note if the same jobs would be sent, and no file would be uploaded."""
    from distributed_something.core.errors import translate_aws_errors
    from distributed_something.jobs.uploads.upload_folders import count_changed_files

    uploads = planner.batch.source.uploads
    lines = planner.format_unchanged_messages()
    with translate_aws_errors("comparing the files in `upload` folders with the bucket"):
        if lines and not count_changed_files(context.clients.s3, context.settings.AWS_BUCKET, uploads):
            context.console.print_progress("\n".join(lines))


def _print_changed_uploads(planner: RetryPlanner) -> None:
    from distributed_something.cli.retry.changed_uploads import list_changed_upload_lines

    for line in list_changed_upload_lines(planner):
        planner.context.console.print_progress(line)


def _print_next_steps(context: Context, run: MonitorFile) -> None:
    """Print the commands that run the jobs: only `monitor` if the app's containers are still running."""
    from distributed_something.core.errors import translate_aws_errors
    from distributed_something.core.monitor_file import build_monitor_file_path
    from distributed_something.results.command_line import format_next_command
    from distributed_something.run.setup import find_active_run

    with translate_aws_errors("looking for an active run"):
        is_active = find_active_run(context.clients, context.settings) is not None
    path = build_monitor_file_path(context.project, run.MONITOR_APP_NAME)
    commands = [("monitor", str(shorten_path(path)))]
    if not is_active:
        commands.insert(0, ("startCluster", context.command_line.fleet_file))
    for number, words in enumerate(commands):
        command = context.format_command(*words)
        context.console.print_progress(format_next_command(command, "then" if number else "next"))
