"""Observes the status of a run without changing anything, during the run and after it."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import starmap
from typing import TYPE_CHECKING, NamedTuple

from distributed_something.aws.ec2_fleet import format_fleet_problem
from distributed_something.core.text import format_count, format_duration
from distributed_something.observe.containers import format_paused_machine
from distributed_something.observe.documents.replacements import find_replacements
from distributed_something.observe.queue import SETTLING_SECONDS, find_lease_seconds
from distributed_something.observe.snapshot import RunCaches, RunSnapshot, observe_run
from distributed_something.results.causes import FailureGroup, compute_group_cost, group_failures
from distributed_something.results.outcome import load_run_outcome
from distributed_something.results.retry.retry_jobs import load_retry_lists
from distributed_something.results.retry.settled_jobs import SettledJobs, find_settled_jobs
from distributed_something.results.status.document import (
    CostNumbers,
    JobNumbers,
    LostLeases,
    MachineNumbers,
    RunState,
    RunStatus,
    choose_ended_state,
)
from distributed_something.results.status.forecast import (
    Estimate,
    estimate_remaining_seconds,
    measure_average_speed,
    measure_speed,
)
from distributed_something.results.status.job_numbers import (
    JobSources,
    count_current_jobs,
    count_ended_jobs,
    select_retried_jobs,
)
from distributed_something.results.status.progress import RunProgress
from distributed_something.results.summary import RunSummary, find_run_summary
from distributed_something.run.monitor.budget import classify_cost, format_cost_warning
from distributed_something.run.monitor.history import RunHistory, compute_cost_since, load_history
from distributed_something.run.monitor.policy import PROTECTION_DENIED_MESSAGE, EndReason
from distributed_something.run.monitor.start_failure import format_start_outcome, mention_remedy
from distributed_something.run.monitor.unusable import format_unusable_machines
from distributed_something.run.run_outcome import (
    choose_ended_advice,
    count_original_failures,
    load_ended_outcome,
)

if TYPE_CHECKING:
    from distributed_something.aws.clients import Clients
    from distributed_something.core.monitor_file import MonitorFile

SUMMARY_SECONDS = 600.0  # within which a monitor saves the summary after a run's end


@dataclass(frozen=True)
class RunView:
    """The run that is watched, the region of its clients, and what earlier looks at it have already read."""

    clients: Clients
    file: MonitorFile
    caches: RunCaches
    progress: RunProgress

    @classmethod
    def open(cls, clients: Clients, file: MonitorFile) -> RunView:
        return cls(clients, file, RunCaches(clients.s3, file), RunProgress())


def observe_status(view: RunView, now: float) -> RunStatus:
    """Return the run's status, from AWS or, after the run, from the bucket. AWS errors are not caught.

    `now`: seconds since 1970, if AWS does not say what time it is.
    """
    clients, file = view.clients, view.file
    summary = find_run_summary(clients.s3, file)
    history, now = load_history(clients.s3, file, now)
    if summary is not None and summary.is_clean:
        return _build_ended_status(view, summary, history, now)
    snapshot = observe_run(clients, file, history.start, view.caches, now, history.until)
    status = build_current_status(view, snapshot, history)
    return _add_unwatched_end(view, status, snapshot, history, now) if status.state.has_ended else status


def _add_unwatched_end(
    view: RunView, status: RunStatus, snapshot: RunSnapshot, history: RunHistory, now: float
) -> RunStatus:
    """Return the status of a run that has ended without a summary, with the ends that only records know.

    Its queue is gone, so all jobs that have not ended are lost.
    """
    outcome = load_run_outcome(
        view.clients.s3, view.file, snapshot.submitted, 0,
        replacements=view.progress.counter.replacements,
    )  # fmt: skip
    settled = find_settled_jobs(view.clients.s3, view.file, outcome.failures, now)
    is_complete, ended = outcome.is_complete, status.ended or now
    reason = "run" if not (outcome.unrecorded or outcome.unread) and outcome.submitted is not None else "stopped"
    return replace(
        status,
        state=choose_ended_state(reason=reason, is_complete=is_complete),
        jobs=count_ended_jobs(outcome.submitted, outcome.counts, 0),
        failures=outcome.groups, failing=(), attempt_seconds=outcome.total_seconds, settled=settled,
        messages=[*status.messages, *format_settled_jobs(settled)],
        advice=choose_ended_advice(
            view.clients, view.file, outcome, history, is_hopeless=False, ended=ended, settled=settled
        ),
    )  # fmt: skip


def build_current_status(view: RunView, snapshot: RunSnapshot, history: RunHistory) -> RunStatus:
    """Return the status of a run that has not ended. Reads the new lines of the journals; AWS errors are not caught."""
    file, progress = view.file, view.progress
    for line in view.caches.journals.iter_new_lines():
        progress.add_line(line)
    start, state = file.MONITOR_START_TIME / 1000, choose_current_state(snapshot, history)
    progress.counter.replacements = find_replacements(view.caches.submissions, file, snapshot.at, history.until)
    failures = progress.counter.list_failed_jobs()
    retried = select_retried_jobs(failures, _find_retries(view, history) if failures else {})
    machines = _count_machines(file, snapshot, progress)
    jobs = _count_jobs(progress, snapshot, state, len(retried), machines.slots)
    is_active = state in (RunState.STARTING, RunState.RUNNING) and jobs.left > 0
    remaining = estimate_remaining_seconds(progress, start, snapshot.at, jobs.left) if is_active else None
    speed = measure_speed(progress, start, snapshot.at) if is_active else measure_average_speed(progress, start)
    lost_leases = _observe_lost_leases(view, snapshot)
    return RunStatus(
        app=file.MONITOR_APP_NAME, run=file.run, region=view.clients.s3.meta.region_name,
        state=state, at=snapshot.at, started=start, jobs=jobs,
        ended=_find_end(history, progress) if state.has_ended else history.ended,
        failures=group_failures([job for job in failures if job.job not in retried], progress.counter.group_values),
        failing=_group_failing_jobs(progress, history),
        attempt_seconds=progress.counter.total_seconds,
        cost=_estimate_cost(file, snapshot, history, remaining, has_ended=state.has_ended),
        machines=machines, speed=speed,
        remaining=remaining, slowest=progress.slowest_jobs, median_seconds=progress.median_seconds,
        messages=[
            *format_lost_leases(lost_leases),
            *(message.text for message in list_messages(view, snapshot, history)),
        ],
        lost_leases=lost_leases,
    )  # fmt: skip


def _observe_lost_leases(view: RunView, snapshot: RunSnapshot) -> LostLeases | None:
    if not snapshot.lost_leases:
        return None
    return LostLeases(snapshot.lost_leases, find_lease_seconds(view.clients.sqs, view.file.MONITOR_QUEUE_NAME))


def format_lost_leases(lost: LostLeases | None) -> list[str]:
    """Return what the jobs of lost workers wait for; no lines if there are none."""
    if lost is None:
        return []
    verb = "waits" if lost.jobs == 1 else "wait"
    limit = f", at most {format_duration(lost.seconds)}" if lost.seconds else ""
    return [f"{format_count(lost.jobs, 'job')} {verb} for the leases of lost workers{limit}"]


def _count_jobs(progress: RunProgress, snapshot: RunSnapshot, state: RunState, retried: int, slots: int) -> JobNumbers:
    """`slots`: of the containers that run now. Programs of lost machines seem to run until their leases expire."""
    replaced_at = snapshot.replaced_at or 0.0
    running = min(snapshot.running, slots) if snapshot.service else snapshot.running
    sources = JobSources(
        snapshot.submitted, snapshot.totals, progress.counter.count_jobs(),
        running, snapshot.jobs - running, retried,
        recently_ended=progress.count_ends_since(snapshot.at - SETTLING_SECONDS),
        replacing=snapshot.replacing,
        is_empty=state is RunState.ENDING and not snapshot.jobs,
        is_settling=snapshot.is_sending or snapshot.at - replaced_at < SETTLING_SECONDS,
    )  # fmt: skip
    return count_current_jobs(sources)


def _find_retries(view: RunView, history: RunHistory) -> dict[str, float]:
    """Return when failed jobs were last sent again to this run (seconds since 1970), by the job's ID."""
    sent: dict[str, float] = {}
    for retries in load_retry_lists(view.clients.s3, view.file.MONITOR_BUCKET_NAME, view.file.keys):
        if history.ended is None or retries.began <= history.ended:
            sent |= {job: max(retries.began, sent.get(job, 0.0)) for job, new in retries.jobs.items() if new == job}
    return sent


