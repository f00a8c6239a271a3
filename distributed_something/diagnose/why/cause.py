"""Possible causes of a problem, and functions that all diagnoses use to read the evidence.

A part that could not be looked up is neither zero nor missing. The functions that return None say so, and a diagnosis
that needs such a part finds nothing: a reader might end a run that works.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TypeVar

from distributed_something.core.aws_errors import (
    SPOT_STOP_CODE,
    AWSEvent,
    FailurePattern,
    find_failure_pattern,
    is_spot_interruption,
)
from distributed_something.core.failures.remedies import Remedy
from distributed_something.core.text import format_one_line
from distributed_something.observe.evidence import Evidence
from distributed_something.observe.machines import ObservedMachine
from distributed_something.observe.service import StoppedTask
from distributed_something.results.command_line import RUN_COMMANDS, CommandLine

RECENT_EVENT_SECONDS = 1800.0  # older service and task events rarely explain the current state
JOINING_SECONDS = 600.0  # ample: an ECS machine joins its cluster one to three minutes after its launch
MAX_NAMES_PER_CAUSE = 3  # machine names on one line
MAX_EVENT_CHARACTERS = 200  # of the message from AWS

Report = TypeVar("Report", AWSEvent, StoppedTask)


@dataclass(frozen=True)
class Cause:
    """One possible cause, the evidence for it, and what to do.

    `weight`: how likely the cause is (0 to 100). `remedy`: "" if another cause has the same one, or if it is to be
    written from `template`, because it depends on the kind of run; `select_remedy` does that. `commands`: what to type.
    `steps`: the same for commands of a run, as names in RUN_COMMANDS. `template_without_image`: the template if workers
    do not run in containers, and `template` is for those that do. `needs_new_run`: whether the run has ended because of
    this, so that machines must be started again.
    """

    weight: int
    title: str
    evidence: str
    remedy: str = ""
    commands: tuple[str, ...] = ()
    steps: tuple[str, ...] = ()
    template: Remedy | None = None
    template_without_image: Remedy | None = None
    needs_new_run: bool = False

    def list_commands(self, line: CommandLine) -> list[str]:
        """Return the commands as the user types them."""
        return [*self.commands, *line.list_run_commands(self.steps)]


def list_live_machines(evidence: Evidence) -> list[ObservedMachine]:
    """Return the machines that are running or about to run."""
    return [machine for machine in evidence.machines if machine.state in ("pending", "running")]


def list_running_machines(evidence: Evidence) -> list[ObservedMachine]:
    return [machine for machine in evidence.machines if machine.state == "running"]


def has_running_machines(evidence: Evidence) -> bool | None:
    """Return whether a machine is running; None if this is unknown."""
    if evidence.has_observed("machines"):
        return bool(list_running_machines(evidence))
    return bool(evidence.fleet.machines) if evidence.fleet is not None else None


def get_running_containers(evidence: Evidence) -> int | None:
    """Return how many containers are running; None if this is unknown."""
    if not evidence.has_observed("service"):
        return None
    return evidence.service.running if evidence.service is not None else 0


def is_lacking_containers(evidence: Evidence) -> bool | None:
    """Return whether the service is missing or runs fewer containers than it should; None if this is unknown."""
    if not evidence.has_observed("service"):
        return None
    return evidence.service is None or evidence.service.running < evidence.service.desired


def get_joined_machines(evidence: Evidence) -> int | None:
    """Return how many machines have joined the cluster; None if this is unknown."""
    return (evidence.registered_count or 0) if evidence.has_observed("registered_count") else None


def has_active_fleet(evidence: Evidence) -> bool | None:
    """Return whether the fleet is active; None if this is unknown."""
    if not evidence.has_observed("fleet"):
        return None
    return evidence.fleet is not None and evidence.fleet.is_active


def count_reclaimed_machines(evidence: Evidence) -> int:
    """Return how many machines AWS took back. A machine that EC2 no longer lists is known from its stopped tasks.

    ECS names the machine in the reason of each of them.
    """
    reclaimed = sum(is_spot_interruption(machine.end_code) for machine in evidence.machines)
    tasks = list_recent_reports(evidence, evidence.stopped_tasks)
    return reclaimed or len({task.message for task in tasks if task.kind == SPOT_STOP_CODE})


def is_awaiting_machines(evidence: Evidence) -> bool:
    """Return whether it is known that the fleet lacks machines, or has one that may not have taken jobs yet."""
    fleet, joined = evidence.fleet, get_joined_machines(evidence)
    if has_active_fleet(evidence) is False or (fleet is not None and not fleet.target):
        return False
    if any(evidence.at - machine.launch_time <= JOINING_SECONDS for machine in list_live_machines(evidence)):
        return True
    return fleet is not None and (fleet.has_missing_machines or (joined is not None and joined < fleet.target))


def list_start_steps(evidence: Evidence) -> tuple[str, ...]:
    """Return which of RUN_COMMANDS must still be typed, as far as this is known, so that jobs run to their end."""
    counts, service = evidence.counts, evidence.service
    created = {"counts": counts, "service": service, "registered_count": evidence.registered_count}
    needs_setup = any(value is None and evidence.has_observed(part) for part, value in created.items())
    has_start = bool(has_active_fleet(evidence)) and service is not None and service.desired > 0
    needed = {
        "setup": needs_setup,
        "submitJob": evidence.has_observed("counts") and not (counts and counts.jobs),
        "startCluster": needs_setup or not has_start,
        "monitor": True,
    }
    return tuple(name for name in RUN_COMMANDS if needed[name])


def build_start_cause(weight: int, title: str, proof: str, evidence: Evidence) -> Cause:
    """Return a cause that typing the remaining commands of a run removes. All such causes have the same remedy."""
    has_jobs = bool(evidence.counts and evidence.counts.jobs)
    remedy = "startCluster starts machines for the jobs in the queue; type:" if has_jobs else "type, in this order:"
    return Cause(weight, title, proof, remedy, steps=list_start_steps(evidence))


def list_recent_reports(evidence: Evidence, reports: Iterable[Report]) -> list[Report]:
    """Return this run's reports from the last 30 minutes."""
    since = max(evidence.at - RECENT_EVENT_SECONDS, evidence.subject.start or 0.0)
    return [report for report in reports if report.at >= since]


