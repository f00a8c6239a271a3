"""Measures the worker's overhead per job, compared with a bare loop that runs the same program.

Each job only writes 1 kB. A real worker process runs on an emulator and is measured from outside, from the start of its
first job to the end of its last job. The worker and the bare loop take turns on the same emulator and have the same
number of slots.
"""

from __future__ import annotations

import json
import statistics
import time
from datetime import datetime
from pathlib import Path

from tests.measure.bench import child
from tests.measure.bench.report import Measurement
from tests.support.emulator import KEYS, WorkerLab, run_ministack

SLOTS = 4
OUTPUT = "out"
# Each job appends the path of its output file as an argument.
COMMAND = ["/bin/sh", "-c", 'head -c 1000 /dev/zero > "$0"']
RUN = "20261123T104500Z"
MINUTES = 10
MIN_SHARE = 0.8  # the goal for the worker's speed as a share of the bare loop's


def measure_worker(folder: Path, jobs: int, rounds: int) -> list[Measurement]:
    """Measure the jobs per second of the worker and the bare loop, and their ratio."""
    worker_seconds, bare_seconds = [], []
    with run_ministack(folder) as url:
        for number in range(rounds):
            worker_seconds.append(_run_worker(url, folder / f"speed-{number}", jobs))
            bare_seconds.append(_run_bare_loop(url, folder / f"bare-{number}", jobs))
    worker_rate, bare_rate = jobs / statistics.median(worker_seconds), jobs / statistics.median(bare_seconds)
    share, goal = worker_rate / bare_rate, f">= {MIN_SHARE:.2f}"
    return [
        Measurement(f"worker, {jobs:,} jobs that write 1 kB, {SLOTS} slots", f"{worker_rate:.0f} jobs/s"),
        Measurement("bare loop: receive, start, upload, delete", f"{bare_rate:.0f} jobs/s"),
        Measurement("  the worker's speed as a share of that", f"{share:.2f}", goal, share >= MIN_SHARE),
    ]


def build_lab(url: str, folder: Path, jobs: int) -> WorkerLab:
    """Create a bucket and a queue that contains `jobs` jobs."""
    folder.mkdir()
    lab = WorkerLab(url, folder, job_retries=10, visibility=120)
    for first in range(0, jobs, 10):
        bodies = (_build_body(number) for number in range(first, min(first + 10, jobs)))
        entries = [{"Id": str(index), "MessageBody": body} for index, body in enumerate(bodies)]
        lab.sqs.send_message_batch(QueueUrl=lab.queue_url, Entries=entries)
    return lab


def _build_body(number: int) -> str:
    command = [*COMMAND, f"{{output_dir}}/{OUTPUT}"]
    return json.dumps({"command": command, "output_location": "out/{job}", "group": {"n": number}})


def _run_worker(url: str, folder: Path, jobs: int) -> float:
    lab = build_lab(url, folder, jobs)
    lab.start_worker(DOCKER_CORES=str(SLOTS))
    try:
        wait_for_empty_queue(lab, MINUTES * 60)
    finally:
        lab.kill_workers()
    return _compute_seconds(lab, jobs)


def wait_for_empty_queue(lab: WorkerLab, seconds: float) -> None:
    """Wait until the queue has no more messages.

    Fail after `seconds`. The queue is checked only once a second, so that the checks do not slow the worker.
    """
    end = time.monotonic() + seconds
    while lab.count_messages() + lab.count_messages(hidden=True):
        assert time.monotonic() < end, f"jobs remain after {seconds:g} s: {lab.read_log()[-2000:]}"
        time.sleep(1.0)


def _compute_seconds(lab: WorkerLab, jobs: int) -> float:
    """Return the seconds from the first job's start to the last job's end, according to the records.

    All jobs must be done.
    """
    pages = lab.s3.get_paginator("list_objects_v2").paginate(Bucket=lab.name, Prefix=f"runs/App/{RUN}/jobs/")
    keys = [item["Key"] for page in pages for item in page["Contents"] if item["Key"].endswith(".json")]
    records = [json.loads(lab.read_object(key) or b"{}") for key in keys]
    assert [record["state"] for record in records] == ["done"] * jobs, f"{len(records)} records"
    first = min(datetime.fromisoformat(record["started"]) for record in records)
    return (max(datetime.fromisoformat(record["ended"]) for record in records) - first).total_seconds()


def _run_bare_loop(url: str, folder: Path, jobs: int) -> float:
    lab = build_lab(url, folder, jobs)
    env = child.build_environment(**KEYS | lab.environment)
    arguments = ["-m", "tests.measure.bench.bare_worker", lab.queue_url, lab.name, str(jobs), str(SLOTS)]
    return float(child.run_python(arguments, env).output)
