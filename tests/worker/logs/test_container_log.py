"""The container's own log: on standard output and in CloudWatch, and never a reason to wait or to fail."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from distributed_something.worker.logs import container_log
from distributed_something.worker.logs.container_log import start_container_log, stop_container_log
from distributed_something.worker.logs.log_stream import BATCH_EVENTS, MAX_EVENT_CHARACTERS
from tests.worker.logs.fake_logs import GROUP, FakeLogs, StreamRecorder, error

# pytest sets the filters of warnings anew for each test; that the worker's own holds is seen in a process of its own.
pytestmark = pytest.mark.filterwarnings("ignore::watchtower.WatchtowerWarning")


@pytest.fixture
def begin() -> Iterator[Callable[[Any], logging.Logger]]:
    """Begins a container's log on a client; the logger."""
    logger = logging.getLogger("worker")

    def begin_log(client: Any) -> logging.Logger:
        settings = SimpleNamespace(log_group_name=GROUP, machine="i-0123")
        start_container_log(client, settings)  # type: ignore[arg-type]
        return logger

    yield begin_log
    stop_container_log(0)


def test_the_containers_log_goes_to_a_stream_of_its_machine_and_process(
    begin: Callable[[Any], logging.Logger], capsys: pytest.CaptureFixture[str]
) -> None:
    client = FakeLogs()
    logger = begin(client)
    logger.info("hello %s", "you")
    logger.info("")
    logger.info("x" * 1_000_000)
    stop_container_log(60)
    assert client.streams == {f"i-0123-{os.getpid()}": ["hello you", " ", "x" * MAX_EVENT_CHARACTERS]}
    assert "INFO hello you" in capsys.readouterr().out


def test_the_containers_log_ends_in_time_and_holds_back_nobody_although_aws_hangs(
    begin: Callable[[Any], logging.Logger], monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = StreamRecorder()
    monkeypatch.setattr(container_log, "LogStream", recorder)
    monkeypatch.setattr(container_log, "MAX_WAITING_LINES", 100)
    client = FakeLogs()
    client.open.clear()
    logger = begin(client)
    start = time.monotonic()
    for n in range(BATCH_EVENTS + 500):
        logger.info("line %d", n)
    (stream,) = recorder.streams
    assert stream.waiting_events <= 100
    assert time.monotonic() - start < 10
    start = time.monotonic()
    stop_container_log(0.4)
    assert time.monotonic() - start < 10
    logger.info("on standard output only")
    client.open.set()


def test_the_containers_log_says_once_that_cloudwatch_refuses(
    begin: Callable[[Any], logging.Logger], capsys: pytest.CaptureFixture[str]
) -> None:
    client = FakeLogs()
    client.refusal = error("AccessDeniedException")
    logger = begin(client)
    for n in range(100):
        logger.info("line %d", n)
    stop_container_log(0.4)
    found = capsys.readouterr()
    assert found.out.count("AccessDenied") == 1
    assert found.err == ""
