"""One run: sends the jobs little by little, lets things happen, then waits in peace for the end and judges it."""

from __future__ import annotations

import itertools
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from tests.support.chaos import havoc, proxy, verdict
from tests.support.chaos.cases import Case, draw
from tests.support.chaos.containers import MARK, Container, Disk
from tests.support.chaos.havoc import Event, Slot
from tests.support.emulator import Lab
from tests.support.metadata_server import MetadataServer, metadata_server
from tests.support.processes import iter_marked_processes

SENDING_SHARE = 0.7  # of the time in which things happen
LOOK_SECONDS = 0.1
PROGRAM_SECONDS = 0.5
DISK_SHARE = 2  # every second worker has a disk that can be filled


@dataclass(frozen=True)
class Size:
    """How much a run does. `seconds`: how long things happen; `calm_seconds`: the most that the rest may take."""

    jobs: int
    workers: int
    seconds: float
    seed: int
    slots: int = 2
    lease: int = 4
    tries: int = 30  # lost workers count, too
    stop_seconds: int = 6
    calm_seconds: float = 240
    program_seconds: float = PROGRAM_SECONDS


@dataclass
class Outcome:
    """What happened in a run."""

    size: Size
    verdict: verdict.Verdict
    requests: Counter[str]
    havoc: Counter[str]
    seconds: float
    disks: bool
    settled: bool
    uploads_left: int = 0
    log: str = ""

    @property
    def ok(self) -> bool:
        return not self.verdict.violations


