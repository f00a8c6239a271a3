"""The monitor's loop: observe the run, decide what to do, and act, until no jobs remain.

`run_tick` performs one complete step. `run.py monitor` calls it repeatedly; the auto-monitor in AWS calls it once a
minute, and more often while machines are becoming idle. The history that later ticks need is stored in the bucket, so
that a monitor that was killed can continue after a restart. Two monitors can safely run at the same time, because every
action can be repeated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING, Protocol

from botocore.exceptions import ClientError

from distributed_something.aws.ec2_fleet import cancel_fleet, is_fleet_busy
from distributed_something.aws.ecs import stop_tasks
from distributed_something.core.clock import Clock
from distributed_something.core.errors import (
    AWSError,
    CloudError,
    explain_aws_error,
    is_access_denied,
    is_login_error,
    is_settings_error,
    needs_new_login,
    translate_aws_errors,
)
from distributed_something.core.monitor_file import MonitorFile
from distributed_something.core.text import format_count
from distributed_something.observe.containers import format_paused_machine
from distributed_something.observe.scaling import add_protected_tasks, add_unusable_machines
from distributed_something.observe.snapshot import RunCaches, RunSnapshot, observe_run
from distributed_something.run.monitor.actions import carry_out_action, describe_action, split_action
from distributed_something.run.monitor.budget import format_cost_so_far
from distributed_something.run.monitor.history import RunHistory, load_history, save_history, update_history
from distributed_something.run.monitor.machine_ends import record_machine_ends
from distributed_something.run.monitor.policy import (
    EndReason,
    MonitorAction,
    Pace,
    RunClosure,
    UnusableMachineTermination,
    choose_actions,
    has_every_job_failed,
    has_surplus_containers,
    is_protection_relevant,
)
from distributed_something.run.monitor.start_failure import describe_start_failure, describe_unusable_machines
from distributed_something.run.monitor.unusable import add_terminations, is_every_machine_unusable
from distributed_something.run.notifications.notifier import send_due_notifications

if TYPE_CHECKING:
    from distributed_something.aws.clients import Clients


FLEET_ENDED_MESSAGE = "the fleet {fleet} has ended, but jobs are still waiting. They remain in the queue"
NO_JOB_SUCCEEDS_MESSAGE = "no job has succeeded{reason}. The machines were stopped, and the queue was kept"
ALL_JOBS_FAILED_MESSAGE = (
    "every job failed. The machines were stopped; the queue, which is empty, and everything else that setup created"
    " were kept"
)
COST_REACHED_MESSAGE = (
    "the run has cost {cost} (MAX_COST). Its machines were stopped; {jobs} {remain} in the queue. A new run may"
    " cost as much again"
)


@dataclass(frozen=True)
class Tick:
    """The outcome of one step of the monitor.

    `end_reason`: why the run is over, or None if it continues. `is_scaling_down`: whether the next tick should follow
    soon, because machines are becoming idle. `failure`: the error of an action that AWS rejected, which the next tick
    repeats; its cause is AWS's error. `notes`: lines about notifications.
    """

    snapshot: RunSnapshot
    history: RunHistory
    end_reason: EndReason | None
    is_scaling_down: bool = False
    failure: CloudError | None = None
    notes: tuple[str, ...] = ()


def run_tick(clients: Clients, file: MonitorFile, caches: RunCaches, now: float, *, cheapest: bool, pace: Pace) -> Tick:
    """Observe the run, choose actions, and carry them out, except for ending the run.

    AWS errors while observing are not caught.
    """
    history, now = load_history(clients.s3, file, now)
    snapshot = observe_run(clients, file, history.start, caches, now)
    snapshot = observe_details(clients, file, snapshot, history, caches, pace)
    history = update_history(history, snapshot, pace.settling_seconds)
    history = record_machine_ends(clients, file, history, snapshot)
    actions = choose_actions(snapshot, history, file, cheapest=cheapest or file.MONITOR_CHEAPEST, pace=pace)
    if EndReason.RUN in actions and history.ended is None:
        history = replace(history, ended=snapshot.at)
    # Save the history before acting, so that an action that AWS always rejects cannot keep the run from ending.
    save_history(clients.s3, file, history)
    history, failure = _carry_out_actions(clients, file, actions, snapshot, history)
    history, notes = _send_notifications(clients, file, snapshot, history, caches)
    end_reason = next((action for action in actions if isinstance(action, EndReason)), None)
    end_reason = None if failure else end_reason
    return Tick(snapshot, history, end_reason, has_surplus_containers(snapshot, file), failure, notes)


def _send_notifications(
    clients: Clients, file: MonitorFile, snapshot: RunSnapshot, history: RunHistory, caches: RunCaches
) -> tuple[RunHistory, tuple[str, ...]]:
    """Send what is due, after the actions, which are more important."""
    notified, notes = send_due_notifications(clients, file, snapshot, history, caches.journals)
    if notified != history:
        save_history(clients.s3, file, notified)
    return notified, notes


def _carry_out_actions(
    clients: Clients, file: MonitorFile, actions: Sequence[MonitorAction], snapshot: RunSnapshot, history: RunHistory
) -> tuple[RunHistory, CloudError | None]:
    """Carry out the actions in order, up to the first one that AWS rejects, which the next tick repeats.

    Return the history with what AWS has done, and the error of the rejected action, if any.
    """
    for action in chain.from_iterable(map(split_action, actions)):
        try:
            carry_out_action(clients, file, action)
        except AWSError as error:
            # While a fleet is changing, EC2 refuses the new target. It would still replace terminated machines.
            is_busy = isinstance(error, ClientError) and is_fleet_busy(error)
            return history, None if is_busy else _explain_failed_action(action, error)
        if isinstance(action, UnusableMachineTermination):
            history = add_terminations(history, snapshot, action.machines)
            save_history(clients.s3, file, history)
        elif isinstance(action, RunClosure):
            history = replace(history, closed=True)
            save_history(clients.s3, file, history)
    return history, None


def _explain_failed_action(action: MonitorAction, error: BaseException) -> CloudError:
    explained_error = explain_aws_error(describe_action(action), error)
    explained_error.__cause__ = error
    return explained_error


def observe_details(
    clients: Clients, file: MonitorFile, snapshot: RunSnapshot, history: RunHistory, caches: RunCaches, pace: Pace
) -> RunSnapshot:
    """Return the snapshot with what only the monitor's decisions need, if it can change one of them.

    `history`: without the snapshot. AWS errors are not caught.
    """
    if is_protection_relevant(snapshot, history, file):
        snapshot = add_protected_tasks(clients, file, snapshot)
    seconds = pace.first_container_seconds
    if file.MONITOR_MACHINES and snapshot.at - file.MONITOR_START_TIME / 1000 >= seconds:
        snapshot = add_unusable_machines(clients, file, snapshot, caches.journals, seconds)
    return snapshot


class TickListener(Protocol):
    """Interface for an object that receives the monitor's snapshots and progress messages."""

    def show_snapshot(self, snapshot: RunSnapshot, history: RunHistory) -> None:
        """Show a snapshot."""

    def print_progress(self, text: str) -> None:
        """Print a line of progress."""


