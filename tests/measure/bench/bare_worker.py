"""A program that does only what is necessary to run jobs. Its speed is the upper limit for the worker.

`python -m tests.measure.bench.bare_worker QUEUE_URL BUCKET JOBS SLOTS` starts SLOTS threads. Each thread receives a
message, runs its command, uploads the output, deletes the message, and repeats these steps. When all jobs are done, the
program prints how many seconds they took. It does not extend leases, check anything, or write records or logs.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import boto3

from tests.measure.bench.worker_speed import COMMAND, OUTPUT


class BareWorker:
    """The clients, the folder for the jobs' files, and the job count that the threads share."""

    def __init__(self, queue_url: str, bucket: str, jobs: int, folder: Path) -> None:
        session = boto3.Session()
        self._sqs, self._s3 = session.client("sqs"), session.client("s3")
        self._queue_url, self._bucket, self._remaining_jobs = queue_url, bucket, jobs
        self._lock = threading.Lock()
        self._folder = folder

    def run_jobs(self) -> None:
        while self._claim_job():
            messages: list[Any] = []
            while not messages:
                response = self._sqs.receive_message(QueueUrl=self._queue_url, MaxNumberOfMessages=1, WaitTimeSeconds=1)
                messages = response.get("Messages", [])
            self._run_job(messages[0])

    def _claim_job(self) -> bool:
        """Subtract one from the number of remaining jobs, and return whether a job was remaining."""
        with self._lock:
            self._remaining_jobs -= 1
            return self._remaining_jobs >= 0

    def _run_job(self, message: dict[str, Any]) -> None:
        number = json.loads(message["Body"])["group"]["n"]
        folder = self._folder / str(number)
        folder.mkdir()
        subprocess.run([*COMMAND, f"{folder}/{OUTPUT}"], check=True)
        with (folder / OUTPUT).open("rb") as body:
            self._s3.put_object(Bucket=self._bucket, Key=f"bare/{number}/{OUTPUT}", Body=body)
        self._sqs.delete_message(QueueUrl=self._queue_url, ReceiptHandle=message["ReceiptHandle"])


def main(queue_url: str, bucket: str, jobs: str, slots: str) -> None:
    with tempfile.TemporaryDirectory(prefix="bare-") as folder:
        worker = BareWorker(queue_url, bucket, int(jobs), Path(folder))
        threads = [threading.Thread(target=worker.run_jobs) for _ in range(int(slots))]
        start = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        print(time.perf_counter() - start)


if __name__ == "__main__":
    main(*sys.argv[1:])
