"""Causes in the jobs themselves: they run, but they fail. The groups of failed jobs are those that `status` shows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from distributed_something.core.text import format_count
from distributed_something.diagnose.why.cause import Cause
from distributed_something.observe.evidence import Evidence
from distributed_something.results.advice import (
    Advice,
    choose_advice,
    list_sending_commands,
    needs_commands,
)
from distributed_something.results.causes import FailureGroup
from distributed_something.results.command_line import CommandLine
from distributed_something.results.job_source import UNKNOWN_SOURCE, JobSource
from distributed_something.results.next_batch import NextBatch
from distributed_something.results.outcome import RunOutcome
from distributed_something.results.status.advice_causes import AdviceCause, classify_failure
from distributed_something.results.status.advice_recipes import (
    JOB_FILE_CAUSES,
    REPLACING_RECIPES,
    choose_longer_limit,
    format_minutes,
)
from distributed_something.results.status.advice_text import name_message_keys, name_message_place
from distributed_something.results.status.job_origin import find_origin, makes_own_command
from distributed_something.results.status.missing_inputs import (
    format_upload_words,
    list_upload_commands,
    list_uploads,
)
from distributed_something.results.summary import format_shared_value

MAX_GROUPS = 3  # the largest ones: on a small terminal, the advice must not scroll away; `status` shows more
# If no job is done, or none is left: failures explain this better than missing machines do.
EVERY_JOB_WEIGHT = 100
SOME_JOBS_WEIGHT = 58
_START_CAUSES = (AdviceCause.NO_MACHINE, AdviceCause.NO_CONTAINER)  # these keep jobs from running at all
_REMEDIES_BY_CAUSE = {
    AdviceCause.NO_PROGRAM: "correct {keys}, or install the program {place}{path}",
    AdviceCause.PROGRAM: "read the log; correct {keys}, the input files, or the program",
    AdviceCause.MESSAGE: "correct {source}",
    AdviceCause.MISSING_INPUT: "upload the missing inputs",
    AdviceCause.MEMORY: "{memory} in the config",
    AdviceCause.TIME: "raise timeout_minutes in {source}, or add --timeout {minutes} to retry",
    AdviceCause.DISK: "raise EBS_VOL_SIZE in the config, for the machines of the next startCluster",
    AdviceCause.DELIVERY: "make sure that the place to which deliver() sends the results accepts them",
    AdviceCause.ACCESS: "correct the bucket or the permission that the reason names",
    AdviceCause.WEB: "correct the address of the input, or do what the reason says about its web server",
    AdviceCause.CONFIG: "correct what the reason names in the config or the image{build}",
    AdviceCause.HOOK: "correct worker/generic-worker.py{build}",
    AdviceCause.REFUSED: "correct worker/generic-worker.py{build}, or the data",
    AdviceCause.CRASH: "correct worker/generic-worker.py, a library that it calls, or the program{build}",
    AdviceCause.MACHINE: "nothing is wrong with the jobs, which can run again",
}
# For the jobs of `testRun`, whose program is the worker's own: only what ends the worker or its machine can be wrong.
_TEST_REMEDIES = {
    AdviceCause.TIME: "find out what slows down the machine, or use a larger one",
    AdviceCause.DISK: "raise EBS_VOL_SIZE in the config",
    AdviceCause.CRASH: "{memory} in the config, or find out what else kills the worker",
    AdviceCause.MACHINE: "{memory} in the config, or find out what else kills the worker or its machine",
}


@dataclass(frozen=True)
class JobEvidence:
    """What the run's documents say about its jobs.

    `outcome`: None if no attempt has failed during the run, or if that could not be read. `source`: where the jobs came
    from. `has_ended`: whether the run's end is recorded, or nothing of it exists any more. `is_hopeless`: whether it
    ended because nothing works or, before its end, whether no job has succeeded. `is_regular`: whether it ended because
    no jobs were left, or without a monitor; none of its resources exist any more. `has_pauses`: whether machines pause
    because jobs failed in a row. `is_test`: whether these are the jobs of `testRun`, which nobody sends again. `batch`:
    jobs sent after its end. `gone`: how many jobs the run left in the queue that are not there any more, because
    `submitJob --replace` removed them or a later run did them; `outcome` is without them.
    """

    outcome: RunOutcome | None = None
    source: JobSource = UNKNOWN_SOURCE
    has_ended: bool = False
    is_hopeless: bool = False
    is_regular: bool = False
    has_pauses: bool = False
    has_no_machine: bool = False
    is_test: bool = False
    batch: NextBatch | None = None
    gone: int = 0

    @property
    def advice(self) -> Advice | None:
        """The advice that `status` gives too; None if failures, machines, and workers do not explain the end."""
        if self.outcome is None or not (self.has_ended or self.is_hopeless):
            return None
        advice = choose_advice(
            self.outcome, is_hopeless=self.is_hopeless, has_no_machine=self.has_no_machine, source=self.source,
            batch=self.batch,
        )  # fmt: skip
        is_explained = advice is not None and (advice.jobs or advice.lost or advice.cause in _START_CAUSES)
        return advice if is_explained else None


@dataclass(frozen=True)
class _JobGroup:
    """The jobs that failed for good for one reason, and those in the queue whose latest attempt did."""

    failed: FailureGroup | None
    failing: FailureGroup | None

    @property
    def any(self) -> FailureGroup:
        group = self.failed or self.failing
        assert group is not None
        return group

    @property
    def count(self) -> int:
        return sum(len(group.jobs) for group in (self.failed, self.failing) if group)


def is_all_removed(evidence: Evidence, jobs: JobEvidence) -> bool:
    """Return whether the run ended by itself, so that it is normal that it has no queue, fleet, and service anymore.

    Jobs in the queue would be of the next run, which needs these.
    """
    return jobs.has_ended and jobs.is_regular and not (evidence.counts and evidence.counts.jobs)


def is_everything_gone(evidence: Evidence) -> bool:
    """Return whether neither the queue nor machines exist any more, as after a cleanup or the end of a local cloud."""
    is_observed = evidence.has_observed("counts") and evidence.has_observed("fleet")
    has_fleet = evidence.fleet is not None and bool(evidence.fleet.is_active or evidence.fleet.machines)
    return is_observed and evidence.counts is None and not has_fleet


def diagnose_failing_jobs(jobs: JobEvidence, line: CommandLine, *, has_counts: bool = True) -> Iterator[Cause]:
    """Yield the groups of failed jobs, the largest first, each with an example and the command that runs it again.

    The same correction is only in the first group that needs it. After a run with jobs left, while no job has
    succeeded, and while machines pause, the jobs in the queue whose attempts failed count too. `has_counts`: whether
    the jobs in the queue could be counted; otherwise, `outcome.left` is 0 although some may be left.
    """
    if jobs.outcome is None:
        return
    groups = _merge_groups(jobs.outcome.groups, jobs.outcome.failing_groups if _counts_attempts(jobs) else ())
    is_over = jobs.has_ended or (has_counts and not jobs.outcome.left)
    base = EVERY_JOB_WEIGHT if is_over or jobs.is_hopeless else SOME_JOBS_WEIGHT
    # After the run, the text about the most frequent cause follows all causes, as in `status`.
    explained = {jobs.advice.cause} if jobs.has_ended and jobs.advice else set[AdviceCause]()
    for number, group in enumerate(groups[:MAX_GROUPS]):
        yield _build_cause(base - number, group, jobs, line, explained)
    if others := groups[MAX_GROUPS:]:
        count = format_count(sum(group.count for group in others), "job")
        yield Cause(
            base - MAX_GROUPS,
            f"{count} failed for {format_count(len(others), 'other cause')}",
            "these groups are smaller",
            "see all groups:",
            (line.format_command("status", line.monitor_file),),
        )


def _counts_attempts(jobs: JobEvidence) -> bool:
    return jobs.is_hopeless or jobs.has_pauses or (jobs.has_ended and not jobs.is_regular)


def _merge_groups(failed: Sequence[FailureGroup], failing: Sequence[FailureGroup]) -> list[_JobGroup]:
    by_id = [{group.id: group for group in groups} for groups in (failed, failing)]
    ids = dict.fromkeys(group.id for group in (*failed, *failing))
    groups = [_JobGroup(*(table.get(group_id) for table in by_id)) for group_id in ids]
    return sorted(groups, key=lambda group: -group.count)


def _build_cause(
    weight: int, group: _JobGroup, jobs: JobEvidence, line: CommandLine, explained: set[AdviceCause]
) -> Cause:
    """Return the cause for a group. `explained`: what the other causes explain already; this one is added."""
    counts = [f"{format_count(len(group.failed.jobs), 'job')} failed"] if group.failed else []
    if group.failing:
        counts.append(f"{format_count(len(group.failing.jobs), 'job')} in the queue failed so far")
    example, shared = group.any.example, group.any.shared
    parts = [f"for example {example.job}: {example.telling_line or example.reason}", *map(format_shared_value, shared)]
    parts += [f"log: {example.log}"] if example.log else []
    cause = classify_failure(example)
    remedies = _REMEDIES_BY_CAUSE | (_TEST_REMEDIES if jobs.is_test else {})
    remedy = "" if cause in explained else _format_remedy(remedies.get(cause, "read the record"), group.any, jobs, line)
    is_missing = cause is AdviceCause.MISSING_INPUT and cause not in explained and not jobs.is_test
    uploads = list_uploads(group.any.jobs) if is_missing else ()
    remedy += f"; replace {format_upload_words(uploads)}" if uploads else ""
    sending = _list_commands(group, jobs, line, is_first=cause not in explained)
    commands = (*list_upload_commands(uploads, line), *sending)
    if commands and not jobs.has_ended and not jobs.is_hopeless:
        remedy = f"{remedy}; once the run has ended, type:" if remedy else ""
    elif commands and remedy:
        remedy = f"{remedy}; type:" if uploads else f"{remedy}; then type:"
    explained.add(cause)
    return Cause(
        weight, f"{' and '.join(counts)} ({group.any.id}): {group.any.cause}", "; ".join(parts), remedy, commands
    )


def _format_remedy(remedy: str, group: FailureGroup, jobs: JobEvidence, line: CommandLine) -> str:
    origin = find_origin(group.jobs, jobs.source)
    source, keys = name_message_place(origin, line), name_message_keys(origin, group.example, line)
    if makes_own_command(group.example) and classify_failure(group.example) is AdviceCause.NO_PROGRAM:
        keys = "worker/generic-worker.py, which starts the program"
    place, build = ("in the image", ", and build the image again") if line.has_image else ("on this computer", "")
    minutes = format_minutes(choose_longer_limit(group.jobs))
    path = f"; {line.path_remedy}" if line.path_remedy else ""
    values = {"place": place, "build": build, "path": path, "minutes": minutes, "memory": line.memory_remedy}
    return remedy.format(source=source, keys=keys, **values)


def _list_commands(group: _JobGroup, jobs: JobEvidence, line: CommandLine, *, is_first: bool) -> tuple[str, ...]:
    """Return the commands that send the group's jobs again. `is_first`: whether no other group had its correction."""
    advice, cause = jobs.advice, classify_failure(group.any.example)
    if advice is not None and not jobs.has_ended and cause is advice.cause and needs_commands(advice):
        return tuple(list_sending_commands(advice, line)) if is_first else ()
    if advice is not None and advice.recipe in REPLACING_RECIPES:  # these send all jobs again
        return ()
    is_sent = (
        jobs.batch is not None
        and group.failed is not None
        and jobs.batch.repeated.issuperset(failed.job for failed in group.failed.jobs)
    )
    if group.failed is None or jobs.is_test or is_sent:
        return ()
    is_later = not (jobs.has_ended or jobs.is_hopeless)  # it is to be typed when the queue will be empty
    has_waiting = jobs.batch is not None or (jobs.outcome is not None and jobs.outcome.left > 0 and not is_later)
    origin = find_origin(group.failed.jobs, jobs.source)
    # The remedy names the Job file, so the command must send what was corrected in it.
    is_known = len(origin.job_files) == 1 and all(failed.submission for failed in group.failed.jobs)
    is_corrected = is_first and cause in JOB_FILE_CAUSES and is_known
    correction = ("--with", line.select_job_file(origin.job_files[0]).job_file) if is_corrected else ()
    return (line.format_retry("--only", group.failed.id, *correction, has_waiting=has_waiting),)
