"""The text and the JSON output of `run.py verify`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from distributed_something.core.text import format_cost, format_count, format_row, format_wrapped_row
from distributed_something.results.command_line import format_command_lines, format_next_command
from distributed_something.results.verify.compare import CheckedResult, ResultState
from distributed_something.results.verify.listed_results import VerificationPlan
from distributed_something.results.verify.verify_results import Verification

MAX_SHOWN = 20  # results of each state that the text names; the JSON output names up to MAX_KEPT
_SHOWN_STATES = (ResultState.MISSING, ResultState.CHANGED, ResultState.UNREADABLE, ResultState.REPLACED)


def format_plan(plan: VerificationPlan, *, is_free: bool) -> str:
    """Return how many requests it takes, and what they cost. `is_free`: in the local cloud."""
    about = "" if plan.is_exact else "about "
    price = "nothing in the local cloud" if is_free else f"{format_cost(plan.cost)} USD"
    return f"this takes {about}{plan.requests:,} requests to S3, which cost {price}"


def format_verification(verification: Verification, run: str, app: str) -> str:
    """Return what was found: the results that are not as listed, the counts, and a last line with the verdict."""
    states = verification.states
    lines = [line for state in _SHOWN_STATES for line in _format_state(verification, state)]
    if verification.unrecorded:
        jobs = format_count(verification.unrecorded, "job")
        lines.append(format_wrapped_row("no record", f"{jobs} that ended as done: their results are not known"))
    lines.append(format_row("run", f"{run} of {app}"))
    lines.append(format_row("jobs", f"{verification.jobs:,} done"))
    lines.append(
        format_row("results", f"{verification.results:,} in the records, {states[ResultState.INTACT]:,} intact")
    )
    if count := states[ResultState.SAME_SIZE]:
        text = f"{count:,} with the size in the record; there is no checksum to compare"
        lines.append(format_wrapped_row("size only", text))
    for place, count in sorted(verification.elsewhere.items()):
        lines.append(format_wrapped_row("not checked", f"{format_count(count, 'result')} at {place}"))
    return "\n".join([*lines, format_wrapped_row("verdict", _format_verdict(verification))])


def format_repair(commands: Sequence[str]) -> str:
    """Return what to do about results that are missing or changed. `commands`: run the jobs without results again."""
    text = "Delete the changed results, if there are any; these commands run the jobs whose results are missing."
    first, *others = commands
    indent = " " * len("next: ")
    rows = [row for command in others for row in format_command_lines(command, indent, indent)]
    return "\n".join([format_wrapped_row("what to do", text), format_next_command(first), *rows])


def build_verification_json(verification: Verification, run: str, app: str) -> str:
    """Return one JSON object with the counts, and the results that are not as listed, at most MAX_KEPT per state."""
    states = verification.states
    document: dict[str, Any] = {
        "app": app,
        "run": run,
        "ok": verification.is_intact,
        "jobs": verification.jobs,
        "results": verification.results,
        "intact": states[ResultState.INTACT],
        "size_only": states[ResultState.SAME_SIZE],
        "unrecorded_jobs": verification.unrecorded,
        "not_checked": dict(sorted(verification.elsewhere.items())),
    }
    for state in _SHOWN_STATES:
        kept = verification.checked.get(state, [])
        document[state.value] = {"count": states[state], "results": [_build_entry(checked) for checked in kept]}
    return json.dumps(document, indent=2)


def _format_state(verification: Verification, state: ResultState) -> Iterable[str]:
    kept, count = verification.checked.get(state, []), verification.states[state]
    for checked in kept[:MAX_SHOWN]:
        yield format_wrapped_row(state.value, f"s3://{checked.listed.bucket}/{checked.listed.key}")
        yield format_wrapped_row("", f"of {checked.listed.job}: {_format_difference(checked)}")
    if count > MAX_SHOWN:
        yield format_row("", f"and {count - MAX_SHOWN:,} more; --json names them")


def _format_difference(checked: CheckedResult) -> str:
    listed, stored = checked.listed, checked.stored
    match checked.state:
        case ResultState.MISSING:
            return "not in the bucket"
        case ResultState.UNREADABLE:
            return f"S3 refuses to show it ({checked.error})"
        case ResultState.REPLACED if checked.by is not None:
            return f"replaced by {checked.by.job} in the run {checked.by.run}"
    if stored is not None and checked.has_other_size:
        return f"{format_count(stored.size, 'byte')} instead of {listed.size:,}"
    return "another checksum than in the record"


def _format_verdict(verification: Verification) -> str:
    states = verification.states
    names = ((ResultState.MISSING, "missing"), (ResultState.CHANGED, "changed"), (ResultState.UNREADABLE, "unreadable"))
    problems = [f"{states[state]:,} {name}" for state, name in names if states[state]]
    problems += [f"{verification.unrecorded:,} without a record"] if verification.unrecorded else []
    replaced = states[ResultState.REPLACED]
    note = f"; {replaced:,} replaced by later uploads, which is not damage" if replaced else ""
    if count := states[ResultState.SAME_SIZE]:
        note += f"; of {format_count(count, 'result')}, only the size was compared"
    if problems:
        return f"{', '.join(problems)}{note}"
    if not verification.results:
        return "no results to verify"
    return f"nothing is missing or changed{note}"


def _build_entry(checked: CheckedResult) -> dict[str, Any]:
    listed, stored = checked.listed, checked.stored
    entry: dict[str, Any] = {
        "job": listed.job, "bucket": listed.bucket, "key": listed.key, "size": listed.size,
        "checksum_sha256": listed.checksum_sha256,
    }  # fmt: skip
    if checked.state in (ResultState.CHANGED, ResultState.REPLACED):
        difference = "size" if checked.has_other_size else "checksum"
        entry |= {"differs": difference, "found_size": stored.size if stored else None}
    if checked.by is not None:
        entry |= {"by_job": checked.by.job, "by_run": checked.by.run}
    return entry | ({"error": checked.error} if checked.error else {})
