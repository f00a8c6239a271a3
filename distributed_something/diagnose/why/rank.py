"""Ranking of the causes for `run.py why`.

Each diagnosis is a small pure function that yields causes of one kind, each with a weight (0 to 100), evidence, and a
remedy. The weights serve only to order causes that apply at the same time: problems with what a run needs first (a
queue, jobs, a fleet) have higher weights than problems with what it needs later.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from distributed_something.core.failures.remedies import format_remedy
from distributed_something.diagnose.why.cause import Cause
from distributed_something.diagnose.why.container_causes import (
    diagnose_image_pull,
    diagnose_missing_cluster,
    diagnose_missing_service,
    diagnose_service_events,
    diagnose_silent_workers,
    diagnose_stopped_tasks,
)
from distributed_something.diagnose.why.fleet_causes import (
    diagnose_fleet_errors,
    diagnose_missing_fleet,
    diagnose_slow_launch,
    diagnose_small_quota,
)
from distributed_something.diagnose.why.job_causes import JobEvidence, diagnose_failing_jobs, is_all_removed
from distributed_something.diagnose.why.machine_causes import (
    diagnose_disconnected_agents,
    diagnose_failed_launches,
    diagnose_paused_machines,
    diagnose_spot_interruptions,
    diagnose_starting_machines,
    diagnose_unregistered_machines,
)
from distributed_something.diagnose.why.queue_causes import (
    diagnose_cost_limit,
    diagnose_empty_queue,
    diagnose_missing_queue,
    diagnose_orphaned_leases,
)
from distributed_something.observe.evidence import Evidence
from distributed_something.results.command_line import RUN_COMMANDS, CommandLine

DIAGNOSES: tuple[Callable[[Evidence], Iterable[Cause]], ...] = (
    diagnose_missing_queue,
    diagnose_empty_queue,
    diagnose_cost_limit,
    diagnose_orphaned_leases,
    diagnose_missing_fleet,
    diagnose_fleet_errors,
    diagnose_small_quota,
    diagnose_slow_launch,
    diagnose_failed_launches,
    diagnose_spot_interruptions,
    diagnose_unregistered_machines,
    diagnose_starting_machines,
    diagnose_disconnected_agents,
    diagnose_paused_machines,
    diagnose_missing_cluster,
    diagnose_missing_service,
    diagnose_service_events,
    diagnose_stopped_tasks,
    diagnose_image_pull,
    diagnose_silent_workers,
)


# After a run, what these diagnoses find is normal, or a consequence of what ended the run.
_END_DIAGNOSES = (diagnose_empty_queue, diagnose_missing_fleet, diagnose_missing_service)


def rank_causes(evidence: Evidence, jobs: JobEvidence | None = None, line: CommandLine | None = None) -> list[Cause]:
    """Return all causes that the evidence supports, the most likely one first.

    After the run, what made jobs fail comes before everything else, unless the run ended because machines did not join.
    `line`: how the user types commands.
    """
    jobs, line = jobs or JobEvidence(), line or CommandLine()
    failing = list(diagnose_failing_jobs(jobs, line, has_counts=evidence.has_observed("counts")))
    has_advice = jobs.has_ended and jobs.advice is not None  # its commands follow all causes
    found = [
        (diagnose, select_remedy(cause, line, has_advice=has_advice))
        for diagnose in DIAGNOSES
        for cause in diagnose(evidence)
    ]
    if is_all_removed(evidence, jobs):
        found = []
    elif jobs.has_ended and jobs.is_hopeless:
        others = [(diagnose, cause) for diagnose, cause in found if diagnose not in _END_DIAGNOSES]
        found = others if others or failing else found
    causes = sorted((cause for _, cause in found), key=_get_rank)
    if jobs.has_no_machine and causes:
        return [*causes, *failing]
    return [*failing, *causes] if jobs.has_ended else sorted([*failing, *causes], key=_get_rank)


def select_remedy(cause: Cause, line: CommandLine, *, has_advice: bool = False, is_test: bool = False) -> Cause:
    """Return the cause with the remedy for the place where workers run: in containers or, on this computer, without.

    `has_advice`: whether the commands to type next are printed below all causes. `is_test`: whether the run is a test
    run.
    """
    template = (cause.template if line.has_image else cause.template_without_image) or cause.template
    remedy = cause.remedy
    if template is not None:
        remedy = format_remedy(template, is_pushed=line.is_pushed, memory=line.memory_remedy, is_test=is_test)
    if not cause.needs_new_run or has_advice or is_test:
        return replace(cause, remedy=remedy)
    return replace(cause, remedy=f"{remedy}; then type:", steps=RUN_COMMANDS[-2:])


def _get_rank(cause: Cause) -> tuple[int, str]:
    return (-cause.weight, cause.title)
