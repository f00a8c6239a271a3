"""Tests for the gate that decides how many jobs a container takes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from distributed_something.aws.clients import Clients
from distributed_something.run.monitor.actions import carry_out_action
from distributed_something.run.monitor.policy import RunClosure
from distributed_something.worker.admission.closing import is_run_closed
from distributed_something.worker.admission.gate import REBALANCE_PAUSE_SECONDS, AdmissionGate
from distributed_something.worker.admission.health import (
    MIN_FAILED_JOBS,
    MIN_FREE_BYTES,
    ContainerHealth,
)
from distributed_something.worker.job.run_keys import RunKeys
from distributed_something.worker.job.worker_settings import DEFAULT_SICK_PAUSE_SECONDS
from tests.support.emulator import KEYS
from tests.support.fakes import MONITOR_FILE, FakeTime


class GateSetup:
    """A gate with a clock and a disk that the tests control."""

    def __init__(self) -> None:
        self.time, self.free_bytes = FakeTime(), 10 * MIN_FREE_BYTES
        health = ContainerHealth(lambda: self.free_bytes >= MIN_FREE_BYTES)
        self.gate = AdmissionGate(health, Path("/work"), self.time.now, lambda path, size: self.free_bytes >= size)


@pytest.fixture
def setup() -> GateSetup:
    return GateSetup()


def test_a_healthy_container_takes_all_jobs_it_asks_for(setup: GateSetup) -> None:
    assert setup.gate.count_allowed_jobs(3, 2) == 5


def test_jobs_are_prefetched_only_if_the_disk_has_room_for_the_largest_job_so_far(setup: GateSetup) -> None:
    setup.free_bytes = 3 * MIN_FREE_BYTES
    assert setup.gate.count_allowed_jobs(1, 2) == 3
    setup.gate.record_success(MIN_FREE_BYTES + 1)
    assert setup.gate.count_allowed_jobs(1, 2) == 1


def test_a_container_with_a_full_disk_takes_no_jobs(setup: GateSetup) -> None:
    setup.free_bytes = 0
    assert setup.gate.count_allowed_jobs(1, 2) == 0


def test_an_unhealthy_container_takes_no_jobs_until_its_pause_ends(setup: GateSetup) -> None:
    for n in range(MIN_FAILED_JOBS):
        setup.gate.record_failure(f"job-{n}", "exit code 1", "program")
    assert setup.gate.count_allowed_jobs(2, 0) == 0
    setup.time.sleep(DEFAULT_SICK_PAUSE_SECONDS)
    assert setup.gate.count_allowed_jobs(2, 0) == 1


def test_no_jobs_start_for_a_while_after_a_rebalance_recommendation(setup: GateSetup) -> None:
    setup.gate.pause_for_rebalance()
    assert setup.gate.count_allowed_jobs(1, 0) == 0
    setup.time.sleep(REBALANCE_PAUSE_SECONDS)
    assert setup.gate.count_allowed_jobs(1, 0) == 1


def test_a_closed_run_never_takes_a_job(setup: GateSetup) -> None:
    setup.gate.close_run()
    setup.time.sleep(1e9)
    assert setup.gate.count_allowed_jobs(1, 1) == 0


@pytest.fixture
def clients(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clients]:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    with mock_aws():
        clients = Clients(boto3.Session())
        clients.s3.create_bucket(Bucket=MONITOR_FILE.MONITOR_BUCKET_NAME)
        yield clients


def test_workers_notice_that_the_monitor_has_closed_their_run(clients: Clients) -> None:
    s3: Any = clients.s3
    bucket, keys = MONITOR_FILE.MONITOR_BUCKET_NAME, RunKeys(MONITOR_FILE.MONITOR_APP_NAME, MONITOR_FILE.run)
    assert not is_run_closed(s3, bucket, keys)
    carry_out_action(clients, MONITOR_FILE, RunClosure())
    assert is_run_closed(s3, bucket, keys)
    assert not is_run_closed(s3, bucket, RunKeys("App", "20990101T000000Z"))
