"""A process that only sends: `python -m tests.bench.bare JOBFILE QUEUE_URL` prints the seconds that sending took.

No check, no journal, every body made beforehand; the same client and as many threads as submitJob has.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3

from control import jobs
from control.clients import SENDERS, Clients


def main(job_file: str, url: str) -> None:
    bodies = list(jobs.load(Path(job_file), lambda bucket, prefix: []).bodies())
    sqs = Clients(boto3.Session()).sqs

    def send(batch: Sequence[str]) -> None:
        entries = [{"Id": str(place), "MessageBody": body} for place, body in enumerate(batch)]
        answer = sqs.send_message_batch(QueueUrl=url, Entries=entries)  # type: ignore[arg-type]
        assert not answer.get("Failed"), answer

    start = time.perf_counter()
    with ThreadPoolExecutor(SENDERS) as pool:
        for _ in pool.map(send, (bodies[first : first + 10] for first in range(0, len(bodies), 10))):
            pass
    print(time.perf_counter() - start)


if __name__ == "__main__":
    main(*sys.argv[1:])
