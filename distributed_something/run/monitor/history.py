"""The run history that the monitor builds from its snapshots.

The history is stored in the bucket beside the records. A monitor that is restarted, or the next call of the
auto-monitor, continues from there. Two monitors that run at the same time write the same history, because both use
AWS's clock.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from distributed_something.aws.s3 import CLOCK_TOLERANCE_SECONDS, parse_response_time
from distributed_something.core.errors import is_missing_object
from distributed_something.core.monitor_file import MonitorFile
from distributed_something.core.submission import parse_submission_time
from distributed_something.observe.containers import PausedMachine
from distributed_something.observe.documents.run_start import RunStart
from distributed_something.observe.snapshot import RunSnapshot

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


DENIED_PROTECTION_SECONDS = 10 * 60.0  # a new permission is usually known everywhere within a minute


@dataclass(frozen=True)
class RunHistory:
    """The information from all snapshots so far. Times are in seconds since 1970.

    `at`: the time of the last snapshot. `empty_since`: when the queue became empty. `empty_looks`: how many snapshots
    in a row have shown an empty queue. `submissions_since`, `other_jobs`, `dead_letters`, `unfinished`: the run's
    start, as in RunStart; None if an older version started the run. `failing_since`: since when attempts have failed or
    containers have paused while no job has succeeded. `replaced_at`: when `submitJob --replace` last removed the
    waiting jobs during the run. `failed_before`, `attempts_before`: the containers' totals then, which say nothing
    about the jobs that replaced them. `unstarted_since`: since when there have been machines although
    no container has written its first journal. `recent`: (time, jobs) for each snapshot within the settling time.
    `cost`: the estimated cost up to `at`, in USD. `hourly`: the cost per hour at that time, in USD. `closed`: whether
    the monitor has closed the run because of MAX_COST. `disconnected`: (machine, time) for each machine whose ECS agent
    is disconnected, and since when. `unusable_…`: terminated machines, as in `unusable.py`. `machines`: the most
    that the fleet had at once in a snapshot. `fleet`: the machines that the fleet had, without those whose end is in
    their documents. `ended`: when the run had no jobs left. From then on, the run is cleaned up even if new jobs appear
    under the same names. `stopped`: whether `cleanup` ended the run then, with the jobs that it had left. `notified`:
    the kinds of notifications that need not be sent again.
    """

    at: float | None = None
    empty_since: float | None = None
    empty_looks: int = 0
    submissions_since: float | None = None
    other_jobs: int | None = None
    dead_letters: int | None = None
    unfinished: tuple[tuple[str, int], ...] = ()
    failing_since: float | None = None
    replaced_at: float | None = None
    failed_before: int = 0
    attempts_before: int = 0
    unstarted_since: float | None = None
    recent: tuple[tuple[float, int], ...] = ()
    cost: float = 0.0
    hourly: float = 0.0
    closed: bool = False
    disconnected: tuple[tuple[str, float], ...] = ()
    unusable_count: int = 0
    unusable_machine: str = ""
    unusable_rounds: int = 0
    unusable_at: float | None = None
    unusable_beside: int = 0
    machines: int = 0
    fleet: tuple[str, ...] = ()
    ended: float | None = None
    stopped: bool = False
    notified: tuple[str, ...] = ()

    @property
    def start(self) -> RunStart | None:
        """The run's start, or None if it is unknown."""
        if self.submissions_since is None or self.other_jobs is None:
            return None
        return RunStart(self.submissions_since, self.other_jobs, self.dead_letters or 0, self.unfinished)

    @property
    def until(self) -> float:
        """Until when what is submitted belongs to this run (seconds since 1970): its end, if it has ended."""
        return math.inf if self.ended is None else self.ended

    @property
    def most_jobs(self) -> int:
        """The highest job count within the settling time, as a safeguard against counts that are briefly too low."""
        return max((jobs for _, jobs in self.recent), default=0)


