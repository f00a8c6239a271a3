"""What earlier looks of the monitor saw, as far as later ones need it.

It lies in the bucket beside the records, so that a monitor which is started again, or the next tick of the one in AWS,
goes on where the last one was. Two monitors at once write the same, by AWS's clock.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields, replace
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from distributed_something.core.errors import is_missing_object
from distributed_something.core.monitor_file import MonitorFile
from distributed_something.observe.snapshot import RunSnapshot

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


CLOCK_TOLERANCE_SECONDS = 2.0  # AWS dates its answers to the second: a clock here that is as near as this is finer


@dataclass(frozen=True)
class RunHistory:
    """Times in seconds since 1970. `first_…`: at the first look. `recent`: times and jobs of the looks within the
    settling time. `cost`: USD so far, up to `at`; `hourly`: USD an hour then. `ended`: when no job was left: from then
    on the run is cleaned up, whatever comes under its names."""

    at: float | None = None
    empty_since: float | None = None
    empty_looks: int = 0
    first_jobs: int | None = None
    first_dead: int = 0
    first_submitted: int = 0
    recent: tuple[tuple[float, int], ...] = ()
    cost: float = 0.0
    hourly: float = 0.0
    closed: bool = False
    ended: float | None = None

    @property
    def most_jobs(self) -> int:
        """The most jobs that a look within the settling time saw: a count that is too low for a moment does no harm."""
        return max((jobs for _, jobs in self.recent), default=0)


def update_history(history: RunHistory, look: RunSnapshot, settle: float) -> RunHistory:
    """`history` with one more look in it. `settle`: seconds that SQS's counts take to settle."""
    recent = (*(one for one in history.recent if look.at - one[0] <= settle), (look.at, look.jobs))
    cost = history.cost + _compute_cost_since(history, look)
    at = max(history.at or look.at, look.at)  # two monitors' looks may come in the wrong order by a second
    after = replace(history, at=at, recent=recent, cost=cost, hourly=look.hourly or 0.0)
    if history.first_jobs is None and look.queue is not None:
        after = replace(after, first_jobs=look.jobs, first_dead=look.dead, first_submitted=look.submitted or 0)
    if look.jobs > 0:
        return replace(after, empty_since=None, empty_looks=0)
    since = look.at if history.empty_since is None else history.empty_since
    return replace(after, empty_since=since, empty_looks=history.empty_looks + 1)


def build_history_key(file: MonitorFile) -> str:
    """Where the history of a run lies in its bucket."""
    return file.keys.history


def load_history(s3: S3Client, file: MonitorFile, now: float) -> tuple[RunHistory, float]:
    """The history that is there, and AWS's time (seconds since 1970), `now` where it tells none. Without a history, or
    where it is none, one that begins with the run: what ran before anybody looked costs as much. Raises AWS's
    errors."""
    none = RunHistory(at=file.MONITOR_START_TIME / 1000)
    try:
        answer: Any = s3.get_object(Bucket=file.MONITOR_BUCKET_NAME, Key=build_history_key(file))
    except ClientError as error:
        if is_missing_object(error):
            return none, _parse_answer_time(error.response, now)
        raise
    try:
        return _parse_history(json.loads(answer["Body"].read()), none), _parse_answer_time(answer, now)
    except (ValueError, TypeError):
        return none, _parse_answer_time(answer, now)


def save_history(s3: S3Client, file: MonitorFile, history: RunHistory) -> None:
    """Raises AWS's errors."""
    s3.put_object(
        Bucket=file.MONITOR_BUCKET_NAME, Key=build_history_key(file), Body=json.dumps(asdict(history)).encode()
    )


def reopen_history(s3: S3Client, file: MonitorFile) -> None:
    """A start goes on with this run, whose monitor was killed just when it began to end it. Raises AWS's errors."""
    before, _ = load_history(s3, file, 0.0)
    if before.ended is not None:
        save_history(s3, file, replace(before, ended=None, empty_since=None, empty_looks=0))


def _parse_answer_time(answer: Any, now: float) -> float:
    """When AWS gave this answer. The monitors of a run share its history, and their clocks may be minutes apart."""
    told = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date", "")
    try:
        at = parsedate_to_datetime(told).timestamp()
    except ValueError:
        return now
    return now if abs(at - now) <= CLOCK_TOLERANCE_SECONDS else at


def _compute_cost_since(history: RunHistory, look: RunSnapshot) -> float:
    """At the dearer of both looks: a fleet that nobody watches is lowered by nobody. Nothing where no machine is left:
    nobody knows since when, and there is nothing that could be stopped."""
    if history.at is None or not look.hourly:
        return 0.0
    return max(history.hourly, look.hourly) * max(0.0, look.at - history.at) / 3600


def _parse_history(content: Any, none: RunHistory) -> RunHistory:
    if not isinstance(content, dict):
        raise TypeError("no history")
    known = {field.name: content[field.name] for field in fields(RunHistory) if field.name in content}
    recent = tuple((float(at), int(jobs)) for at, jobs in known.pop("recent", ()))
    found = replace(none, **known, recent=recent)
    numbers = (found.empty_looks, found.first_dead, found.first_submitted, found.cost, found.hourly, found.at or 0.0)
    optional = (found.empty_since or 0, found.first_jobs or 0, found.ended or 0)
    if not all(isinstance(one, (int, float)) for one in (*numbers, *optional)):
        raise TypeError("no history")
    return found
