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

from distributed_something.core.aws_errors import (
    FLEET_FAILURE_PATTERNS,
    HARMLESS_STOP_PATTERN,
    SERVICE_FAILURE_PATTERNS,
    TASK_FAILURE_PATTERNS,
    AWSEvent,
    FailurePattern,
    find_failure_pattern,
)
from distributed_something.core.errors import format_one_line
from distributed_something.core.text import TERMINAL_COLUMNS, format_count, format_wrapped_lines
from distributed_something.observe.evidence import Evidence
from distributed_something.observe.machines import ObservedMachine

JOINING_SECONDS = 600.0  # an ECS machine joins its cluster one to three minutes after its launch
RECENT_EVENT_SECONDS = 1800.0  # older events of a service or task say little about now
SILENT_WORKER_SECONDS = 900.0  # a worker that runs reports at least its usage within this
MAX_NAMES_PER_CAUSE = 3  # things of a kind in one line
MAX_EVENT_CHARACTERS = 200  # characters of AWS's own words


@dataclass(frozen=True)
class Cause:
    """Why nothing runs, perhaps. `weight`: how likely (0 to 100). `seen`: what speaks for it."""

    weight: int
    what: str
    seen: str
    remedy: str


def rank_causes(evidence: Evidence) -> list[Cause]:
    """All causes that hold, the most likely first; none where nothing is wrong that can be seen. Pure."""
    causes = [cause for diagnose in DIAGNOSES for cause in diagnose(evidence)]
    return sorted(causes, key=lambda cause: (-cause.weight, cause.what))


def diagnose_missing_queue(e: Evidence) -> Iterator[Cause]:
    if e.has_observed("counts") and e.counts is None:
        yield Cause(
            99, "there is no queue", f"no queue {e.subject.queue}", "run setup, then submitJob and startCluster"
        )


def diagnose_empty_queue(e: Evidence) -> Iterator[Cause]:
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


def diagnose_cost_limit(e: Evidence) -> Iterator[Cause]:
    if e.closed:
        yield Cause(
            95,
            "the run has cost what it may (MAX_COST)",
            "its monitor has told the workers to begin no job any more",
            "let monitor end it and keep the queue; then startCluster goes on, in a run that may cost as much again",
        )


def diagnose_missing_fleet(e: Evidence) -> Iterator[Cause]:
    if e.subject.fleet is None and e.has_observed("fleet"):
        yield Cause(
            94, "no machines were asked for", "no monitor file and no active fleet of this app", "run startCluster"
        )
    elif e.has_observed("fleet") and e.fleet is None:
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


def diagnose_fleet_errors(e: Evidence) -> Iterator[Cause]:
    """One cause for each kind of trouble. Once all machines are there, it is of the past."""
    gone = e.fleet is None and e.has_observed("fleet")
    if gone or (e.fleet is not None and (not e.fleet.active or len(e.fleet.machines) >= e.fleet.target)):
        return
    some_run = bool(e.fleet and e.fleet.machines)
    events, share = (_list_recent_events(e, e.events), 0.6) if some_run else (e.events, 1.0)
    for trouble, group in _group_by_trouble(FLEET_FAILURE_PATTERNS, events):
        if trouble is not None:
            yield Cause(round(trouble.weight * share), trouble.cause, _format_events(group), trouble.remedy)
        else:
            words = "look EC2's words up in its documentation; check with the Fleet file may find more"
            yield Cause(round(70 * share), "EC2 refuses to start machines", _format_events(group), words)


def diagnose_small_quota(e: Evidence) -> Iterator[Cause]:
    if e.quota and e.quota.value < e.quota.least and not _list_running_machines(e):
        yield Cause(
            97,
            "the account may not have one such spot machine",
            f"«{e.quota.name}»: {e.quota.value:,.0f} virtual CPUs, the smallest machine has {e.quota.least}",
            f"ask for more at Service Quotas, Amazon EC2 ({e.quota.code}); or take smaller machines",
        )