def update_history(history: RunHistory, snapshot: RunSnapshot, settling_seconds: float) -> RunHistory:
    """Return `history` with one more snapshot added. SQS's counts take `settling_seconds` to settle."""
    recent = tuple((at, jobs) for at, jobs in history.recent if snapshot.at - at <= settling_seconds)
    cost = history.cost + compute_cost_since(history, snapshot)
    at = max(history.at or snapshot.at, snapshot.at)  # snapshots from two monitors may arrive out of order
    current = snapshot.fleet.machines if snapshot.fleet else ()
    updated = replace(
        history, at=at, recent=(*recent, (snapshot.at, snapshot.jobs)), cost=cost, hourly=snapshot.hourly or 0.0,
        machines=max(history.machines, len(current)), fleet=tuple(dict.fromkeys((*history.fleet, *current))),
    )  # fmt: skip
    updated = _update_replacement(updated, snapshot, settling_seconds)
    failing_since = snapshot.at if history.failing_since is None else history.failing_since
    updated = replace(updated, failing_since=failing_since if _is_failing(updated, snapshot) else None)
    # Machines that have not joined the cluster cannot start containers; they are terminated and replaced.
    absent = sum(not machine.has_joined for machine in snapshot.unusable)
    has_machines = snapshot.fleet is not None and len(snapshot.fleet.machines) > absent
    is_unstarted = has_machines and not snapshot.totals.containers
    unstarted_since = snapshot.at if history.unstarted_since is None else history.unstarted_since
    updated = replace(updated, unstarted_since=unstarted_since if is_unstarted else None)
    known = dict(history.disconnected)
    joined = [machine.instance for machine in snapshot.unusable if machine.has_joined]
    updated = replace(updated, disconnected=tuple((machine, known.get(machine, snapshot.at)) for machine in joined))
    if snapshot.jobs > 0 or snapshot.is_sending:
        return replace(updated, empty_since=None, empty_looks=0)
    since = snapshot.at if history.empty_since is None else history.empty_since
    return replace(updated, empty_since=since, empty_looks=history.empty_looks + 1)


def compute_cost_since(history: RunHistory, snapshot: RunSnapshot) -> float:
    """Return the cost from the history's last snapshot until this one, in USD.

    An unwatched fleet is not scaled down, so the time between two snapshots is charged at the higher of the two rates.
    If no machines are left, the time is not charged, because it is unknown when the last machine was terminated.
    """
    if history.at is None or not snapshot.hourly:
        return 0.0
    return max(history.hourly, snapshot.hourly) * max(0.0, snapshot.at - history.at) / 3600


def list_counted_pauses(history: RunHistory, snapshot: RunSnapshot) -> list[PausedMachine]:
    """Return the paused containers, without those that paused because of jobs that were replaced since.

    Those that ECS refuses to protect count only if their role may not protect them, even after AWS had the time to make
    a new permission known everywhere. Other refusals end by themselves.
    """
    until = 0.0 if history.replaced_at is None else history.replaced_at + CLOCK_TOLERANCE_SECONDS
    return [
        paused
        for paused in snapshot.paused
        if (paused.protection is None and (paused.since is None or paused.since > until))
        or (paused.is_denied and snapshot.at - (paused.refused_since or snapshot.at) >= DENIED_PROTECTION_SECONDS)
    ]


def _update_replacement(history: RunHistory, snapshot: RunSnapshot, settling_seconds: float) -> RunHistory:
    """Take the time of a replacement, and the totals until the journals contain all attempts before it."""
    if snapshot.replaced_at is None:
        return history
    has_settled = snapshot.at - snapshot.replaced_at > settling_seconds
    if snapshot.replaced_at == history.replaced_at and has_settled:
        return history
    totals = snapshot.totals
    return replace(
        history, replaced_at=snapshot.replaced_at, failed_before=totals.failed, attempts_before=totals.attempts
    )


