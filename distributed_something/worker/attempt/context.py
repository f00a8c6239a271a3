"""The context that all job-related parts of a container share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from distributed_something.worker.job.worker_settings import Settings
from distributed_something.worker.machine.clock import Clock


@dataclass(frozen=True)
class WorkerContext:
    """A container's settings, clock, and clients of SQS and S3. A client is None where it must not be used."""

    settings: Settings
    sqs: Any
    s3: Any
    clock: Clock = field(default_factory=Clock)
