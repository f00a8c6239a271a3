"""A harness for a container's job logs, which the test advances step by step."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from distributed_something.worker.logs.job_log import JobLogs
from distributed_something.worker.logs.log_stream import LogBackoff
from distributed_something.worker.machine.clock import Clock
from tests.support.emulator import wait_until
from tests.support.fakes import FakeTime
from tests.worker.logs.fake_logs import GROUP

LOG_LOCATION = "s3://bucket/runs/App/R/jobs/one.txt"


class JobLogsHarness:
    """A container's job logs and their folder. `waits`: whether ending the logs takes real time."""

    def __init__(self, folder: Path, client: Any, first_pause: float = 0.05, waits: bool = True) -> None:
        self.folder, self.client, self.time = folder, client, FakeTime()
        self.backoff = LogBackoff("job logs", first_pause)
        clock = Clock(self.time.now) if waits else Clock(self.time.now, self.time.now, self.time.sleep)
        self.logs = JobLogs(client, GROUP, lambda job_id: LOG_LOCATION, self.backoff, clock)
        self._threads_before = set(threading.enumerate())

    def start_job(self, job: str = "one") -> Path:
        path = self.folder / f"{job}.log"
        self.logs.follow_log(job, path)
        return path

    def wait_until_sent(self) -> None:
        wait_until(self._have_all_ended, "logs are still being sent")
        assert self.thread_count == 0

    def _have_all_ended(self) -> bool:
        self.logs.tick()
        return not self.logs.followed_jobs

    @property
    def thread_count(self) -> int:
        return len(set(threading.enumerate()) - self._threads_before)

    def run_job(self, content: bytes, job: str = "one") -> list[str]:
        """Run a job that prints `content`, and return the events in its stream."""
        self.start_job(job).write_bytes(content)
        self.logs.unfollow_log(job)
        self.wait_until_sent()
        return list(self.client.streams.get(job, []))
