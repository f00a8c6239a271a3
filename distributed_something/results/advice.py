"""Advice after a run that did not complete every job: what to correct, and which commands to type then.

`choose_advice` decides on data alone: how the run ended, and why its jobs failed. `status/advice_text.py` makes
the text.

A job that failed for good is no longer in the queue, so `startCluster` alone never runs it again: `retry` or
`submitJob --replace` must send it first. `startCluster` also replaces the monitor file, so `retry` comes before it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from distributed_something.results.causes import group_failures
from distributed_something.results.command_line import CommandLine
from distributed_something.results.job_counter import FailedJob, JobCounts
from distributed_something.results.job_source import UNKNOWN_SOURCE, JobSource
from distributed_something.results.next_batch import NextBatch
from distributed_something.results.outcome import RunOutcome
from distributed_something.results.status.advice_causes import AdviceCause, classify_failure
from distributed_something.results.status.advice_recipes import (
    JOB_FILE_CAUSES,
    REPLACING_RECIPES,
    RETRYING_RECIPES,
    SEPARATING_RECIPES,
    Recipe,
    choose_longer_limit,
    choose_recipe,
    format_minutes,
    spare_other_jobs,
    spare_scripted_jobs,
)
from distributed_something.results.status.job_origin import UNKNOWN_ORIGIN, JobOrigin, find_origin, makes_own_command
from distributed_something.results.status.missing_inputs import Upload, list_uploads


@dataclass(frozen=True)
class OtherRemedy:
    """Failed jobs that need something else than most of them.

    `groups`: the IDs of their groups. `jobs`, `example`, `origin`, `minutes`, `uploads`: as in Advice.
    """

    cause: AdviceCause
    groups: tuple[str, ...]
    jobs: int
    example: FailedJob
    origin: JobOrigin = UNKNOWN_ORIGIN
    minutes: float | None = None
    uploads: tuple[Upload, ...] = ()


@dataclass(frozen=True)
class Advice:
    """What to correct and how to continue.

    `jobs`: how many failed or failing jobs have this cause. `example`: one that failed in the most frequent way.
    `has_failed`, `has_waiting`: whether jobs have failed and whether jobs are in the queue. `source`: where the jobs
    came from that the commands send. `minutes`: a longer time limit for jobs that ran out of time; None if their limit
    is unknown. `batch`: the jobs that were sent after the run; None if there are none. `lost`: how many jobs have
    neither ended nor are they in the queue. `groups`: the IDs of the groups of these jobs, if there are other groups,
    too. `others`: what the jobs with other causes need. `origin`: where these failed jobs came from. `scripted`: how
    many of all failed jobs a script sent. `is_urgent`: whether to type the commands while the run goes on.
    `has_remedy`: whether the lines above the advice say what to correct so that containers start. `unsubmitted`: how
    many of the run's jobs neither `submitJob` nor `retry` sent, at least; most of them may not have been tried yet.
    `uploads`: where inputs are missing, as far as that is known. `left`: how many of the run's jobs run or wait.
    """

    cause: AdviceCause
    recipe: Recipe
    jobs: int
    example: FailedJob | None
    has_failed: bool
    has_waiting: bool
    source: JobSource = UNKNOWN_SOURCE
    minutes: float | None = None
    batch: NextBatch | None = None
    lost: int = 0
    groups: tuple[str, ...] = ()
    others: tuple[OtherRemedy, ...] = ()
    origin: JobOrigin = UNKNOWN_ORIGIN
    scripted: int = 0
    is_urgent: bool = False
    has_remedy: bool = False
    unsubmitted: int = 0
    uploads: tuple[Upload, ...] = ()
    left: int = 0

    @property
    def is_scripted(self) -> bool:
        """Whether a script sent all jobs of the run, as far as that is known."""
        return bool(self.scripted) and not self.source.job_file


MAX_NAMED_GROUPS = 3  # in a command


def choose_advice(
    outcome: RunOutcome, *, is_hopeless: bool, has_no_machine: bool = False, source: JobSource = UNKNOWN_SOURCE,
    batch: NextBatch | None = None,
) -> Advice | None:  # fmt: skip
    """Return what to do after a run with this outcome; None if every job is done, and if it was not only a canary.

    `is_hopeless`: whether the run ended because nothing works; its queue is then kept. No job may have failed for good
    by then, so the jobs in the queue whose attempts failed count too. `has_no_machine`: whether nothing works because
    machines do not join the cluster. `source`: where the run's jobs came from. `batch`: what was sent after the run.
    """
    has_failed, has_waiting = outcome.counts.failed > 0, outcome.left > 0
    if not is_hopeless and outcome.is_complete:
        return _advise_other_jobs(source) if source.others and batch is None else None
    if batch is not None and (repeated := select_repeated_jobs(outcome, batch)):
        has_others = len(repeated) < len(outcome.failures)
        cause, recipe = AdviceCause.SENT_AGAIN, Recipe.CONTINUE
        return Advice(cause, recipe, len(repeated), None, has_others, has_waiting=True, source=source, batch=batch)
    failures = outcome.all_failures if is_hopeless else outcome.failures
    found = _choose_cause(outcome, failures, source, is_hopeless=is_hopeless, has_no_machine=has_no_machine)
    cause, recipe, jobs = found
    same = [failed for failed in failures if classify_failure(failed) is cause]
    origin, everything, example = find_origin(same, source), find_origin(failures, source), _find_example(outcome, same)
    recipe = spare_scripted_jobs(recipe, cause, origin, has_waiting=has_waiting)
    if cause is AdviceCause.NO_PROGRAM and makes_own_command(example):  # no Job file names the program
        recipe = Recipe.REBUILD
    lost, is_scripted = outcome.unrecorded + outcome.unread, everything.is_script and not source.job_file
    if lost and not has_waiting and recipe in RETRYING_RECIPES and not is_scripted:
        recipe = Recipe.SEND_AGAIN if source.retried_runs else Recipe.SUBMIT
    others = () if has_waiting or lost or batch else _list_other_remedies(outcome, failures, cause, recipe, source)
    separate = [other.cause for other in others if len(other.groups) <= MAX_NAMED_GROUPS]
    rest = find_origin([failed for failed in failures if classify_failure(failed) not in separate], source)
    return Advice(
        cause, recipe, jobs, example, has_failed, has_waiting,
        source if lost else _narrow_source(source, origin, rest, recipe), choose_longer_limit(same),
        batch, lost, _list_group_ids(same) if len(_list_group_ids(failures)) > 1 else (), others,
        origin, everything.scripted, unsubmitted=_count_unsubmitted_jobs(outcome, source),
        uploads=list_uploads(same), left=outcome.left,
    )  # fmt: skip


def _count_unsubmitted_jobs(outcome: RunOutcome, source: JobSource) -> int:
    """Return how many of the run's jobs a script sent, as far as the numbers prove it."""
    submitted, sent = outcome.submitted, source.sent
    return 0 if submitted is None or sent is None else max(0, submitted - sent)