def watch_run(
    clients: Clients, file: MonitorFile, listener: TickListener, clock: Clock, *, cheapest: bool, pace: Pace
) -> Tick:
    """Run ticks until the run is over; return the last tick, whose `end_reason` is not None.

    If AWS reports an error, print it and retry. Raise CloudError if the user must log in again, or if the first
    snapshot fails because of a missing permission, a wrong clock, or a wrong setting.
    """
    caches, has_snapshot = RunCaches(clients.s3, file), False
    while True:
        pause = pace.interval_seconds
        try:
            tick = run_tick(clients, file, caches, clock.now(), cheapest=cheapest, pace=pace)
        except AWSError as error:
            explained_error = explain_aws_error("looking at the run", error)
            is_lasting = is_access_denied(error) or is_login_error(error) or is_settings_error(error)
            if (is_lasting and not has_snapshot) or needs_new_login(error):
                raise explained_error from error
            listener.print_progress(f"{explained_error} (retrying)")
        else:
            has_snapshot = True
            listener.show_snapshot(tick.snapshot, tick.history)
            for note in tick.notes:
                listener.print_progress(note)
            if tick.failure is not None:
                if tick.failure.__cause__ is not None and needs_new_login(tick.failure.__cause__):
                    raise tick.failure
                listener.print_progress(f"{tick.failure} (retrying)")
            if tick.end_reason is not None:
                return tick
            pause = pace.short_interval_seconds if tick.is_scaling_down else pace.interval_seconds
        clock.sleep(pause)


def stop_unfinished_run(clients: Clients, file: MonitorFile, tick: Tick) -> str:
    """Stop the machines of a run that ends with jobs still in its queue; return the sentence that explains why.

    What to do next depends on how the jobs failed, which `EndedRun.format_advice` reads afterward.
    Raise CloudError if the machines cannot be stopped.
    """
    start_failure = _describe_start_failure(clients, file, tick)  # before ECS stops the others
    if tick.end_reason is not EndReason.FLEET:
        with translate_aws_errors("stopping the machines (THEY STILL COST MONEY; run monitor again to retry)"):
            stop_tasks(clients.ecs, file.MONITOR_ECS_CLUSTER, file.names.service)
            cancel_fleet(clients.ec2, file.MONITOR_FLEET_ID)
    if tick.end_reason is EndReason.COST:
        cost, jobs = format_cost_so_far(tick.history.cost, file.MONITOR_MAX_COST), tick.snapshot.jobs
        return COST_REACHED_MESSAGE.format(
            cost=cost, jobs=format_count(jobs, "job"), remain="remains" if jobs == 1 else "remain"
        )
    if start_failure:
        return start_failure
    if tick.end_reason is EndReason.NOTHING_WORKS and is_every_machine_unusable(tick.snapshot, tick.history):
        return describe_unusable_machines(tick.history)
    if tick.end_reason is EndReason.NOTHING_WORKS and has_every_job_failed(tick.snapshot):
        return ALL_JOBS_FAILED_MESSAGE
    if tick.end_reason is EndReason.NOTHING_WORKS:
        reasons = [format_paused_machine(paused, tick.snapshot.service) for paused in tick.snapshot.paused]
        return NO_JOB_SUCCEEDS_MESSAGE.format(reason=f" ({reasons[0]})" if reasons else "")
    return FLEET_ENDED_MESSAGE.format(fleet=file.MONITOR_FLEET_ID)


def _describe_start_failure(clients: Clients, file: MonitorFile, tick: Tick) -> str:
    """Return why no container has started; an empty string if the run ends for another reason."""
    since = tick.history.unstarted_since
    if tick.end_reason is not EndReason.NOTHING_WORKS or since is None:
        return ""
    return describe_start_failure(clients, file, tick.snapshot.at - since)
