"""Disturbs workers: a plan is drawn from the seed, and one `WorkerSlot` per worker carries it out."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from tests.support.chaos.containers import Container, Disk
from tests.support.metadata_server import MetadataServer

# Relative frequency of each kind of event.
WEIGHTS = {
    "kill": 5, "stop": 5, "spot notice": 4, "freeze worker": 4, "freeze machine": 4, "fill disk": 3,
    "sqs outage": 1, "s3 outage": 1, "s3 silence": 0.5, "visibility ended": 5,
}  # fmt: skip
# How long events last, in leases. A silent S3 is silent for about as long as a worker may take to stop.
DURATIONS = {"sqs outage": (0.5, 1.6), "s3 outage": (0.5, 1.6), "s3 silence": (2.5, 4.0)}
NOTICE_SECONDS = 20.0  # 120 on AWS; a worker checks every 5 seconds and needs 10 seconds to stop
START_SECONDS = 3.0  # a worker is not disturbed for this long after its start


@dataclass(frozen=True)
class Event:
    """One disturbance. It begins `at` seconds after the start of the run and lasts `seconds`.

    `worker` is the number of the worker to disturb.
    """

    at: float
    kind: str
    worker: int
    seconds: float


def draw_events(rng: random.Random, seconds: float, workers: int, lease: float) -> list[Event]:
    """Draw events for `seconds`, about one every 6 seconds per worker. Each kind occurs once before any repeats."""
    events: list[Event] = []
    at = 1.0
    first_kinds = rng.sample([*WEIGHTS], len(WEIGHTS))
    while at < seconds:
        kind = first_kinds.pop() if first_kinds else rng.choices([*WEIGHTS], [*WEIGHTS.values()])[0]
        duration = lease * rng.uniform(*DURATIONS.get(kind, (1.1, 2.2)))
        events.append(Event(at, kind, rng.randrange(workers), duration))
        at += rng.expovariate(workers / 6)
    return events


class WorkerSlot:
    """Slot for one worker at a time. `start_container` starts the next worker when one has ended.

    `faults` lists what workers did incorrectly.
    """

    def __init__(
        self,
        start_container: Callable[[], Container],
        disk: Disk | None,
        metadata: MetadataServer,
        stop_seconds: float,
    ) -> None:
        self._start_container, self._stop_seconds = start_container, stop_seconds
        self.disk, self.metadata = disk, metadata
        self.counts: Counter[str] = Counter()
        self.faults: list[str] = []
        self.container: Container | None = None
        self._disturbance = ""
        self._deadline = 0.0

    def advance(self, now: float) -> None:
        """Start a worker if there is none, handle a worker that has ended, and end a disturbance whose time is up."""
        if self.container is None:
            self.container, self._disturbance = self._start_container(), ""
            self.counts["started"] += 1
        elif self.container.process.poll() is not None:
            self._check_ended_worker(self.container, self._disturbance in ("stop", "spot notice"))
        elif self._disturbance and now >= self._deadline:
            self._end_disturbance(self.container)

    def apply_event(self, event: Event, now: float) -> bool:
        """Disturb the worker. Return False if there is no worker or it is already disturbed."""
        container = self.container
        if container is None or not self._can_apply(event, container, now):
            return False
        self.counts[event.kind] += 1
        self._disturbance, self._deadline = event.kind, now + event.seconds
        if event.kind == "kill":
            self._kill(container)
        elif event.kind == "stop":
            self._deadline = now + self._stop_seconds
            container.send_signal(signal.SIGTERM, to_all=False)
        elif event.kind == "spot notice":
            self._deadline = now + NOTICE_SECONDS
            self.metadata.set_spot_notice(time.time() + NOTICE_SECONDS)
        elif event.kind.startswith("freeze"):
            container.send_signal(signal.SIGSTOP, to_all=event.kind == "freeze machine")
        elif self.disk:
            self.disk.fill()
        return True

    def _can_apply(self, event: Event, container: Container, now: float) -> bool:
        is_ready = now - container.started >= START_SECONDS
        return is_ready and not self._disturbance and (event.kind != "fill disk" or self.disk is not None)

    def _end_disturbance(self, container: Container) -> None:
        disturbance, self._disturbance = self._disturbance, ""
        if disturbance.startswith("freeze"):
            container.send_signal(signal.SIGCONT, to_all=True)
        elif disturbance == "fill disk" and self.disk:
            self.disk.free()
        else:
            self.counts["killed because its stop took too long" if disturbance == "stop" else "interrupted"] += 1
            if disturbance == "stop":
                self.faults.append(f"a worker was still there {self._stop_seconds:.0f} s after SIGTERM")
            container.abort()
            self._kill(container)

    def _check_ended_worker(self, container: Container, was_stopped: bool) -> None:
        code = container.process.returncode
        self.counts["ended after a spot notice or SIGTERM"] += was_stopped
        if not was_stopped:
            self.faults.append(f"a worker ended without a stop signal or notice, with exit code {code}")
        elif code == -signal.SIGTERM:  # not ready yet; in a real container, the first process would ignore the signal
            self.counts["ended by SIGTERM before it was ready"] += 1
        elif code:
            self.faults.append(f"a stopped worker ended with exit code {code}")
        else:
            # A thread that waits for a silent server is abandoned, and its folder disappears with the container.
            self.counts["ended before its folders were deleted"] += any(container.work.iterdir())
            pids = container.pids()
            self.faults += [f"a worker that ended left {len(pids)} processes running"] * bool(pids)
        self._kill(container)

    def _kill(self, container: Container) -> None:
        container.kill()
        if self.disk:
            self.disk.free()
        self.metadata.set_text("spot", None)
        self.container, self._disturbance = None, ""

    def replace_worker(self) -> None:
        """Kill a worker that reported its machine as unhealthy, as its idle alarm would do."""
        if self.container and not self._disturbance:
            self.counts["replaced because it reported an unhealthy machine"] += 1
            self._kill(self.container)

    def end_lasting_disturbance(self) -> None:
        """End a freeze or a full disk, so that the worker can finish its jobs."""
        if self.container and self._disturbance in ("freeze worker", "freeze machine", "fill disk"):
            self._end_disturbance(self.container)

    def stop_worker(self) -> None:
        """Send the worker SIGTERM at the end of the run, without waiting."""
        if self.container is None or self.container.process.poll() is not None:
            return
        self._disturbance = "stop"
        self.container.send_signal(signal.SIGTERM, to_all=False)

    def wait_for_end(self, seconds: float) -> None:
        """Wait until the worker has ended. If it takes longer than `seconds`, record a fault and kill the worker."""
        if self.container is None:
            return
        try:
            self.container.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.faults.append(f"an idle worker did not end within {seconds:.0f} s of SIGTERM")
            self.container.abort()
            self._kill(self.container)
            return
        self._check_ended_worker(self.container, was_stopped=True)
