"""Tests that the auto-monitor ends a run by stopping costs first and deleting its own rule last."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

import pytest

from distributed_something.core.monitor_file import MonitorFile, build_monitor_file_key
from distributed_something.core.names import build_monitor_rule_name
from distributed_something.run import auto_monitor
from distributed_something.run.auto_monitor import handler
from distributed_something.run.monitor.history import RunHistory, save_history
from tests.support.fakes import MONITOR_FILE, START, FakeTime, build_client_error
from tests.support.run_account import RunAccount, emulate_run_account

RULE = build_monitor_rule_name("App")
EVENT = {"bucket": "app-bucket", "key": build_monitor_file_key("App"), "rule": RULE}
QUIET = replace(MONITOR_FILE, MONITOR_EXPORT_LOGS=False)
NOW = START + 60


class AutoMonitor:
    """The auto-monitor's function, called for a run with seven jobs."""

    def __init__(self, run: RunAccount) -> None:
        self.run = run
        run.add_done_jobs(7)
        self.set_up(QUIET, RunHistory(at=NOW, ended=NOW))

    def set_up(self, file: MonitorFile, history: RunHistory) -> None:
        """Store the monitor file and the history from earlier calls."""
        self.run.bucket.put_object(Key=EVENT["key"], Body=json.dumps(asdict(file)).encode())
        save_history(self.run.clients.s3, file, history)
        self.run.account.requests.clear()

    def call(self) -> dict[str, Any]:
        return handler(EVENT, None)


@pytest.fixture
def monitor(monkeypatch: pytest.MonkeyPatch) -> Iterator[AutoMonitor]:
    with emulate_run_account(QUIET) as run:
        monkeypatch.setattr(auto_monitor, "Clients", lambda _: run.clients)
        monkeypatch.setattr(auto_monitor, "Clock", lambda: FakeTime(NOW).clock)
        yield AutoMonitor(run)


def test_the_records_are_read_after_the_cleanup_and_the_rule_is_deleted_last(monitor: AutoMonitor) -> None:
    assert monitor.call()["done"]
    assert monitor.run.actions == ["cleanup", "find other runs", "records", "summary", "delete the rule"]
    assert monitor.run.account.get_parameters("events.DeleteRule") == {"Name": RULE}
    assert "jobs done       7" in monitor.run.summary
    assert "removed         queue AppQueue" in monitor.run.summary


def test_the_cleanup_continues_at_the_next_call_while_a_machine_remains(monitor: AutoMonitor) -> None:
    responses = monitor.run.account.responses
    no_machines = responses["ec2.DescribeInstances"]
    monitor.run.add_unstoppable_machine("i-1")
    assert not monitor.call()["done"]
    assert monitor.run.actions == ["cleanup", "find other runs", "summary"]
    assert "REMAINING       machine i-1" in monitor.run.summary

    responses["ec2.DescribeInstances"] = no_machines
    assert monitor.call()["done"]


def test_a_failed_deletion_is_retried_at_the_next_call(monitor: AutoMonitor) -> None:
    responses = monitor.run.account.responses
    delete_queue = responses["sqs.DeleteQueue"]
    monitor.run.account.refuse_call("sqs.DeleteQueue", "Throttling")
    assert not monitor.call()["done"]
    assert "NOT REMOVED     queue AppQueue: while removing the queue AppQueue: Throttling" in monitor.run.summary

    responses["sqs.DeleteQueue"] = delete_queue
    assert monitor.call()["done"]


def test_records_that_cannot_be_read_are_reported_but_the_run_still_ends(monitor: AutoMonitor) -> None:
    monitor.run.refuse_records("SlowDown")
    assert monitor.call()["done"]
    assert monitor.run.actions[-1] == "delete the rule"
    assert "while reading the journals and records of the run: SlowDown" in monitor.run.summary
    monitor.run.account.responses["s3.ListObjectsV2"] = monitor.run.list_objects
    monitor.call()
    assert "jobs done       7" in monitor.run.summary, "a monitor that can read them replaces the summary"


def test_the_rule_that_calls_the_auto_monitor_does_not_count_as_remaining(monitor: AutoMonitor) -> None:
    monitor.run.account.responses["events.ListRules"] = {"Rules": [{"Name": RULE}]}
    assert monitor.call()["done"]


def test_without_a_monitor_file_the_auto_monitor_only_deletes_its_rule(monitor: AutoMonitor) -> None:
    monitor.run.account.responses["s3.GetObject"] = build_client_error("NoSuchKey", "GetObject")
    monitor.call()
    assert monitor.run.account.calls == ["s3.GetObject", "events.RemoveTargets", "events.DeleteRule"]
    assert monitor.run.account.get_parameters("events.DeleteRule") == {"Name": RULE}


@pytest.mark.parametrize(
    ("cost", "messages"),
    [(7.9, []), (8.0, ["warning: about 8.00 of 10.00 USD; no new jobs will start at MAX_COST"])],
)
def test_the_response_contains_the_cost_and_a_warning_near_the_limit(
    monitor: AutoMonitor, cost: float, messages: list[str]
) -> None:
    monitor.set_up(replace(QUIET, MONITOR_MAX_COST=10.0), RunHistory(at=NOW, cost=cost))
    monitor.run.jobs = 5
    response = monitor.call()
    assert (response["jobs"], response["cost"], response["said"]) == (5, cost, messages)
    assert monitor.run.actions == []
