"""When a container takes no jobs: it is sick, its disk is full, its machine may go, or its run has cost enough."""

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
    SICK_PAUSE_SECONDS,
    ContainerHealth,
)
from distributed_something.worker.job.run_keys import RunKeys
from tests.support.emulator import KEYS
from tests.support.fakes import MONITOR_FILE, FakeTime


class Table:
    """A gate whose clock and disk a test moves."""

    def __init__(self) -> None:
        self.time, self.free = FakeTime(), 10 * MIN_FREE_BYTES
        health = ContainerHealth(lambda: self.free >= MIN_FREE_BYTES)
        self.gate = AdmissionGate(health, Path("/work"), self.time.now, lambda path, size: self.free >= size)


@pytest.fixture
def table() -> Table:
    return Table()


def test_a_container_that_is_well_takes_what_its_slots_want(table: Table) -> None:
    assert table.gate.count_places(3, 2) == 5


def test_a_job_is_fetched_ahead_only_where_the_disk_has_room_for_the_largest_so_far(table: Table) -> None:
    table.free = 3 * MIN_FREE_BYTES
    assert table.gate.count_places(1, 2) == 3
    table.gate.record_success(MIN_FREE_BYTES + 1)
    assert table.gate.count_places(1, 2) == 1


def test_a_full_disk_takes_nothing(table: Table) -> None:
    table.free = 0
    assert table.gate.count_places(1, 2) == 0


def test_a_sick_container_takes_nothing_until_its_pause_is_over(table: Table) -> None:
    for n in range(MIN_FAILED_JOBS):
        table.gate.record_failure(f"job-{n}", "exit code 1", "program")
    assert table.gate.count_places(2, 0) == 0
    table.time.sleep(SICK_PAUSE_SECONDS)
    assert table.gate.count_places(2, 0) == 1


def test_after_a_rebalance_recommendation_nothing_is_begun_for_a_while(table: Table) -> None:
    table.gate.pause_for_rebalance()
    assert table.gate.count_places(1, 0) == 0
    table.time.sleep(REBALANCE_PAUSE_SECONDS)
    assert table.gate.count_places(1, 0) == 1


def test_a_closed_run_takes_nothing_ever(table: Table) -> None:
    table.gate.close_run()
    table.time.sleep(1e9)
    assert table.gate.count_places(1, 1) == 0


@pytest.fixture
def clients(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clients]:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    with mock_aws():
        made = Clients(boto3.Session())
        made.s3.create_bucket(Bucket=MONITOR_FILE.MONITOR_BUCKET_NAME)
        yield made


def test_workers_find_the_word_that_the_monitor_closed_their_run(clients: Clients) -> None:
    s3: Any = clients.s3
    bucket, keys = MONITOR_FILE.MONITOR_BUCKET_NAME, RunKeys(MONITOR_FILE.MONITOR_APP_NAME, MONITOR_FILE.run)
    assert not is_run_closed(s3, bucket, keys)
    carry_out_action(clients, MONITOR_FILE, RunClosure())
    assert is_run_closed(s3, bucket, keys)
    assert not is_run_closed(s3, bucket, RunKeys("App", "20990101T000000Z"))
