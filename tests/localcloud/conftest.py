"""Fixtures for the local cloud's tests: one local cloud that a module's tests share, or one for a single test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from distributed_something.localcloud import stop_local_cloud
from tests.support.local_lab import Lab, stop_lab


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project whose local cloud is shared by all tests that do not stop or damage it."""
    folder = tmp_path_factory.mktemp("shared") / "project"
    yield folder
    stop_local_cloud(folder)


@pytest.fixture
def lab(project: Path) -> Iterator[Lab]:
    """A run in the shared local cloud."""
    lab = Lab(project)
    yield lab
    lab.end_run()


@pytest.fixture
def own_lab(tmp_path: Path) -> Iterator[Lab]:
    """A run in its own local cloud, for tests that stop or damage the local cloud."""
    lab = Lab(tmp_path / "project")
    yield lab
    stop_lab(lab)
