"""Tests for the worker's settings, which are read from environment variables."""

from __future__ import annotations

import pytest

from distributed_something.worker.job.worker_settings import BadEnvironment, Settings, read_worker_settings

ENVIRONMENT = {"APP_NAME": "App", "SQS_QUEUE_URL": "https://sqs/queue", "AWS_BUCKET": "ours"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AWS_BUCKET", ""),
        ("DOCKER_CORES", "0"),
        ("DOCKER_CORES", "two"),
        ("SECONDS_TO_START", "-1"),
        ("JOURNAL_SECONDS", "0"),
        ("RETRY_SECONDS", ""),
        ("RETRY_SECONDS", "0,fifteen"),
        ("RETRY_SECONDS", "0,0.5"),
        ("RETRY_SECONDS", "-1"),
        ("RETRY_SECONDS", "43201"),
    ],
)
def test_a_missing_or_invalid_variable_is_reported_by_name(name: str, value: str) -> None:
    with pytest.raises(BadEnvironment, match=name):
        read_worker_settings(ENVIRONMENT | {name: value})


def test_a_worker_started_by_hand_uses_default_settings() -> None:
    settings: Settings = read_worker_settings(ENVIRONMENT)
    assert (settings.run, settings.docker_cores, settings.check_if_done) == ("by-hand", 1, True)
    assert settings.journal_seconds == 60
    assert settings.retry_seconds == (0, 15, 60)


def test_the_waiting_times_before_retries_can_be_set() -> None:
    assert read_worker_settings(ENVIRONMENT | {"RETRY_SECONDS": "5, 10"}).retry_seconds == (5, 10)
