"""What is done to workers, drawn beforehand from the seed, and who does it: one `Slot` a worker, stepped by `tick`."""

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

# How often each thing happens, beside the others.
WEIGHTS = {
    "kill": 5, "stop": 5, "spot notice": 4, "freeze worker": 4, "freeze machine": 4, "fill disk": 3,
    "sqs outage": 1, "s3 outage": 1, "visibility ended": 5,
}  # fmt: skip
GLOBAL = {"sqs outage", "s3 outage", "visibility ended"}  # not done to one worker
NOTICE_SECONDS = 20.0  # 120 on AWS; the worker looks every 5, and needs 10 for its own end
START_SECONDS = 3.0  # a worker that has just started is left alone for so long


@dataclass(frozen=True)
class Event:
    """At `at` seconds after the start, `kind` befalls the worker of that number, for `seconds` where it lasts."""

    at: float
    kind: str
    worker: int
    seconds: float


def plan(rng: random.Random, seconds: float, workers: int, lease: float) -> list[Event]:
    """Events for `seconds`, about one every 6 seconds for each worker; one of each kind comes before any second."""
    events: list[Event] = []
    at = 1.0
    first = rng.sample([*WEIGHTS], len(WEIGHTS))
    while at < seconds:
        kind = first.pop() if first else rng.choices([*WEIGHTS], [*WEIGHTS.values()])[0]
        lasts = rng.uniform(0.5, 1.6) * lease if "outage" in kind else lease * rng.uniform(1.1, 2.2)
        events.append(Event(at, kind, rng.randrange(workers), lasts))
        at += rng.expovariate(workers / 6)
    return events


class Slot:
    """The place of one worker, where one follows the other. `start(slot number)` makes the next container."""

    def __init__(
        self, start: Callable[[], Container], disk: Disk | None, metadata: MetadataServer, stop: float
    ) -> None:
        self._start, self.disk, self.metadata, self._stop_seconds = start, disk, metadata, stop
        self.counts: Counter[str] = Counter()
        self.faults: list[str] = []  # what no worker should do
        self.container: Container | None = None
        self._doing = ""
        self._until = 0.0

    def tick(self, now: float) -> None:
        """One look: starts what is missing, ends what is due."""
        if self.container is None:
            self.container, self._doing = self._start(), ""
            self.counts["started"] += 1
        elif self.container.process.poll() is not None:
            self._ended(self.container, self._doing in ("stop", "spot notice"))
        elif self._doing and now >= self._until:
            self._over(self.container)

    def befall(self, event: Event, now: float) -> bool:
        """Does what the event says; False where the worker is not there or something else is being done to it."""
        container = self.container
        if container is None or not self._can(event, container, now):
            return False
        self.counts[event.kind] += 1
        self._doing, self._until = event.kind, now + event.seconds
        if event.kind == "kill":
            self._kill(container)
        elif event.kind == "stop":
            self._until = now + self._stop_seconds
            container.signal(signal.SIGTERM, whole=False)
        elif event.kind == "spot notice":
            self._until = now + NOTICE_SECONDS
            self.metadata.spot_notice(time.time() + NOTICE_SECONDS)
        elif event.kind.startswith("freeze"):
            container.signal(signal.SIGSTOP, whole=event.kind == "freeze machine")
        elif self.disk:
            self.disk.fill()
        return True

    def _can(self, event: Event, container: Container, now: float) -> bool:
        settled = now - container.started >= START_SECONDS
        return settled and not self._doing and (event.kind != "fill disk" or self.disk is not None)

    def _over(self, container: Container) -> None:
        doing, self._doing = self._doing, ""
        if doing.startswith("freeze"):
            container.signal(signal.SIGCONT, whole=True)
        elif doing == "fill disk" and self.disk:
            self.disk.free()
        else:
            self.counts["killed, its stop took too long" if doing == "stop" else "taken after the notice"] += 1
            container.abort()
            self._kill(container)

    def _ended(self, container: Container, told: bool) -> None:
        code = container.process.returncode
        self.counts["ended by itself after a notice or SIGTERM"] += told
        if not told:
            self.faults.append(f"a worker ended though nobody told it to, exit code {code}")
        elif code == -signal.SIGTERM:  # before it was ready; a container's first process would not have heard it
            self.counts["ended by SIGTERM before it was ready"] += 1
        elif code:
            self.faults.append(f"a worker that was told to stop ended with exit code {code}")
        else:
            left = [path.name for path in container.work.rglob("*")]
            self.faults += [f"folders are left after a worker's end: {left[:3]}"] * bool(left)
            pids = container.pids()
            self.faults += [f"{len(pids)} processes are left after a worker's end"] * bool(pids)
        self._kill(container)

    def _kill(self, container: Container) -> None:
        container.kill()
        if self.disk:
            self.disk.free()
        self.metadata.set("spot", None)
        self.container, self._doing = None, ""

    def replace(self) -> None:
        """The machine of a worker that says that it is sick is taken away, as its idle alarm would see to."""
        if self.container and not self._doing:
            self.counts["replaced, since it said that it was sick"] += 1
            self._kill(self.container)

    def calm(self) -> None:
        """Ends whatever is being done to the worker, so that it can work in peace."""
        if self.container and self._doing in ("freeze worker", "freeze machine", "fill disk"):
            self._over(self.container)

    def stop(self) -> None:
        """The end of the run: told to stop, in its own time."""
        if self.container is None or self.container.process.poll() is not None:
            return
        self._doing = "stop"
        self.container.signal(signal.SIGTERM, whole=False)

    def wait(self, seconds: float) -> None:
        """Until it has stopped; a fault where that takes longer than `seconds`."""
        if self.container is None:
            return
        try:
            self.container.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.faults.append(f"an idle worker does not end within {seconds:.0f} s of SIGTERM")
            self.container.abort()
            self._kill(self.container)
            return
        self._ended(self.container, told=True)
