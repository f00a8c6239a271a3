"""What the report of a run shows, as data. The page is drawn from nothing else.

Times are seconds since the run's start unless a field says otherwise, money is in USD, and None means unknown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from distributed_something.results.causes import FailureGroup

USES = ("work", "failed", "interrupted", "waiting", "startup", "idle")


@dataclass(frozen=True)
class UseAmounts:
    """An amount of money, or of slots, by what it was used for.

    `work`: programs of attempts that succeeded, and those that run now. `failed`: failed attempts. `interrupted`:
    attempts that a machine's end or a stop cut off. `waiting`: the slot was free, a fetch had begun, and the program
    had not. `startup`: from a machine's launch to a slot's first program. `idle`: the rest.
    """

    work: float = 0.0
    failed: float = 0.0
    interrupted: float = 0.0
    waiting: float = 0.0
    startup: float = 0.0
    idle: float = 0.0


@dataclass(frozen=True)
class Verdict:
    """The counts and totals of the run. `state`: as in `status`. `started` and `ended`: seconds since 1970.

    `cost`: of the machines; the sum of `uses`, which are rounded to cents. `is_cost_estimated`: whether prices or times
    of machines had to be assumed. `seconds_to_99_percent`: when 99 % of the jobs were done, from 200 jobs on.
    """

    state: str
    submitted: int | None
    done: int
    already_there: int
    failed: int
    left: int
    running: int
    started: float
    ended: float | None
    elapsed_seconds: float
    cost: float | None
    is_cost_estimated: bool
    uses: UseAmounts | None
    machines: int
    interruptions: int
    seconds_to_99_percent: float | None
    unread: int = 0


@dataclass(frozen=True)
class FailureCause:
    """A group of failed jobs with one cause. `jobs`: names, at most a few thousand of them.

    `attempts`: that failed. `lost`: how many of these were on machines that are not known, because their workers were
    lost. `machines`: of the others; 0 if unknown.
    """

    group: FailureGroup
    attempts: int
    machines: int
    cost: float | None
    retry_command: str
    jobs: tuple[str, ...]
    lost: int = 0


@dataclass(frozen=True)
class Suggestion:
    """What would make the next run cheaper or faster. `saved_cost` and `saved_seconds`: at most; None if neither.

    `setting`: what to type, such as `EC2 setting = value`. `evidence` and `caveat`: one sentence each.
    """

    setting: str
    evidence: str
    caveat: str
    saved_cost: float | None = None
    saved_seconds: float | None = None


@dataclass(frozen=True)
class Piece:
    """One program in a lane. `state`: done, failed, interrupted, or running; then its job is unknown ("")."""

    start: float
    end: float
    state: str
    job: str


@dataclass(frozen=True)
class Lane:
    """What one slot of a machine did. `launched` and `ended`: of the machine; `end_reason`: why it ended."""

    machine: str
    type: str | None
    zone: str | None
    is_spot: bool | None
    slot: int
    launched: float
    ended: float | None
    end_reason: str | None
    pieces: tuple[Piece, ...]


@dataclass(frozen=True)
class LaneRow:
    """Many machines as one row, over equally long bins. `busy`: share of the paid time at work, from 0 to 1.

    `failed`: share of the programs that failed, from 0 to 1. `type` and `zone`: of all of them; None if unknown.
    """

    machines: int
    busy: tuple[float, ...]
    failed: tuple[float, ...]
    type: str | None = None
    zone: str | None = None


@dataclass(frozen=True)
class Timeline:
    """The run over time, in bins of `bin_seconds`.

    `slots`: the mean number of slots by use in each bin, keyed by use. `jobs_left`: at the end of each bin. `marks`:
    when 50, 90, and 99 % of the jobs had ended, keyed by the percentage. `tail`: (seconds, jobs) of a long end with few
    jobs, or None. `lanes`: at most MAX_LANES; if there are more, `rows` has about 64 rows instead. `interruptions`:
    when EC2 took machines back.
    """

    bin_seconds: float
    slots: Mapping[str, tuple[float, ...]]
    jobs_left: tuple[int, ...]
    marks: Mapping[int, float]
    tail: tuple[float, int] | None
    lanes: tuple[Lane, ...]
    rows: tuple[LaneRow, ...]
    interruptions: tuple[float, ...] = ()


@dataclass(frozen=True)
class Histogram:
    """How a number is distributed over programs. `edges`: one more than `counts`. `failed_counts`: of failed programs.

    `unit`: seconds, bytes, or processors. `limit`: the limit of the number, or None. `median`: None with too few jobs.
    """

    unit: str
    edges: tuple[float, ...]
    counts: tuple[int, ...]
    failed_counts: tuple[int, ...]
    limit: float | None = None
    median: float | None = None


@dataclass(frozen=True)
class PausedMachine:
    """A machine that took no jobs for `seconds` in all, because of `reason`, the last one if there were several."""

    machine: str
    seconds: float
    reason: str


@dataclass(frozen=True)
class TypeCost:
    """What jobs cost on machines of one type in one zone, from program time only. `jobs`: that were done there."""

    type: str
    zone: str | None
    is_spot: bool | None
    jobs: int
    cost_per_1000: float


@dataclass(frozen=True)
class EarlierAttempt:
    """An attempt before the job's last one. `started` and `is_program_start`: as in JobRow."""

    state: str
    reason: str
    started: float | None
    seconds: float | None
    machine: str
    is_program_start: bool = True


