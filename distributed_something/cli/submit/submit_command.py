"""The command `submitJob`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from distributed_something.cli.completion.values import ProjectFile
from distributed_something.cli.console import Console
from distributed_something.cli.context import Context, shorten_path
from distributed_something.cli.group import Command
from distributed_something.cli.interrupts import raise_interrupts
from distributed_something.core.text import (
    LABEL_COLUMNS,
    TERMINAL_COLUMNS,
    format_count,
    format_row,
    format_wrapped_lines,
)

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from rich.progress import Progress

    from distributed_something.jobs.job_file import JobFile
    from distributed_something.jobs.submission.plan import SubmissionPlan
    from distributed_something.jobs.submission.submit import Submission

_INCOMPLETE_CHECKS = {  # keyed by the state of an IncompleteCheck
    "missing module": "not checked with your jobs, because the module {detail} is missing on this computer",
    "unavailable": "not checked with your jobs, because it needs something that is not available here ({detail})",
    "time limit": "not checked with all jobs, because it took longer than {detail} s",
    "ended": "not checked with all jobs, because it ended with exit code {detail}",
    "many jobs": "checked with {detail} of the jobs",
    "no serve": "not checked with your jobs, because it does not call serve()",
    "no file": "your jobs are not checked with {detail}, which cannot be read; it must be there before they run",
}


@click.command(
    "submitJob",
    cls=Command,
    needs="A Job file, and the queue that setup creates.",
    examples=("submitJob files/exampleJob.json --dry-run", "submitJob files/exampleJob.json"),
    next_step="startCluster FLEETFILE",
)
@click.argument("job_file", metavar="JOBFILE", type=ProjectFile("Job file"))
@click.option(
    "--dry-run", is_flag=True, help="Check every job, and print the job count and the first message, but send nothing."
)
@click.option("--resume", is_flag=True, help="Continue an interrupted submission.")
@click.option("--again", is_flag=True, help="Also run the jobs that have results already. Older results do not count.")
@click.option(
    "--replace", is_flag=True,
    help="First remove all waiting jobs from the queue, also those of scripts and other Job files, for example after "
    "submitting a wrong command. Running jobs are not stopped, but if one fails, it is not tried again.",
)  # fmt: skip
@click.option("--yes", is_flag=True, help="Do not ask before sending the jobs of a Job file a second time.")
@click.option(
    "--canary", type=int, metavar="N",
    help="Send only N jobs that differ as much as all of them. The run's summary then forecasts the time and cost of "
    "the entire Job file.",
)  # fmt: skip
@click.pass_obj
def submit_job(context: Context, /, job_file: Path, canary: int | None, **flags: bool) -> None:
    """Check a Job file and send its jobs to the queue."""
    from distributed_something.cli.submit.repetition import confirm_repetition, format_unchanged_file
    from distributed_something.jobs.submission.document import find_git_commit
    from distributed_something.jobs.submission.journal import SubmissionJournal
    from distributed_something.jobs.submission.submit import Submission

    dry_run, resume, again, replace, yes = (flags[name] for name in ("dry_run", "resume", "again", "replace", "yes"))
    if resume and replace:
        raise click.UsageError("--resume continues a submission, and --replace starts a new one: leave out one of them")
    loaded, plan = _plan_jobs(context, job_file, is_sent=not dry_run)
    settings, console, whole = context.settings, context.console, None
    notes: list[str] = []
    if canary is not None:
        whole = plan
        loaded, plan, notes = _choose_canary(context, loaded, plan, canary)
    if dry_run:
        if not context.local and not again:  # a dry run does not start the local cloud
            notes += _format_prior_results(_count_prior_results(context, loaded, plan), plan)
        for note in notes:
            console.print_progress(note)
        console.print_result(f"{format_count(plan.count, 'job')}; the first message:\n{plan.first}")
        return
    view = SubmitView(plan.count, console)
    journal = SubmissionJournal(job_file, resume=resume, replace=replace)
    with closing(journal):
        journal.lock()
        if not (resume or replace or yes):
            confirm_repetition(context, job_file, plan)
        already_there = 0 if again else _count_prior_results(context, loaded, plan)
        notes += _format_prior_results(already_there, plan)
        commit = find_git_commit(context.project)
        submission = Submission(
            loaded, plan, journal, again, replace, commit, whole=whole, notes=tuple(notes), already_there=already_there,
            unchanged_notes=tuple(format_unchanged_file(context, job_file, plan) if replace else ()),
        )  # fmt: skip
        sent = _send_jobs(context, submission, view)
    console.print_progress(format_row("jobs", f"{sent:,} of {plan.count:,} sent to {settings.SQS_QUEUE_NAME}"))
    record_sent_jobs(context)
    context.print_next_command("startCluster")


def _plan_jobs(context: Context, path: Path, *, is_sent: bool) -> tuple[JobFile, SubmissionPlan]:
    """Read and check the Job file. Raise one InputError with all problems of the config, the file, and, if the jobs are
    to be sent, of setup.
    """
    from distributed_something.core.errors import InputProblems
    from distributed_something.jobs.job_file import load_job_file
    from distributed_something.jobs.job_keys import collect_own_names
    from distributed_something.jobs.submission.plan import plan_submission

    problems, settings, worker_settings = InputProblems(), None, None
    with problems.collect():
        worker_settings = context.unchecked_settings
        settings = context.settings
    with problems.collect():
        context.check_file(path, "Job file", "submitJob")
        own_names = collect_own_names(context.project / "worker")
        allow_unsafe = worker_settings is None or worker_settings.ALLOW_UNSAFE_INPUTS
        loaded = load_job_file(
            path, context.list_objects, own_names, allow_unsafe_inputs=allow_unsafe, on_misspelled=problems.add
        )
        if worker_settings is None:
            plan = plan_submission(loaded)
        else:
            with open_worker_check(context, loaded, with_aws=settings is not None) as complete_check:
                plan = plan_submission(loaded)
                complete_check(plan)
    if is_sent and settings is not None and (problems.has_any or not _has_queue(context)):
        with problems.collect():
            context.check_setup()
    problems.raise_if_any()
    return loaded, plan


def _choose_canary(
    context: Context, job_file: JobFile, plan: SubmissionPlan, count: int
) -> tuple[JobFile, SubmissionPlan, list[str]]:
    """Return the job file with `count` of its jobs only, their plan, and lines that say how they were chosen."""
    import time

    from distributed_something.jobs.submission.canary import check_canary_count, choose_canary
    from distributed_something.jobs.submission.input_sizes import InputSizeReader
    from distributed_something.jobs.submission.plan import plan_submission
    from distributed_something.results.next_run.forecast import MIN_JOBS

    check_canary_count(job_file, count, plan.count)
    reader = InputSizeReader(_find_s3(context), context.settings.AWS_BUCKET, job_file, time.monotonic)
    canary = choose_canary(job_file, count, plan.count, reader.read_sizes(plan.count))
    way = "spread over the sizes of their inputs" if canary.is_by_size else "spread evenly over the file"
    notes = [format_row("canary", f"{count:,} of {format_count(plan.count, 'job')}, {way}")]
    if count < MIN_JOBS:
        text = f"the summary will have no forecast, which needs at least {MIN_JOBS} measured jobs"
        notes.append(f"note: --canary {count}: {text}")
    return canary.job_file, plan_submission(canary.job_file), notes


def _has_queue(context: Context) -> bool:
    """Return whether the queue exists, or cannot be looked up; the first call that needs it then says why."""
    from distributed_something.aws.sqs import find_queue
    from distributed_something.core.errors import CloudError, translate_aws_errors

    name = context.settings.SQS_QUEUE_NAME
    try:
        with translate_aws_errors(f"looking for the queue {name}"):
            return find_queue(context.clients.sqs, name) is not None
    except CloudError:
        return True


class SubmitView:
    """A progress bar that is shown while jobs are being sent, but only in a terminal. `text`: what it says."""

    def __init__(self, total: int, output: Console, text: str = "sending jobs") -> None:
        self._total, self._console, self._text = total, output.screen, text
        self._bar: Progress | None = None

    def __enter__(self) -> Callable[[int, int], None]:
        if not self._console.is_terminal:
            return lambda _done, _total: None
        from rich import progress

        columns = (
            progress.TextColumn(self._text), progress.BarColumn(), progress.MofNCompleteColumn(),
            progress.TimeRemainingColumn(),
        )  # fmt: skip
        self._bar = bar = progress.Progress(*columns, console=self._console, transient=True)
        task = bar.add_task("", total=self._total)
        bar.start()
        return lambda done, _total: bar.update(task, completed=done)

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()


@contextmanager
def open_worker_check(
    context: Context, job_file: JobFile, *, with_aws: bool = True
) -> Iterator[Callable[[SubmissionPlan], None]]:
    """Start the project's own worker, and yield a function that completes its check of the jobs that are planned.

    The messages are given to `make_job`, and their jobs to the hook `check`, if any. The function prints the warnings
    of `check`, and a note if this check is incomplete. It raises InputError with all problems if one of them refuses a
    message or cannot handle it. `with_aws`: whether files may be fetched, which the config's placeholders do not allow.
    """
    from distributed_something.jobs.own_worker import OwnWorker, OwnWorkerCheck
    from distributed_something.jobs.run_job import build_one_job_container, get_container_environment
    from distributed_something.jobs.uploads.checked_files import CheckedFiles
    from distributed_something.project.template import find_template_file

    folder = shorten_path(context.project) / "worker"
    settings = context.unchecked_settings
    container = build_one_job_container(settings)
    worker = OwnWorker(folder, find_template_file("worker"), container, context.command_line.has_image)
    find_s3 = partial(_find_endpoint_s3, context, get_container_environment(container))
    get_s3 = cache(find_s3 if with_aws else lambda endpoint: None)
    files = CheckedFiles(settings.AWS_BUCKET, job_file.uploads, get_s3)
    print_progress = context.console.print_progress

    def print_note(text: str) -> None:
        print_progress(f"note: {text}")

    with raise_interrupts(), OwnWorkerCheck(worker, job_file, fetch=files.fetch, on_note=print_note) as check:

        def complete_check(plan: SubmissionPlan) -> None:
            incomplete = check.complete(plan)
            if incomplete and with_aws:
                text = f"{folder / 'generic-worker.py'}: {_INCOMPLETE_CHECKS[incomplete.state]}"
                print_note(text.format(detail=incomplete.detail))

        yield complete_check


def _find_s3(context: Context) -> S3Client | None:
    """Return a client for AWS's S3, or None if the local cloud would have to be started for it."""
    from distributed_something.localcloud import find_local_cloud

    if context.local and find_local_cloud(context.project, context.settings.AWS_REGION) is None:
        return None
    return context.clients.impatient_s3