def _choose_cause(
    outcome: RunOutcome, failures: Sequence[FailedJob], source: JobSource, *, is_hopeless: bool, has_no_machine: bool
) -> tuple[AdviceCause, Recipe, int]:
    """Return what is wrong, how to continue with jobs of Job files, and how many jobs have failed because of it."""
    causes, has_waiting = Counter(map(classify_failure, failures)), outcome.left > 0
    if is_hopeless and has_no_machine:
        return AdviceCause.NO_MACHINE, Recipe.CONTINUE, 0
    if has_waiting and source.is_replaced:
        return AdviceCause.REPLACED, Recipe.CONTINUE, 0
    if is_hopeless and not causes:
        return AdviceCause.NO_CONTAINER, Recipe.REBUILD, 0
    if has_waiting and not is_hopeless:  # first of all, the jobs in the queue need machines
        return AdviceCause.WAITING, Recipe.CONTINUE, 0
    if not causes:
        return (AdviceCause.WAITING, Recipe.CONTINUE, 0) if has_waiting else (AdviceCause.LOST, Recipe.RETRY, 0)
    cause, jobs = causes.most_common(1)[0]
    recipe = choose_recipe(cause, is_hopeless=is_hopeless, has_waiting=has_waiting)
    return cause, spare_other_jobs(recipe, cause, source, has_waiting=has_waiting), jobs


