"""Groups a run's failed jobs by cause: what kind of failure, which exit code, and what the log says.

The log's most telling line counts with numbers, paths, and IDs masked, so that jobs that failed for the same reason are
in the same group. A group's ID is a hash of its cause, so it does not depend on the other failures: it stays the same
while more jobs fail, and in other runs.
"""

from __future__ import annotations

import hashlib
import json
import math
import signal
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from distributed_something.core.text import format_one_line
from distributed_something.results.group_values import GroupValueCounter
from distributed_something.results.job_counter import NO_REASON, FailedJob
from distributed_something.results.mask import mask_line
from distributed_something.worker import convert_exit_code

ID_DIGITS = 6
MAX_REASON_CHARACTERS = 300  # a journal has no more of a reason, and a cause must not depend on where it was read
MAX_MASKED_CHARACTERS = 160  # what follows may be cut off in some jobs' lines and not in others
SEGMENTATION_FAULT, OUT_OF_MEMORY = "segmentation fault", "killed, probably for memory"
# The exit code of a program that a signal ended (negative), and of a shell that reports this of its own program.
_CAUSES_BY_EXIT_CODE = {-11: SEGMENTATION_FAULT, 139: SEGMENTATION_FAULT, -9: OUT_OF_MEMORY, 137: OUT_OF_MEMORY}
_LIMIT_CLASSES = ("time-out", "out of memory", "disk")
_CRASH_CLASSES = ("program", "signal", "")  # older workers give no class
# Titles of the list of groups, for jobs that failed for good and for those that may still be done.
FAILED_TITLE, FAILING_TITLE = "failed, by cause", "failed attempts of jobs that have not ended, by cause"
MIN_SHARE, MIN_TIMES_USUAL, MAX_CHANCE, MIN_SHARING_JOBS = 0.6, 5.0, 0.001, 3
MAX_SEPARATING_SHARE = 0.9  # a value that more of all jobs have does not tell the failed ones apart


@dataclass(frozen=True)
class SharedValue:
    """A group value that unusually many jobs of a failure group have: `jobs` of `total` have `key` = `value`."""

    key: str
    value: str
    jobs: int
    total: int


@dataclass(frozen=True)
class Cause:
    """The cause of a failure. `exit_code` is None if it does not matter; `text` is one line."""

    reason_class: str
    exit_code: int | None
    text: str

    @cached_property
    def id(self) -> str:
        """The ID of all failures with this cause: F and ID_DIGITS hexadecimal digits."""
        content = json.dumps([self.reason_class, self.exit_code, self.text])
        return f"F{hashlib.sha256(content.encode()).hexdigest()[:ID_DIGITS]}"


@dataclass(frozen=True)
class FailureGroup:
    """Failed jobs with the same cause.

    `exit_code`: see `convert_exit_code`; None if unknown, or if the jobs have different ones. `jobs`: in the order in
    which they failed. `example`: the first of them. `first`: when it failed, in seconds since 1970. `shared`: see
    `find_shared_values`.
    """

    id: str
    cause: str
    reason_class: str
    exit_code: int | None
    jobs: tuple[FailedJob, ...]
    example: FailedJob
    first: float
    shared: tuple[SharedValue, ...] = ()

    @property
    def seconds(self) -> float:
        """How long all attempts of these jobs took together."""
        return sum(job.seconds for job in self.jobs)


def group_failures(failures: Sequence[FailedJob], usual: GroupValueCounter | None = None) -> list[FailureGroup]:
    """Return the failed jobs grouped by cause, the largest group first.

    `usual`: the group values of all jobs, as far as they are known. The order of `failures` does not matter.
    """
    jobs_by_cause: dict[Cause, list[FailedJob]] = {}
    for failed in sorted(failures, key=lambda job: (job.ended, job.job)):
        jobs_by_cause.setdefault(find_cause(failed), []).append(failed)
    failed_values = FailedValues(len(failures), Counter(pair for failed in failures for pair in failed.group.items()))
    groups = [_build_group(cause, jobs, failed_values, usual) for cause, jobs in jobs_by_cause.items()]
    return sorted(groups, key=lambda group: (-len(group.jobs), group.first, group.id))


