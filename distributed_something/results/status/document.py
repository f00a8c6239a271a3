"""The status of a run as data: what `run.py status --json` prints, and what the screens show.

The schema of the JSON document is `schema.json`, beside this module.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Any

from distributed_something.observe.containers import StartFailure
from distributed_something.results.advice import Advice
from distributed_something.results.causes import FailureGroup, list_telling_lines
from distributed_something.results.retry.settled_jobs import NOTHING_SETTLED, SettledJobs
from distributed_something.results.status.forecast import Estimate, Speed
from distributed_something.results.status.progress import SlowJob


class RunState(Enum):
    """STARTING: no container has reported yet. ENDING: the queue is empty, and resources are being removed.

    STOPPED: the run ended while jobs were left, for example because of MAX_COST.
    """

    STARTING = "starting"
    RUNNING = "running"
    ENDING = "ending"
    DONE = "done"
    FAILED = "failed"
    STOPPED = "stopped"

    @property
    def has_ended(self) -> bool:
        return self in (RunState.DONE, RunState.FAILED, RunState.STOPPED)


@dataclass(frozen=True)
class JobNumbers:
    """How many jobs are in which state.

    `submitted`: distinct jobs, which is the sum of all states; None if unknown, as in runs that an older version
    started. A job that was sent again after it had failed is not `failed` any more. `already_there`: submissions that
    were skipped. `unaccounted`: after the run, jobs that were lost: they have neither ended nor are they in the queue.
    `replaced`: submissions that have ended and were replaced by `submitJob --replace`; they are not among the others.
    """

    submitted: int | None
    done: int = 0
    already_there: int = 0
    failed: int = 0
    running: int = 0
    waiting: int = 0
    unaccounted: int = 0
    replaced: int = 0

    @property
    def ended(self) -> int:
        return self.done + self.already_there + self.failed

    @property
    def left(self) -> int:
        """Number of jobs that are running or in the queue."""
        return self.running + self.waiting

    @property
    def share(self) -> float | None:
        """The share of the jobs that have ended, from 0 to 1; None if the total is unknown."""
        return min(1.0, self.ended / self.submitted) if self.submitted else None


@dataclass(frozen=True)
class MachineNumbers:
    """The run's machines and slots (programs that can run at once). `interrupted`: attempts, not machines."""

    running: int = 0
    target: int = 0
    slots: int = 0
    interrupted_attempts: int = 0


@dataclass(frozen=True)
class LostLeases:
    """Jobs of lost workers, which no other worker gets before their leases expire.

    `seconds`: how long that takes at most; None if it is unknown.
    """

    jobs: int
    seconds: float | None = None


@dataclass(frozen=True)
class CostNumbers:
    """The run's cost in USD. None means unknown, or for `limit` (MAX_COST) that there is none."""

    so_far: float | None = None
    at_end: Estimate | None = None
    limit: float | None = None


@dataclass(frozen=True)
class RunStatus:
    """The status of one run at one moment. Times are in seconds since 1970.

    `reason`: why the run ended early, such as "cost"; empty if it did not. `remaining`: seconds. `messages`: what
    happened, newest first. `attempt_seconds`: how long all attempts have taken together. `advice`: what to do if the
    run has ended and not every job is done. `speed`: None if it is not known yet; the average once no jobs are left.
    `failures`: the failed jobs by cause. `failing`: the jobs that have not ended and whose latest attempt failed, by
    cause, after the run or while no job has succeeded. `start_failure`: why no container took a job, if
    the run ended because of that. `settled`: failed jobs about which nothing is left to do, because of later runs.
    `lost_leases`: what the jobs in the queue wait for, if all of them wait for the leases of lost workers.
    """

    app: str
    run: str
    region: str
    state: RunState
    at: float
    started: float
    ended: float | None
    jobs: JobNumbers
    failures: Sequence[FailureGroup] = ()
    failing: Sequence[FailureGroup] = ()
    attempt_seconds: float = 0.0
    cost: CostNumbers = CostNumbers()
    machines: MachineNumbers = MachineNumbers()
    speed: Speed | None = None
    remaining: Estimate | None = None
    slowest: Sequence[SlowJob] = ()
    median_seconds: float | None = None
    reason: str = ""
    messages: Sequence[str] = ()
    advice: Advice | None = None
    start_failure: StartFailure | None = None
    settled: SettledJobs = NOTHING_SETTLED
    lost_leases: LostLeases | None = None

    @property
    def elapsed(self) -> float:
        """Seconds since the run started, or how long it took."""
        return max(0.0, (self.ended or self.at) - self.started)

    @property
    def share(self) -> float | None:
        """The share of the jobs that have ended, from 0 to 1; None if the total is unknown.

        Once the queue is empty, all jobs have ended, even if the journals do not say yet how.
        """
        is_over = self.state in (RunState.ENDING, RunState.DONE, RunState.FAILED)
        is_over = is_over and not (self.jobs.waiting or self.jobs.unaccounted)
        return 1.0 if is_over and self.jobs.submitted else self.jobs.share

    def has_group_retry(self, group: FailureGroup) -> bool:
        """Return whether `retry` can send jobs of the group again.

        It has not sent all of them already, and they have not all succeeded since or been replaced.
        """
        batch = self.advice.batch if self.advice else None
        others = self.settled.jobs | (batch.repeated if batch else frozenset())
        return any(failed.job not in others for failed in group.jobs)

    @property
    def has_retry(self) -> bool:
        """Whether jobs failed that `retry` can send again."""
        return bool(self.jobs.failed) and (not self.failures or any(map(self.has_group_retry, self.failures)))

    @property
    def has_failures(self) -> bool:
        """Whether any job failed, or the run ended although jobs were left."""
        return bool(self.jobs.failed) or self.state in (RunState.FAILED, RunState.STOPPED)