def _narrow_source(source: JobSource, origin: JobOrigin, rest: JobOrigin, recipe: Recipe) -> JobSource:
    """Return the source with the Job files of the failed jobs only, unless the commands send other jobs, too.

    `rest`: the origin of all failed jobs that are not sent separately. If the commands must send several Job files,
    they send all of these. Before `retry` replaces jobs, other Job files' jobs that it had sent may wait, too.
    """
    if recipe is Recipe.RESUBMIT:  # `retry` may have added jobs of others to those that the Job files sent
        known = (*source.other_files, source.job_file)
        missing = [path for path in rest.job_files if path not in known]
        return replace(source, other_files=(*missing, *source.other_files))
    if recipe not in (*SEPARATING_RECIPES, Recipe.REPLACE) or not (origin.job_files or origin.scripted):
        return source
    is_single = len(origin.job_files) == 1 and not origin.scripted
    files = origin.job_files if is_single and rest.is_unknown else rest.job_files
    if recipe is Recipe.REPLACE and not rest.is_unknown:
        files = (*(path for path in source.other_files if path not in files), *files)
    *others, last = files or ("",)
    return replace(source, job_file=last, other_files=tuple(others))


def _list_other_remedies(
    outcome: RunOutcome, failures: Sequence[FailedJob], cause: AdviceCause, recipe: Recipe, source: JobSource
) -> tuple[OtherRemedy, ...]:
    """Return what the jobs need whose cause is not this one, the most frequent one first."""
    if recipe not in SEPARATING_RECIPES:
        return ()
    counts = Counter(map(classify_failure, failures))
    remedies = []
    for other, count in counts.most_common():
        same = [failed for failed in failures if classify_failure(failed) is other]
        if other is not cause and (example := _find_example(outcome, same)) is not None:
            groups, origin, minutes = _list_group_ids(same), find_origin(same, source), choose_longer_limit(same)
            remedies.append(OtherRemedy(other, groups, count, example, origin, minutes, list_uploads(same)))
    return tuple(remedies)


def _list_group_ids(failures: Sequence[FailedJob]) -> tuple[str, ...]:
    return tuple(group.id for group in group_failures(failures))


def _advise_other_jobs(source: JobSource) -> Advice:
    """Return how to send the jobs that a canary left out."""
    return Advice(AdviceCause.CANARY, Recipe.SUBMIT, source.others, None, False, has_waiting=False, source=source)


def choose_current_advice(
    failures: Sequence[FailedJob], failing: Sequence[FailedJob], counts: JobCounts, left: int,
    source: JobSource = UNKNOWN_SOURCE,
) -> tuple[Advice | None, bool]:  # fmt: skip
    """Return what to do about the jobs that have failed so far, and whether to do it at once, not after the run's end.

    `failing`: jobs in the queue whose latest attempt failed. `left`: how many jobs are running or in the queue.
    """
    is_hopeless = not (counts.done or counts.already_there)
    left = left if is_hopeless else 0
    outcome = RunOutcome(counts.ended + left, counts, left, [*failures], 0, failing=[*failing])
    if not (failures or (failing and is_hopeless)):
        return None, False
    advice = choose_advice(outcome, is_hopeless=is_hopeless and bool(left), source=source)
    if advice is None or not (is_hopeless and left and needs_commands(advice)):
        return advice, False
    return replace(advice, is_urgent=True), True


def needs_commands(advice: Advice) -> bool:
    """Return whether a correction during the run needs commands; otherwise, jobs in the queue are just tried again."""
    return advice.recipe in (*REPLACING_RECIPES, Recipe.REBUILD) or advice.cause is AdviceCause.MEMORY


def select_repeated_jobs(outcome: RunOutcome, batch: NextBatch) -> list[FailedJob]:
    """Return the run's failed jobs that `retry` sent again after it and that have not ended yet."""
    return [failed for failed in outcome.failures if failed.job in batch.repeated]


def build_batch_advice(batch: NextBatch) -> Advice:
    """Return how to run the jobs that were sent after a run."""
    return Advice(AdviceCause.NEXT_BATCH, Recipe.CONTINUE, batch.jobs, None, False, has_waiting=True, batch=batch)


