"""How to continue after a correction, depending on what is wrong with the jobs and where they came from."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum

from distributed_something.results.job_counter import FailedJob
from distributed_something.results.job_source import JobSource
from distributed_something.results.status.advice_causes import AdviceCause
from distributed_something.results.status.job_origin import JobOrigin
from distributed_something.worker import MAX_JOB_SECONDS


class Recipe(Enum):
    """How to continue after the correction.

    RESUBMIT: replace the messages with the Job file's. REPLACE: replace the messages that `retry` sent, and send these
    jobs again with a corrected Job file. REPLACE_LONGER: the same with a longer time limit. REBUILD: build the image,
    and send the failed jobs again. RETRY: send the failed jobs again. RETRY_WITH: the same with a corrected Job file.
    RETRY_LONGER: the same with a longer time limit. SUBMIT: send the Job file again. SEND_AGAIN: send the failed jobs
    of earlier runs again. SCRIPT: empty the queue for messages that a script sends again. CONTINUE: only start
    machines.
    """

    RESUBMIT = "resubmit"
    REPLACE = "replace"
    REPLACE_LONGER = "replace longer"
    REBUILD = "rebuild"
    RETRY = "retry"
    RETRY_WITH = "retry with"
    RETRY_LONGER = "retry longer"
    SUBMIT = "submit"
    SEND_AGAIN = "send again"
    SCRIPT = "script"
    CONTINUE = "continue"


REPLACING_RECIPES = (Recipe.RESUBMIT, Recipe.REPLACE, Recipe.REPLACE_LONGER)  # these also send the jobs in the queue
# These send only jobs that failed. SUBMIT sends the lost ones too, and the worker skips those that are done.
RETRYING_RECIPES = (Recipe.RETRY, Recipe.RETRY_WITH, Recipe.RETRY_LONGER)
# With these, jobs that need something else can be sent separately.
SEPARATING_RECIPES = (*RETRYING_RECIPES, Recipe.REBUILD)
JOB_FILE_CAUSES = {AdviceCause.NO_PROGRAM, AdviceCause.PROGRAM, AdviceCause.MESSAGE}


def choose_recipe(cause: AdviceCause, *, is_hopeless: bool, has_waiting: bool) -> Recipe:
    """Return the recipe for jobs of Job files."""
    if cause in (AdviceCause.HOOK, AdviceCause.REFUSED, AdviceCause.CRASH, AdviceCause.CONFIG):
        return Recipe.REBUILD
    if cause is AdviceCause.TIME:  # the waiting jobs have the same limit
        return Recipe.RESUBMIT if has_waiting else Recipe.RETRY_LONGER
    if cause in JOB_FILE_CAUSES:
        return Recipe.RESUBMIT if is_hopeless else Recipe.RETRY_WITH
    return Recipe.RETRY


def spare_other_jobs(recipe: Recipe, cause: AdviceCause, source: JobSource, *, has_waiting: bool) -> Recipe:
    """Return a recipe that sends only the jobs of the run, if `retry` had sent them, and not all of a Job file."""
    if recipe is not Recipe.RESUBMIT or not source.retried_runs:
        return recipe
    if not has_waiting:
        return Recipe.RETRY_WITH
    return Recipe.REPLACE_LONGER if cause is AdviceCause.TIME else Recipe.REPLACE


def spare_scripted_jobs(recipe: Recipe, cause: AdviceCause, origin: JobOrigin, *, has_waiting: bool) -> Recipe:
    """Return a recipe that does not send a Job file instead of these jobs, if none of them came from one."""
    if not origin.is_script or recipe not in (Recipe.RESUBMIT, Recipe.REPLACE, Recipe.RETRY_WITH):
        return recipe
    if cause is AdviceCause.TIME and not has_waiting:
        return Recipe.RETRY_LONGER
    return Recipe.SCRIPT if cause in (AdviceCause.MESSAGE, AdviceCause.TIME) else Recipe.REBUILD


def choose_longer_limit(failures: Iterable[FailedJob]) -> float | None:
    """Return a time limit in minutes, twice the one that these jobs had; None if it is unknown."""
    limits = [failed.time_limit_seconds for failed in failures if failed.time_limit_seconds]
    return min(MAX_JOB_SECONDS / 60, float(f"{2 * max(limits) / 60:.2g}")) if limits else None


def format_minutes(minutes: float | None) -> str:
    """Return the value of `--timeout`: a number, or a word to replace if the old limit is unknown."""
    return "MINUTES" if minutes is None else f"{minutes:g}"
