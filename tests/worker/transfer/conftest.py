"""What the tests of transfers share."""

from __future__ import annotations

from pathlib import Path

import pytest

from distributed_something.worker.transfer import results, s3_file

SMALLEST_PART_BYTES = 5 * 1024 * 1024  # S3


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files travel in the smallest parts that S3 takes."""
    monkeypatch.setattr(s3_file, "PART_BYTES", SMALLEST_PART_BYTES)
    monkeypatch.setattr(s3_file, "LARGE_FILE_BYTES", SMALLEST_PART_BYTES)
    monkeypatch.setattr(results, "MAX_SINGLE_PUT_BYTES", SMALLEST_PART_BYTES)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A job's output folder, with nothing in it yet."""
    folder = tmp_path / "job" / "output"
    folder.mkdir(parents=True)
    return folder
