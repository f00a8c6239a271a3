"""Measures the memory of a process in which the jobs of 16 slots fetch inputs and send results at the same time.

The process is `python -m tests.measure.bench.transfer_memory FOLDER`. Like a worker, it has loaded all of the worker's
modules. Half of the jobs fetch their inputs twice, so that both directions overlap.
"""

from __future__ import annotations

import os
import re
import sys
import threading
from pathlib import Path

from distributed_something.worker.container.serve import limit_arenas  # first: it decides how boto3 signs requests

# isort: split
import boto3

from distributed_something.worker.machine.worker_clients import Clients
from distributed_something.worker.transfer.inputs import InputSource, fetch_inputs
from distributed_something.worker.transfer.results import ResultDestination, upload_results
from tests.measure.bench import child
from tests.measure.bench.report import Measurement
from tests.support.emulator import KEYS, run_roto

BUCKET, PREFIX = "bench-bucket", "inputs/"
SLOTS = 16
FILES = {"large": (2, 40_000_000), "medium": (4, 10_000_000), "small": (200, 100_000)}  # of each job: number, bytes
MAX_MB = 250


def measure_transfer_memory(folder: Path) -> list[Measurement]:
    """Measure the peak of the resident memory."""
    data = folder / "transfer-memory"
    data.mkdir()
    with run_roto(data) as url:
        env = child.build_environment(**KEYS, AWS_ENDPOINT_URL=url, AWS_EC2_METADATA_DISABLED="true")
        s3 = boto3.Session("test", "test", region_name="us-east-1").client("s3", endpoint_url=url)
        s3.create_bucket(Bucket=BUCKET)
        for kind, (count, size) in FILES.items():
            content = os.urandom(size)
            for number in range(count):
                s3.put_object(Bucket=BUCKET, Key=f"{PREFIX}{kind}-{number}", Body=content)
        output = child.run_python(["-m", "tests.measure.bench.transfer_memory", str(data)], env).output
    megabytes = int(output)
    name = f"memory with the transfers of {SLOTS} jobs under way"
    return [Measurement(name, f"{megabytes} MB", f"<= {MAX_MB} MB", megabytes <= MAX_MB)]


def main(folder: str) -> None:
    """Transfer the files of all jobs, and print the peak of the memory in MB."""
    limit_arenas()
    clients = Clients(SLOTS, "us-east-1")
    s3 = clients("s3")
    transfers, errors = clients.create_transfers(s3), list[BaseException]()

    def fetch(path: Path) -> None:
        path.mkdir()
        fetch_inputs(InputSource(s3, BUCKET, transfers=transfers), [PREFIX], path)

    def run_job(number: int) -> None:
        try:
            first, second = Path(folder, f"first-{number}"), Path(folder, f"second-{number}")
            fetch(first)
            if number % 2:
                fetch(second)
            upload_results(s3, first, ResultDestination(BUCKET, f"results/{number}"), transfers=transfers)
        except BaseException as error:
            errors.append(error)
            raise

    threads = [threading.Thread(target=run_job, args=(number,)) for number in range(SLOTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    status = Path("/proc/self/status").read_text()
    print(round(int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) * 1024 / 1e6))


if __name__ == "__main__":
    main(sys.argv[1])
