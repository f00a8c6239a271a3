"""What the worker itself costs: jobs that only write 1 kB, against a bare loop that does the same program's rounds.

A real worker process on an emulator, measured from outside: from its first record to its last. The bare loop takes
turns with it on the same emulator, with as many slots.
"""

from __future__ import annotations

import json
import statistics
import time
from datetime import datetime
from pathlib import Path

from tests.measure.bench import child
from tests.measure.bench.report import Line
from tests.support.emulator import KEYS, Lab, ministack

SLOTS = 4
OUTPUT = "out"
COMMAND = ["/bin/sh", "-c", 'head -c 1000 /dev/zero > "$0"']  # its last word, the file to write, is a job's own
RUN = "20261123T104500Z"
MINUTES = 10


def lines(folder: Path, jobs: int, rounds: int) -> list[Line]:
    """Jobs a second of both, and the ratio."""
    ours, bare = [], []
    with ministack(folder) as url:
        for number in range(rounds):
            ours.append(_worker(url, folder / f"speed-{number}", jobs))
            bare.append(_bare(url, folder / f"bare-{number}", jobs))
    worker, loop = jobs / statistics.median(ours), jobs / statistics.median(bare)
    share = worker / loop
    return [
        Line(f"worker, {jobs:,} jobs that write 1 kB, {SLOTS} slots", f"{worker:.0f} jobs/s"),
        Line("bare loop: receive, spawn, upload, delete", f"{loop:.0f} jobs/s"),
        Line("  the worker as a share of it", f"{share:.2f}", ">= 0.60", share >= 0.6),
    ]


def lab(url: str, folder: Path, jobs: int) -> Lab:
    """A queue that holds so many jobs."""
    folder.mkdir()
    made = Lab(url, folder, tries=10, visibility=120)
    for first in range(0, jobs, 10):
        bodies = (_body(number) for number in range(first, min(first + 10, jobs)))
        entries = [{"Id": str(place), "MessageBody": body} for place, body in enumerate(bodies)]
        made.sqs.send_message_batch(QueueUrl=made.queue_url, Entries=entries)
    return made


def _body(number: int) -> str:
    command = [*COMMAND, f"{{output_dir}}/{OUTPUT}"]
    return json.dumps({"command": command, "output_location": "out/{job}", "group": {"n": number}})


def _worker(url: str, folder: Path, jobs: int) -> float:
    made = lab(url, folder, jobs)
    made.worker(DOCKER_CORES=str(SLOTS))
    try:
        worked_off(made, MINUTES * 60)
    finally:
        made.end()
    return _seconds(made, jobs)


def worked_off(made: Lab, seconds: float) -> None:
    """Returns when no message is left; asks seldom, so that the asking is no load."""
    end = time.monotonic() + seconds
    while made.waiting() + made.waiting(hidden=True):
        assert time.monotonic() < end, f"jobs stay: {made.log()[-2000:]}"
        time.sleep(1.0)


def _seconds(made: Lab, jobs: int) -> float:
    """From the first job's start to the last record; every job must be done."""
    pages = made.s3.get_paginator("list_objects_v2").paginate(Bucket=made.name, Prefix=f"runs/App/{RUN}/jobs/")
    keys = [found["Key"] for page in pages for found in page["Contents"] if found["Key"].endswith(".json")]
    records = [json.loads(made.text(key) or b"{}") for key in keys]
    assert [record["state"] for record in records] == ["done"] * jobs, f"{len(records)} records"
    first = min(datetime.fromisoformat(record["started"]) for record in records)
    return (max(datetime.fromisoformat(record["ended"]) for record in records) - first).total_seconds()


def _bare(url: str, folder: Path, jobs: int) -> float:
    made = lab(url, folder, jobs)
    env = child.environment(**KEYS | made.environment)
    arguments = ["-m", "tests.measure.bench.bare_worker", made.queue_url, made.name, str(jobs), str(SLOTS)]
    return float(child.run(arguments, env).output)
