"""Fixtures for the machine tests."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from tests.support.fakes import ExactClients, expect_exact_calls
from tests.support.metadata_server import MetadataServer, run_metadata_server


@pytest.fixture
def server() -> Iterator[MetadataServer]:
    with run_metadata_server() as running_server:
        yield running_server


@pytest.fixture
def aws() -> Iterator[ExactClients]:
    with expect_exact_calls() as strict_aws:
        yield strict_aws


@pytest.fixture
def warnings() -> Iterator[list[str]]:
    """The warnings that the worker has logged so far."""
    logger = logging.getLogger("worker")
    messages: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: messages.append(record.getMessage())  # type: ignore[method-assign]
    logger.addHandler(handler)
    yield messages
    logger.removeHandler(handler)