def _find_example(outcome: RunOutcome, failures: list[FailedJob]) -> FailedJob | None:
    """Return a job that failed in the most frequent way, with its log if that is known."""
    groups = group_failures(failures)
    if not groups:
        return None
    known = {group.id: group.example for group in (*outcome.failing_groups, *outcome.groups)}
    return known.get(groups[0].id, groups[0].example)


def list_job_files(advice: Advice, line: CommandLine) -> list[str]:
    """Return the Job files that the jobs may have come from, as the user types them; the last one was used last."""
    others = () if advice.cause is AdviceCause.CANARY else advice.source.other_files
    return list(dict.fromkeys(line.select_job_file(path).job_file for path in (*others, advice.source.job_file)))


def list_next_commands(advice: Advice, line: CommandLine) -> list[str]:
    """Return the commands to type after the correction, in this order."""
    line = line.select_job_file(advice.source.job_file)
    return _list_recipe_commands(advice.recipe, advice, line)


def _list_separate_retries(advice: Advice, line: CommandLine) -> list[str]:
    """Return the commands that send the jobs first that need something else; the main one sends all others."""
    is_plain = advice.recipe in (Recipe.RETRY, Recipe.REBUILD)
    commands: list[str] = []
    for other in advice.others:
        corrections = _list_corrections(other, line)
        if is_submitted(advice, line) and not other.origin.is_script:  # `submitJob` sends all jobs that are not done
            continue
        if len(other.groups) <= MAX_NAMED_GROUPS and (any(corrections) or not is_plain):
            only = [word for group in other.groups for word in ("--only", group)]
            for options in corrections:
                commands.append(line.format_retry(*only, *options, has_waiting=bool(commands)))
    return commands


def is_submitted(advice: Advice, line: CommandLine) -> bool:
    """Return whether `submitJob` sends the failed jobs: `retry --with` would make jobs of older workers from a Job file
    that may not be theirs."""
    is_unclear = advice.origin.is_unknown and len(list_job_files(advice, line)) > 1
    return advice.recipe is Recipe.RETRY_WITH and is_unclear


def _list_corrections(other: OtherRemedy, line: CommandLine) -> list[tuple[str, ...]]:
    """Return the options of each `retry` that corrects some of these jobs: one for each Job file.

    Jobs that came from a script, or from any of several Job files, are sent without options.
    """
    if other.cause is AdviceCause.TIME:
        return [("--timeout", format_minutes(other.minutes))]
    files = other.origin.job_files
    if other.cause not in JOB_FILE_CAUSES or other.origin.scripted or (other.origin.is_unknown and len(files) > 1):
        return [()]
    return [("--with", line.select_job_file(path).job_file) for path in files or ("",)]


def list_sending_commands(advice: Advice, line: CommandLine) -> list[str]:
    """Return the first of these commands: those that send the jobs, without those that start and watch machines."""
    return list_next_commands(replace(advice, is_urgent=True), line)


def list_alternative_commands(advice: Advice, line: CommandLine) -> list[str]:
    """Return the commands that end the text about the correction; usually none.

    They are to be typed instead of the next ones, if the program or an upload is to be corrected. Or they come first,
    to add the failed jobs to those in the queue.
    """
    line = line.select_job_file(advice.source.job_file)
    if advice.cause in (AdviceCause.WAITING, AdviceCause.SENT_AGAIN) and advice.has_failed:
        return [line.format_retry(has_waiting=True)]
    if advice.recipe in (Recipe.REBUILD, Recipe.SCRIPT):
        is_wrong = advice.origin.is_script and advice.cause in (AdviceCause.NO_PROGRAM, AdviceCause.PROGRAM)
        if not (is_wrong and advice.has_waiting) or advice.is_urgent:
            return []
        return [line.format_command("cleanup", line.monitor_file, "--yes"), line.format_command("setup")]
    if advice.cause in (AdviceCause.NO_PROGRAM, AdviceCause.PROGRAM) and (line.has_image or not _sends_all(advice)):
        return _list_recipe_commands(Recipe.REBUILD, advice, line)
    if advice.cause is AdviceCause.MISSING_INPUT and advice.recipe is Recipe.RETRY and not advice.origin.scripted:
        recipe = Recipe.RESUBMIT if advice.has_waiting else Recipe.RETRY_WITH
        recipe = spare_other_jobs(recipe, advice.cause, advice.source, has_waiting=advice.has_waiting)
        return _list_recipe_commands(recipe, advice, line)
    return []


