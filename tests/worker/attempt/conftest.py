"""Fixtures for the attempt tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from distributed_something.worker.program.launcher import LauncherPool
from tests.worker.attempt.attempt_harness import AttemptHarness


@pytest.fixture
def harness(s3: Any, tmp_path: Path, launcher: LauncherPool) -> AttemptHarness:
    return AttemptHarness(s3, tmp_path, launcher)
