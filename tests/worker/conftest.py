"""What the tests of several parts of the worker share."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.config import Config
from moto import mock_aws

from distributed_something.worker.program.launcher import LauncherPool
from tests.support.emulator import KEYS


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A client of an S3 in this process, which has one bucket: `ours`."""
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    with mock_aws():
        client = boto3.client("s3", config=Config(retries={"mode": "standard", "max_attempts": 2}))
        client.create_bucket(Bucket="ours")
        yield client


@pytest.fixture(scope="module")
def launcher() -> Iterator[LauncherPool]:
    """Launchers for four programs at a time."""
    made = LauncherPool(4)
    yield made
    made.end()


@pytest.fixture(autouse=True)
def _restored_worker_logger() -> Iterator[None]:
    """A container in this process gives the worker's logger handlers and a level; the next test finds it as it was."""
    logger = logging.getLogger("worker")
    before = logger.handlers[:], logger.level, logger.propagate
    yield
    logger.handlers[:], logger.level, logger.propagate = before


@pytest.fixture
def worker_log(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    """What the worker logs, also after a container in this process has kept its log to itself."""
    monkeypatch.setattr(logging.getLogger("worker"), "propagate", True)
    return caplog