def _group_failing_jobs(progress: RunProgress, history: RunHistory) -> list[FailureGroup]:
    """Return the causes of failed attempts while no job has succeeded. Later, most of these jobs will still be done."""
    if history.failing_since is None:
        return []
    return group_failures(progress.counter.list_failing_jobs(history.replaced_at or 0.0))


def compute_group_costs(status: RunStatus) -> list[float | None]:
    """Return what each group of `failures`, and then of `failing`, has cost, in USD.

    That is the group's share of the time that all attempts took.
    """
    cost, seconds = status.cost.so_far, status.attempt_seconds
    return [compute_group_cost(group, cost, seconds) for group in (*status.failures, *status.failing)]


def choose_current_state(snapshot: RunSnapshot, history: RunHistory) -> RunState:
    """Return the state of a run without a summary that says how it ended."""
    fleet = snapshot.fleet
    is_removed = snapshot.queue is None and (fleet is None or not (fleet.is_active or fleet.machines))
    # A monitor that has removed everything saves a summary soon, unless it was killed.
    is_unwatched = history.ended is None or history.stopped or snapshot.at - history.ended > SUMMARY_SECONDS
    if is_removed and is_unwatched:
        return _choose_stopped_state(snapshot)
    if history.ended is not None or history.empty_looks:
        return RunState.ENDING
    return RunState.RUNNING if snapshot.totals.containers else RunState.STARTING


