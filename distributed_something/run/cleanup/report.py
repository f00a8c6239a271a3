"""The cleanup report: data for later cleanup steps, and the text that is printed for the user."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum

from distributed_something.core.errors import CloudError
from distributed_something.core.text import format_count, format_wrapped_row
from distributed_something.observe.resources import ResourceKind
from distributed_something.run.cleanup.export_logs import ExportOutcome, format_export_outcome


class KeepReason(Enum):
    """The reason why cleanup keeps a resource on purpose."""

    OTHER_APP = "it belongs to the app {owner}, whose cleanup deletes it"
    OTHER_QUEUES = "other queues use it"
    SHARED_QUEUE = "several apps share it"
    OTHER_SERVICES = "other services use it"
    FAILED_JOBS = "it is not empty; cleanup --failed-too deletes it"
    CLEAN_DASHBOARD = "CLEAN_DASHBOARD is 'False'"
    OLDER_THAN_APP = "not created by this app"
    RETENTION = "its entries expire after {count} days"


@dataclass(frozen=True)
class RemovedResource:
    """A deleted resource, or `count` resources that are not named individually.

    `machines`: the number of machines that are terminated with a fleet.
    """

    kind: ResourceKind
    name: str = ""
    count: int | None = None
    machines: int | None = None


@dataclass(frozen=True)
class KeptResource:
    """A resource that is kept on purpose. `count` and `owner` (an app): what to insert into the reason."""

    kind: ResourceKind
    name: str
    reason: KeepReason
    count: int = 0
    owner: str = ""

    @property
    def reason_text(self) -> str:
        return self.reason.value.format(count=self.count, owner=self.owner)


@dataclass(frozen=True)
class FailedRemoval:
    """A resource that could not be deleted. `label`: its kind and name, as shown to the user."""

    kind: ResourceKind
    label: str
    error: CloudError


@dataclass(frozen=True)
class NextBatch:
    """The queue and app of a newer batch of jobs that uses the same names as the run."""

    queue: str
    app: str


@dataclass
class CleanupReport:
    """What was deleted, what was kept on purpose, and what could not be deleted.

    `next_batch`: set if a newer batch uses the app's names, in which case resources with these names are kept.
    `exports`: the outcomes of the log exports.
    """

    removed: list[RemovedResource] = field(default_factory=list)
    kept: list[KeptResource] = field(default_factory=list)
    failed: list[FailedRemoval] = field(default_factory=list)
    next_batch: NextBatch | None = None
    exports: list[ExportOutcome] = field(default_factory=list)

    @property
    def is_complete(self) -> bool:
        """Whether everything that had to be deleted was deleted."""
        return not self.failed

    def has_failed(self, kind: ResourceKind) -> bool:
        return any(failure.kind is kind for failure in self.failed)

    def list_removed(self, kind: ResourceKind) -> list[str]:
        """Return the names of the deleted resources of this kind."""
        return [resource.name for resource in self.removed if resource.kind is kind]


def format_cleanup_report(report: CleanupReport) -> str:
    """Return the lines about each resource and each log export."""
    lines = [format_wrapped_row("removed", _format_removed(resource)) for resource in report.removed]
    lines += [format_wrapped_row("kept", text) for text in _iter_kept(report)]
    lines += [format_wrapped_row("NOT REMOVED", f"{failure.label}: {failure.error}") for failure in report.failed]
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
        yield f"queue {batch.queue} and other resources of {batch.app}: a newer batch uses them"
    for kept in report.kept:
        yield f"{kept.kind} {kept.name} ({kept.reason_text})"
    for outcome in report.exports:
        yield format_export_outcome(outcome)
