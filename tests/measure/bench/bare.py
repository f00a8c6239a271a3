"""A program that only sends messages. Its speed is the upper limit for submitJob.

`python -m tests.measure.bench.bare JOBFILE QUEUE_URL` builds all message bodies first, sends them with submitJob's
client and number of threads, and prints how many seconds sending took. It does not check anything or write a journal.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3

from distributed_something.aws.clients import SENDER_THREADS, Clients
from distributed_something.jobs.job_file import load_job_file
from distributed_something.worker import SUBMISSION_ATTRIBUTE


def main(job_file: str, queue_url: str) -> None:
    bodies = list(load_job_file(Path(job_file), lambda bucket, prefix: []).iter_bodies())
    sqs = Clients(boto3.Session()).sqs

    attributes = {SUBMISSION_ATTRIBUTE: {"DataType": "String", "StringValue": "2026-11-23T10:45:00.000Z"}}

    def send_batch(batch: Sequence[str]) -> None:
        entries = [
            {"Id": str(index), "MessageBody": body, "MessageAttributes": attributes} for index, body in enumerate(batch)
        ]
        response = sqs.send_message_batch(QueueUrl=queue_url, Entries=entries)  # type: ignore[arg-type]
        assert not response.get("Failed"), response

    start = time.perf_counter()
    with ThreadPoolExecutor(SENDER_THREADS) as pool:
        for _ in pool.map(send_batch, (bodies[first : first + 10] for first in range(0, len(bodies), 10))):
            pass
    print(time.perf_counter() - start)


if __name__ == "__main__":
    main(*sys.argv[1:])