def choose_ended_state(*, reason: str, is_complete: bool) -> RunState:
    """Return the state of a run that has ended. `reason`: as in the summary; "run" if no jobs were left."""
    if reason != "run":
        return RunState.STOPPED
    return RunState.DONE if is_complete else RunState.FAILED


def build_status_document(status: RunStatus, retry_command: str, group_costs: Sequence[float | None]) -> dict[str, Any]:
    """Return the document that `status --json` prints.

    `retry_command`: the one for all failed jobs. `group_costs`: USD per group of `failures`, and then of `failing`.
    """
    return {
        "app": status.app,
        "run": status.run,
        "region": status.region,
        "state": status.state.value,
        "reason": status.reason or None,
        "at": _format_time(status.at),
        "started": _format_time(status.started),
        "ended": _format_time(status.ended),
        "elapsed_seconds": round(status.elapsed),
        "jobs": {
            "submitted": status.jobs.submitted, "done": status.jobs.done, "already_there": status.jobs.already_there,
            "failed": status.jobs.failed, "running": status.jobs.running, "waiting": status.jobs.waiting,
            "unaccounted": status.jobs.unaccounted, "replaced": status.jobs.replaced,
        },
        **_build_groups(status, retry_command, group_costs),
        "retry": retry_command if status.has_retry else None,
        "settled": _count_settled_jobs(status.settled),
        "cost": {
            "usd": _round_usd(status.cost.so_far), "at_end": _build_estimate(status.cost.at_end, _round_usd),
            "max_usd": status.cost.limit,
        },
        "machines": {
            "running": status.machines.running, "target": status.machines.target, "slots": status.machines.slots,
            "interrupted_attempts": status.machines.interrupted_attempts,
        },
        "lost_leases": None if status.lost_leases is None else asdict(status.lost_leases),
        "jobs_per_minute": round(status.speed.per_minute, 6) if status.speed else None,
        "remaining_seconds": _build_estimate(status.remaining),
        "slowest": [{"job": slow.job, "seconds": round(slow.seconds, 1)} for slow in status.slowest],
        "median_seconds": _round(status.median_seconds),
        "messages": list(status.messages),
    }  # fmt: skip


def _count_settled_jobs(settled: SettledJobs) -> dict[str, int]:
    return {
        "succeeded": len(settled.succeeded), "replaced": len(settled.replaced), "removed": settled.removed,
    }  # fmt: skip


def _build_groups(status: RunStatus, retry_command: str, costs: Sequence[float | None]) -> dict[str, Any]:
    """Return the groups of failed and of failing jobs. Those have no `retry` whose jobs are in the queue."""
    count = len(status.failures)
    failures, failing = zip(status.failures, costs, strict=False), zip(status.failing, costs[count:], strict=True)
    return {
        "failures": [
            _build_group(group, f"{retry_command} --only {group.id}" if status.has_group_retry(group) else None, usd)
            for group, usd in failures
        ],
        "failing": [_build_group(group, None, usd) for group, usd in failing],
    }


def _build_group(group: FailureGroup, retry: str | None, usd: float | None) -> dict[str, Any]:
    example = group.example
    telling_line = list_telling_lines(example)[-1]
    return {
        "id": group.id,
        "cause": group.cause,
        "reason_class": group.reason_class,
        "exit_code": group.exit_code,
        "jobs": len(group.jobs),
        "job_ids": [failed.job for failed in group.jobs],
        "example": {
            "job": example.job,
            "telling_line": telling_line,
            "last_lines": list(example.last_lines) or [telling_line],
            "log": example.log or None,
        },
        "shared": [{"key": shared.key, "value": shared.value, "jobs": shared.jobs} for shared in group.shared],
        "first": _format_time(group.first),
        "usd": _round_usd(usd),
        "retry": retry,
    }


def _build_estimate(
    estimate: Estimate | None, round_value: Callable[[float | None], float | None] | None = None
) -> dict[str, Any] | None:
    if estimate is None:
        return None
    shorten = round_value or _round
    return {"value": shorten(estimate.value), "low": shorten(estimate.low), "high": shorten(estimate.high)}


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _round_usd(value: float | None) -> float | None:
    """Return the cost with six significant digits: 0 would mean that it is free."""
    return None if value is None else float(f"{value:.6g}")


def _format_time(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
