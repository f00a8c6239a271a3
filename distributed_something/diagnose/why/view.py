"""Output of `run.py why`, as text for a terminal and as JSON for scripts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from distributed_something.core.text import TERMINAL_COLUMNS, format_one_line, format_wrapped_lines
from distributed_something.diagnose.why.cause import Cause
from distributed_something.observe.evidence import Evidence

# The JSON keys never change, so that scripts keep working. Some keys differ from the attribute names.
_JSON_KEYS = {
    "title": "what",
    "evidence": "seen",
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
}


def format_diagnosis(evidence: Evidence, causes: Sequence[Cause], width: int = TERMINAL_COLUMNS) -> str:
    """Return the diagnosis as text: the run's status, the causes, and the parts that could not be looked up."""
    lines = [format_run_status(evidence), ""]
    if not causes:
        lines.append("no problems found")
    for number, cause in enumerate(causes):
        label = "most likely" if number == 0 else "or" if number == 1 else ""
        lines += format_wrapped_lines(cause.title, f"{label:13}", " " * 13, width)
        lines += format_wrapped_lines(format_one_line(cause.evidence), " " * 13 + "evidence: ", " " * 23, width)
        lines += format_wrapped_lines(cause.remedy, " " * 13 + "→ ", " " * 15, width)
    for part, reason in evidence.lookup_errors.items():
        label = _PART_LABELS.get(part, part)
        lines += format_wrapped_lines(f"{label}: {reason}", "not checked  ", " " * 13, width)
    return "\n".join(lines)


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


def build_diagnosis_json(evidence: Evidence, causes: Sequence[Cause]) -> str:
    """Return the causes and all evidence as one JSON object, for scripts."""
    document = {
        "causes": [asdict(cause, dict_factory=_build_json_object) for cause in causes],
        "evidence": asdict(evidence, dict_factory=_build_json_object)
        | {"unseen": _build_json_object(evidence.lookup_errors.items())},
    }
    return json.dumps(document, indent=2)


def _build_json_object(items: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    return {_JSON_KEYS.get(name, name): value for name, value in items}
