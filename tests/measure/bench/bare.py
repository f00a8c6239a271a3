"""A process that only sends: `python -m tests.measure.bench.bare JOBFILE QUEUE_URL` prints how many seconds it took.

No check, no journal, every body made beforehand; the same client and as many threads as submitJob has.
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


def main(job_file: str, url: str) -> None:
    bodies = list(load_job_file(Path(job_file), lambda bucket, prefix: []).bodies())
    sqs = Clients(boto3.Session()).sqs

    def send(batch: Sequence[str]) -> None:
        entries = [{"Id": str(place), "MessageBody": body} for place, body in enumerate(batch)]
        answer = sqs.send_message_batch(QueueUrl=url, Entries=entries)  # type: ignore[arg-type]
        assert not answer.get("Failed"), answer

    start = time.perf_counter()
    with ThreadPoolExecutor(SENDER_THREADS) as pool:
        for _ in pool.map(send, (bodies[first : first + 10] for first in range(0, len(bodies), 10))):
            pass
    print(time.perf_counter() - start)


if __name__ == "__main__":
    main(*sys.argv[1:])
