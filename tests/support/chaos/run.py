"""One chaos run: it sends jobs over time, disturbs the workers, waits without disturbances, and checks the results."""

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
from tests.support.chaos.cases import Case, draw_cases
from tests.support.chaos.containers import MARK, Container, Disk
from tests.support.chaos.havoc import Event, WorkerSlot
from tests.support.emulator import WorkerLab
from tests.support.metadata_server import MetadataServer, run_metadata_server
from tests.support.processes import iter_marked_processes

SENDING_SHARE = 0.7  # share of the disturbed time during which jobs are sent
STEP_SECONDS = 0.1
PROGRAM_SECONDS = 0.5
DISK_INTERVAL = 2  # every other worker has a disk that can be filled


@dataclass(frozen=True)
class Size:
    """Size of a run. Workers are disturbed for `seconds`; then the run may take at most `calm_seconds` to finish."""

    jobs: int
    workers: int
    seconds: float
    seed: int
    slots: int = 2
    lease: int = 4
    tries: int = 30  # includes attempts whose workers are lost
    stop_seconds: int = 12
    calm_seconds: float = 240
    program_seconds: float = PROGRAM_SECONDS


@dataclass
class Outcome:
    """Result of a run."""

    size: Size
    verdict: verdict.Verdict
    requests: Counter[str]
    havoc: Counter[str]
    seconds: float
    disks: bool
    is_queue_empty: bool
    unfinished_uploads: int = 0
    log: str = ""

    @property
    def is_ok(self) -> bool:
        return not self.verdict.violations