class Run:
    """The state of one run on one emulator."""

    def __init__(self, size: Size, url: str, folder: Path, stack: ExitStack) -> None:
        rng = random.Random(size.seed)
        self.size, self.folder, self._stack = size, folder, stack
        self.tallies = folder / "tallies"
        self.tallies.mkdir()
        self.cases = draw(size.jobs, size.program_seconds, self.tallies, random.Random(rng.random()))
        self.events = havoc.plan(random.Random(rng.random()), size.seconds, size.workers, size.lease)
        self.rng = random.Random(rng.random())
        self.faults = proxy.Faults(random.Random(rng.random()))
        self.lab = Lab(url, folder, tries=10 * size.tries, visibility=size.lease)
        self.proxy = stack.enter_context(proxy.running(url, self.faults))
        self.counts: Counter[str] = Counter()
        self._names = itertools.count()
        self._upstream = url
        self.slots = [self._slot(number) for number in range(size.workers)]
        self._outages: dict[str, float] = {}
        self._sick: set[str] = set()  # what says of a machine that it is sick, once it was replaced

    def _slot(self, number: int) -> Slot:
        disk = Disk(self.folder / f"disk-{number}") if number % DISK_SHARE == 0 else None
        if disk:
            self._stack.callback(disk.unmount)
        metadata = self._stack.enter_context(metadata_server())
        usable = disk if disk and disk.mounted else None
        place = usable.place if usable else self.folder
        return Slot(lambda: self._start(place, metadata), usable, metadata, self.size.stop_seconds)

    def _start(self, place: Path, metadata: MetadataServer) -> Container:
        name = f"{self.lab.name}-{next(self._names)}"
        work = place / name
        work.mkdir()
        told = {
            "WORK_DIR": str(work),
            MARK: name,
            "PYTHONFAULTHANDLER": "1",  # for `Container.abort`
            "AWS_ENDPOINT_URL": self.proxy.url,
            "SQS_QUEUE_URL": self.lab.queue_url.replace(self._upstream, self.proxy.url),
            "SQS_DEAD_LETTER_QUEUE_URL": self.lab.dead_url.replace(self._upstream, self.proxy.url),
            "DOCKER_CORES": str(self.size.slots),
            "JOB_RETRIES": str(self.size.tries),
            "STOP_SECONDS": str(self.size.stop_seconds),
            "INSTANCE_ID": name,
        }
        return Container(name, self.lab.worker(**told, **metadata.env), work)

    def go(self) -> Outcome:
        """Everything, from the inputs to the verdict."""
        began = time.monotonic()
        self._put_inputs()
        sender = threading.Thread(target=self._send, daemon=True)
        sender.start()
        self._storm()
        sender.join()
        settled = self._calm()
        self._stop()
        found = verdict.judge(self.cases, verdict.gather(self.lab), self.tallies)
        self._judge_processes(found, settled)
        seconds = time.monotonic() - began
        happened = sum((slot.counts for slot in self.slots), self.counts)
        disks = any(slot.disk for slot in self.slots)
        return Outcome(
            self.size, found, self.faults.counts, happened, seconds, disks, settled, self._uploads(), self.lab.log()
        )

    def _stop(self) -> None:
        """All are idle by now: each has as long as a container has that is told to stop."""
        end = time.monotonic() + self.size.stop_seconds
        for slot in self.slots:
            slot.stop()
        for slot in self.slots:
            slot.wait(max(0.1, end - time.monotonic()))

    def _put_inputs(self) -> None:
        with ThreadPoolExecutor(8) as pool:
            cases = [case for case in self.cases if case.fate != "bad"]
            list(pool.map(lambda case: self.lab.put(case.input_key, case.source), cases))

    def _send(self) -> None:
        """One after the other over most of the storm; some are sent again a little later."""
        pause = self.size.seconds * SENDING_SHARE / len(self.cases)
        again: list[Case] = []
        for case in self.cases:
            self.lab.send_text(case.body)
            if case.sent_twice:
                again.append(case)
            if again and self.rng.random() < 0.2:
                self.lab.send_text(again.pop(0).body)
                self.counts["sent twice"] += 1
            time.sleep(pause)
        for case in again:
            self.lab.send_text(case.body)
            self.counts["sent twice"] += 1

    def _storm(self) -> None:
        start, events = time.monotonic(), list(self.events)
        while (now := time.monotonic()) - start < self.size.seconds:
            while events and now - start >= events[0].at:
                self._befall(events.pop(0), now)
            self._tick(now)
            time.sleep(LOOK_SECONDS)
        self.faults.on = False
        self._outages.clear()
        self._tick(now)
        for slot in self.slots:
            slot.calm()

    def _befall(self, event: Event, now: float) -> None:
        if event.kind == "visibility ended":
            self._end_visibility()
        elif event.kind.endswith("outage"):
            self.counts[event.kind] += 1
            self._outages[event.kind.split()[0]] = now + event.seconds
        else:
            first = event.worker  # or the next one to which nothing is being done
            if not any(slot.befall(event, now) for slot in self.slots[first:] + self.slots[:first]):
                self.counts["skipped"] += 1

    def _end_visibility(self) -> None:
        """The latest message that a worker was given is given to another one too."""
        if not self.proxy.receipts:
            return
        try:
            self.lab.sqs.change_message_visibility(
                QueueUrl=self.lab.queue_url, ReceiptHandle=self.proxy.receipts[-1], VisibilityTimeout=0
            )
            self.counts["visibility ended"] += 1
        except ClientError:  # the message is done already
            self.counts["skipped"] += 1

    def _tick(self, now: float) -> None:
        self.faults.outage = {service for service, end in self._outages.items() if now < end}
        for slot in self.slots:
            slot.tick(now)

    def _replace_sick(self) -> None:
        """What the worker says of its machine lies beside the records."""
        found = self.lab.s3.list_objects_v2(Bucket=self.lab.name, Prefix=verdict.MACHINES).get("Contents", [])
        for key in {one["Key"] for one in found} - self._sick:
            if json.loads(self.lab.text(key) or b"{}").get("state") == "paused":
                self._sick.add(key)
                for slot in self.slots:
                    if slot.container and f"/{slot.container.name}-" in key:
                        slot.replace()

    def _calm(self) -> bool:
        """Waits until the queue is empty; whether it was so in time."""
        end, empty = time.monotonic() + self.size.calm_seconds, 0
        while time.monotonic() < end and empty < 3:
            for _ in range(10):
                self._tick(time.monotonic())
                time.sleep(LOOK_SECONDS)
            self._replace_sick()
            empty = 0 if self.lab.waiting() or self.lab.waiting(hidden=True) else empty + 1
        return empty >= 3

    def _judge_processes(self, found: verdict.Verdict, settled: bool) -> None:
        if not settled:
            text = f"{self.lab.waiting()} to be had, {self.lab.waiting(hidden=True)} hidden"
            found.violations["the queue is not empty in time"].append(text)
        for slot in self.slots:
            for fault in slot.faults:
                found.violations["a worker's end is not clean"].append(fault)
        for line in self.lab.log().splitlines():
            if line.startswith("Exception in thread"):
                found.violations["a worker's thread ended with an exception"].append(line)
        names = (f"{self.lab.name}-{number}" for number in range(next(self._names)))
        left = [pid for name in names for pid in iter_marked_processes(MARK, name)]
        if left:
            found.violations["processes are left"].append(str(left))

    def _uploads(self) -> int:
        return len(self.lab.s3.list_multipart_uploads(Bucket=self.lab.name).get("Uploads", []))


@contextmanager
def _ended(run: Run) -> Iterator[Run]:
    try:
        yield run
    finally:
        for slot in run.slots:
            if slot.container:
                slot.container.kill()
        run.lab.end()


def chaos(size: Size, emulator: Callable[[Path], Any], folder: Path) -> Outcome:
    """Runs on an emulator of its own, in `folder`."""
    with ExitStack() as stack:
        cloud = folder / "cloud"
        cloud.mkdir()
        url = stack.enter_context(emulator(cloud))
        return stack.enter_context(_ended(Run(size, url, folder, stack))).go()