@dataclass(frozen=True)
class JobRow:
    """One job. `group`: the values of its group. `record_key`: of its record.

    `started`: when the program of its last attempt began. If `is_program_start` is false, no program began, or it is
    unknown when, and this is when a worker took the job. `ended`: when its last attempt did. `is_lost`: whether the
    worker of its last attempt was lost, so that its machine and its times are unknown.

    `seconds`: of its last attempt, with the time for its inputs and results, and also if it had no program.

    `state`: done, failed, or skipped, which means that its results were already there. `cause`: the ID of its failure
    group, or "".
    """

    job: str
    state: str
    attempts: int | None
    started: float | None
    seconds: float | None
    exit_code: int | None
    peak_memory_bytes: int | None
    machine: str
    cause: str
    reason: str
    output_location: str
    record_key: str
    group: Mapping[str, str] = field(default_factory=dict)
    earlier: tuple[EarlierAttempt, ...] = ()
    is_program_start: bool = True
    ended: float | None = None
    is_lost: bool = False


@dataclass(frozen=True)
class JobRows:
    """The jobs that the page lists. `total`: of the run. `is_sample`: whether some jobs are left out.

    A sample has all failures and all jobs that were done on a later attempt (at most a few thousand each), the 1,000
    slowest, and an even choice. `retried`: how many jobs had several attempts, listed or not; `recovered`: how many of
    these were done.
    """

    rows: tuple[JobRow, ...]
    total: int
    is_sample: bool
    retried: int = 0
    recovered: int = 0


@dataclass(frozen=True)
class Provenance:
    """Where the numbers come from. `facts`: names and values to list. `config`: the config with secrets masked.

    `left_out`: what the cost leaves out, one sentence each.
    """

    facts: tuple[tuple[str, str], ...]
    config: tuple[tuple[str, str], ...]
    left_out: tuple[str, ...]


@dataclass(frozen=True)
class Report:
    """Everything on the page. `made`: when, in seconds since 1970. `recovered`: jobs that succeeded when retried.

    `lost`: jobs that failed for good because the worker of their last attempt was lost. `paused`: the machines that
    took no jobs for a time, the longest first.
    `run_job_command`: the command that runs one job on the user's computer, up to the job's ID; "" if unknown.
    """

    app: str
    run: str
    region: str
    made: float
    verdict: Verdict
    failures: tuple[FailureCause, ...]
    failures_left_out: int
    recovered: int
    suggestions: tuple[Suggestion, ...]
    timeline: Timeline | None
    program_seconds: Histogram | None
    peak_memory: Histogram | None
    processors: Histogram | None
    type_costs: tuple[TypeCost, ...]
    jobs: JobRows
    provenance: Provenance
    run_job_command: str = ""
    lost: int = 0
    paused: tuple[PausedMachine, ...] = ()