def find_cause(failed: FailedJob) -> Cause:
    """Return why the job failed.

    The program's own exit code and output matter only if nothing else ended the program.
    """
    reason_class, exit_code = failed.reason_class, failed.exit_code
    match reason_class:
        case "time-out":
            return Cause(reason_class, None, f"timed out{_format_limit(failed.time_limit_seconds)}")
        case "out of memory":
            return Cause(reason_class, None, f"out of memory{_format_memory_limit(failed.memory_limit_bytes)}")
        case "disk":
            return Cause(reason_class, None, "the disk is full")
    if exit_code is not None and not _is_from_reason(failed):
        return _find_crash_cause(failed, exit_code)
    masked = _mask(failed, failed.reason[:MAX_REASON_CHARACTERS])
    is_clear = not reason_class or reason_class == "program" or reason_class in masked.lower()
    return Cause(reason_class, None, masked if is_clear else f"{reason_class}: {masked}")


def format_exit_code(exit_code: int) -> str:
    """Return how the program ended: the signal's meaning or name, or the exit code."""
    if exit_code in _CAUSES_BY_EXIT_CODE:
        return f"{_CAUSES_BY_EXIT_CODE[exit_code]} (exit code {convert_exit_code(exit_code)})"
    return _format_signal(-exit_code) if exit_code < 0 else f"exit code {exit_code}"


def list_telling_lines(failed: FailedJob) -> list[str]:
    """Return the lines that say in words why the job failed, at least one: its reason, the log's telling line, or both.

    The reason is left out if the log says more about the cause, which then names the exit code or the limit.
    """
    reason, telling_line = format_one_line(failed.reason), format_one_line(failed.telling_line)
    if not telling_line or telling_line == reason:
        return [reason]
    return [reason, telling_line] if _is_from_reason(failed) else [telling_line]


def compute_group_cost(group: FailureGroup, total_cost: float | None, total_seconds: float) -> float | None:
    """Return what the group's attempts cost: their share of the run's cost, by time. None if it is unknown.

    `total_cost`: of the run, in USD. `total_seconds`: of all attempts of the run.
    """
    if total_cost is None or total_seconds <= 0:
        return None
    return total_cost * min(1.0, group.seconds / total_seconds)


class FailedValues(NamedTuple):
    """How many jobs of the run failed, and how many of them have which (key, value)."""

    jobs: int
    counts: Mapping[tuple[str, str], int]


def find_shared_values(
    jobs: Sequence[FailedJob], failed: FailedValues, usual: GroupValueCounter | None = None
) -> tuple[SharedValue, ...]:
    """Return the group values that unusually many of a group's `jobs` share, the most frequent first.

    At least MIN_SHARING_JOBS and at least MIN_SHARE of the jobs must have the value. This share must be at least
    MIN_TIMES_USUAL times the share among all jobs of the run, or so much above it that a random choice of jobs would
    reach it with a chance of at most MAX_CHANCE. A value that separates the jobs exactly is named even if they are too
    few for that: all of them have it, every other job of the run that has it failed too, and at most
    MAX_SEPARATING_SHARE of all jobs have it. If the share among all jobs is unknown (older journals, or a key with
    very many values), it is enough that not all of the run's failed jobs have the value.
    """
    counts = Counter(pair for job in jobs for pair in job.group.items())
    shared = [
        SharedValue(key, value, count, len(jobs))
        for (key, value), count in counts.items()
        if count >= MIN_SHARING_JOBS and count >= MIN_SHARE * len(jobs)
    ]
    unusual = [
        value
        for value in shared
        if _is_unusual(value, usual.find_share(value.key, value.value) if usual else None, failed)
        or (usual is not None and _is_separating(value, usual, failed))
    ]
    return tuple(sorted(unusual, key=lambda value: (-value.jobs, value.key, value.value)))


