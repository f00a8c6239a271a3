"""The container: creates all parts of a worker and starts the threads in which they run."""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any

from distributed_something.worker.admission.closing import is_run_closed
from distributed_something.worker.admission.elsewhere import EndsElsewhere, find_ends_elsewhere
from distributed_something.worker.admission.gate import AdmissionGate
from distributed_something.worker.admission.health import (
    ContainerHealth,
    HealthReporter,
    build_health_key,
    has_disk_space,
)
from distributed_something.worker.admission.pauses import is_other_machine_failing, is_other_machine_working
from distributed_something.worker.admission.replacement import ReplacementChecker
from distributed_something.worker.attempt.acknowledge import MessageDeleter
from distributed_something.worker.attempt.attempt import Attempt
from distributed_something.worker.attempt.context import WorkerContext, build_program_tools
from distributed_something.worker.attempt.handler import JobHandler
from distributed_something.worker.attempt.job_record import build_record_address
from distributed_something.worker.attempt.lease import LeaseKeeper
from distributed_something.worker.attempt.outcomes import AttemptFinisher, OutcomeCallbacks
from distributed_something.worker.container.intake import JobIntake
from distributed_something.worker.container.journal import Journal
from distributed_something.worker.container.machine_document import write_machine_document
from distributed_something.worker.container.slot import Slot
from distributed_something.worker.container.stop import STOP_RESERVE_SECONDS, StopRequest
from distributed_something.worker.hooks.hook_calls import Hooks
from distributed_something.worker.job.failures import AWS_ERRORS
from distributed_something.worker.job.worker_settings import Settings
from distributed_something.worker.logs.container_log import start_container_log, stop_container_log
from distributed_something.worker.logs.job_log import JobLogs
from distributed_something.worker.machine.clock import Clock
from distributed_something.worker.machine.container_facts import read_container_facts
from distributed_something.worker.machine.idle_alarm import ensure_idle_alarm
from distributed_something.worker.machine.metadata import InstanceMetadata
from distributed_something.worker.machine.mount import BucketMount, MountError, build_mount_plan
from distributed_something.worker.machine.scale_in_protection import ScaleInProtection
from distributed_something.worker.machine.spot_notice import SpotWatcher
from distributed_something.worker.machine.times import read_boot_clock
from distributed_something.worker.machine.usage import USAGE_REPORT_SECONDS, UsageReporter
from distributed_something.worker.machine.worker_clients import Clients
from distributed_something.worker.processors import on_one_processor
from distributed_something.worker.program.disk_guard import DiskGuard, read_disk_space
from distributed_something.worker.transfer.endpoints.clients import EndpointClients

MAX_LAST_CALL_SECONDS = 5.0  # limit for each of the three waits for AWS calls when the container stops
LAST_CALLS_SECONDS = 3.0  # reserved for everything that follows the jobs
STOP_CHECK_SECONDS = 0.2  # how often to check whether to return jobs that hang, or whether all have ended
EXIT_RESERVE_SECONDS = 1.0  # reserved for the process to exit
CLOSED_CHECK_SECONDS = 30.0  # how often to check whether the monitor has closed the run
HEALTH_CHECK_SECONDS = 5.0  # how often to check whether this container's health has changed
log = logging.getLogger("worker")