def diagnose_slow_launch(e: Evidence) -> Iterator[Cause]:
    """No machine and no reason given: EC2 has not come to it yet, or tells nothing."""
    quiet = not any(True for _ in diagnose_fleet_errors(e)) and e.fleet and e.fleet.active and not e.fleet.machines
    if quiet and e.fleet and e.fleet.target and e.subject.start is not None:
        minutes = (e.at - e.subject.start) / 60
        yield Cause(
            50,
            "EC2 has not started a machine yet",
            f"requested {minutes:.0f} min ago, no error told",
            "wait some minutes; else run check with the Fleet file: quota, price, types",
        )


def diagnose_failed_launches(e: Evidence) -> Iterator[Cause]:
    """Machines that ended for a fault of the request, not because spot or a person took them."""
    faulty = [
        one
        for one in e.machines
        if one.why_ended.startswith(("Client.", "Server.Internal"))
        and one.state in ("terminated", "shutting-down")
        and "UserInitiated" not in one.why_ended
        and "InstanceInitiated" not in one.why_ended
    ]
    if faulty and not _list_running_machines(e):
        yield Cause(
            89,
            "machines end as soon as they start",
            f"{_format_names([m.id for m in faulty])}: {faulty[0].why_ended}",
            "Client.InternalError: the disk's encryption key; InvalidSnapshot, VolumeLimitExceeded: the disk; "
            "correct it in the Fleet file",
        )


def diagnose_spot_interruptions(e: Evidence) -> Iterator[Cause]:
    taken = [one for one in e.machines if "SpotInstance" in one.why_ended]
    if taken and not _list_running_machines(e):
        yield Cause(
            72,
            "AWS has taken the spot machines back",
            f"{len(taken)} of them: {taken[0].why_ended}",
            "wait, the fleet asks for others; more types and subnets make this rarer",
        )


def diagnose_unregistered_machines(e: Evidence) -> Iterator[Cause]:
    """Machines that run for longer than joining takes, and that the cluster does not know."""
    if not (e.has_observed("joined") and e.has_observed("registered") and e.has_observed("machines")):
        return
    known = {one.id for one in e.joined}
    strangers = [one for one in _list_running_machines(e) if one.id not in known]
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
        f"{format_count(missing, 'machine')}, {_format_names([one.id for one in old])}, up for more than "
        f"{JOINING_SECONDS / 60:.0f} min, are not in the cluster {e.subject.cluster}{hint}",
        _format_joining_remedy(private),
    )


def diagnose_starting_machines(e: Evidence) -> Iterator[Cause]:
    young = [one for one in _list_live_machines(e) if e.at - one.launched <= JOINING_SECONDS]
    if young and len(young) == len(_list_live_machines(e)) and not (e.service and e.service.running):
        minutes = max(e.at - one.launched for one in young) / 60
        yield Cause(
            65,
            "the machines are just starting",
            f"{format_count(len(young), 'machine')}, the first {minutes:.0f} min old",
            "wait: a machine takes jobs some 3 minutes after its launch, later with a large image",
        )


def diagnose_disconnected_agents(e: Evidence) -> Iterator[Cause]:
    lost = [one.id for one in e.joined if not one.connected]
    if lost and len(lost) * 2 >= len(e.joined):
        yield Cause(
            79,
            "the ECS agent on the machines has lost its connection",
            _format_names(lost),
            "the machines need a way out to AWS (HTTPS); end them, and the fleet starts others",
        )


def diagnose_missing_cluster(e: Evidence) -> Iterator[Cause]:
    if e.has_observed("registered") and e.registered is None:
        yield Cause(93, "there is no cluster", f"no active cluster {e.subject.cluster}", "run setup, then startCluster")


def diagnose_missing_service(e: Evidence) -> Iterator[Cause]:
    if e.has_observed("service") and e.service is None:
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


def diagnose_service_events(e: Evidence) -> Iterator[Cause]:
    """What ECS says about placing containers, if it still lacks some."""
    if e.service is None or e.service.running >= e.service.desired:
        return
    share = 0.5 if e.service.running else 1.0
    for trouble, events in _group_by_trouble(SERVICE_FAILURE_PATTERNS, _list_recent_events(e, e.told)):
        if trouble is not None:
            weight = trouble.weight if e.registered else min(trouble.weight, 45)  # without machines: a consequence
            yield Cause(round(weight * share), trouble.cause, _format_events(events), trouble.remedy)


