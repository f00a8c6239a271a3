"""Causes in the jobs themselves: they run, but they fail."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from distributed_something.core.text import format_count
from distributed_something.diagnose.why.cause import Cause
from distributed_something.results.advice import AdviceCause, classify_failure
from distributed_something.results.command_line import CommandLine
from distributed_something.results.job_counter import FailedJob
from distributed_something.results.outcome import RunOutcome

MAX_GROUPS = 3  # most frequent kinds of failures that are named
EVERY_JOB_WEIGHT = 100  # if no job is done, this explains the end of a run better than the queue that was removed then
SOME_JOBS_WEIGHT = 58
_REMEDIES_BY_CAUSE = {
    AdviceCause.NO_PROGRAM: "correct the command in the Job file, or install the program in the image",
    AdviceCause.PROGRAM: "read the log; correct the command in the Job file, or the program",
    AdviceCause.MESSAGE: "correct the Job file",
    AdviceCause.MISSING_INPUT: "upload the missing inputs",
    AdviceCause.MEMORY: "raise MEMORY, or lower DOCKER_CORES, then run setup",
    AdviceCause.TIME: "raise timeout_minutes in the Job file, or add --timeout MINUTES to retry",
    AdviceCause.DISK: "raise EBS_VOL_SIZE",
    AdviceCause.ACCESS: "correct the bucket or the permission that the reason names",
    AdviceCause.HOOK: "correct worker/generic-worker.py, and build the image again",
    AdviceCause.MACHINE: "nothing is wrong with the jobs, which can run again",
}


def diagnose_failing_jobs(outcome: RunOutcome, line: CommandLine) -> Iterator[Cause]:
    """Yield the most frequent kinds of failures, by reason class and exit code, each with an example."""
    groups: defaultdict[tuple[str, int | None], list[FailedJob]] = defaultdict(list)
    for failed in outcome.all_failures:
        groups[failed.reason_class, failed.exit_code].append(failed)
    counts = outcome.counts
    base = SOME_JOBS_WEIGHT if counts.done or counts.already_there else EVERY_JOB_WEIGHT
    largest = sorted(groups.values(), key=len, reverse=True)[:MAX_GROUPS]
    for number, failures in enumerate(largest):
        yield _build_cause(base - number, failures, line)


def _build_cause(weight: int, failures: list[FailedJob], line: CommandLine) -> Cause:
    example = max(failures, key=lambda failed: bool(failed.log))  # logs are known only for the first failures
    last_line = f"; its last line: {example.last_lines[-1]}" if example.last_lines else ""
    log = f"; log: {example.log}" if example.log else ""
    remedy = _REMEDIES_BY_CAUSE.get(classify_failure(example), "read the record")
    retry = line.format_command("retry", line.monitor_file)
    return Cause(
        weight,
        f"{format_count(len(failures), 'job')} failed: {example.reason_class or 'unknown reason'}"
        + ("" if example.exit_code is None else f", exit code {example.exit_code}"),
        f"for example {example.job}: {example.reason}{last_line}{log}",
        f"{remedy}; once the run has ended, type: {retry}",
    )
