"""Explains why a step of a test run did not happen, with the causes that `why` knows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from distributed_something.cli.test_run.plan import TEST_JOBS
from distributed_something.cli.test_run.steps import Step
from distributed_something.cli.test_run.watcher import StopReason
from distributed_something.core.errors import AWSError, format_lookup_error
from distributed_something.core.text import (
    TERMINAL_COLUMNS,
    format_duration,
    format_one_line,
    format_wrapped_lines,
    format_wrapped_row,
)
from distributed_something.diagnose.why.cause import Cause
from distributed_something.diagnose.why.container_causes import (
    diagnose_image_pull,
    diagnose_service_events,
    diagnose_stopped_tasks,
)
from distributed_something.diagnose.why.fleet_causes import (
    diagnose_fleet_errors,
    diagnose_slow_launch,
    diagnose_small_quota,
)
from distributed_something.diagnose.why.job_causes import JobEvidence, diagnose_failing_jobs
from distributed_something.diagnose.why.machine_causes import (
    diagnose_disconnected_agents,
    diagnose_failed_launches,
    diagnose_paused_machines,
    diagnose_spot_interruptions,
    diagnose_unregistered_machines,
)
from distributed_something.diagnose.why.rank import select_remedy
from distributed_something.diagnose.why.view import format_causes, format_unchecked_parts
from distributed_something.observe.containers import (
    read_failed_task_lines,
    select_failed_tasks,
)
from distributed_something.observe.evidence import Evidence, build_subject_from_run, gather_evidence
from distributed_something.results.job_counter import JobCounts
from distributed_something.results.outcome import RunOutcome, load_run_outcome
from distributed_something.results.status.advice_causes import AdviceCause, classify_failure
from distributed_something.worker import find_permission_in_text

if TYPE_CHECKING:
    from distributed_something.core.monitor_file import MonitorFile
    from distributed_something.results.command_line import CommandLine
    from distributed_something.run.run_context import RunContext

_Diagnosis = Callable[[Evidence], Iterable[Cause]]
_MACHINES: tuple[_Diagnosis, ...] = (diagnose_failed_launches, diagnose_spot_interruptions)
_CONTAINERS: tuple[_Diagnosis, ...] = (
    *_MACHINES, diagnose_disconnected_agents, diagnose_service_events, diagnose_stopped_tasks,
)  # fmt: skip
# What can keep each step from happening. Advice to type the commands of a run or to wait is left out: `testRun` does.
_DIAGNOSES: Mapping[Step, tuple[_Diagnosis, ...]] = {
    Step.LAUNCHED: (*_MACHINES, diagnose_fleet_errors, diagnose_small_quota, diagnose_slow_launch),
    Step.JOINED: (*_MACHINES, partial(diagnose_unregistered_machines, joining_seconds=0.0)),
    Step.PULLED: (*_CONTAINERS, diagnose_image_pull),
    Step.STARTED: _CONTAINERS,
    Step.PROTECTED: (*_CONTAINERS, diagnose_paused_machines),
    Step.LOGGED: (*_CONTAINERS, diagnose_paused_machines),
    Step.VERIFIED: (*_CONTAINERS, diagnose_paused_machines),
}
_STEP_WEIGHT, _OLD_IMAGE_WEIGHT = 40, 98
_ROLE_REMEDY = "run setupAWS, which gives the workers' role all permissions that it needs, then testRun again"
# If no diagnosis finds more: what else keeps a step from happening, and what to do.
_STEP_CAUSES = {
    Step.PROTECTED: ("ECS does not protect the container", _ROLE_REMEDY),
    Step.LOGGED: ("CloudWatch has no lines of the worker", _ROLE_REMEDY),
    Step.VERIFIED: ("the jobs' results are not in the bucket as recorded", _ROLE_REMEDY),
}
_LINES_REMEDY = "correct what the lines below show; if it is a permission, "
# The steps for which the worker must have taken a job.
_JOB_STEPS = (Step.PROTECTED, Step.LOGGED, Step.VERIFIED)
_NO_QUEUE_WEIGHT, _NO_JOB_WEIGHT = 97, 41
_NO_QUEUE_REMEDY = "run testRun again, and let nothing else delete its queue"
_NO_JOB_REMEDY = (
    "let the containers' subnet reach SQS (a NAT gateway, an endpoint, or a public address); if that is so already, "
    + _ROLE_REMEDY
)


@dataclass(frozen=True)
class Explanation:
    """Why a test run stopped: the causes, what could not be looked up, and the last lines of the container."""

    reason: StopReason
    causes: list[Cause]
    evidence: Evidence
    lines: tuple[str, ...]


def explain_stop(context: RunContext, file: MonitorFile, reason: StopReason, lines: tuple[str, ...]) -> Explanation:
    """Return why the step will not happen. `lines`: the last ones that the worker sent to CloudWatch itself.

    This must happen before the cleanup, because AWS then forgets most of it. AWS errors are not caught.
    """
    clients, line = context.clients, context.command_line
    subject = build_subject_from_run(file, assigns_addresses=context.settings.ASSIGN_IP)
    evidence = gather_evidence(clients, subject, context.clock.now())
    if not lines and (failed := select_failed_tasks(evidence.stopped_tasks, file.MONITOR_START_TIME / 1000)):
        lines = read_failed_task_lines(clients.logs, file.MONITOR_LOG_GROUP_NAME, file.MONITOR_APP_NAME, failed)
    lines = lines or (evidence.log_tail.lines if evidence.log_tail else ())
    try:
        outcome = load_run_outcome(clients.s3, file, None, 0)
    except AWSError as error:
        outcome = RunOutcome(None, JobCounts(), 0, [], 0)
        evidence = replace(evidence, lookup_errors={**evidence.lookup_errors, "records": format_lookup_error(error)})
    return Explanation(reason, find_causes(reason, evidence, outcome, lines, line), evidence, lines)


def find_causes(
    reason: StopReason, evidence: Evidence, outcome: RunOutcome, lines: tuple[str, ...], line: CommandLine
) -> list[Cause]:
    """Return the causes of the stop, the most likely one first."""
    found = [
        select_remedy(cause, line, is_test=True) for diagnose in _DIAGNOSES[reason.step] for cause in diagnose(evidence)
    ]
    found += _diagnose_role(lines)
    found += _diagnose_jobs(outcome, line)
    found += _diagnose_queue(reason.step, evidence, has_other_cause=bool(found))
    if not found and reason.step in _STEP_CAUSES:
        title, remedy = _STEP_CAUSES[reason.step]
        remedy = _LINES_REMEDY + remedy if lines else remedy
        evidence_text = "see the worker's last lines" if lines else "the worker has written nothing to CloudWatch"
        found.append(Cause(_STEP_WEIGHT, title, reason.note or evidence_text, remedy))
    return sorted(found, key=lambda cause: -cause.weight)


def _diagnose_role(lines: Iterable[str]) -> Iterator[Cause]:
    """Find a permission that AWS refuses to the worker.

    This weighs no more than the step that did not happen, because the worker may have continued without it: nothing but
    its log says so yet. Its health document could name the permission that stopped it.
    """
    for text in lines:
        if permission := find_permission_in_text(text):
            yield Cause(_STEP_WEIGHT, f"the workers' role may not call {permission}", text, _ROLE_REMEDY)
            return


def _diagnose_queue(step: Step, evidence: Evidence, *, has_other_cause: bool) -> Iterator[Cause]:
    """Find that the queue does not exist or, if nothing else explains the stop, that no job has been taken from it."""
    if step not in _JOB_STEPS or not evidence.has_observed("counts"):
        return
    queue, counts = evidence.subject.queue, evidence.counts
    if counts is None:
        text = f"SQS does not find {queue}, in which the jobs were waiting"
        yield Cause(_NO_QUEUE_WEIGHT, "the queue has been deleted, so the worker gets no jobs", text, _NO_QUEUE_REMEDY)
    elif not has_other_cause and counts.waiting >= TEST_JOBS:
        text = f"all {counts.waiting} jobs are still waiting in {queue}"
        yield Cause(_NO_JOB_WEIGHT, "the worker has taken no job from the queue", text, _NO_JOB_REMEDY)


def _diagnose_jobs(outcome: RunOutcome, line: CommandLine) -> Iterator[Cause]:
    """Explain failed jobs. Only a worker that does not know test runs cannot start a job's program."""
    unknown = (AdviceCause.NO_PROGRAM, AdviceCause.MESSAGE)
    old = [failed for failed in outcome.all_failures if classify_failure(failed) in unknown]
    if old:
        remedy = f"build the image again: {line.format_build_command()}" if line.has_image else "update the worker"
        title = "the image contains a worker of an older version, which does not know testRun"
        yield Cause(_OLD_IMAGE_WEIGHT, title, old[0].reason, remedy)
    else:
        jobs = JobEvidence(replace(outcome, left=0), has_pauses=True, is_test=True)
        yield from diagnose_failing_jobs(jobs, line)


def format_explanation(explanation: Explanation, line: CommandLine) -> str:
    """Return the text about a test run that stopped, in at most 80 columns."""
    reason = explanation.reason
    notes = [reason.note] if reason.note else []
    notes += [f"nothing happened in {format_duration(reason.seconds)}"] if reason.seconds is not None else []
    texts = [format_wrapped_row("stopped at", f"{reason.step.value}: {'; '.join(notes)}")]
    texts += format_causes(explanation.causes, line) or [format_wrapped_row("", "AWS gives no reason")]
    texts += format_unchecked_parts(explanation.evidence)
    if explanation.lines:
        texts.append("the worker's last lines:")
        for text in explanation.lines:
            texts += format_wrapped_lines(format_one_line(text), "  | ", "  |   ", TERMINAL_COLUMNS)
    return "\n".join(texts)