def _is_unusual(shared: SharedValue, usual_share: float | None, failed: FailedValues) -> bool:
    if usual_share is None:
        return failed.counts[shared.key, shared.value] < failed.jobs
    share = shared.jobs / shared.total
    return share >= MIN_TIMES_USUAL * usual_share or bound_chance(share, shared.total, usual_share) <= MAX_CHANCE


def _is_separating(shared: SharedValue, usual: GroupValueCounter, failed: FailedValues) -> bool:
    count, share = (find(shared.key, shared.value) for find in (usual.count_jobs, usual.find_share))
    if count is None or share is None or shared.jobs < shared.total or share > MAX_SEPARATING_SHARE:
        return False
    return count <= failed.counts[shared.key, shared.value]


def bound_chance(share: float, jobs: int, usual_share: float) -> float:
    """Return an upper limit of the chance that at least this share of `jobs` random jobs have a value that
    `usual_share` (0 to 1) of all jobs have. This is Hoeffding's inequality (1963, theorem 1, first bound)."""
    if share <= usual_share:
        return 1.0
    parts = [(share, usual_share), (1 - share, 1 - usual_share)]
    return math.exp(-jobs * sum(part * math.log(part / usual) for part, usual in parts if part))


def _build_group(
    cause: Cause, jobs: list[FailedJob], failed: FailedValues, usual: GroupValueCounter | None
) -> FailureGroup:
    exit_codes = {convert_exit_code(job.exit_code) for job in jobs}
    return FailureGroup(
        cause.id, cause.text, cause.reason_class,
        exit_code=exit_codes.pop() if len(exit_codes) == 1 else None,
        jobs=tuple(jobs), example=jobs[0], first=jobs[0].ended, shared=find_shared_values(jobs, failed, usual),
    )  # fmt: skip


def _is_from_reason(failed: FailedJob) -> bool:
    """Return whether the cause follows from the job's reason, rather than from how its program ended."""
    has_crashed = failed.reason_class in _CRASH_CLASSES and bool(failed.exit_code)
    return not has_crashed and failed.reason_class not in _LIMIT_CLASSES


def _find_crash_cause(failed: FailedJob, exit_code: int) -> Cause:
    """Return the cause for a program that ended itself with an exit code, or that a signal ended.

    Where a signal ended it, its last line only says how far it was, which differs from job to job. Without a log, the
    hook `failure` may know more than the exit code.
    """
    if exit_code in _CAUSES_BY_EXIT_CODE:
        return Cause("signal", None, _CAUSES_BY_EXIT_CODE[exit_code])
    if exit_code < 0:
        return Cause("signal", exit_code, f"killed by {_format_signal(-exit_code)}")
    name = f"exit code {exit_code}"
    hook_reason = "" if failed.reason in (name, NO_REASON) else failed.reason[:MAX_REASON_CHARACTERS]
    masked = _mask(failed, failed.telling_line or hook_reason)
    return Cause("program", exit_code, f"{name}{f': {masked}' if masked else ''}")


def _mask(failed: FailedJob, line: str) -> str:
    return mask_line(line, (failed.job, *failed.group.values()))[:MAX_MASKED_CHARACTERS].rstrip()


def _format_signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _format_limit(seconds: float | None) -> str:
    if seconds is None:
        return ""
    if seconds < 60:
        return f" after {seconds:.3g} seconds"
    minutes = float(f"{seconds / 60:.3g}")
    return f" after {minutes:g} minute{'' if minutes == 1 else 's'}"


def _format_memory_limit(limit: int | None) -> str:
    return "" if limit is None else f": killed at the limit of {round(limit / 2**20):,} MiB"
