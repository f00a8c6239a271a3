"""What all parts of a container share that deal with jobs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from distributed_something.worker.job.worker_settings import Settings
from distributed_something.worker.machine.clock import Clock


@dataclass(frozen=True)
class WorkerContext:
    """One container's settings and clock, and its clients of SQS and S3 (None where nothing may be asked of one)."""

    settings: Settings
    sqs: Any
    s3: Any
    clock: Clock = field(default_factory=Clock)