class Run:
    """One run on one emulator."""

    def __init__(self, size: Size, url: str, folder: Path, stack: ExitStack) -> None:
        rng = random.Random(size.seed)
        self.size, self.folder, self._stack = size, folder, stack
        self.tallies = folder / "tallies"
        self.tallies.mkdir()
        self.cases = draw_cases(size.jobs, size.program_seconds, self.tallies, random.Random(rng.random()))
        self.events = havoc.draw_events(random.Random(rng.random()), size.seconds, size.workers, size.lease)
        self.rng = random.Random(rng.random())
        self.faults = proxy.Faults(random.Random(rng.random()))
        self.lab = WorkerLab(url, folder, max_receives=10 * size.tries, visibility=size.lease)
        self.proxy = stack.enter_context(proxy.run_proxy(url, self.faults))
        self.counts: Counter[str] = Counter()
        self.sent: Counter[str] = Counter()  # copies of each message
        self._names = itertools.count()
        self._emulator_url = url
        self.slots = [self._build_slot(number) for number in range(size.workers)]
        self._outages: dict[str, float] = {}
        self._handled_reports: set[str] = set()  # keys of reports whose machines have been replaced

    def _build_slot(self, number: int) -> WorkerSlot:
        disk = Disk(self.folder / f"disk-{number}") if number % DISK_INTERVAL == 0 else None
        if disk:
            self._stack.callback(disk.unmount)
        metadata = self._stack.enter_context(run_metadata_server())
        usable_disk = disk if disk and disk.is_mounted else None
        parent = usable_disk.folder if usable_disk else self.folder
        return WorkerSlot(
            lambda: self._start_container(parent, metadata), usable_disk, metadata, self.size.stop_seconds
        )

    def _start_container(self, parent: Path, metadata: MetadataServer) -> Container:
        name = f"{self.lab.name}-{next(self._names)}"
        work = parent / name
        work.mkdir()
        variables = {
            "WORK_DIR": str(work),
            MARK: name,
            "PYTHONFAULTHANDLER": "1",  # for `Container.abort`
            "AWS_ENDPOINT_URL": self.proxy.url,
            "SQS_QUEUE_URL": self.lab.queue_url.replace(self._emulator_url, self.proxy.url),
            "SQS_DEAD_LETTER_QUEUE_URL": self.lab.dead_url.replace(self._emulator_url, self.proxy.url),
            "DOCKER_CORES": str(self.size.slots),
            "JOB_RETRIES": str(self.size.tries),
            "STOP_SECONDS": str(self.size.stop_seconds),
            "INSTANCE_ID": name,
            "LOCAL_CONTAINER": name,
            "JOURNAL_SECONDS": "1",
        }
        return Container(name, self.lab.start_worker(**variables, **metadata.env), work)

    def execute(self) -> Outcome:
        """Run everything, from the inputs to the verdict."""
        start_time = time.monotonic()
        self._put_inputs()
        sender = threading.Thread(target=self._send_jobs, daemon=True)
        sender.start()
        self._disturb_workers()
        sender.join()
        is_queue_empty = self._wait_for_empty_queue()
        self._stop_workers()
        result = verdict.check_cases(self.cases, verdict.read_end(self.lab), self.tallies)
        verdict.check_counts(self.cases, self.sent, self.lab, result)
        self._check_processes(result, is_queue_empty)
        return Outcome(
            self.size,
            result,
            requests=self.faults.counts,
            havoc=sum((slot.counts for slot in self.slots), self.counts),
            seconds=time.monotonic() - start_time,
            disks=any(slot.disk for slot in self.slots),
            is_queue_empty=is_queue_empty,
            unfinished_uploads=self._count_unfinished_uploads(),
            log=self.lab.read_log(),
        )

    def _stop_workers(self) -> None:
        """Stop all workers. They are idle, so each must end within a container's stop timeout."""
        deadline = time.monotonic() + self.size.stop_seconds
        for slot in self.slots:
            slot.stop_worker()
        for slot in self.slots:
            slot.wait_for_end(max(0.1, deadline - time.monotonic()))

    def _put_inputs(self) -> None:
        with ThreadPoolExecutor(8) as pool:
            cases = [case for case in self.cases if case.fate != "bad"]
            list(pool.map(lambda case: self.lab.put_object(case.input_key, case.source), cases))

    def _send_jobs(self) -> None:
        """Send the jobs one after another over most of the disturbed time, and send some of them twice."""
        pause = self.size.seconds * SENDING_SHARE / len(self.cases)
        repeats: list[Case] = []
        for case in self.cases:
            self._send_job(case)
            if case.sent_twice:
                repeats.append(case)
            if repeats and self.rng.random() < 0.2:
                self._send_job(repeats.pop(0))
                self.counts["sent twice"] += 1
            time.sleep(pause)
        for case in repeats:
            self._send_job(case)
            self.counts["sent twice"] += 1

    def _send_job(self, case: Case) -> None:
        self.lab.send_text(case.body)
        self.sent[case.body] += 1

    def _disturb_workers(self) -> None:
        start, events = time.monotonic(), list(self.events)
        while (now := time.monotonic()) - start < self.size.seconds:
            while events and now - start >= events[0].at:
                self._apply_event(events.pop(0), now)
            self._advance_slots(now)
            time.sleep(STEP_SECONDS)
        self.faults.on = False
        self._outages.clear()
        self._advance_slots(now)
        for slot in self.slots:
            slot.end_lasting_disturbance()

    def _apply_event(self, event: Event, now: float) -> None:
        if event.kind == "visibility ended":
            self._end_visibility()
        elif event.kind.endswith(("outage", "silence")):
            self.counts[event.kind] += 1
            self._outages[event.kind] = now + event.seconds
        else:
            first = event.worker  # if this worker is already disturbed, the next one gets the event
            if not any(slot.apply_event(event, now) for slot in self.slots[first:] + self.slots[:first]):
                self.counts["skipped"] += 1

    def _end_visibility(self) -> None:
        """Make the most recently received message visible, so that another worker receives it, too."""
        if not self.proxy.receipts:
            return
        try:
            self.lab.sqs.change_message_visibility(
                QueueUrl=self.lab.queue_url, ReceiptHandle=self.proxy.receipts[-1], VisibilityTimeout=0
            )
            self.counts["visibility ended"] += 1
        except ClientError:  # the message was already deleted
            self.counts["skipped"] += 1

    def _advance_slots(self, now: float) -> None:
        current = [kind.split() for kind, end in self._outages.items() if now < end]
        self.faults.outage = {service for service, kind in current if kind == "outage"}
        self.faults.silence = {service for service, kind in current if kind == "silence"}
        for slot in self.slots:
            slot.advance(now)

    def _replace_unhealthy_machines(self) -> None:
        """Replace workers that reported their machines as unhealthy. The reports are objects next to the records."""
        response = self.lab.s3.list_objects_v2(Bucket=self.lab.name, Prefix=verdict.MACHINES)
        for key in {entry["Key"] for entry in response.get("Contents", [])} - self._handled_reports:
            if json.loads(self.lab.read_object(key) or b"{}").get("state") == "paused":
                self._handled_reports.add(key)
                for slot in self.slots:
                    if slot.container and f"/{slot.container.name}-" in key:
                        slot.replace_worker()

    def _wait_for_empty_queue(self) -> bool:
        """Wait until the queue is empty. Return whether it became empty within the allowed time."""
        deadline, empty_checks = time.monotonic() + self.size.calm_seconds, 0
        while time.monotonic() < deadline and empty_checks < 3:
            for _ in range(10):
                self._advance_slots(time.monotonic())
                time.sleep(STEP_SECONDS)
            self._replace_unhealthy_machines()
            empty_checks = 0 if self.lab.count_messages() or self.lab.count_messages(hidden=True) else empty_checks + 1
        return empty_checks >= 3

    def _check_processes(self, result: verdict.Verdict, is_queue_empty: bool) -> None:
        if not is_queue_empty:
            counts = f"{self.lab.count_messages()} visible, {self.lab.count_messages(hidden=True)} hidden"
            result.violations["the queue did not become empty in time"].append(counts)
        for slot in self.slots:
            for fault in slot.faults:
                result.violations["a worker did not end cleanly"].append(fault)
        for line in self.lab.read_log().splitlines():
            if line.startswith("Exception in thread"):
                result.violations["a worker's thread ended with an exception"].append(line)
        names = (f"{self.lab.name}-{number}" for number in range(next(self._names)))
        pids = [pid for name in names for pid in iter_marked_processes(MARK, name)]
        if pids:
            result.violations["processes are still running"].append(str(pids))

    def _count_unfinished_uploads(self) -> int:
        return len(self.lab.s3.list_multipart_uploads(Bucket=self.lab.name).get("Uploads", []))


@contextmanager
def _kill_workers_after(run: Run) -> Iterator[Run]:
    """Kill the run's workers at the end of the block."""
    try:
        yield run
    finally:
        for slot in run.slots:
            if slot.container:
                slot.container.kill()
        run.lab.kill_workers()


def run_chaos(size: Size, emulator: Callable[[Path], Any], folder: Path) -> Outcome:
    """Execute a run on a new emulator, with all files in `folder`."""
    with ExitStack() as stack:
        emulator_folder = folder / "cloud"
        emulator_folder.mkdir()
        url = stack.enter_context(emulator(emulator_folder))
        return stack.enter_context(_kill_workers_after(Run(size, url, folder, stack))).execute()
