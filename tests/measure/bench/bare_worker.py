"""The least that a worker can do: `python -m tests.measure.bench.bare_worker QUEUE_URL BUCKET JOBS SLOTS`.

So many threads receive one message, spawn its command, upload what it wrote and delete the message. Prints the seconds
from the first message to the last. No lease, no check, no record, no log.
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


class Bare:
    """What the threads share."""

    def __init__(self, url: str, bucket: str, jobs: int) -> None:
        session = boto3.Session()
        self._sqs, self._s3 = session.client("sqs"), session.client("s3")
        self._url, self._bucket, self._left = url, bucket, jobs
        self._lock = threading.Lock()
        self._folder = Path(tempfile.mkdtemp(prefix="bare-"))

    def work(self) -> None:
        while self._take():
            messages: list[Any] = []
            while not messages:
                answer = self._sqs.receive_message(QueueUrl=self._url, MaxNumberOfMessages=1, WaitTimeSeconds=1)
                messages = answer.get("Messages", [])
            self._handle(messages[0])

    def _take(self) -> bool:
        with self._lock:
            self._left -= 1
            return self._left >= 0

    def _handle(self, message: dict[str, Any]) -> None:
        number = json.loads(message["Body"])["group"]["n"]
        folder = self._folder / str(number)
        folder.mkdir()
        subprocess.run([*COMMAND, f"{folder}/{OUTPUT}"], check=True)
        with (folder / OUTPUT).open("rb") as body:
            self._s3.put_object(Bucket=self._bucket, Key=f"bare/{number}/{OUTPUT}", Body=body)
        self._sqs.delete_message(QueueUrl=self._url, ReceiptHandle=message["ReceiptHandle"])


def main(url: str, bucket: str, jobs: str, slots: str) -> None:
    bare = Bare(url, bucket, int(jobs))
    threads = [threading.Thread(target=bare.work) for _ in range(int(slots))]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(time.perf_counter() - start)


if __name__ == "__main__":
    main(*sys.argv[1:])
