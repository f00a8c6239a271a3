"""Runs one job without a queue; `run.py runJob` starts the worker this way to show why a job fails.

The job passes through the same stages as any other job, up to the check of its results. Nothing is uploaded, no record
is written, and the job folder is not deleted. A file in the folder says how the job ended.
"""

from __future__ import annotations

import json
import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from distributed_something.worker.attempt.attempt import Attempt
from distributed_something.worker.attempt.context import WorkerContext, build_program_tools
from distributed_something.worker.attempt.handler import JobHandler, get_attempt_job
from distributed_something.worker.attempt.lease import LeaseKeeper
from distributed_something.worker.attempt.outcomes import AttemptFinisher
from distributed_something.worker.attempt.work_folder import remove_temp_dir
from distributed_something.worker.container.stop import StopRequest
from distributed_something.worker.hooks.hook_calls import Hooks
from distributed_something.worker.job.failures import Failed
from distributed_something.worker.job.job import Folders, Job
from distributed_something.worker.job.worker_settings import Settings
from distributed_something.worker.logs.container_log import start_container_log
from distributed_something.worker.logs.job_log import JobLogs
from distributed_something.worker.machine.clock import Clock
from distributed_something.worker.machine.container_facts import read_container_facts
from distributed_something.worker.machine.mount import BucketMount, MountError, build_mount_plan
from distributed_something.worker.machine.worker_clients import Clients
from distributed_something.worker.program.disk_guard import DiskGuard, read_disk_space
from distributed_something.worker.safe_path import SafePath
from distributed_something.worker.transfer.endpoints.clients import EndpointClients
from distributed_something.worker.transfer.result_files import get_output_folder, list_result_files

ONE_JOB_VARIABLE = "ONE_JOB_FOLDER"  # the worker's environment variable for the folder that contains MESSAGE_FILE
MESSAGE_FILE, VERDICT_FILE, LOG_FILE = "message.json", "verdict.json", "log.txt"
ENDLESS_LEASE_SECONDS = 10**9  # there is no queue, so the lease must never end
log = logging.getLogger("worker")


def run_one_job(folder: Path, settings: Settings, hooks: Hooks) -> int:
    """Run the job in `folder`'s message file, with `folder`/job as its job folder, and write the verdict file.

    Return the exit code: 0, or 1 if the bucket could not be mounted.
    """
    start_container_log(None, replace(settings, log_group_name=""))
    clock = Clock()
    stop = StopRequest(clock.monotonic)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.announce_end(0.0))
    keeper = LeaseKeeper(None, "", ENDLESS_LEASE_SECONDS, clock.monotonic)
    attempt = Attempt(
        {"Body": (folder / MESSAGE_FILE).read_text(encoding="utf-8")}, keeper.add_lease("", clock.monotonic()),
        _SingleJobFolders(folder / "job"), earlier_attempts=0, failures=0, started=clock.now(),
    )  # fmt: skip
    verdict = Verdict()
    clients = Clients(1, settings.aws_region)
    s3 = clients("s3")
    context = WorkerContext(
        replace(settings, check_if_done=False, work_dir=folder), None, s3, clock, read_container_facts(),
        clients.create_transfers(s3),
        EndpointClients(clients.create_endpoint_client, allow_unsafe=settings.allow_unsafe_inputs),
    )  # fmt: skip
    disk = DiskGuard(partial(read_disk_space, folder), clock.monotonic)
    tools = build_program_tools(settings, 1, JobLogs(None, "", clock=clock), disk)
    disk.add_job(attempt.folders)
    handler = _SingleJobHandler(context, hooks, keeper, stop, verdict, tools)
    try:
        with _mount_bucket(s3, settings):
            if handler.begin_attempt(attempt) and handler.run_attempt(attempt):
                handler.finish_attempt(attempt)
    except MountError as error:
        log.error("%s", error)
        return 1
    finally:
        tools.launcher.end()
        handler.close()
        remove_temp_dir(attempt.folders)
    (folder / VERDICT_FILE).write_text(json.dumps(verdict.build_document(attempt), indent=1), encoding="utf-8")
    return 0


@dataclass(frozen=True)
class _SingleJobFolders(Folders):
    """Job folders whose log is next to the folder in which the program runs."""

    @cached_property
    def log(self) -> Path:
        return SafePath.build(self.root.with_name(LOG_FILE))


class _SingleJobHandler(JobHandler):
    """A job handler that uploads nothing and removes nothing."""

    def _publish_results(self, attempt: Attempt) -> None:
        job = get_attempt_job(attempt)
        self._check_program_result(attempt, job)
        list_result_files(
            get_output_folder(job, attempt.folders), job.output_location, job.leave_out
        )  # raises Failed if a file could not be uploaded
        self._finisher.record_done(attempt)

    def _check_output_bucket(self, job: Job) -> None:
        """Check nothing, because nothing is uploaded."""

    def _release_attempt(self, attempt: Attempt) -> None:
        pass


class Verdict(AttemptFinisher):
    """An attempt finisher that only remembers how the attempt ended."""

    def __init__(self) -> None:
        self.state, self.reason, self.reason_class = "", "", ""

    def record_done(self, attempt: Attempt) -> None:
        self.state = "done"

    def reject_message(self, attempt: Attempt, reason: str) -> None:
        self.state, self.reason, self.reason_class = "bad message", reason, "bad message"

    def record_failure(self, attempt: Attempt, reason: str, reason_class: str) -> None:
        self.state, self.reason, self.reason_class = "failed", reason, reason_class

    def return_interrupted(
        self, attempt: Attempt, reason: str = "the worker was stopped", reason_class: str = "interrupted"
    ) -> None:
        self.state, self.reason, self.reason_class = "interrupted", reason, reason_class

    def build_document(self, attempt: Attempt) -> dict[str, Any]:
        """Return the JSON document that `runJob` shows, with sizes in bytes.

        `command` is the command that the hook returned, or null if the hook failed.
        """
        job, result = attempt.job, attempt.result
        files = _list_results(attempt)
        return {
            "job": attempt.name,
            "state": self.state,
            "reason": self.reason,
            "reason_class": self.reason_class,
            "command": job.command if job else None,
            "shell": bool(job and job.shell),
            "exit_code": result.exit_code if result else None,
            "seconds": round(result.seconds, 3) if result else None,
            "peak_memory_bytes": result.peak_memory_bytes if result else None,
            "bytes_in": attempt.bytes_in,
            "output_files": len(files),
            "output_bytes": sum(path.stat().st_size for path in files),
            "place": f"s3://{job.output_bucket}/{job.output_location}/" if job and job.upload_results else None,
            "endpoint": job.output_endpoint if job else "",
        }


def _list_results(attempt: Attempt) -> list[Path]:
    """Return the files that a run would upload; none if it could not upload them."""
    job, folders = attempt.job, attempt.folders
    if job is None:
        return []
    try:
        return list(list_result_files(get_output_folder(job, folders), job.output_location, job.leave_out).values())
    except Failed:
        return []


@contextmanager
def _mount_bucket(s3: Any, settings: Settings) -> Iterator[None]:
    """If MOUNT_S3 is set, keep the bucket mounted while the job runs."""
    if not settings.mount_s3:
        yield
        return
    plan = build_mount_plan(s3, settings)
    mount = BucketMount(plan, lambda reason: log.error("the mount failed while the job ran: %s", reason))
    mount.start()
    try:
        yield
    finally:
        mount.end()
