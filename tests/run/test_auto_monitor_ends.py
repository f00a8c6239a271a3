"""How the auto-monitor ends a run: what costs money goes first, and its own rule last, once nothing is left to do."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from distributed_something.core import monitor_file
from distributed_something.core.errors import AWSError
from distributed_something.core.monitor_file import MonitorFile, build_monitor_file_key
from distributed_something.observe.queue import QueueCounts
from distributed_something.observe.resources import Resource
from distributed_something.observe.snapshot import RunSnapshot
from distributed_something.results import records
from distributed_something.results.records import RunSummary
from distributed_something.run import auto_monitor, schedule
from distributed_something.run.auto_monitor import handler
from distributed_something.run.cleanup import inventory, remove
from distributed_something.run.cleanup.inventory import Inventory
from distributed_something.run.cleanup.report import CleanupReport
from distributed_something.run.monitor.history import RunHistory
from distributed_something.run.monitor.loop import Tick
from distributed_something.run.monitor.policy import EndReason
from tests.run.test_monitor import refused
from tests.support.fakes import MONITOR_FILE, RUN, START, FakeBucket

EVENT = {"bucket": "app-bucket", "key": build_monitor_file_key("App"), "rule": "distributed-something-App"}
QUIET = replace(MONITOR_FILE, MONITOR_EXPORT_LOGS=False)
SUMMARY = f"runs/App/{RUN}/summary.txt"


class Ends:
    """One call of the function after another, on a run that is over; what it does, in order, in `done`."""

    def __init__(
        self, patch: pytest.MonkeyPatch, file: MonitorFile = QUIET, over: EndReason | None = EndReason.RUN
    ) -> None:
        self.done: list[str] = []
        self.left = Inventory()
        self.removed, self.summary = CleanupReport(removed=["fleet sfr-0123abcd"]), RunSummary(7, 0)
        self.bucket = FakeBucket()
        self.error: Exception | None = None
        self.history = RunHistory()
        look = RunSnapshot(START, QueueCounts(0, 0), 0, 7, None, None)
        clients: Any = SimpleNamespace(s3=self.bucket)
        patch.setattr(auto_monitor, "Clients", lambda _: clients)
        patch.setattr(auto_monitor.boto3, "Session", lambda: None)
        patch.setattr(monitor_file, "copy_of", lambda *_: file)
        patch.setattr(auto_monitor, "step", lambda *_, **__: Tick(look, self.history, over))
        patch.setattr(remove, "cleanup", lambda *_: self._note("clean-up", self.removed))
        patch.setattr(inventory, "look", lambda *_: self._note("look", self.left))
        patch.setattr(records, "summarise", lambda *_: self._note("records", self.summary))
        patch.setattr(schedule, "stop", lambda _, rule: self._note(f"stop {rule}", True))

    def _note(self, what: str, answer: Any) -> Any:
        self.done.append(what)
        if what == "records" and self.error is not None:
            raise self.error
        return answer

    def call(self) -> dict[str, Any]:
        return handler(EVENT, None)

    @property
    def written(self) -> str:
        return self.bucket.objects[SUMMARY].decode()


def test_machines_end_before_the_records_are_read_and_the_rule_goes_last(monkeypatch: pytest.MonkeyPatch) -> None:
    ends = Ends(monkeypatch)
    assert ends.call()["done"]
    assert ends.done == ["clean-up", "look", "records", "stop distributed-something-App"]
    assert "jobs done       7" in ends.written
    assert "removed         fleet sfr-0123abcd" in ends.written


def test_as_long_as_something_is_left_the_records_are_not_read_and_it_comes_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ends = Ends(monkeypatch)
    ends.left = Inventory([Resource("machine", "i-1", "App")])
    assert not ends.call()["done"]
    assert ends.done == ["clean-up", "look"]
    assert "LEFT            machine i-1" in ends.written

    ends.left = Inventory()
    assert ends.call()["done"]


def test_what_could_not_be_removed_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    ends = Ends(monkeypatch)
    ends.removed = CleanupReport(left=["queue AppQueue: no"])
    assert not ends.call()["done"]
    assert "NOT REMOVED     queue AppQueue: no" in ends.written


def test_records_that_cannot_be_read_are_told_and_keep_nothing_running(monkeypatch: pytest.MonkeyPatch) -> None:
    ends = Ends(monkeypatch)
    ends.error = refused("SlowDown")
    assert isinstance(ends.error, AWSError)
    assert ends.call()["done"]
    assert ends.done[-1] == "stop distributed-something-App"
    assert "while reading the records of the run: SlowDown" in ends.written


def test_its_own_rule_is_not_counted_as_left(monkeypatch: pytest.MonkeyPatch) -> None:
    ends = Ends(monkeypatch)
    ends.left = Inventory([Resource("rule", "distributed-something-App", "App")])
    assert ends.call()["done"]


def test_a_run_without_a_monitor_file_is_watched_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    ends = Ends(monkeypatch)
    monkeypatch.setattr(monitor_file, "copy_of", lambda *_: None)
    ends.call()
    assert ends.done == ["stop distributed-something-App"]


@pytest.mark.parametrize(
    ("cost", "said"),
    [(7.9, []), (8.0, ["warning: about 8.00 of 10.00 USD (MAX_COST): once it is reached, no new job is begun"])],
)
def test_what_the_run_costs_is_in_its_log_with_a_warning_near_the_limit(
    monkeypatch: pytest.MonkeyPatch, cost: float, said: list[str]
) -> None:
    ends = Ends(monkeypatch, replace(QUIET, MONITOR_MAX_COST=10.0), over=None)
    ends.history = RunHistory(cost=cost)
    told = ends.call()
    assert (told["cost"], told["said"]) == (cost, said)
    assert ends.done == []
