"""A container's job logs, which a test steps."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from distributed_something.worker.logs.job_log import JobLogs
from distributed_something.worker.logs.log_stream import LogBackoff
from distributed_something.worker.machine.clock import Clock
from tests.support.emulator import until
from tests.support.fakes import FakeTime
from tests.worker.logs.fake_logs import GROUP

PLACE = "s3://bucket/runs/App/R/jobs/one.txt"


class Desk:
    """A container's job logs, stepped by the test, with a folder a job. `waits`: whether their end takes real time."""

    def __init__(self, folder: Path, client: Any, first_pause: float = 0.05, waits: bool = True) -> None:
        self.folder, self.client, self.time = folder, client, FakeTime()
        self.backoff = LogBackoff("logs of jobs", first_pause)
        clock = Clock(self.time.now) if waits else Clock(self.time.now, self.time.now, self.time.sleep)
        self.logs = JobLogs(client, GROUP, clock, where=lambda job_id: PLACE, backoff=self.backoff)
        self._before = set(threading.enumerate())

    def start(self, job: str = "one") -> Path:
        path = self.folder / f"{job}.log"
        self.logs.follow_log(job, path)
        return path

    def all_sent(self) -> None:
        until(self._nothing_left, "logs are still sent")
        assert self.threads == 0

    def _nothing_left(self) -> bool:
        self.logs.tick()
        return not self.logs.followed_jobs

    @property
    def threads(self) -> int:
        return len(set(threading.enumerate()) - self._before)

    def run(self, content: bytes, job: str = "one") -> list[str]:
        """The events of a job that wrote this."""
        self.start(job).write_bytes(content)
        self.logs.unfollow_log(job)
        self.all_sent()
        return list(self.client.streams.get(job, []))
