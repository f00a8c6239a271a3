"""The monitor: look, decide, act, again and again, until nothing is left to do and nothing is left behind.

One monitor for every place where it may run: `step()` is a whole tick. `run.py monitor` loops over it; the auto-monitor
in AWS does one a minute, and a few while machines fall idle. What later ticks need to know of earlier ones lies in the
bucket, so a monitor that was killed goes on when it is started again; two at once do no harm, since every action may be
repeated.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from control import cluster, fleet, history
from control.act import act
from control.costs import Prices, so_far
from control.decide import Close, End, Pace, decide, to_look_soon
from control.errors import AWSError, CloudError, code_of, doing, explain
from control.history import History
from control.monitorfile import MonitorFile
from control.snapshot import Snapshot, observe

if TYPE_CHECKING:
    from control.clients import Clients

FLEET_ENDED = "the fleet {fleet} has ended but jobs wait: startCluster requests another, which goes on with them"
NOTHING_WORKS = (
    "no job succeeds ({why}). The machines are stopped, the queue is kept. Mend what is wrong, then startCluster again"
)
COST_REACHED = (
    "the run has cost {cost} (MAX_COST): its machines are stopped, {jobs:,} jobs are kept in the queue. startCluster"
    " goes on with them, in a run that may cost as much again"
)
_FATAL = {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "InvalidClientTokenId", "ExpiredToken",
          "ExpiredTokenException", "UnrecognizedClientException", "AuthFailure", "NoCredentialsError"}  # fmt: skip


@dataclass(frozen=True)
class Tick:
    """What one step came to: the look, what is remembered of it, what is over, if anything, and whether to look again
    soon."""

    look: Snapshot
    history: History
    over: End | None
    soon: bool = False


def step(clients: Clients, file: MonitorFile, now: float, prices: Prices, *, cheapest: bool, pace: Pace) -> Tick:
    """One tick: looks, decides, acts (all but what an end asks for). Raises AWS's errors."""
    before, now = history.load(clients.s3, file, now)
    look = observe(clients, file, now, prices)
    seen = history.remember(before, look, pace.settle)
    actions = decide(look, seen, file, cheapest=cheapest or file.MONITOR_CHEAPEST, pace=pace)
    if End.RUN in actions and seen.ended is None:
        seen = replace(seen, ended=look.at)
    history.save(clients.s3, file, seen)  # first: an action that AWS always refuses keeps no run from its end
    for action in actions:
        act(clients, file, action)
    if Close() in actions:
        seen = replace(seen, closed=True)
        history.save(clients.s3, file, seen)
    over = next((action for action in actions if isinstance(action, End)), None)
    return Tick(look, seen, over, to_look_soon(look, file))


def watch(
    clients: Clients, file: MonitorFile, *, cheapest: bool, pace: Pace, now: Callable[[], float],
    sleep: Callable[[float], None], show: Callable[[Snapshot, History], None], say: Callable[[str], None],
) -> History:  # fmt: skip
    """Ticks until no job is left; what is remembered then. Passing errors of AWS are said and outlived; raises
    CloudError for lasting ones that come before the first look succeeded (wrong credentials, missing rights), and for
    every other end."""
    prices, looked = Prices(file.MONITOR_MACHINE_PRICE), False
    while True:
        pause = pace.look
        try:
            tick = step(clients, file, now(), prices, cheapest=cheapest, pace=pace)
        except AWSError as error:
            if not looked and code_of(error) in _FATAL:
                raise explain("looking at the run", error) from error
            say(f"{explain('looking at the run', error)} (trying again)")
        else:
            looked = True
            show(tick.look, tick.history)
            if tick.over is End.RUN:
                return tick.history
            if tick.over is not None:
                raise stopped(clients, file, tick)
            pause = pace.soon if tick.soon else pace.look
        sleep(pause)


def stopped(clients: Clients, file: MonitorFile, tick: Tick) -> CloudError:
    """Ends what costs money, for an end that leaves jobs in the queue; the error that tells it. Raises CloudError."""
    if tick.over is not End.FLEET:
        with doing("stopping the machines: type monitor again, WHICH TRIES IT AGAIN"):
            cluster.stop_tasks(clients.ecs, file.MONITOR_ECS_CLUSTER, file.service_name)
            fleet.cancel(clients.ec2, file.MONITOR_FLEET_ID)
    if tick.over is End.COST:
        cost = so_far(tick.history.cost, file.MONITOR_MAX_COST)
        return CloudError(COST_REACHED.format(cost=cost, jobs=tick.look.jobs))
    if tick.over is End.NOTHING_WORKS:
        why = (*tick.look.paused, "run.py why, and the records of the failed jobs, say why")[0]
        return CloudError(NOTHING_WORKS.format(why=why))
    return CloudError(FLEET_ENDED.format(fleet=file.MONITOR_FLEET_ID))
