"""What all parts of a container share that deal with jobs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from distributed_something.worker.job.worker_settings import Settings


@dataclass(frozen=True)
class WorkerContext:
    """One container's settings, and its clients of SQS and S3 (None where nothing may be asked of the service)."""

    settings: Settings
    sqs: Any
    s3: Any
