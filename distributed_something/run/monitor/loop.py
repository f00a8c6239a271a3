"""The monitor: look, decide, act, again and again, until nothing is left to do and nothing is left behind.

One monitor for every place where it may run: `run_tick` is a whole tick. `run.py monitor` loops over it; the
auto-monitor in AWS does one a minute, and a few while machines fall idle. What later ticks need to know of earlier ones
lies in the bucket, so a monitor that was killed goes on when it is started again; two at once do no harm, since every
action may be repeated.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from distributed_something.aws.ec2_fleet import cancel_fleet
from distributed_something.aws.ecs import stop_tasks
from distributed_something.aws.spot_prices import SpotPriceCache
from distributed_something.core.clock import Clock
from distributed_something.core.errors import (
    AWSError,
    CloudError,
    explain_aws_error,
    is_access_denied,
    is_login_error,
    translate_aws_errors,
)
from distributed_something.core.monitor_file import MonitorFile
from distributed_something.observe.containers import format_paused_machine
from distributed_something.observe.snapshot import RunSnapshot, observe_run
from distributed_something.run.monitor.actions import carry_out_action
from distributed_something.run.monitor.budget import format_cost_so_far
from distributed_something.run.monitor.history import RunHistory, load_history, save_history, update_history
from distributed_something.run.monitor.policy import EndReason, Pace, RunClosure, choose_actions, has_surplus_containers

if TYPE_CHECKING:
    from distributed_something.aws.clients import Clients


FLEET_ENDED_MESSAGE = (
    "the fleet {fleet} has ended but jobs wait: startCluster requests another, which goes on with them"
)
NO_JOB_SUCCEEDS_MESSAGE = (
    "no job succeeds ({why}). The machines are stopped, the queue is kept. Mend what is wrong, then startCluster again"
)
COST_REACHED_MESSAGE = (
    "the run has cost {cost} (MAX_COST): its machines are stopped, {jobs:,} jobs are kept in the queue. startCluster"
    " goes on with them, in a run that may cost as much again"
)


@dataclass(frozen=True)
class Tick:
    """What one step came to: the look, what is remembered of it, what is over, if anything, and whether to look again
    soon."""

    look: RunSnapshot
    history: RunHistory
    over: EndReason | None
    soon: bool = False


def run_tick(
    clients: Clients, file: MonitorFile, now: float, prices: SpotPriceCache, *, cheapest: bool, pace: Pace
) -> Tick:
    """One tick: looks, decides, acts (all but what an end asks for). Raises AWS's errors."""
    before, now = load_history(clients.s3, file, now)
    look = observe_run(clients, file, now, prices)
    seen = update_history(before, look, pace.settle)
    actions = choose_actions(look, seen, file, cheapest=cheapest or file.MONITOR_CHEAPEST, pace=pace)
    if EndReason.RUN in actions and seen.ended is None:
        seen = replace(seen, ended=look.at)
    save_history(clients.s3, file, seen)  # first: an action that AWS always refuses keeps no run from its end
    for action in actions:
        carry_out_action(clients, file, action)
    if RunClosure() in actions:
        seen = replace(seen, closed=True)
        save_history(clients.s3, file, seen)
    over = next((action for action in actions if isinstance(action, EndReason)), None)
    return Tick(look, seen, over, has_surplus_containers(look, file))


class TickListener(Protocol):
    """Where the monitor tells what it saw."""

    def show(self, snapshot: RunSnapshot, history: RunHistory) -> None:
        """Show a look that succeeded."""

    def say(self, text: str) -> None:
        """Print a line of progress."""


def watch_run(
    clients: Clients, file: MonitorFile, clock: Clock, listener: TickListener, *, cheapest: bool, pace: Pace
) -> RunHistory:
    """Tick until no job is left; return what is remembered then. Passing errors of AWS are said and outlived; raises
    CloudError for lasting ones that come before the first look succeeded (wrong credentials, missing rights), and for
    every other end."""
    prices, looked = SpotPriceCache(file.MONITOR_MACHINE_PRICE), False
    while True:
        pause = pace.look
        try:
            tick = run_tick(clients, file, clock.now(), prices, cheapest=cheapest, pace=pace)
        except AWSError as error:
            told = explain_aws_error("looking at the run", error)
            if not looked and (is_access_denied(error) or is_login_error(error)):
                raise told from error
            listener.say(f"{told} (trying again)")
        else:
            looked = True
            listener.show(tick.look, tick.history)
            if tick.over is EndReason.RUN:
                return tick.history
            if tick.over is not None:
                raise stop_unfinished_run(clients, file, tick)
            pause = pace.soon if tick.soon else pace.look
        clock.sleep(pause)


def stop_unfinished_run(clients: Clients, file: MonitorFile, tick: Tick) -> CloudError:
    """Ends what costs money, for an end that leaves jobs in the queue; the error that tells it. Raises CloudError."""
    if tick.over is not EndReason.FLEET:
        with translate_aws_errors("stopping the machines: type monitor again, WHICH TRIES IT AGAIN"):
            stop_tasks(clients.ecs, file.MONITOR_ECS_CLUSTER, file.names.service)
            cancel_fleet(clients.ec2, file.MONITOR_FLEET_ID)
    if tick.over is EndReason.COST:
        cost = format_cost_so_far(tick.history.cost, file.MONITOR_MAX_COST)
        return CloudError(COST_REACHED_MESSAGE.format(cost=cost, jobs=tick.look.jobs))
    if tick.over is EndReason.NOTHING_WORKS:
        paused = next(map(format_paused_machine, tick.look.paused), None)
        why = paused or "run.py why, and the records of the failed jobs, say why"
        return CloudError(NO_JOB_SUCCEEDS_MESSAGE.format(why=why))
    return CloudError(FLEET_ENDED_MESSAGE.format(fleet=file.MONITOR_FLEET_ID))
