"""Fixtures for the log tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.worker.logs.fake_logs import FakeLogs
from tests.worker.logs.job_logs_harness import JobLogsHarness


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[JobLogsHarness]:
    harness = JobLogsHarness(tmp_path, FakeLogs())
    yield harness
    harness.client.may_respond.set()
    harness.logs.end(1)


@pytest.fixture
def log_messages(worker_log: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """A function that returns the messages that the worker has logged so far."""
    return lambda: [record.getMessage() for record in worker_log.records if record.name == "worker"]