def diagnose_stopped_tasks(e: Evidence) -> Iterator[Cause]:
    """Why containers ended, if that keeps the service from its number."""
    if e.service is not None and 0 < e.service.desired <= e.service.running:
        return
    own = [event for event in _list_recent_events(e, e.stopped) if not HARMLESS_STOP_PATTERN.search(event.said)]
    share = 0.5 if e.service and e.service.running else 1.0
    lines = f"; its log ends: {e.logged.lines[-1]}" if e.logged and e.logged.lines else ""
    for trouble, events in _group_by_trouble(TASK_FAILURE_PATTERNS, own):
        if trouble is not None:
            last_words = lines if "exit code" in trouble.pattern else ""
            yield Cause(
                round(trouble.weight * share), trouble.cause, _format_events(events) + last_words, trouble.remedy
            )


def diagnose_image_pull(e: Evidence) -> Iterator[Cause]:
    if e.service and e.service.pending and not e.service.running:
        yield Cause(
            62,
            "containers are starting",
            f"{e.service.pending} pending: the image is being pulled",
            "wait; a large image takes minutes on each new machine",
        )


def diagnose_paused_machines(e: Evidence) -> Iterator[Cause]:
    """Machines that take no jobs by their own decision; the documents of those that have ended stay in the bucket."""
    here = {one.id for one in _list_live_machines(e)} if e.has_observed("machines") else None
    now = [one for one in e.paused if here is None or not one.machine.startswith("i-") or one.machine in here]
    if now:
        yield Cause(
            85,
            "machines have paused, because their jobs fail one after the other or the disk is full",
            f"{_format_names([one.machine for one in now])}: {now[0].reason}",
            "look at the failed jobs' logs under runs/ in the bucket; a full disk needs a larger EBS_VOL_SIZE",
        )


def diagnose_silent_workers(e: Evidence) -> Iterator[Cause]:
    """Containers run, jobs wait, nobody takes one and nobody writes a line."""
    if not (e.service and e.service.running and e.counts and e.counts.waiting and not e.counts.running):
        return
    if not e.has_observed("logged"):
        return
    quiet = e.at - e.logged.at if e.logged else None
    if quiet is None or quiet > SILENT_WORKER_SECONDS:
        said = "none" if quiet is None else f"{quiet / 60:.0f} min ago"
        yield Cause(
            77,
            "workers run, but take no jobs",
            f"{format_count(e.service.running, 'container')}; last line: {said}",
            "their role needs sqs:ReceiveMessage and logs:PutLogEvents (setupAWS); is the image this worker's?",
        )
    elif e.logged and e.logged.lines:
        yield Cause(
            60,
            "workers run, but take no jobs",
            f"the last line: {e.logged.lines[-1]}",
            "read their log; a worker that AWS refuses says so there",
        )


def diagnose_orphaned_leases(e: Evidence) -> Iterator[Cause]:
    """Every job is with a worker, but no container runs: their machines are gone."""
    if e.counts and not e.counts.waiting and e.counts.running and not (e.service and e.service.running):
        yield Cause(
            68,
            "all jobs are still held for workers that are gone",
            f"{e.counts.running:,} held, none waiting",
            "wait: they come back when SQS_MESSAGE_VISIBILITY is over",
        )


DIAGNOSES: tuple[Callable[[Evidence], Iterable[Cause]], ...] = (
    diagnose_missing_queue,
    diagnose_empty_queue,
    diagnose_cost_limit,
    diagnose_missing_fleet,
    diagnose_fleet_errors,
    diagnose_small_quota,
    diagnose_slow_launch,
    diagnose_failed_launches,
    diagnose_spot_interruptions,
    diagnose_unregistered_machines,
    diagnose_starting_machines,
    diagnose_disconnected_agents,
    diagnose_missing_cluster,
    diagnose_missing_service,
    diagnose_service_events,
    diagnose_stopped_tasks,
    diagnose_image_pull,
    diagnose_paused_machines,
    diagnose_silent_workers,
    diagnose_orphaned_leases,
)