def group_by_pattern(
    table: tuple[FailurePattern, ...], reports: Iterable[Report]
) -> Iterator[tuple[FailurePattern | None, list[Report]]]:
    """Yield each matching pattern in the table with its reports, and None with the reports that match no pattern."""
    matched = [(_match_pattern(table, report), report) for report in reports]
    order = {pattern: number for number, pattern in enumerate(table)}
    matched.sort(key=lambda pair: -1 if pair[0] is None else order[pair[0]])
    for pattern, pairs in groupby(matched, key=lambda pair: pair[0]):
        yield pattern, [report for _, report in pairs]


def _match_pattern(table: tuple[FailurePattern, ...], report: AWSEvent | StoppedTask) -> FailurePattern | None:
    return find_failure_pattern(table, report.kind, report.message, _get_exit_codes(report))


def _get_exit_codes(report: AWSEvent | StoppedTask) -> tuple[int, ...]:
    return report.exit_codes if isinstance(report, StoppedTask) else ()


def format_reports(reports: Sequence[AWSEvent | StoppedTask]) -> str:
    """Return the text of the newest report and, if there are several, their count."""
    newest = max(reports, key=lambda report: report.at)
    parts = [newest.message, *(f"exit code {code}" for code in _get_exit_codes(newest))]
    message = "; ".join(part for part in parts if part)
    line = format_one_line(": ".join(part for part in (newest.kind, message) if part))[:MAX_EVENT_CHARACTERS]
    return (line or "an error without a message") + (f" ({len(reports)} times)" if len(reports) > 1 else "")
