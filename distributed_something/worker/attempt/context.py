"""The context that all job-related parts of a container share, and what they know about the end of the container."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from distributed_something.worker.job.worker_settings import Settings
from distributed_something.worker.logs.job_log import JobLogs
from distributed_something.worker.machine.clock import Clock
from distributed_something.worker.machine.container_facts import ContainerFacts
from distributed_something.worker.program.disk_guard import DiskGuard
from distributed_something.worker.program.launcher import LauncherPool
from distributed_something.worker.program.memory import OomKills
from distributed_something.worker.program.privileges import ProgramUser, find_program_user
from distributed_something.worker.transfer.crt.transfers import CrtTransfers
from distributed_something.worker.transfer.endpoints.clients import EndpointClients


@dataclass(frozen=True)
class WorkerContext:
    """A container's settings, clock, facts, and SQS and S3 clients. A client that must not be used is None.

    `transfers`: the downloads and uploads through awscrt, if it is installed. `endpoints`: the clients for S3 servers
    other than AWS's.
    """

    settings: Settings
    sqs: Any
    s3: Any
    clock: Clock = field(default_factory=Clock)
    facts: ContainerFacts = field(default_factory=ContainerFacts)
    transfers: CrtTransfers | None = None
    endpoints: EndpointClients | None = None

    def get_s3(self, endpoint: str) -> Any:
        """Return the S3 client for a job's `input_endpoint` or `output_endpoint`; "" is AWS.

        Raise Failed if the config does not allow the address.
        """
        if not endpoint:
            return self.s3
        assert self.endpoints is not None
        return self.endpoints.get_client(endpoint)

    def get_transfers(self, endpoint: str) -> CrtTransfers | None:
        """Return the transfers through awscrt, which are only for AWS."""
        return None if endpoint else self.transfers


class StopState(Protocol):
    """Whether the container must stop now or soon; implemented by StopRequest."""

    @property
    def is_announced(self) -> bool:
        """Whether the container must stop, so that no more jobs are started."""

    @property
    def is_due(self) -> bool:
        """Whether running programs must also end now."""

    @property
    def is_overdue(self) -> bool:
        """Whether all jobs must return to the queue now."""

    def announce_end(self, seconds: float) -> None:
        """Announce that the container will stop in `seconds`, so that no more jobs are started."""


@dataclass(frozen=True)
class ProgramTools:
    """Tools for running programs: launchers, log streams, the disk's guard, the out-of-memory kill counter, and the
    programs' user.

    If `user` is None, programs run as the worker's user.
    """

    launcher: LauncherPool
    job_logs: JobLogs
    disk: DiskGuard
    oom_kills: OomKills = field(default_factory=OomKills)
    user: ProgramUser | None = None


def build_program_tools(settings: Settings, slots: int, job_logs: JobLogs, disk: DiskGuard) -> ProgramTools:
    """Return the tools for running programs in `slots` slots. Raise NoSuchUser if they cannot run as PROGRAM_USER."""
    user = find_program_user(settings.program_user)
    launcher = LauncherPool(slots, may_gain_privileges=user is None and not settings.mount_s3)
    return ProgramTools(launcher, job_logs, disk, user=user)
