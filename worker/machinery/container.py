"""Serves one container: DOCKER_CORES slots that work off jobs until the container is told to end.

Told by SIGTERM, or by a spot notice; then no job is begun any more, those that run get the time that there is, and
what is left goes back to the queue.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from . import closing, health, logs, machine, mount, onejob, usage
from .checks import usual_failure
from .clients import Clients
from .delete import Deleter
from .ending import Ending, Heard
from .failures import AWS_ERRORS
from .gate import Gate
from .handle import Handler, Hooks
from .intake import Intake
from .job import Folders, Job, job_from_message
from .joblog import JobLogs
from .launcher import Launcher
from .lease import Keeper
from .metadata import Metadata
from .pace import Pace
from .pauses import paused, prefix_of
from .processors import keep_to_one
from .program import Result
from .protection import Protection
from .records import address_of
from .settings import BadEnvironment, Settings, from_environment
from .slot import Slot
from .spot import SpotWatcher
from .stop import RESERVE_SECONDS, Stop
from .times import clock

PROGRAM_PRELOAD = "PROGRAM_LD_PRELOAD"  # where run-worker.sh keeps the image's LD_PRELOAD from the worker's Python
LAST_CALLS_SECONDS = 5.0  # at the end: the most for what a thread is just telling AWS, thrice
LEASE_SHARE = 6  # of a lease, for one call that extends it: begun after a third, it can hang twice
EXIT_SECONDS = 1.0  # kept free for the end of the process itself
CLOSING_SECONDS = 30.0  # between two looks at whether the monitor has closed the run
REPORT_SECONDS = 5.0  # between two looks at whether this container's health changed
log = logging.getLogger("worker")


def serve(
    *,
    make_job: Callable[[dict[str, Any], Folders, Settings], Job] = job_from_message,
    prepare: Callable[[Job, Folders], None] = lambda job, folders: None,
    failure: Callable[[Job, Folders, Result], str | None] = usual_failure,
) -> int:
    """Works until told to end; a hook that is not given does as shipped.

    The exit code: 0, 1 (its mount or its own code failed), 2 (the environment is wrong).
    """
    try:
        settings = from_environment()
        if settings.mount_s3 and (reason := mount.unusable()):
            raise BadEnvironment(reason)
    except BadEnvironment as error:
        print(f"worker: {error}", file=sys.stderr)
        return 2
    if preload := os.environ.pop(PROGRAM_PRELOAD, ""):
        os.environ["LD_PRELOAD"] = preload
    if folder := os.environ.pop(onejob.VARIABLE, ""):  # the program's environment has none of it
        return onejob.run(Path(folder), settings, Hooks(make_job, prepare, failure))
    told: SimpleQueue[float] = SimpleQueue()  # seconds that are left; unlike an Event, made for signal handlers
    for number in (signal.SIGTERM, signal.SIGINT):  # early: a container's first process ignores what it does not handle
        signal.signal(number, lambda *_: told.put(float(settings.stop_seconds)))
    metadata = Metadata()
    settings = replace(settings, machine=machine.machine_id(metadata))
    return Container(settings, Hooks(make_job, prepare, failure), told, metadata).serve()


class Container:
    """All parts of a worker, put together. `told` brings the seconds that are left when the container must end."""

    def __init__(self, settings: Settings, hooks: Hooks, told: SimpleQueue[float], metadata: Metadata) -> None:
        self._settings, self._told, self._metadata = settings, told, metadata
        self._clients = Clients(settings.docker_cores, settings.aws_region)
        self._s3, self._logs = self._clients("s3"), self._clients("logs")
        self._launcher = Launcher(settings.docker_cores)
        sqs, self._name = self._clients("sqs"), socket.gethostname()
        self._stop, self._ended = Stop(time.monotonic), threading.Event()
        self._health = health.Health(lambda: health.has_room(settings.work_dir), self._others_pause)
        self._gate = Gate(self._health, settings.work_dir, time.time)
        leases = self._clients("sqs", patience=max(1.0, settings.visibility_seconds / LEASE_SHARE))
        self._keeper = Keeper(leases, settings.queue_url, settings.visibility_seconds, clock)
        self._job_logs = JobLogs(
            self._logs, settings.log_group_name, where=lambda job: f"named in {address_of(settings, job)}"
        )
        self._deleter = Deleter(sqs, settings.queue_url, self._keeper.release)
        heard = Heard(self._gate.succeeded, self._gate.failed)
        ending = Ending(sqs, self._s3, settings, self._keeper, heard, self._deleter.delete)
        self._handler = Handler(
            self._s3, settings, hooks, self._keeper, self._stop, ending, self._job_logs, self._launcher
        )
        self._intake = Intake(sqs, settings, self._handler, self._stop, Pace(), self._gate, clock)
        self._exit_code = 0

    def serve(self) -> int:
        """Starts all, works, ends all; the exit code."""
        logs.begin(self._logs, self._settings)
        bucket = self._mount() if self._settings.mount_s3 else None
        try:
            if bucket is not None:
                bucket.start()
            self._work(bucket)
        except mount.CannotMount as error:
            log.error("%s", error)
            self._exit_code = 1
        finally:
            if bucket is not None:
                bucket.end()
            logs.end(self._for_last_calls(1))
        return self._exit_code

    def _work(self, bucket: mount.Mount | None) -> None:
        helpers = [threading.Thread(target=work, name=name, daemon=True) for name, work in self._helpers(bucket)]
        for helper in helpers:
            helper.start()
        self._run_slots()
        self._launcher.end()
        self._ended.set()
        self._keeper.end()
        self._deleter.end()
        self._job_logs.end(self._for_last_calls(3))
        deadline = time.monotonic() + self._for_last_calls(2)
        for helper in helpers:  # a thread that is still in a call while Python ends can crash it
            helper.join(max(0.0, deadline - time.monotonic()))

    def _for_last_calls(self, share: int) -> float:
        """Seconds for one of so many waits that still come: within the time that there is, lest the end be a kill."""
        return max(0.0, min(LAST_CALLS_SECONDS, (self._stop.left - EXIT_SECONDS) / share))

    def _run_slots(self) -> None:
        """Until the intake and every slot are through; this thread stays free for signals."""
        slots = self._settings.docker_cores
        with ThreadPoolExecutor(slots, "finish", initializer=keep_to_one) as uploads:
            works = [
                Slot(n, self._intake, self._handler, uploads, self._stop, n * self._settings.seconds_to_start).run
                for n in range(slots)
            ]
            threads = [threading.Thread(target=self._or_end, args=(work,)) for work in (self._intake.run, *works)]
            for thread in threads:
                thread.start()
            while any(thread.is_alive() for thread in threads):
                with suppress(Empty):
                    self._stop.tell(self._told.get(timeout=0.2 if self._stop.asked else 1.0))

    def _or_end(self, work: Callable[[], None]) -> None:
        """A container that went on with a slot less would do less for its money, and hold the slot's job for ever."""
        keep_to_one()
        try:
            work()
        except Exception:
            log.exception("the worker's own code failed: this container ends, so that another takes its place")
            self._exit_code = 1
            self._told.put(RESERVE_SECONDS)

    def _helpers(self, bucket: mount.Mount | None) -> Iterator[tuple[str, Callable[[], object]]]:
        """What goes on beside the slots, each in a thread of its own."""
        settings, ended = self._settings, self._ended
        yield "leases", self._keeper.run
        yield "deletions", self._deleter.run
        yield "job-logs", self._job_logs.run
        yield "health", partial(_every, REPORT_SECONDS, self._report().tick, ended)
        spot = SpotWatcher(self._metadata, self._notice, self._gate.rebalance, time.time)
        yield "spot", partial(spot.run, ended)
        on_ecs = "ECS_CONTAINER_METADATA_URI_V4" in os.environ and self._metadata.here
        if settings.idle_alarm and on_ecs:  # never somebody's own machine
            yield "idle-alarm", self._set_idle_alarm
        if settings.log_group_name and self._metadata.here:
            report = usage.Usage(self._logs, settings.log_group_name, settings.machine, self._name, settings.work_dir)
            yield "usage", partial(_every, usage.EVERY_SECONDS, report.tick, ended)
        protection = Protection(lambda: self._keeper.holds_any)
        if protection.possible:
            yield "protection", partial(protection.run, ended, time.monotonic)
        yield "closing", partial(_every, CLOSING_SECONDS, self._look_whether_closed, ended)
        if bucket is not None:
            yield "mount", partial(bucket.run, ended)

    def _look_whether_closed(self, _now: float) -> None:
        key = closing.key_of(self._settings.app_name, self._settings.run)
        if not self._gate.is_closed and closing.is_closed(self._s3, self._settings.aws_bucket, key):
            self._gate.close()

    def _set_idle_alarm(self) -> None:
        # Not the container's own: what these clients hold in memory goes with them.
        clients = Clients(1, self._settings.aws_region)
        machine.set_idle_alarm(self._metadata, clients, self._settings.app_name)

    def _notice(self, end: float) -> None:
        log.warning("spot notice: this machine goes in %.0f s", end - time.time())
        self._told.put(end - time.time())

    def _others_pause(self) -> bool:
        settings, now = self._settings, time.time()
        try:
            found = paused(self._s3, settings.aws_bucket, prefix_of(settings.app_name, settings.run), now)
        except AWS_ERRORS as error:
            log.warning("whether other machines pause cannot be told: %s", error)
            return False
        return any(one["machine"] != settings.machine for one in found)

    def _report(self) -> health.Report:
        settings = self._settings
        key = health.key_of(settings.app_name, settings.run, settings.machine, self._name)

        def write(document: dict[str, Any]) -> None:
            self._s3.put_object(Bucket=settings.aws_bucket, Key=key, Body=json.dumps(document).encode())

        return health.Report(self._health, write, settings.machine, self._name)

    def _mount(self) -> mount.Mount:
        settings, endpoint = self._settings, self._s3.meta.endpoint_url
        return mount.Mount(settings.aws_bucket, settings.aws_region, endpoint, settings.work_dir, self._mount_lost)

    def _mount_lost(self, reason: str) -> None:
        log.error("this container ends: %s", reason)
        self._exit_code = 1
        self._told.put(RESERVE_SECONDS)


def _every(seconds: float, tick: Callable[[float], None], ended: threading.Event) -> None:
    """Calls `tick` with the time (seconds since 1970) again and again; what AWS refuses is tried at the next."""
    while not ended.wait(seconds):
        try:
            tick(time.time())
        except AWS_ERRORS as error:
            log.warning("not told to AWS, trying again: %s", error)
        except Exception:  # the loop's edge: this must not end unseen, nor end the container
            log.exception("the worker's own code failed")