def _choose_stopped_state(snapshot: RunSnapshot) -> RunState:
    """Return the state of a run that `cleanup` ended, or whose queue was deleted."""
    totals = snapshot.totals
    if snapshot.submitted is None or totals.ended < snapshot.submitted:
        return RunState.STOPPED
    return choose_ended_state(reason="run", is_complete=not totals.failed)


def _find_end(history: RunHistory, progress: RunProgress) -> float:
    """Return when a run ended that nobody watched to its end: when `cleanup` ended it, or else when a monitor or a
    worker last reported."""
    if history.stopped and history.ended is not None:
        return history.ended
    return max(history.at or 0.0, progress.last_end or 0.0)


def _estimate_cost(
    file: MonitorFile, snapshot: RunSnapshot, history: RunHistory, remaining: Estimate | None, *, has_ended: bool
) -> CostNumbers:
    """Return the cost so far, also since the monitor's last snapshot, and the expected one.

    A cost of 0 is unknown if there are or were machines: no monitor was there to estimate it.
    """
    limit = file.MONITOR_MAX_COST or None
    if has_ended:
        return CostNumbers(history.cost or None, None, limit)
    cost, hourly = history.cost + compute_cost_since(history, snapshot), snapshot.hourly
    at_end = None
    if remaining is not None and hourly:
        at_end = Estimate(
            *(cost + hourly * seconds / 3600 for seconds in (remaining.value, remaining.low, remaining.high))
        )
    has_machines = bool(snapshot.totals.containers or (snapshot.fleet and snapshot.fleet.machines))
    return CostNumbers(None if has_machines and not cost else cost, at_end, limit)


def _count_machines(file: MonitorFile, snapshot: RunSnapshot, progress: RunProgress) -> MachineNumbers:
    running = len(snapshot.fleet.machines) if snapshot.fleet else 0
    target = snapshot.fleet.target if snapshot.fleet else 0
    slots = snapshot.service.running * file.MONITOR_JOBS_PER_TASK if snapshot.service else 0
    return MachineNumbers(running, target, slots, progress.interrupted_attempts)


class Message(NamedTuple):
    """Something that happened or is wrong. Messages about the same thing have the same `key`."""

    key: Hashable
    label: str
    text: str