def format_diagnosis(evidence: Evidence, causes: Sequence[Cause], width: int = TERMINAL_COLUMNS) -> str:
    """The answer as it goes to standard output: how things stand, the causes, what could not be seen."""
    lines = [format_run_status(evidence), ""]
    if not causes:
        lines.append("nothing is wrong that I can see")
    for number, cause in enumerate(causes):
        title = "most likely" if number == 0 else "or" if number == 1 else ""
        lines += format_wrapped_lines(f"{cause.what}", f"{title:13}", " " * 13, width)
        lines += format_wrapped_lines(format_one_line(cause.seen), " " * 13 + "seen: ", " " * 19, width)
        lines += format_wrapped_lines(cause.remedy, " " * 13 + "→ ", " " * 15, width)
    for part, why in evidence.unseen.items():
        lines += format_wrapped_lines(f"{part}: {why}", "not seen     ", " " * 13, width)
    return "\n".join(lines)


def format_run_status(e: Evidence) -> str:
    """Jobs, machines and containers in one line."""
    counts, service = e.counts, e.service
    parts = [
        ("counts", "jobs", f"{counts.waiting:,} waiting, {counts.running:,} held" if counts else "", "no queue"),
        ("fleet", "machines", f"{len(e.fleet.machines)}/{e.fleet.target}" if e.fleet else "", "no fleet"),
        ("registered", "joined", f"{e.registered}" if e.registered is not None else "", "no cluster"),
        ("service", "containers", f"{service.running}/{service.desired}" if service else "", "no service"),
    ]
    return "  ".join(
        f"{name} {told}" if told else missing if e.has_observed(part) else f"{name} not seen"
        for part, name, told, missing in parts
    )


def build_diagnosis_json(evidence: Evidence, causes: Sequence[Cause]) -> str:
    """The same answer for scripts."""
    return json.dumps({"causes": [asdict(cause) for cause in causes], "evidence": asdict(evidence)}, indent=2)


def _list_live_machines(e: Evidence) -> list[ObservedMachine]:
    return [one for one in e.machines if one.state in ("pending", "running")]


def _list_running_machines(e: Evidence) -> list[ObservedMachine]:
    return [one for one in e.machines if one.state == "running"]


def _list_recent_events(e: Evidence, events: Iterable[AWSEvent]) -> list[AWSEvent]:
    return [event for event in events if event.at >= max(e.at - RECENT_EVENT_SECONDS, e.subject.start or 0.0)]


def _group_by_trouble(
    table: tuple[FailurePattern, ...], events: Iterable[AWSEvent]
) -> Iterator[tuple[FailurePattern | None, list[AWSEvent]]]:
    """The events of each trouble of the table; those of none only where they are called errors."""
    found = [(find_failure_pattern(table, f"{event.kind}: {event.said}"), event) for event in events]
    ordered = sorted(found, key=lambda pair: pair[0].pattern if pair[0] else "")
    for pattern, pairs in groupby(ordered, key=lambda pair: pair[0].pattern if pair[0] else None):
        group = list(pairs)
        if pattern is not None or table is FLEET_FAILURE_PATTERNS:
            yield group[0][0], [event for _, event in group]


def _format_events(events: Sequence[AWSEvent]) -> str:
    """The newest of these events in AWS's words, and how many there were."""
    newest = max(events, key=lambda event: event.at)
    said = (
        format_one_line(": ".join(part for part in (newest.kind, newest.said) if part))[:MAX_EVENT_CHARACTERS]
        or "an error, no words"
    )
    return said if len(events) == 1 else f"{said} ({len(events)} times)"


def _format_names(names: Sequence[str]) -> str:
    more = len(names) - MAX_NAMES_PER_CAUSE
    return ", ".join(names[:MAX_NAMES_PER_CAUSE]) + (f" and {more} more" if more > 0 else "")


def _format_joining_remedy(private: int) -> str:
    way = "set ASSIGN_IP to 'True' or use a subnet with a NAT gateway; " if private else ""
    return (
        f"{way}their instance profile needs the ECS rights (setupAWS), their image must be an ECS-optimised one "
        "(fleetFile), and their subnet needs a way to the internet: check with the Fleet file looks at all three"
    )