def _is_failing(history: RunHistory, snapshot: RunSnapshot) -> bool:
    """Return whether attempts have failed or containers have paused, and no job has succeeded.

    While jobs are being sent, the earlier ones may be about to be replaced.
    """
    totals = snapshot.totals
    if totals.done or totals.already_there or snapshot.is_sending:
        return False
    return totals.attempts > history.attempts_before or bool(list_counted_pauses(history, snapshot))


def build_history_key(file: MonitorFile) -> str:
    """Return the key of the run's history in the bucket."""
    return file.keys.history


def load_history(s3: S3Client, file: MonitorFile, now: float) -> tuple[RunHistory, float]:
    """Return the stored history, and the date of AWS's response (seconds since 1970) or `now` if there is no date.

    If there is no readable history, return a history that begins at the start of the run, so that the time before the
    first snapshot is charged too. AWS errors are not caught.
    """
    default = RunHistory(at=file.MONITOR_START_TIME / 1000)
    try:
        response: Any = s3.get_object(Bucket=file.MONITOR_BUCKET_NAME, Key=build_history_key(file))
    except ClientError as error:
        if is_missing_object(error):
            return default, parse_response_time(error.response, now)
        raise
    try:
        return _parse_history(json.loads(response["Body"].read()), default), parse_response_time(response, now)
    except (ValueError, TypeError):
        return default, parse_response_time(response, now)


def save_history(s3: S3Client, file: MonitorFile, history: RunHistory) -> None:
    """Write the history to the bucket. AWS errors are not caught."""
    s3.put_object(
        Bucket=file.MONITOR_BUCKET_NAME, Key=build_history_key(file), Body=json.dumps(asdict(history)).encode()
    )


def open_history(s3: S3Client, file: MonitorFile, observe_start: Callable[[float], RunStart]) -> None:
    """Save the history of a run that starts now, or continue the history of an unfinished start.

    A monitor may have begun to end the run if its start was interrupted. `observe_start` is called with AWS's time if
    the run's start is not known yet. AWS errors are not caught.
    """
    history, now = load_history(s3, file, file.MONITOR_START_TIME / 1000)
    if history.start is None:
        history = replace(history, **asdict(observe_start(now)))
    save_history(s3, file, replace(history, ended=None, stopped=False, empty_since=None, empty_looks=0))


def record_stop(s3: S3Client, file: MonitorFile, now: float) -> None:
    """Save in the history that the run ends now, because `cleanup` removes it, unless it has not begun or has ended.

    What is submitted from now on belongs to another run. AWS errors are not caught.
    """
    history, now = load_history(s3, file, now)
    if history.start is not None and history.ended is None:
        save_history(s3, file, replace(history, ended=now, stopped=True))


def _parse_history(content: Any, default: RunHistory) -> RunHistory:
    if not isinstance(content, dict):
        raise TypeError("not a history")
    values = {field.name: content[field.name] for field in fields(RunHistory) if field.name in content}
    recent = tuple((float(at), int(jobs)) for at, jobs in values.pop("recent", ()))
    unfinished = tuple((str(time), int(count)) for time, count in values.pop("unfinished", ()))
    disconnected = tuple((str(machine), float(since)) for machine, since in values.pop("disconnected", ()))
    notified = tuple(map(str, values.pop("notified", ())))
    fleet = tuple(map(str, values.pop("fleet", ())))
    for time, _ in unfinished:
        parse_submission_time(time)
    history = replace(
        default, **values, recent=recent, unfinished=unfinished, disconnected=disconnected, fleet=fleet,
        notified=notified,
    )  # fmt: skip
    required = (history.empty_looks, history.cost, history.hourly, history.at,
                history.unusable_count, history.unusable_rounds, history.unusable_beside, history.machines)  # fmt: skip
    optional = (history.empty_since, history.ended, history.failing_since, history.unstarted_since,
                history.replaced_at, history.failed_before, history.attempts_before, history.unusable_at,
                history.submissions_since, history.other_jobs, history.dead_letters)  # fmt: skip
    if not all(isinstance(number, (int, float)) for number in (*required, *(each or 0 for each in optional))):
        raise TypeError("not a history")
    return history