class Container:
    """All parts of one worker and the threads that run them.

    `health` and `gate` decide whether the container takes jobs. Each value put into `notices` is the number of seconds
    until the container must stop.
    """

    def __init__(
        self, settings: Settings, hooks: Hooks, notices: SimpleQueue[float], metadata: InstanceMetadata
    ) -> None:
        self._settings, self._notices, self._metadata = settings, notices, metadata
        self._clock = Clock()
        clients = Clients(settings.docker_cores, settings.aws_region)
        self._context = _build_context(settings, clients, self._clock)
        self._logs, self._name = clients("logs"), self._context.facts.container
        self._stop, self._ended, self._exit_code = StopRequest(self._clock.monotonic), threading.Event(), 0
        replacement = ReplacementChecker(
            self._context.s3, settings.aws_bucket, settings.app_name, settings.queue_url, self._clock.now
        )
        self.health = ContainerHealth(
            # Shared inputs that no job uses make room before the disk counts as full.
            lambda: has_disk_space(settings.work_dir) or self._handler.shared_inputs.make_room(),
            partial(self._observe_other_machines, is_other_machine_failing),
            settings.sick_pause_seconds,
            partial(self._observe_other_machines, is_other_machine_working),
            replacement.has_replaced_since,
            self._find_ends_elsewhere,
        )
        self.gate = AdmissionGate(self.health, settings.work_dir, self._clock.now)
        leases = clients.create_lease_client(settings.visibility_seconds)
        self._keeper = LeaseKeeper(leases, settings.queue_url, settings.visibility_seconds, read_boot_clock)
        self._job_logs = self._build_job_logs()
        self._tools = build_program_tools(settings, settings.docker_cores, self._job_logs, self._build_disk_guard())
        self._deleter = MessageDeleter(self._context.sqs, settings.queue_url, self._keeper.release_lease)
        self._journal = self._build_journal()
        callbacks = OutcomeCallbacks(
            self.gate.record_success, self.gate.record_failure, self._journal.add_attempt, self.gate.forget_job
        )
        finisher = AttemptFinisher(
            self._context, self._keeper, callbacks, self._deleter.delete_soon, replacement.is_message_replaced
        )
        self._handler = JobHandler(self._context, hooks, self._keeper, self._stop, finisher, self._tools)
        self._protection = ScaleInProtection(lambda: bool(self._keeper.leases))
        self._intake = JobIntake(
            self._context, self._handler, self._stop, self.gate, read_boot_clock,
            self._request_protection,
        )  # fmt: skip

    def serve(self) -> int:
        """Run the worker until it must stop, and return the exit code: 0, or 1 if the mount or worker code failed."""
        start_container_log(self._logs, self._settings)
        bucket = self._build_mount() if self._settings.mount_s3 else None
        try:
            if bucket is not None:
                bucket.start()
            with on_one_processor():
                self._run_until_stopped(bucket)
        except MountError as error:
            log.error("%s", error)
            self._exit_code = 1
        finally:
            if bucket is not None:
                bucket.end()
            stop_container_log(self._divide_remaining_seconds(1))
        return self._exit_code

    def _run_until_stopped(self, bucket: BucketMount | None) -> None:
        helpers = [
            threading.Thread(target=loop, name=name, daemon=True) for name, loop in self._iter_helper_threads(bucket)
        ]
        for helper in helpers:
            helper.start()
        self._run_slots()
        if self._handler.has_hanging_hook:
            self._exit_code = 1
        self._tools.launcher.end()
        self._handler.close()
        self._ended.set()
        self._keeper.end()
        self._deleter.end()
        self._job_logs.end(self._divide_remaining_seconds(3))
        deadline = self._clock.monotonic() + self._divide_remaining_seconds(2)
        for helper in helpers:  # a thread that is still inside a call while Python shuts down can crash the process
            helper.join(max(0.0, deadline - self._clock.monotonic()))

    def _divide_remaining_seconds(self, share: int) -> float:
        """Return the time limit, in seconds, for the next of `share` remaining waits.

        Together, these waits must fit into the remaining time, because a container that takes longer is killed.
        """
        return max(0.0, min(MAX_LAST_CALL_SECONDS, (self._stop.seconds_left - EXIT_RESERVE_SECONDS) / share))

    def _run_slots(self) -> None:
        """Run the intake and all slots until they and all attempts have ended, or until no time remains.

        The calling thread stays free for signal handlers.
        """
        slots, delay = self._settings.docker_cores, self._settings.seconds_to_start
        pool = ThreadPoolExecutor(slots, "finish")

        def finish_soon(attempt: Attempt) -> Future[None]:
            try:
                return pool.submit(self._run_or_stop, partial(self._handler.finish_attempt, attempt))
            except RuntimeError:  # no time remains: the pool has been shut down, and the lease returns the job
                abandoned: Future[None] = Future()
                abandoned.set_result(None)
                return abandoned

        loops = [Slot(n, self._intake, self._handler, finish_soon, self._stop, n * delay).run for n in range(slots)]
        threads = [
            threading.Thread(target=self._run_or_stop, args=(loop,), daemon=True) for loop in (self._intake.run, *loops)
        ]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads) or self._handler.has_attempts:
            if self._stop.seconds_left <= LAST_CALLS_SECONDS:
                log.warning("no time remains for what this container's threads are waiting for")
                break
            with suppress(Empty):
                timeout = STOP_CHECK_SECONDS if self._stop.is_announced else 1.0
                self._stop.announce_end(self._notices.get(timeout=timeout))
        pool.shutdown(wait=False)

    def _return_stalled_attempts(self) -> None:
        """Return the jobs that do not end by themselves after a stop request."""
        while not self._ended.wait(STOP_CHECK_SECONDS):
            if self._stop.is_announced:
                self._handler.return_stalled_attempts()

    def _run_or_stop(self, loop: Callable[[], None]) -> None:
        """Run `loop` (or another part of a slot's work), and stop the whole container if it fails.

        A container that continued with fewer slots would do less work for the same price and would never release the
        failed slot's job.
        """
        try:
            loop()
        except Exception:  # no error may end the thread unnoticed: the container would seem to work
            log.exception("the worker's own code failed; this container stops so that ECS can start another one")
            self._exit_code = 1
            self._notices.put(STOP_RESERVE_SECONDS)

    def _iter_helper_threads(self, bucket: BucketMount | None) -> Iterator[tuple[str, Callable[[], object]]]:
        """Yield the name and the function of each thread that runs alongside the slots."""
        settings, ended = self._settings, self._ended
        repeat = partial(_repeat_until_ended, ended=ended, now=self._clock.now)
        yield "leases", self._keeper.run
        yield "returns", self._return_stalled_attempts
        yield "deletions", self._deleter.run
        yield "job-logs", self._job_logs.run
        yield "journal", partial(self._journal.run, ended, settings.journal_seconds, self._clock.now)
        yield "health", partial(repeat, HEALTH_CHECK_SECONDS, self._build_health_report().tick)
        spot = SpotWatcher(self._metadata, self._handle_spot_notice, self.gate.pause_for_rebalance, self._clock.now)
        yield "spot", partial(spot.run, ended)
        is_ecs_instance = "ECS_CONTAINER_METADATA_URI_V4" in os.environ and self._metadata.is_on_ec2
        if settings.idle_alarm and is_ecs_instance:  # never terminate a machine that a user started
            yield "idle-alarm", self._ensure_idle_alarm
        if self._metadata.is_on_ec2:
            yield "machine", partial(write_machine_document, self._context.s3, settings, self._metadata, ended.wait)
        if settings.log_group_name and self._metadata.is_on_ec2:
            report = UsageReporter(self._logs, settings.log_group_name, settings.machine, self._name, settings.work_dir)
            yield "usage", partial(repeat, USAGE_REPORT_SECONDS, report.tick)
        if self._protection.has_agent:
            yield "protection", partial(self._protection.run, ended, self._clock.monotonic)
        yield "closing", partial(repeat, CLOSED_CHECK_SECONDS, self._update_gate)
        if bucket is not None:
            yield "mount", partial(bucket.run, ended)

    def _update_gate(self, _now: float) -> None:
        settings = self._settings
        if not self.gate.is_closed and is_run_closed(self._context.s3, settings.aws_bucket, settings.keys):
            self.gate.close_run()

    def _ensure_idle_alarm(self) -> None:
        # These clients are used once; separate ones free their memory afterward.
        clients = Clients(1, self._settings.aws_region)
        ensure_idle_alarm(clients, self._metadata, self._settings.app_name, self._ended.wait)

    def _request_protection(self) -> float:
        pause = self._protection.request_for_job(self._clock.monotonic())
        self.health.record_protection(self._protection.refusal if pause else None, self._clock.now())
        return pause

    def _handle_spot_notice(self, end: float) -> None:
        log.warning("spot notice: EC2 will stop this machine in %.0f s", end - self._clock.now())
        self._notices.put(end - self._clock.now())

    def _observe_other_machines(self, observe: Callable[..., bool]) -> bool:
        """Return what the run's documents say about its other machines; False if they cannot be read."""
        settings, now = self._settings, self._clock.now()
        try:
            return observe(self._context.s3, settings.aws_bucket, settings.keys, settings.machine, now)
        except AWS_ERRORS as error:
            log.warning("cannot check how jobs do on other machines: %s", error)
            return False

    def _find_ends_elsewhere(self, jobs: Iterable[str]) -> EndsElsewhere:
        settings = self._settings
        try:
            return find_ends_elsewhere(self._context.s3, settings.aws_bucket, settings.keys, settings.machine, jobs)
        except AWS_ERRORS as error:
            log.warning("cannot read how jobs did on other machines: %s", error)
            return EndsElsewhere()

    def _build_health_report(self) -> HealthReporter:
        settings = self._settings
        key = build_health_key(settings.keys, settings.machine, self._name)

        def write(document: dict[str, Any]) -> None:
            self._context.s3.put_object(Bucket=settings.aws_bucket, Key=key, Body=json.dumps(document).encode())

        return HealthReporter(self.health, write, settings.machine, self._name)

    def _build_journal(self) -> Journal:
        settings, facts = self._settings, self._context.facts

        def write(number: int, body: bytes) -> None:
            key = settings.keys.journal(facts.container, number)
            self._context.s3.put_object(Bucket=settings.aws_bucket, Key=key, Body=body)

        first_line = {**asdict(facts), "machine": settings.machine, "image": settings.image,
                      "slots": settings.docker_cores}  # fmt: skip
        return Journal(write, first_line, lambda: self._intake.list_program_starts())

    def _build_disk_guard(self) -> DiskGuard:
        read_space = partial(read_disk_space, self._settings.work_dir)
        return DiskGuard(read_space, self._clock.monotonic, lambda: self._handler.shared_inputs.make_room())

    def _build_job_logs(self) -> JobLogs:
        settings = self._settings
        return JobLogs(
            self._logs, settings.log_group_name if settings.stream_job_logs else "",
            describe_location=lambda job: f"in S3; its address is in {build_record_address(settings, job)}",
            clock=self._clock,
        )  # fmt: skip

    def _build_mount(self) -> BucketMount:
        return BucketMount(build_mount_plan(self._context.s3, self._settings), self._handle_lost_mount)

    def _handle_lost_mount(self, reason: str) -> None:
        log.error("this container is stopping: %s", reason)  # the dashboard searches for this prefix
        self._exit_code = 1
        self._notices.put(STOP_RESERVE_SECONDS)


def _repeat_until_ended(
    seconds: float, tick: Callable[[float], None], ended: threading.Event, now: Callable[[], float]
) -> None:
    """Call `tick` every `seconds` with the current time (seconds since 1970). Errors do not end the loop."""
    while not ended.wait(seconds):
        try:
            tick(now())
        except AWS_ERRORS as error:
            log.warning("an AWS call failed; it will be retried: %s", error)
        except Exception:  # otherwise this thread would end unnoticed
            log.exception("the worker's own code failed")


def _build_context(settings: Settings, clients: Clients, clock: Clock) -> WorkerContext:
    s3 = clients("s3")
    endpoints = EndpointClients(clients.create_endpoint_client, allow_unsafe=settings.allow_unsafe_inputs)
    return WorkerContext(
        settings, clients("sqs"), s3, clock, read_container_facts(), clients.create_transfers(s3), endpoints
    )