def list_messages(view: RunView, snapshot: RunSnapshot, history: RunHistory) -> list[Message]:
    """Return what a person who watches the run should know."""
    limit = view.file.MONITOR_MAX_COST
    messages = [
        Message(paused, "paused", format_paused_machine(paused, snapshot.service)) for paused in snapshot.paused
    ]
    messages += [Message(problem.cause, "fleet", format_fleet_problem(problem)) for problem in snapshot.problems]
    if text := format_unusable_machines(history):
        messages.append(Message(("unusable", history.unusable_count), "machines", text))
    if snapshot.is_protection_denied:
        messages.append(Message("protection", "service", PROTECTION_DENIED_MESSAGE))
    if warning := format_cost_warning(history.cost, limit):
        messages.append(Message(classify_cost(history.cost, limit), "cost", warning))
    if interruption := view.progress.last_interruption:
        at, job = interruption
        text = f"{_format_time(at)}: the job {job} was interrupted and is back in the queue"
        messages.append(Message(interruption, "interrupted", text))
    return messages


def _format_time(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%H:%M} UTC"


def format_settled_jobs(settled: SettledJobs) -> list[str]:
    """Return what became of the failed and the waiting jobs after the run; no lines if nothing did."""
    texts = []
    if count := len(settled.succeeded):
        texts.append(f"{format_count(count, 'failed job')} {'has' if count == 1 else 'have'} succeeded in later runs")
    if count := len(settled.replaced):
        texts.append(f"submitJob --replace has replaced {format_count(count, 'failed job')} since the run's end")
    if count := settled.removed:
        texts.append(f"submitJob --replace has removed {format_count(count, 'waiting job')} since the run's end")
    return texts


def format_original_failures(run: str, count: int) -> str:
    """Return that failed jobs of an earlier run are left, whose others `retry` sent to this run."""
    return f"{format_count(count, 'failed job')} of the run {run} {'is' if count == 1 else 'are'} left"


def find_run_end(file: MonitorFile, summary: RunSummary, history: RunHistory) -> float:
    """Return when a run with this summary ended, in seconds since 1970."""
    start = file.MONITOR_START_TIME / 1000
    # A monitor that was started again after the end has written a later history.
    return summary.ended or history.ended or min(filter(None, [history.at, summary.saved]), default=start)


def _build_ended_status(view: RunView, summary: RunSummary, history: RunHistory, now: float) -> RunStatus:
    file, progress = view.file, view.progress
    outcome = load_ended_outcome(view.clients, file, summary)
    for line in view.caches.journals.iter_new_lines():
        progress.add_line(line)
    start = file.MONITOR_START_TIME / 1000
    is_hopeless = summary.reason == EndReason.NOTHING_WORKS.value
    ended = find_run_end(file, summary, history)
    settled = find_settled_jobs(view.clients.s3, file, outcome.failures, now, outcome.left, ended)
    advice = choose_ended_advice(
        view.clients, file, outcome, history, is_hopeless=is_hopeless, ended=ended, settled=settled
    )
    left = {} if outcome.counts.failed else count_original_failures(view.clients, file, ended, now)
    return RunStatus(
        app=file.MONITOR_APP_NAME, run=file.run, region=view.clients.s3.meta.region_name,
        state=choose_ended_state(reason=summary.reason, is_complete=summary.is_complete), at=ended, started=start,
        ended=ended, jobs=count_ended_jobs(outcome.submitted, outcome.counts, outcome.left),
        failures=outcome.groups, failing=outcome.failing_groups,
        attempt_seconds=outcome.total_seconds,
        cost=CostNumbers(history.cost or None, None, file.MONITOR_MAX_COST or None),
        machines=MachineNumbers(interrupted_attempts=progress.interrupted_attempts),
        speed=measure_average_speed(progress, start),
        slowest=progress.slowest_jobs, median_seconds=progress.median_seconds,
        reason="" if summary.reason == "run" else summary.reason, start_failure=summary.start_failure,
        messages=[
            *([format_start_outcome(summary.start_failure)] if summary.start_failure else []),
            *format_settled_jobs(settled), *starmap(format_original_failures, left.items()),
        ],
        settled=settled,
        advice=mention_remedy(advice, summary.start_failure),
    )  # fmt: skip
