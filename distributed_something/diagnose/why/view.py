"""The answer of `run.py why`: as text for a terminal, and as JSON for scripts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

from distributed_something.core.text import TERMINAL_COLUMNS, format_one_line, format_wrapped_lines
from distributed_something.diagnose.why.cause import Cause
from distributed_something.observe.evidence import Evidence


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


def format_run_status(evidence: Evidence) -> str:
    """Jobs, machines and containers in one line."""
    counts, fleet, service = evidence.counts, evidence.fleet, evidence.service
    parts = [
        ("counts", "jobs", f"{counts.waiting:,} waiting, {counts.running:,} held" if counts else "", "no queue"),
        ("fleet", "machines", f"{len(fleet.machines)}/{fleet.target}" if fleet else "", "no fleet"),
        ("registered", "joined", f"{evidence.registered}" if evidence.registered is not None else "", "no cluster"),
        ("service", "containers", f"{service.running}/{service.desired}" if service else "", "no service"),
    ]
    return "  ".join(
        f"{name} {told}" if told else missing if evidence.has_observed(part) else f"{name} not seen"
        for part, name, told, missing in parts
    )


def build_diagnosis_json(evidence: Evidence, causes: Sequence[Cause]) -> str:
    """The same answer for scripts."""
    return json.dumps({"causes": [asdict(cause) for cause in causes], "evidence": asdict(evidence)}, indent=2)
