"""What the tests of an attempt's stages and ends share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from distributed_something.worker.program.launcher import LauncherPool
from tests.worker.attempt.table import Table


@pytest.fixture
def table(s3: Any, tmp_path: Path, launcher: LauncherPool) -> Table:
    return Table(s3, tmp_path, launcher)
