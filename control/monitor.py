"""The monitor: observe, decide, act, again and again, until nothing is left to do and nothing is left behind.

One monitor for every place where it may run: `step()` is a whole tick, `decide()` is pure, and what it needs to know
of earlier ticks is in `History`. Nothing is kept elsewhere, so a monitor that was killed goes on when it is started
again; two at once do no harm, since every action may be repeated.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum

from control import cluster, fleet, queue
from control.clients import Clients
from control.cluster import ServiceState
from control.errors import AWSError, CloudError, code_of, doing, explain
from control.fleet import FleetState
from control.monitorfile import MonitorFile
from control.queue import Counts
from worker.machinery.pauses import paused, prefix_of

EMPTY_LOOKS = 3  # SQS's counts are approximate: a zero is believed only after this many in a row …
SETTLING_SECONDS = 75.0  # … over more than the minute in which, says SQS, they settle
CHEAPEST_AFTER_SECONDS = 15 * 60.0  # as published: by then the fleet has had its chance to start
HOPELESS_FAILURES = 50  # jobs that failed for good, with not one done: not a matter of single jobs
FLEET_ENDED = "the fleet {fleet} has ended but jobs wait: startCluster requests another, which goes on with them"
NOTHING_WORKS = (
    "no job succeeds ({why}). The machines are stopped, the queue is kept. Mend what is wrong, then startCluster again"
)
_FATAL = {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "InvalidClientTokenId", "ExpiredToken",
          "ExpiredTokenException", "UnrecognizedClientException", "AuthFailure", "NoCredentialsError"}  # fmt: skip


@dataclass(frozen=True)
class Pace:
    """How often to look (seconds), and how long the queue must look empty before that is believed (seconds)."""

    look: float = 30.0
    settle: float = SETTLING_SECONDS


@dataclass(frozen=True)
class Snapshot:
    """What one look at AWS saw. `queue` is None where the queue does not exist, `fleet` and `service` likewise.

    `paused`: what the newest containers say that take no jobs, since theirs failed in a row or their disk is full.
    """

    at: float
    queue: Counts | None
    dead: int
    submitted: int | None
    fleet: FleetState | None
    service: ServiceState | None
    paused: tuple[str, ...] = ()

    @property
    def done(self) -> int | None:
        """Jobs that are through, as far as the approximate counts tell; None where nobody noted how many there are."""
        if self.submitted is None or self.queue is None:
            return None
        return max(0, self.submitted - self.queue.jobs - self.dead)


@dataclass(frozen=True)
class History:
    """What earlier looks saw: since when, and how many times in a row, the queue looked empty."""

    empty_since: float | None = None
    empty_looks: int = 0
    first: Snapshot | None = None


class End(Enum):
    """The run is over: clean up. Or only its fleet is (cancelled by hand, or after its seven days), and jobs wait. Or
    nothing works, and going on would only cost money."""

    RUN = "run"
    FLEET = "fleet"
    NOTHING_WORKS = "nothing works"


@dataclass(frozen=True)
class LowerTarget:
    """Let the fleet shrink to `machines`, without ending any that runs."""

    machines: int


Action = End | LowerTarget


def observe(clients: Clients, monitor_file: MonitorFile, now: float) -> Snapshot:
    """One look: a fixed number of calls however many jobs there are (and one for a thousand machines)."""
    url = queue.find(clients.sqs, monitor_file.MONITOR_QUEUE_NAME)
    counts, dead, submitted = _look_at_queue(clients, url) if url else (None, 0, None)
    return Snapshot(
        at=now,
        queue=counts,
        dead=dead,
        submitted=submitted,
        fleet=fleet.state(clients.ec2, monitor_file.MONITOR_FLEET_ID),
        service=cluster.service_state(clients.ecs, monitor_file.MONITOR_ECS_CLUSTER, monitor_file.service_name),
        paused=_look_at_pauses(clients, monitor_file, now),
    )


def remember(history: History, snapshot: Snapshot) -> History:
    """`history` with one more look in it."""
    first = history.first or snapshot
    if snapshot.queue is not None and snapshot.queue.jobs > 0:
        return History(first=first)
    since = snapshot.at if history.empty_since is None else history.empty_since
    return replace(history, empty_since=since, empty_looks=history.empty_looks + 1, first=first)


def decide(snapshot: Snapshot, history: History, *, start: float, cheapest: bool, pace: Pace) -> list[Action]:
    """What to do now. Pure: the same look and the same history give the same actions.

    `start`: of the run, seconds since 1970. `cheapest`: after 15 minutes no machine that ends is replaced.
    """
    empty_for = snapshot.at - history.empty_since if history.empty_since is not None else 0.0
    if history.empty_looks >= EMPTY_LOOKS and empty_for >= pace.settle:
        return [End.RUN]
    found = snapshot.fleet
    if found and not found.active and not found.machines and snapshot.queue and snapshot.queue.waiting:
        return [End.FLEET]
    if _nothing_works(snapshot, history.first or snapshot):
        return [End.NOTHING_WORKS]
    if cheapest and found and found.active and found.target > 1 and snapshot.at - start >= CHEAPEST_AFTER_SECONDS:
        return [LowerTarget(1)]
    return []


def _nothing_works(now: Snapshot, first: Snapshot) -> bool:
    """No job was done since the first look, and either every container has paused or many jobs have failed for good."""
    if now.queue is None or first.queue is None:
        return False
    sent = (now.submitted or 0) - (first.submitted or 0)
    failed = now.dead - first.dead
    done = first.queue.jobs + sent - now.queue.jobs - failed
    all_pause = now.service is not None and len(now.paused) >= now.service.running > 0
    return done <= 0 and now.queue.jobs > 0 and (all_pause or failed >= HOPELESS_FAILURES)


def step(
    clients: Clients, monitor_file: MonitorFile, history: History, now: float, *, cheapest: bool, pace: Pace
) -> tuple[Snapshot, History, End | None]:
    """One tick: look, decide, act (all but the clean-up). The last of the answer: what is over, if anything."""
    snapshot = observe(clients, monitor_file, now)
    history = remember(history, snapshot)
    start = monitor_file.MONITOR_START_TIME / 1000
    actions = decide(snapshot, history, start=start, cheapest=cheapest, pace=pace)
    for action in actions:
        if isinstance(action, LowerTarget):
            fleet.lower_target(clients.ec2, monitor_file.MONITOR_FLEET_ID, action.machines)
    return snapshot, history, next((action for action in actions if isinstance(action, End)), None)


def watch(
    clients: Clients, monitor_file: MonitorFile, *, cheapest: bool, pace: Pace, now: Callable[[], float],
    sleep: Callable[[float], None], show: Callable[[Snapshot, History], None], say: Callable[[str], None],
) -> None:  # fmt: skip
    """Ticks until the run is over. Passing errors of AWS are said and outlived; raises CloudError for lasting ones
    that come before the first look succeeded (wrong credentials, missing rights), and where the fleet has ended while
    jobs wait."""
    history = History()
    while True:
        try:
            snapshot, history, over = step(clients, monitor_file, history, now(), cheapest=cheapest, pace=pace)
        except AWSError as error:
            if history.first is None and code_of(error) in _FATAL:
                raise explain("looking at the run", error) from error
            say(f"{explain('looking at the run', error)} (trying again)")
        else:
            show(snapshot, history)
            if over is End.RUN:
                return
            if over is End.NOTHING_WORKS:
                stop_paying(clients, monitor_file)
                raise CloudError(
                    NOTHING_WORKS.format(
                        why=(*snapshot.paused, "run why, or look at the records of the failed jobs")[0]
                    )
                )
            if over is End.FLEET:
                raise CloudError(FLEET_ENDED.format(fleet=monitor_file.MONITOR_FLEET_ID))
        sleep(pace.look)


def stop_paying(clients: Clients, file: MonitorFile) -> None:
    """Ends the run's machines and keeps its queue, so that startCluster can go on."""
    with doing("stopping the machines: type monitor again, WHICH TRIES IT AGAIN"):
        cluster.stop_tasks(clients.ecs, file.MONITOR_ECS_CLUSTER, file.service_name)
        fleet.cancel(clients.ec2, file.MONITOR_FLEET_ID)


def _look_at_pauses(clients: Clients, file: MonitorFile, now: float) -> tuple[str, ...]:
    found = paused(clients.s3, file.MONITOR_BUCKET_NAME, prefix_of(file.MONITOR_APP_NAME, file.run), now)
    return tuple(f"{one['machine']} takes no jobs: {one['reason']}" for one in found)


def _look_at_queue(clients: Clients, url: str) -> tuple[Counts | None, int, int | None]:
    try:
        counts, submitted = queue.counts(clients.sqs, url), queue.submitted(clients.sqs, url)
        dead_name = queue.dead_letter_name(clients.sqs, url)
        dead_url = queue.find(clients.sqs, dead_name) if dead_name else None
        dead = queue.counts(clients.sqs, dead_url).jobs if dead_url else 0
    except AWSError as error:
        if queue.is_missing(error):
            return None, 0, None  # deleted between two calls
        raise
    return counts, dead, submitted
