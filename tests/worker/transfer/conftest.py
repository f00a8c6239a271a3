"""Fixtures for the transfer tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from distributed_something.worker.transfer import results, s3_file

SMALLEST_PART_BYTES = 5 * 1024 * 1024  # S3's limit


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make transfers use the smallest parts that S3 allows."""
    monkeypatch.setattr(s3_file, "DOWNLOAD_PART_BYTES", SMALLEST_PART_BYTES)
    monkeypatch.setattr(s3_file, "UPLOAD_PART_BYTES", SMALLEST_PART_BYTES)
    monkeypatch.setattr(s3_file, "LARGE_FILE_BYTES", SMALLEST_PART_BYTES)
    monkeypatch.setattr(results, "MAX_SINGLE_PUT_BYTES", SMALLEST_PART_BYTES)


@pytest.fixture
def output_folder(tmp_path: Path) -> Path:
    """Create a job's output folder, which is empty at first, and return it."""
    folder = tmp_path / "job" / "output"
    folder.mkdir(parents=True)
    return folder
