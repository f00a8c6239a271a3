"""When a container takes no jobs: it is sick, its disk is full, its machine may go, or its run has cost enough."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from control import act
from control.clients import Clients
from control.decide import Close
from tests.emulator import KEYS
from tests.fakes import MONITOR_FILE, FakeTime
from worker.machinery import closing
from worker.machinery.gate import REBALANCE_SECONDS, Gate
from worker.machinery.health import LEAST_FREE_BYTES, PAUSE_SECONDS, SEVERAL, Health


class Table:
    """A gate whose clock and disk a test moves."""

    def __init__(self) -> None:
        self.time, self.free = FakeTime(), 10 * LEAST_FREE_BYTES
        health = Health(lambda: self.free >= LEAST_FREE_BYTES)
        self.gate = Gate(health, Path("/work"), self.time.now, lambda path, size: self.free >= size)


@pytest.fixture
def table() -> Table:
    return Table()


def test_a_container_that_is_well_takes_what_its_slots_want(table: Table) -> None:
    assert table.gate.places(3, 2) == 5


def test_a_job_is_fetched_ahead_only_where_the_disk_has_room_for_the_largest_so_far(table: Table) -> None:
    table.free = 3 * LEAST_FREE_BYTES
    assert table.gate.places(1, 2) == 3
    table.gate.succeeded(LEAST_FREE_BYTES + 1)
    assert table.gate.places(1, 2) == 1


def test_a_full_disk_takes_nothing(table: Table) -> None:
    table.free = 0
    assert table.gate.places(1, 2) == 0


def test_a_sick_container_takes_nothing_until_its_pause_is_over(table: Table) -> None:
    for n in range(SEVERAL):
        table.gate.failed(f"job-{n}", "exit code 1", "program")
    assert table.gate.places(2, 0) == 0
    table.time.sleep(PAUSE_SECONDS)
    assert table.gate.places(2, 0) == 1


def test_after_a_rebalance_recommendation_nothing_is_begun_for_a_while(table: Table) -> None:
    table.gate.rebalance()
    assert table.gate.places(1, 0) == 0
    table.time.sleep(REBALANCE_SECONDS)
    assert table.gate.places(1, 0) == 1


def test_a_closed_run_takes_nothing_ever(table: Table) -> None:
    table.gate.close()
    table.time.sleep(1e9)
    assert table.gate.places(1, 1) == 0


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
    where = MONITOR_FILE.MONITOR_BUCKET_NAME, closing.key_of(MONITOR_FILE.MONITOR_APP_NAME, MONITOR_FILE.run)
    assert not closing.is_closed(s3, *where)
    act.act(clients, MONITOR_FILE, Close())
    assert closing.is_closed(s3, *where)
    assert not closing.is_closed(s3, where[0], closing.key_of("App", "20990101T000000Z"))
