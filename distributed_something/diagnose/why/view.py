"""Output of `run.py why`, as text for a terminal and as JSON for scripts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from distributed_something.core.text import TERMINAL_COLUMNS, format_count, format_one_line, format_wrapped_lines
from distributed_something.diagnose.why.cause import Cause
from distributed_something.diagnose.why.job_causes import JobEvidence, is_all_removed
from distributed_something.observe.evidence import Evidence
from distributed_something.results.advice import list_next_commands
from distributed_something.results.command_line import CommandLine, format_command_lines
from distributed_something.results.status.advice_text import format_advice
from distributed_something.results.summary import format_verdict

# The JSON keys never change, so that scripts keep working. Some keys differ from the attribute names.
_JSON_KEYS = {
    "dead_letters": "dead",
    "fleet_events": "events",
    "registered_count": "registered",
    "cluster_machines": "joined",
    "service_events": "told",
    "stopped_tasks": "stopped",
    "log_tail": "logged",
    "paused_machines": "paused",
    "is_closed": "closed",
    "lookup_errors": "unseen",
    "fleet_error": "unfound",
    "launch_time": "launched",
    "machine_type": "kind",
    "has_public_address": "public",
    "end_reason": "why_ended",
    "is_connected": "connected",
    "is_spot": "spot",
    "smallest_vcpus": "least",
    "message": "said",
}
_PART_LABELS = {
    "counts": "jobs",
    "dead_letters": "dead-letter queue",
    "fleet_events": "fleet events",
    "registered_count": "cluster",
    "cluster_machines": "machines in the cluster",
    "stopped_tasks": "stopped containers",
    "quota": "spot quota",
    "log_tail": "logs",
    "paused_machines": "paused machines",
    "is_closed": "cost limit",
    "crash_lines": "log of a container that failed",
}


def format_diagnosis(
    evidence: Evidence, causes: Sequence[Cause], jobs: JobEvidence, line: CommandLine, width: int = TERMINAL_COLUMNS
) -> str:
    """Return the diagnosis as text: the run's status, the causes, and the parts that could not be looked up.

    Causes with the same remedy are together, and it follows the last one. After the run, `status`'s advice follows.
    """
    lines = [f"the run {evidence.subject.run} has ended: {_format_end(jobs)}"] if jobs.has_ended else []
    lines += [] if is_all_removed(evidence, jobs) else [format_run_status(evidence)]
    lines += [""] if causes or not jobs.has_ended else []
    scope = " in what could be looked up" if evidence.lookup_errors else ""
    lines += [] if causes or jobs.has_ended else [f"no problems found{scope}"]
    lines += format_causes(causes, line, width)
    if jobs.has_ended and jobs.advice:
        lines += ["", format_advice(jobs.advice, line)]
    return "\n".join([*lines, *format_unchecked_parts(evidence, width)])


def format_causes(causes: Sequence[Cause], line: CommandLine, width: int = TERMINAL_COLUMNS) -> list[str]:
    """Return the causes in lines. Those with the same remedy are together, and it follows the last one."""
    lines: list[str] = []
    for number, cause in enumerate(ordered := _group_by_remedy(causes)):
        label = "most likely" if number == 0 else "or" if number == 1 else ""
        is_last = ordered[number + 1 : number + 2] == [] or _get_remedy(ordered[number + 1]) != _get_remedy(cause)
        lines += _format_cause(cause, label, line, width, has_remedy=is_last)
    return lines


def format_unchecked_parts(evidence: Evidence, width: int = TERMINAL_COLUMNS) -> list[str]:
    """Return what could not be looked up, and why, in lines."""
    lines: list[str] = []
    for part, reason in evidence.lookup_errors.items():
        label = _PART_LABELS.get(part, part)
        lines += format_wrapped_lines(f"{label}: {reason}", "not checked  ", " " * 13, width)
    return lines


def _get_remedy(cause: Cause) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    return (cause.remedy, cause.commands, cause.steps)


def _group_by_remedy(causes: Sequence[Cause]) -> list[Cause]:
    """Return the causes in their order, but each with a remedy that an earlier one has right after that one."""
    groups: dict[object, list[Cause]] = {}
    for number, cause in enumerate(causes):
        groups.setdefault(_get_remedy(cause) if cause.remedy else number, []).append(cause)
    return [cause for group in groups.values() for cause in group]


def _format_cause(cause: Cause, label: str, line: CommandLine, width: int, *, has_remedy: bool) -> list[str]:
    indent = " " * 13
    lines = format_wrapped_lines(cause.title, f"{label:13}", indent, width)
    lines += format_wrapped_lines(format_one_line(cause.evidence), f"{indent}evidence: ", " " * 23, width)
    if not has_remedy:
        return lines
    label = f"{indent}  " if cause.remedy else f"{indent}→ "
    commands = [
        text for command in cause.list_commands(line) for text in format_command_lines(command, label, f"{indent}  ")
    ]
    if cause.remedy:
        return [*lines, *format_wrapped_lines(cause.remedy, f"{indent}→ ", f"{indent}  ", width), *commands]
    return [*lines, *commands]


def _format_end(jobs: JobEvidence) -> str:
    if jobs.gone:
        text = f"{format_count(jobs.gone, 'job')} left in the queue; later commands removed or ran them"
        return text if jobs.outcome is None or jobs.outcome.is_complete else f"{format_verdict(jobs.outcome)}; {text}"
    if jobs.outcome is not None:
        return format_verdict(jobs.outcome)
    return "every job is done" if jobs.is_regular else "nothing works" if jobs.is_hopeless else "jobs were left"


def format_run_status(evidence: Evidence) -> str:
    """Return one line with the job, machine, and container counts."""
    counts, fleet, service = evidence.counts, evidence.fleet, evidence.service
    registered = evidence.registered_count
    parts = [
        ("counts", "jobs", f"{counts.waiting:,} waiting, {counts.running:,} running" if counts else "", "no queue"),
        ("fleet", "machines", f"{len(fleet.machines)}/{fleet.target}" if fleet else "", "no fleet"),
        ("registered_count", "joined", f"{registered}" if registered is not None else "", "no cluster"),
        ("service", "containers", f"{service.running}/{service.desired}" if service else "", "no service"),
    ]
    return "  ".join(
        f"{label} {status}" if status else missing if evidence.has_observed(part) else f"{label} unknown"
        for part, label, status, missing in parts
    )


def build_diagnosis_json(evidence: Evidence, causes: Sequence[Cause], jobs: JobEvidence, line: CommandLine) -> str:
    """Return the causes, all evidence, and the commands to type after the run as one JSON object, for scripts."""
    document = {
        "causes": [_build_cause(cause, line) for cause in causes],
        "evidence": asdict(evidence, dict_factory=_build_json_object)
        | {"unseen": _build_json_object(evidence.lookup_errors.items())},
        "next": list_next_commands(jobs.advice, line) if jobs.has_ended and jobs.advice else [],
    }
    return json.dumps(document, indent=2)


def _build_cause(cause: Cause, line: CommandLine) -> dict[str, Any]:
    texts = {"what": cause.title, "seen": cause.evidence, "remedy": cause.remedy}
    return {"weight": cause.weight, **texts, "commands": cause.list_commands(line)}


def _build_json_object(items: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    return {_JSON_KEYS.get(name, name): value for name, value in items}