def _sends_all(advice: Advice) -> bool:
    """Return whether the commands send all jobs that are not done, whatever was corrected."""
    return advice.recipe in (Recipe.SUBMIT, Recipe.SEND_AGAIN)


def _list_recipe_commands(recipe: Recipe, advice: Advice, line: CommandLine) -> list[str]:
    separate = _list_separate_retries(replace(advice, recipe=recipe), line)
    has_waiting = advice.has_waiting or advice.batch is not None or bool(separate)
    retry = line.list_retry_words(has_waiting=has_waiting)
    longer = ("--timeout", format_minutes(advice.minutes))
    originals = advice.source.retried_runs
    is_canary = advice.source.canary and advice.cause is not AdviceCause.CANARY
    canary = ("--canary", str(advice.source.canary)) if is_canary else ()
    last_file = (files := list_job_files(advice, line))[-1]
    again_files = {line.select_job_file(path).job_file for path in advice.source.again_files}
    submit: list[tuple[str, ...]] = [
        ("submitJob", path, *(canary if path == last_file else ()), *(("--again",) if path in again_files else ()))
        for path in files
    ]
    has_submit = is_submitted(replace(advice, recipe=Recipe.RETRY_WITH), line)
    corrections = [("--with", path) for path in (files[-1:] if advice.origin.is_unknown else files)]
    correct = [("setup",), *submit] if has_submit else _join_retries(retry, corrections, line)
    resubmit = [(*submit[0], "--replace"), *submit[1:]]
    submit = _list_retries(originals, "", [()]) if originals else submit
    empty = [("cleanup", line.monitor_file, "--yes")] if advice.has_waiting else []
    again = [line.list_retry_words(has_waiting=True)] if advice.scripted and advice.has_failed else []
    is_lost = advice.lost and not (advice.has_waiting or advice.is_scripted)
    resend = [*submit, *again] if is_lost else [retry] if advice.has_failed else []
    send: dict[Recipe, list[tuple[str, ...]]] = {
        Recipe.RESUBMIT: resubmit,
        Recipe.REBUILD: [("setup",), *resend],
        Recipe.RETRY: [("setup",), *resend],  # setup applies a corrected config to the containers
        Recipe.RETRY_WITH: correct,
        Recipe.RETRY_LONGER: [(*retry, *longer)],
        Recipe.REPLACE: _list_retries(originals, "--replace", corrections),
        Recipe.REPLACE_LONGER: _list_retries(originals, "--replace", [longer]),
        Recipe.SEND_AGAIN: submit,
        Recipe.SUBMIT: [("setup",), *submit],
        Recipe.SCRIPT: [*empty, ("setup",)],
        Recipe.CONTINUE: [],
    }
    commands = [*send[recipe], *_list_start_commands(advice, line)]
    build = [line.format_build_command()] if recipe is Recipe.REBUILD and line.has_image else []
    return [*build, *separate, *(line.format_command(*command) for command in commands)]


def _join_retries(
    retry: tuple[str, ...], corrections: Sequence[tuple[str, ...]], line: CommandLine
) -> list[tuple[str, ...]]:
    """Return `retry` with each of the corrections. Only the first one may find an empty queue."""
    further = line.list_retry_words(has_waiting=True)
    return [(*(further if number else retry), *options) for number, options in enumerate(corrections)]


def _list_retries(runs: Sequence[str], first: str, corrections: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Return a `retry` of each run with each of the corrections.

    `first`: an option of the first one; the jobs of the others join those it sent.
    """
    pairs = [(run, options) for run in runs for options in corrections]
    modes = [first, *["--yes"] * (len(pairs) - 1)]
    return [
        ("retry", run, *([mode] if mode else []), *options) for (run, options), mode in zip(pairs, modes, strict=False)
    ]


def _list_start_commands(advice: Advice, line: CommandLine) -> list[tuple[str, ...]]:
    if advice.is_urgent:  # machines are running, and monitor watches them
        return []
    monitor = ("monitor", line.next_monitor_file or line.monitor_file)
    is_active = advice.batch is not None and advice.batch.is_active
    return [monitor] if is_active else [("startCluster", line.fleet_file), monitor]
