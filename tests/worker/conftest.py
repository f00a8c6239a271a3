"""Fixtures that tests of several worker parts share."""

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
    """A client for an in-process S3 that contains one bucket, `ours`."""
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    with mock_aws():
        client = boto3.client("s3", config=Config(retries={"mode": "standard", "max_attempts": 2}))
        client.create_bucket(Bucket="ours")
        yield client


@pytest.fixture(scope="module")
def launcher() -> Iterator[LauncherPool]:
    """A pool of launchers that can run four programs at a time."""
    launchers = LauncherPool(4)
    yield launchers
    launchers.end()


@pytest.fixture(autouse=True)
def _restore_worker_logger() -> Iterator[None]:
    """Undo all changes that a container in this process makes to the worker's logger."""
    logger = logging.getLogger("worker")
    original = logger.handlers[:], logger.level, logger.propagate
    yield
    logger.handlers[:], logger.level, logger.propagate = original


@pytest.fixture
def worker_log(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    """The messages that the worker logs, even after a container in this process has turned off propagation."""
    monkeypatch.setattr(logging.getLogger("worker"), "propagate", True)
    return caplog