def _find_endpoint_s3(context: Context, container_env: Mapping[str, str], endpoint: str) -> S3Client | None:
    """Return a client for the S3 server at `endpoint`, or for AWS's if it is "".

    Return None as `_find_s3` does. The server's credentials are read as in the container, or else from this computer's
    environment variables. Raise BadEnvironment if they cannot be read, and Failed if the config does not allow the
    address.
    """
    from distributed_something.worker import EndpointClients

    s3 = _find_s3(context)
    if not endpoint or s3 is None:
        return s3
    build_client, allow_unsafe = context.clients.create_impatient_endpoint_s3, context.settings.ALLOW_UNSAFE_INPUTS
    env = {**os.environ, **container_env}
    client: S3Client = EndpointClients(build_client, allow_unsafe=allow_unsafe, env=env).get_client(endpoint)
    return client


def _send_jobs(context: Context, submission: Submission, view: SubmitView) -> int:
    from distributed_something.core.clock import Clock
    from distributed_something.jobs.submission.submit import submit_jobs

    clients, settings, print_progress = context.clients, context.settings, context.console.print_progress
    with view as progress:
        return submit_jobs(clients, settings, submission, Clock(), progress=progress, print_progress=print_progress)


def record_sent_jobs(context: Context) -> None:
    """Add the jobs to the document of the run that is active, if there is one. AWS errors are ignored."""
    import time

    from distributed_something.core.errors import AWSError, CloudError
    from distributed_something.run.inputs.run_document import record_submissions
    from distributed_something.run.setup import find_active_run

    clients, settings = context.clients, context.settings
    try:
        run = find_active_run(clients, settings)
    except (*AWSError, CloudError):  # the jobs were sent; their submission's document names the files too
        return
    if run is not None:
        record_submissions(clients, settings, run, time.time())


def _count_prior_results(context: Context, job_file: JobFile, plan: SubmissionPlan) -> int:
    """Return how many jobs have results already, if a few requests to S3 can tell; 0 if not."""
    import time

    from distributed_something.core.errors import AWSError, CloudError
    from distributed_something.jobs.submission.prior_results import PriorResultCounter, is_location_in_job_file

    if not plan.places.is_known or not is_location_in_job_file(context.project / "worker" / "generic-worker.py"):
        return 0
    try:
        s3 = context.clients.impatient_s3
        return PriorResultCounter(s3, context.settings, job_file, time.monotonic).count_jobs(plan.places) or 0
    except (*AWSError, CloudError):  # without this hint, the jobs can be sent all the same
        return 0


def _format_prior_results(count: int, plan: SubmissionPlan) -> list[str]:
    if not count:
        return []
    verb, object_ = ("has", "it") if count == 1 else ("have", "them")
    text = f"{count:,} of {format_count(plan.count, 'job')} {verb} results and will be skipped"
    text += f"; add --again to run {object_} again"
    return format_wrapped_lines(text, format_row("already there", ""), " " * LABEL_COLUMNS, TERMINAL_COLUMNS)
