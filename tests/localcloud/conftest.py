"""The clouds of this folder's tests: one per module that its tests share, or one of a test's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from distributed_something.localcloud import stop_local_cloud
from tests.support.local_lab import Lab, close


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project whose cloud serves all tests that leave it as it was."""
    folder = tmp_path_factory.mktemp("shared") / "project"
    yield folder
    stop_local_cloud(folder)


@pytest.fixture
def lab(project: Path) -> Iterator[Lab]:
    """A run of its own in the shared cloud."""
    made = Lab(project)
    yield made
    made.clear()


@pytest.fixture
def own_lab(tmp_path: Path) -> Iterator[Lab]:
    """A cloud of its own, for tests that end it."""
    made = Lab(tmp_path / "project")
    yield made
    close(made)
