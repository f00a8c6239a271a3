"""What the tests of logs share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.worker.logs.desk import Desk
from tests.worker.logs.fake_logs import FakeLogs


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path, FakeLogs())
    yield desk
    desk.client.open.set()
    desk.logs.end(1)


@pytest.fixture
def said(worker_log: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """What the worker has said so far, line by line."""
    return lambda: [record.getMessage() for record in worker_log.records if record.name == "worker"]
