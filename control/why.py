"""`run.py why`: why nothing is running, the most likely cause first.

`evidence.gather` looks; here is the judgement, which is pure: each diagnosis is a small function that names at most
one cause, how likely it is (0 to 100), what it saw and what to do. The weights only order causes that hold at the same
time: what must be there before anything else (a queue, jobs, a fleet) stands above what comes later.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby

from control import troubles
from control.errors import one_line
from control.evidence import Evidence, Machine
from control.findings import WIDTH, counted, wrapped
from control.troubles import Event, Trouble

JOINING_SECONDS = 600.0  # an ECS machine joins its cluster one to three minutes after its launch
RECENT_SECONDS = 1800.0  # older events of a service or task say little about now
SILENT_SECONDS = 900.0  # a worker that runs reports at least its usage within this
SHOWN = 3  # things of a kind in one line
LINE_SHOWN = 200  # characters of AWS's own words


@dataclass(frozen=True)
class Cause:
    """Why nothing runs, perhaps. `weight`: how likely (0 to 100). `seen`: what speaks for it."""

    weight: int
    what: str
    seen: str
    remedy: str


def rank(evidence: Evidence) -> list[Cause]:
    """All causes that hold, the most likely first; none where nothing is wrong that can be seen. Pure."""
    causes = [cause for diagnose in DIAGNOSES for cause in diagnose(evidence)]
    return sorted(causes, key=lambda cause: (-cause.weight, cause.what))


def no_queue(e: Evidence) -> Iterator[Cause]:
    if e.saw("counts") and e.counts is None:
        yield Cause(
            99, "there is no queue", f"no queue {e.subject.queue}", "run setup, then submitJob and startCluster"
        )


def no_jobs(e: Evidence) -> Iterator[Cause]:
    if e.counts is None or e.counts.jobs:
        return
    if e.dead:
        yield Cause(
            96,
            "every job left has failed",
            f"{e.dead:,} jobs in the dead-letter queue, none waiting",
            "look at their records under runs/ in the bucket; correct the cause, then submit them again",
        )
    else:
        yield Cause(95, "no job waits", f"the queue {e.subject.queue} is empty", "run submitJob; or the run is done")


def cost_reached(e: Evidence) -> Iterator[Cause]:
    if e.closed:
        yield Cause(
            95,
            "the run has cost what it may (MAX_COST)",
            "its monitor has told the workers to begin no job any more",
            "let monitor end it and keep the queue; then startCluster goes on, in a run that may cost as much again",
        )


def no_fleet(e: Evidence) -> Iterator[Cause]:
    if e.subject.fleet is None and e.saw("fleet"):
        yield Cause(
            94, "no machines were asked for", "no monitor file and no active fleet of this app", "run startCluster"
        )
    elif e.saw("fleet") and e.fleet is None:
        yield Cause(94, "the fleet is gone", f"EC2 does not know {e.subject.fleet}", "run startCluster")
    elif e.fleet is not None and not e.fleet.active:
        yield Cause(
            94,
            "the fleet has ended",
            f"{e.subject.fleet} is {e.fleet.state}",
            "run startCluster, which requests another and goes on with the queue",
        )
    elif e.fleet is not None and e.fleet.target == 0:
        remedy = "run monitor, which raises it while jobs wait"
        yield Cause(91, "the fleet is to have no machine", f"the target of {e.subject.fleet} is 0", remedy)


def fleet_errors(e: Evidence) -> Iterator[Cause]:
    """One cause for each kind of trouble. Once all machines are there, it is of the past."""
    gone = e.fleet is None and e.saw("fleet")
    if gone or (e.fleet is not None and (not e.fleet.active or len(e.fleet.machines) >= e.fleet.target)):
        return
    some_run = bool(e.fleet and e.fleet.machines)
    events, share = (_recent(e, e.events), 0.6) if some_run else (e.events, 1.0)
    for trouble, group in _by_trouble(troubles.FLEET, events):
        if trouble is not None:
            yield Cause(round(trouble.weight * share), trouble.cause, _told(group), trouble.remedy)
        else:
            words = "look EC2's words up in its documentation; check with the Fleet file may find more"
            yield Cause(round(70 * share), "EC2 refuses to start machines", _told(group), words)


def small_quota(e: Evidence) -> Iterator[Cause]:
    if e.quota and e.quota.value < e.quota.least and not _running(e):
        yield Cause(
            97,
            "the account may not have one such spot machine",
            f"«{e.quota.name}»: {e.quota.value:,.0f} virtual CPUs, the smallest machine has {e.quota.least}",
            f"ask for more at Service Quotas, Amazon EC2 ({e.quota.code}); or take smaller machines",
        )


def waiting_for_machines(e: Evidence) -> Iterator[Cause]:
    """No machine and no reason given: EC2 has not come to it yet, or tells nothing."""
    quiet = not any(True for _ in fleet_errors(e)) and e.fleet and e.fleet.active and not e.fleet.machines
    if quiet and e.fleet and e.fleet.target and e.subject.start is not None:
        minutes = (e.at - e.subject.start) / 60
        yield Cause(
            50,
            "EC2 has not started a machine yet",
            f"requested {minutes:.0f} min ago, no error told",
            "wait some minutes; else run check with the Fleet file: quota, price, types",
        )


def ended_at_once(e: Evidence) -> Iterator[Cause]:
    """Machines that ended for a fault of the request, not because spot or a person took them."""
    faulty = [
        one
        for one in e.machines
        if one.why_ended.startswith(("Client.", "Server.Internal"))
        and one.state in ("terminated", "shutting-down")
        and "UserInitiated" not in one.why_ended
        and "InstanceInitiated" not in one.why_ended
    ]
    if faulty and not _running(e):
        yield Cause(
            89,
            "machines end as soon as they start",
            f"{_some([m.id for m in faulty])}: {faulty[0].why_ended}",
            "Client.InternalError: the disk's encryption key; InvalidSnapshot, VolumeLimitExceeded: the disk; "
            "correct it in the Fleet file",
        )


def taken_by_spot(e: Evidence) -> Iterator[Cause]:
    taken = [one for one in e.machines if "SpotInstance" in one.why_ended]
    if taken and not _running(e):
        yield Cause(
            72,
            "AWS has taken the spot machines back",
            f"{len(taken)} of them: {taken[0].why_ended}",
            "wait, the fleet asks for others; more types and subnets make this rarer",
        )


def not_joined(e: Evidence) -> Iterator[Cause]:
    """Machines that run for longer than joining takes, and that the cluster does not know."""
    if not (e.saw("joined") and e.saw("registered") and e.saw("machines")):
        return
    known = {one.id for one in e.joined}
    strangers = [one for one in _running(e) if one.id not in known]
    old = [one for one in strangers if e.at - one.launched > JOINING_SECONDS]
    unlisted = max(0, (e.registered or 0) - len(e.joined))  # joined, but not among the hundred looked at
    missing = len(old) - unlisted
    if missing <= 0:
        return
    share = 1.0 if not e.registered else 0.6
    private = sum(not one.public for one in old)
    hint = f"; {private} without a public address" if private else ""
    yield Cause(
        round(88 * share),
        "machines run, but do not join the cluster",
        f"{counted(missing, 'machine')}, {_some([one.id for one in old])}, up for more than "
        f"{JOINING_SECONDS / 60:.0f} min, are not in the cluster {e.subject.cluster}{hint}",
        _joining_remedy(private),
    )


def still_starting(e: Evidence) -> Iterator[Cause]:
    young = [one for one in _alive(e) if e.at - one.launched <= JOINING_SECONDS]
    if young and len(young) == len(_alive(e)) and not (e.service and e.service.running):
        minutes = max(e.at - one.launched for one in young) / 60
        yield Cause(
            65,
            "the machines are just starting",
            f"{counted(len(young), 'machine')}, the first {minutes:.0f} min old",
            "wait: a machine takes jobs some 3 minutes after its launch, later with a large image",
        )


def agents_lost(e: Evidence) -> Iterator[Cause]:
    lost = [one.id for one in e.joined if not one.connected]
    if lost and len(lost) * 2 >= len(e.joined):
        yield Cause(
            79,
            "the ECS agent on the machines has lost its connection",
            _some(lost),
            "the machines need a way out to AWS (HTTPS); end them, and the fleet starts others",
        )


def no_cluster(e: Evidence) -> Iterator[Cause]:
    if e.saw("registered") and e.registered is None:
        yield Cause(93, "there is no cluster", f"no active cluster {e.subject.cluster}", "run setup, then startCluster")


def no_service(e: Evidence) -> Iterator[Cause]:
    if e.saw("service") and e.service is None:
        yield Cause(
            92,
            "there is no service",
            f"no active service {e.subject.service} in {e.subject.cluster}",
            "run setup, then startCluster",
        )
    elif e.service is not None and e.service.desired == 0 and not (e.fleet and e.fleet.active and not e.fleet.target):
        yield Cause(
            90,
            "the service is to run no container",
            f"{e.subject.service} has a desired count of 0",
            "run startCluster",
        )


def service_events(e: Evidence) -> Iterator[Cause]:
    """What ECS says about placing containers, if it still lacks some."""
    if e.service is None or e.service.running >= e.service.desired:
        return
    share = 0.5 if e.service.running else 1.0
    for trouble, events in _by_trouble(troubles.SERVICE, _recent(e, e.told)):
        if trouble is not None:
            weight = trouble.weight if e.registered else min(trouble.weight, 45)  # without machines: a consequence
            yield Cause(round(weight * share), trouble.cause, _told(events), trouble.remedy)


def stopped_tasks(e: Evidence) -> Iterator[Cause]:
    """Why containers ended, if that keeps the service from its number."""
    if e.service is not None and 0 < e.service.desired <= e.service.running:
        return
    own = [event for event in _recent(e, e.stopped) if not troubles.PASSING.search(event.said)]
    share = 0.5 if e.service and e.service.running else 1.0
    lines = f"; its log ends: {e.logged.lines[-1]}" if e.logged and e.logged.lines else ""
    for trouble, events in _by_trouble(troubles.TASK, own):
        if trouble is not None:
            last_words = lines if "exit code" in trouble.pattern else ""
            yield Cause(round(trouble.weight * share), trouble.cause, _told(events) + last_words, trouble.remedy)


def pulling(e: Evidence) -> Iterator[Cause]:
    if e.service and e.service.pending and not e.service.running:
        yield Cause(
            62,
            "containers are starting",
            f"{e.service.pending} pending: the image is being pulled",
            "wait; a large image takes minutes on each new machine",
        )


def paused(e: Evidence) -> Iterator[Cause]:
    """Machines that take no jobs by their own decision; the documents of those that have ended stay in the bucket."""
    here = {one.id for one in _alive(e)} if e.saw("machines") else None
    now = [one for one in e.paused if here is None or not one.machine.startswith("i-") or one.machine in here]
    if now:
        yield Cause(
            85,
            "machines have paused, because their jobs fail one after the other or the disk is full",
            f"{_some([one.machine for one in now])}: {now[0].reason}",
            "look at the failed jobs' logs under runs/ in the bucket; a full disk needs a larger EBS_VOL_SIZE",
        )


def silent_workers(e: Evidence) -> Iterator[Cause]:
    """Containers run, jobs wait, nobody takes one and nobody writes a line."""
    if not (e.service and e.service.running and e.counts and e.counts.waiting and not e.counts.running):
        return
    if not e.saw("logged"):
        return
    quiet = e.at - e.logged.at if e.logged else None
    if quiet is None or quiet > SILENT_SECONDS:
        said = "none" if quiet is None else f"{quiet / 60:.0f} min ago"
        yield Cause(
            77,
            "workers run, but take no jobs",
            f"{counted(e.service.running, 'container')}; last line: {said}",
            "their role needs sqs:ReceiveMessage and logs:PutLogEvents (setupAWS); is the image this worker's?",
        )
    elif e.logged and e.logged.lines:
        yield Cause(
            60,
            "workers run, but take no jobs",
            f"the last line: {e.logged.lines[-1]}",
            "read their log; a worker that AWS refuses says so there",
        )


def all_held(e: Evidence) -> Iterator[Cause]:
    """Every job is with a worker, but no container runs: their machines are gone."""
    if e.counts and not e.counts.waiting and e.counts.running and not (e.service and e.service.running):
        yield Cause(
            68,
            "all jobs are still held for workers that are gone",
            f"{e.counts.running:,} held, none waiting",
            "wait: they come back when SQS_MESSAGE_VISIBILITY is over",
        )


DIAGNOSES: tuple[Callable[[Evidence], Iterable[Cause]], ...] = (
    no_queue, no_jobs, cost_reached, no_fleet, fleet_errors, small_quota, waiting_for_machines, ended_at_once,
    taken_by_spot, not_joined, still_starting, agents_lost, no_cluster, no_service, service_events, stopped_tasks,
    pulling, paused, silent_workers, all_held,
)  # fmt: skip


def text(evidence: Evidence, causes: Sequence[Cause], width: int = WIDTH) -> str:
    """The answer as it goes to standard output: how things stand, the causes, what could not be seen."""
    lines = [standing(evidence), ""]
    if not causes:
        lines.append("nothing is wrong that I can see")
    for number, cause in enumerate(causes):
        title = "most likely" if number == 0 else "or" if number == 1 else ""
        lines += wrapped(f"{cause.what}", f"{title:13}", " " * 13, width)
        lines += wrapped(one_line(cause.seen), " " * 13 + "seen: ", " " * 19, width)
        lines += wrapped(cause.remedy, " " * 13 + "→ ", " " * 15, width)
    for part, why in evidence.unseen.items():
        lines += wrapped(f"{part}: {why}", "not seen     ", " " * 13, width)
    return "\n".join(lines)


def standing(e: Evidence) -> str:
    """Jobs, machines and containers in one line."""
    counts, service = e.counts, e.service
    parts = [
        ("counts", "jobs", f"{counts.waiting:,} waiting, {counts.running:,} held" if counts else "", "no queue"),
        ("fleet", "machines", f"{len(e.fleet.machines)}/{e.fleet.target}" if e.fleet else "", "no fleet"),
        ("registered", "joined", f"{e.registered}" if e.registered is not None else "", "no cluster"),
        ("service", "containers", f"{service.running}/{service.desired}" if service else "", "no service"),
    ]
    return "  ".join(
        f"{name} {told}" if told else missing if e.saw(part) else f"{name} not seen"
        for part, name, told, missing in parts
    )


def as_json(evidence: Evidence, causes: Sequence[Cause]) -> str:
    """The same answer for scripts."""
    return json.dumps({"causes": [asdict(cause) for cause in causes], "evidence": asdict(evidence)}, indent=2)


def _alive(e: Evidence) -> list[Machine]:
    return [one for one in e.machines if one.state in ("pending", "running")]


def _running(e: Evidence) -> list[Machine]:
    return [one for one in e.machines if one.state == "running"]


def _recent(e: Evidence, events: Iterable[Event]) -> list[Event]:
    return [event for event in events if event.at >= max(e.at - RECENT_SECONDS, e.subject.start or 0.0)]


def _by_trouble(table: tuple[Trouble, ...], events: Iterable[Event]) -> Iterator[tuple[Trouble | None, list[Event]]]:
    """The events of each trouble of the table; those of none only where they are called errors."""
    found = [(troubles.find(table, f"{event.kind}: {event.said}"), event) for event in events]
    ordered = sorted(found, key=lambda pair: pair[0].pattern if pair[0] else "")
    for pattern, pairs in groupby(ordered, key=lambda pair: pair[0].pattern if pair[0] else None):
        group = list(pairs)
        if pattern is not None or table is troubles.FLEET:
            yield group[0][0], [event for _, event in group]


def _told(events: Sequence[Event]) -> str:
    """The newest of these events in AWS's words, and how many there were."""
    newest = max(events, key=lambda event: event.at)
    said = one_line(": ".join(part for part in (newest.kind, newest.said) if part))[:LINE_SHOWN] or "an error, no words"
    return said if len(events) == 1 else f"{said} ({len(events)} times)"


def _some(names: Sequence[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def _joining_remedy(private: int) -> str:
    way = "set ASSIGN_IP to 'True' or use a subnet with a NAT gateway; " if private else ""
    return (
        f"{way}their instance profile needs the ECS rights (setupAWS), their image must be an ECS-optimised one "
        "(fleetFile), and their subnet needs a way to the internet: check with the Fleet file looks at all three"
    )
