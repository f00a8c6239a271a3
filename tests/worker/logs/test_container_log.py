"""The container's own log is sent to standard output and CloudWatch, and never delays or fails the worker."""

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
from tests.worker.logs.fake_logs import GROUP, FakeLogs, StreamRecorder, build_error

# pytest resets warning filters for each test; test_logs_on_emulator.py tests the worker's own filter.
pytestmark = pytest.mark.filterwarnings("ignore::watchtower.WatchtowerWarning")


@pytest.fixture
def start_log() -> Iterator[Callable[[Any], logging.Logger]]:
    """A function that starts the container's log, given a client, and returns the logger."""
    logger = logging.getLogger("worker")

    def start(client: Any) -> logging.Logger:
        settings = SimpleNamespace(log_group_name=GROUP, machine="i-0123")
        start_container_log(client, settings)  # type: ignore[arg-type]
        return logger

    yield start
    stop_container_log(0)


def test_the_containers_log_is_sent_to_a_stream_named_after_the_machine_and_the_process(
    start_log: Callable[[Any], logging.Logger], capsys: pytest.CaptureFixture[str]
) -> None:
    client = FakeLogs()
    logger = start_log(client)
    logger.info("hello %s", "you")
    logger.info("")
    logger.info("x" * 1_000_000)
    stop_container_log(60)
    assert client.streams == {f"i-0123-{os.getpid()}": ["hello you", " ", "x" * MAX_EVENT_CHARACTERS]}
    assert "INFO hello you" in capsys.readouterr().out


def test_the_containers_log_ends_in_time_and_delays_nothing_even_if_aws_hangs(
    start_log: Callable[[Any], logging.Logger], monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = StreamRecorder()
    monkeypatch.setattr(container_log, "LogStream", recorder)
    monkeypatch.setattr(container_log, "MAX_WAITING_LINES", 100)
    client = FakeLogs()
    client.may_respond.clear()
    logger = start_log(client)
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
    client.may_respond.set()


def test_the_containers_log_mentions_a_failing_cloudwatch_call_once(
    start_log: Callable[[Any], logging.Logger], capsys: pytest.CaptureFixture[str]
) -> None:
    client = FakeLogs()
    client.error = build_error("AccessDeniedException")
    logger = start_log(client)
    for n in range(100):
        logger.info("line %d", n)
    stop_container_log(0.4)
    output = capsys.readouterr()
    assert output.out.count("AccessDenied") == 1
    assert output.err == ""
