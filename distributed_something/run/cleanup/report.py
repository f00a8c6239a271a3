"""What became of everything that a run made: data for the next step of clean-up, and the text that a user reads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum

from distributed_something.core.errors import CloudError
from distributed_something.core.text import format_count, format_row
from distributed_something.observe.resources import ResourceKind
from distributed_something.run.cleanup.export_logs import ExportOutcome, format_export_outcome


class KeepReason(Enum):
    """Why something stays on purpose."""

    OTHER_QUEUES = "other queues use it"
    OTHER_SERVICES = "other services use it"
    FAILED_JOBS = "it holds {count} failed jobs"
    CLEAN_DASHBOARD = "CLEAN_DASHBOARD is 'False'"
    OLDER_THAN_APP = "it was there before this app"
    RETENTION = "{count} days"


@dataclass(frozen=True)
class RemovedResource:
    """Something that is gone now. `count`: how many, where they are not named one by one. `machines`: those that end
    with a fleet."""

    kind: ResourceKind
    name: str = ""
    count: int | None = None
    machines: int | None = None


@dataclass(frozen=True)
class KeptResource:
    """Something that stays on purpose. `count`: the number in its reason."""

    kind: ResourceKind
    name: str
    reason: KeepReason
    count: int = 0


@dataclass(frozen=True)
class FailedRemoval:
    """Something that could not be removed. `what`: the name that a user is told."""

    kind: ResourceKind
    what: str
    error: CloudError


@dataclass(frozen=True)
class NextBatch:
    """The batch of jobs that has the run's names by now: its queue, and its app."""

    queue: str
    app: str


@dataclass
class CleanupReport:
    """What was removed, what was kept on purpose, and what could not be removed.

    `next_batch`: what has the app's names is the next batch's by now, and stays. `exports`: of the log groups.
    """

    removed: list[RemovedResource] = field(default_factory=list)
    kept: list[KeptResource] = field(default_factory=list)
    failed: list[FailedRemoval] = field(default_factory=list)
    next_batch: NextBatch | None = None
    exports: list[ExportOutcome] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Whether nothing is left that had to go."""
        return not self.failed

    def has_failed(self, kind: ResourceKind) -> bool:
        return any(failure.kind is kind for failure in self.failed)

    def list_removed(self, kind: ResourceKind) -> list[str]:
        """Return the names of what was removed of this kind."""
        return [resource.name for resource in self.removed if resource.kind is kind]


def format_cleanup_report(report: CleanupReport) -> str:
    """Return a line for each thing, as it goes to standard output."""
    lines = [format_row("removed", _format_removed(resource)) for resource in report.removed]
    lines += [format_row("kept", text) for text in _iter_kept(report)]
    lines += [format_row("NOT REMOVED", f"{failure.what}: {failure.error}") for failure in report.failed]
    return "\n".join(lines)


def _format_removed(removed: RemovedResource) -> str:
    if removed.machines is not None:
        return f"{removed.kind} {removed.name} and its {format_count(removed.machines, 'machine')}"
    if removed.count is not None:
        return f"{format_count(removed.count, removed.kind)} {removed.name}".rstrip()
    return f"{removed.kind} {removed.name}"


def _iter_kept(report: CleanupReport) -> Iterator[str]:
    if report.next_batch:
        batch = report.next_batch
        yield (
            f"queue {batch.queue}, and what else is named after {batch.app}: they are the next batch's, sent since this"
            " run ended"
        )
    for kept in report.kept:
        yield f"{kept.kind} {kept.name} ({kept.reason.value.format(count=kept.count)})"
    for outcome in report.exports:
        yield format_export_outcome(outcome)
