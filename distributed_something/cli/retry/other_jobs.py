"""What `retry` says about jobs that it does not send: those in the queue, and those that failed in earlier runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from distributed_something.cli.context import Context
from distributed_something.cli.retry.plan_text import format_command_row
from distributed_something.core.text import format_count, format_row

if TYPE_CHECKING:
    from distributed_something.core.errors import InputError
    from distributed_something.core.monitor_file import MonitorFile
    from distributed_something.results.advice import Advice
    from distributed_something.results.outcome import RunOutcome
    from distributed_something.results.retry.retry_jobs import QueueView

MAX_RUNS_READ = 20  # earlier runs whose summaries are read
MAX_RUNS_CHECKED = 3  # of them, whose failed jobs are looked up, to see whether these have succeeded since
MAX_JOBS_CHECKED = 1000  # of such a run


@dataclass(frozen=True)
class EndOfRun:
    """What a run's recorded end says about the jobs that it left. `advice`: None if nothing is left to do."""

    is_hopeless: bool
    advice: Advice | None


def build_queue_error(context: Context, waiting: int) -> InputError:
    """Return the error for a queue that holds jobs, with what to type for these jobs now."""
    from distributed_something.core.errors import InputError
    from distributed_something.results.advice import list_next_commands
    from distributed_something.results.status.advice_recipes import Recipe

    line, problem = context.command_line, f"it still holds {format_count(waiting, 'job')}"
    names = [name for name in context.find_remaining_commands() if name != "submitJob"] or ["monitor"]
    commands = line.list_run_commands(names)
    yes, run = "add --yes to send the failed jobs as well", context.find_newest_run("retry")
    end = find_end(context, run) if run is not None and len(names) > 1 else None
    remedy = f"{yes}, or wait until {'it is' if waiting == 1 else 'they are'} done with"
    if len(names) > 1:
        remedy = f"{yes}, or first run {'it' if waiting == 1 else 'them'} with"
    if run is not None and end is not None and end.is_hopeless and end.advice is not None:
        advice = end.advice
        if advice.recipe is not Recipe.CONTINUE:
            problem += f" of the run {run.run}, in which nothing worked ({advice.cause.value})"
            remedy = "they would fail again; correct the cause, and type"
        commands = list_next_commands(advice, context.build_run_line(None, run))
    return InputError(f"queue {context.settings.SQS_QUEUE_NAME}", "", problem, remedy, commands=commands)


def explain_waiting_jobs(context: Context, run: MonitorFile, outcome: RunOutcome) -> None:
    """Print what to do about the run's jobs in the queue, although some of them may fail at each attempt."""
    from distributed_something.results.status.advice_text import format_advice

    rows, line = context.console.print_progress, context.build_run_line(None, run)
    end, failing = find_end(context, run), len(outcome.failing)
    if failing:
        left = format_count(outcome.left, "job")
        rows(format_row("in the queue", f"{left}; attempts of {format_count(failing, 'job')} have failed"))
    if end is not None and end.advice is not None:
        rows(format_advice(end.advice, line))
    elif failing:
        rows(format_row("", "to see why, and what to do, type:"))
        rows(format_command_row(line.format_command("why", run.run)))


def find_end(context: Context, run: MonitorFile) -> EndOfRun | None:
    """Return what the run's recorded end says; None if it has not ended, or if nobody watched it to its end.

    Raise CloudError if AWS reports an error.
    """
    from distributed_something.core.clock import Clock
    from distributed_something.core.errors import translate_aws_errors
    from distributed_something.run.run_outcome import load_end_advice

    with translate_aws_errors(f"reading how the run {run.run} ended"):
        found = load_end_advice(context.clients, run, Clock().now())
    return None if found is None else EndOfRun(*found)


def find_run_with_failures(context: Context, run: MonitorFile, view: QueueView) -> str | None:
    """Return the newest of the app's runs before this one that has failed jobs to send; None if none is known.

    The summaries of at most MAX_RUNS_READ runs are read. Raise CloudError if AWS reports an error.
    """
    from functools import partial

    from distributed_something.core.errors import translate_aws_errors
    from distributed_something.observe.documents.parallel import read_in_parallel
    from distributed_something.results.summary import find_saved_summary
    from distributed_something.run.monitor_file_copy import list_newest_runs
    from distributed_something.worker import RunKeys

    s3, bucket, app = context.clients.s3, run.MONITOR_BUCKET_NAME, run.MONITOR_APP_NAME
    with translate_aws_errors("looking for earlier runs with failed jobs"):
        runs = [name for name in list_newest_runs(s3, context.settings) if name < run.run][:MAX_RUNS_READ]
        keys = [RunKeys(app, name) for name in runs]
        summaries = {key.run: found for key, found in read_in_parallel(keys, partial(find_saved_summary, s3, bucket))}
        checked = 0
        for name in runs:
            summary = summaries[name]
            failed = summary.jobs.get("failed") or 0 if summary is not None else None
            if failed == 0:
                continue
            if checked == MAX_RUNS_CHECKED or (failed or 0) > MAX_JOBS_CHECKED:
                return name
            checked += 1
            if _has_failed_jobs(context, name, view):
                return name
    return None


def _has_failed_jobs(context: Context, name: str, view: QueueView) -> bool:
    """Return whether `retry` would send jobs of the run with this name. AWS errors are not caught."""
    from distributed_something.core.errors import InputError
    from distributed_something.results.outcome import load_failures
    from distributed_something.results.retry.retry_jobs import RetryReader, RetryState
    from distributed_something.run.monitor_file_copy import load_run_copy

    s3 = context.clients.s3
    try:
        run = load_run_copy(s3, context.settings, name)
    except InputError:  # an older version started it, and kept no monitor file
        return False
    outcome = load_failures(s3, run)
    failures = outcome.failures[:MAX_JOBS_CHECKED] if outcome else []
    jobs = RetryReader(s3, run, view).load_jobs(failures, [failed.job for failed in failures]) if failures else []
    return any(job.state is RetryState.FAILED for job in jobs)
