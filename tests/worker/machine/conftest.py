"""What the tests of the machine around a container share."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from tests.support.fakes import Exact, exact
from tests.support.metadata_server import MetadataServer, metadata_server


@pytest.fixture
def server() -> Iterator[MetadataServer]:
    with metadata_server() as made:
        yield made


@pytest.fixture
def aws() -> Iterator[Exact]:
    with exact() as made:
        yield made


@pytest.fixture
def warnings() -> Iterator[list[str]]:
    logger = logging.getLogger("worker")
    seen: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: seen.append(record.getMessage())  # type: ignore[method-assign]
    logger.addHandler(handler)
    yield seen
    logger.removeHandler(handler)
