"""Finds the reason and the class of a failure that a hook found after the program ended."""

from __future__ import annotations

from distributed_something.worker.attempt.attempt import Attempt
from distributed_something.worker.job.failures import Failed
from distributed_something.worker.job.job import Job
from distributed_something.worker.job.program_result import Result
from distributed_something.worker.program.explanations.script_faults import explain_exit
from distributed_something.worker.program.memory import OomKills
from distributed_something.worker.transfer.result_files import get_output_folder, list_result_files


def classify_failure(
    reason: str, attempt: Attempt, job: Job, result: Result, oom_kills: OomKills, *, runs_alone: bool
) -> Failed:
    """Return the failure for a hook's `reason`. `runs_alone`: whether the container runs one program at a time."""
    if oom_kills.claim_kill(attempt.oom_kills, result.exit_code, runs_alone=runs_alone):
        return Failed(f"out of memory: the kernel killed the program ({reason})", "out of memory")
    if result.exit_code < 0:
        return Failed(f"killed by signal {-result.exit_code}", "signal")
    if result.exit_code == 0 and (failure := _find_unusable_results(attempt, job)):
        return failure
    attempt.explanation = explain_exit(result.exit_code, job.commands, attempt.folders.root)
    return Failed(f"{reason}: {attempt.explanation}" if attempt.explanation else reason)


def _find_unusable_results(attempt: Attempt, job: Job) -> Failed | None:
    """Return why the results could not be uploaded; None if they could.

    Hooks count files, and they cannot find those in a folder that was removed, or at a path that is too long.
    """
    try:
        list_result_files(get_output_folder(job, attempt.folders), job.output_location, job.leave_out)
    except Failed as error:
        return error
    return None
