"""How a run ended, as both monitors tell it: from its records, in words, which are left in the bucket beside these."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from control import records
from control.errors import doing
from control.monitorfile import MonitorFile
from control.text import summary_text

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from control.clients import Clients


def summary(clients: Clients, file: MonitorFile, dead_letter_queue: str, machines: int) -> str:
    """Jobs, time and failures. Of a large run it takes minutes, so it is to come when nothing is left that costs money.
    Raises CloudError where the records cannot be read."""
    with doing("reading the records of the run"):
        found = records.summarise(clients, file, dead_letter_queue)
    seconds = time.time() - file.MONITOR_START_TIME / 1000
    where = f"s3://{file.MONITOR_BUCKET_NAME}/{records.prefix_of(file)}"
    return summary_text(found, seconds=seconds, machines=machines, records=where)


def leave(s3: S3Client, file: MonitorFile, words: str) -> None:
    """Puts them into the bucket. Raises AWS's errors."""
    s3.put_object(
        Bucket=file.MONITOR_BUCKET_NAME,
        Key=f"runs/{file.MONITOR_APP_NAME}/{file.run}/summary.txt",
        Body=f"{words}\n".encode(),
        ContentType="text/plain; charset=utf-8",
    )
