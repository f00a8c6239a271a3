"""How the auto-monitor ends a run: what costs money goes first, and its own rule last, once nothing is left to do."""

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
from tests.support.fakes import MONITOR_FILE, START, FakeTime, refused
from tests.support.run_account import RunAccount, run_account

RULE = build_monitor_rule_name("App")
EVENT = {"bucket": "app-bucket", "key": build_monitor_file_key("App"), "rule": RULE}
QUIET = replace(MONITOR_FILE, MONITOR_EXPORT_LOGS=False)
SOON = START + 60


class Calls:
    """One call of the function after another, on a run of seven jobs."""

    def __init__(self, run: RunAccount) -> None:
        self.run = run
        run.add_records(7)
        self.set_up(QUIET, RunHistory(at=SOON, ended=SOON))

    def set_up(self, file: MonitorFile, history: RunHistory) -> None:
        """Its monitor file, and what earlier calls have seen: all jobs are through, for one."""
        self.run.bucket.put_object(Key=EVENT["key"], Body=json.dumps(asdict(file)).encode())
        save_history(self.run.clients.s3, file, history)
        self.run.account.asked.clear()

    def call(self) -> dict[str, Any]:
        return handler(EVENT, None)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[Calls]:
    with run_account(QUIET) as run:
        monkeypatch.setattr(auto_monitor, "Clients", lambda _: run.clients)
        monkeypatch.setattr(auto_monitor, "Clock", lambda: FakeTime(SOON).clock)
        yield Calls(run)


def test_machines_end_before_the_records_are_read_and_the_rule_goes_last(calls: Calls) -> None:
    assert calls.call()["done"]
    assert calls.run.acts == ["clean-up", "look", "records", "summary", "delete the rule"]
    assert calls.run.account.parameters("events.DeleteRule") == {"Name": RULE}
    assert "jobs done       7" in calls.run.summary
    assert "removed         queue AppQueue" in calls.run.summary


def test_as_long_as_something_is_left_the_records_are_not_read_and_it_comes_again(calls: Calls) -> None:
    answers = calls.run.account.answers
    gone = answers["ec2.DescribeInstances"]
    calls.run.keep_machine("i-1")
    assert not calls.call()["done"]
    assert calls.run.acts == ["clean-up", "look", "summary"]
    assert "LEFT            machine i-1" in calls.run.summary

    answers["ec2.DescribeInstances"] = gone
    assert calls.call()["done"]


def test_what_could_not_be_removed_is_tried_again(calls: Calls) -> None:
    answers = calls.run.account.answers
    delete_queue = answers["sqs.DeleteQueue"]
    calls.run.account.refuse("sqs.DeleteQueue", "Throttling")
    assert not calls.call()["done"]
    assert "NOT REMOVED     queue AppQueue: while removing the queue AppQueue: Throttling" in calls.run.summary

    answers["sqs.DeleteQueue"] = delete_queue
    assert calls.call()["done"]


def test_records_that_cannot_be_read_are_told_and_keep_nothing_running(calls: Calls) -> None:
    calls.run.refuse_records("SlowDown")
    assert calls.call()["done"]
    assert calls.run.acts[-1] == "delete the rule"
    assert "while reading the records of the run: SlowDown" in calls.run.summary


def test_its_own_rule_is_not_counted_as_left(calls: Calls) -> None:
    calls.run.account.answers["events.ListRules"] = {"Rules": [{"Name": RULE}]}
    assert calls.call()["done"]


def test_a_run_without_a_monitor_file_is_watched_no_more(calls: Calls) -> None:
    calls.run.account.answers["s3.GetObject"] = refused("NoSuchKey", "GetObject")
    calls.call()
    assert calls.run.account.calls == ["s3.GetObject", "events.RemoveTargets", "events.DeleteRule"]
    assert calls.run.account.parameters("events.DeleteRule") == {"Name": RULE}


@pytest.mark.parametrize(
    ("cost", "said"),
    [(7.9, []), (8.0, ["warning: about 8.00 of 10.00 USD (MAX_COST): once it is reached, no new job is begun"])],
)
def test_what_the_run_costs_is_in_its_log_with_a_warning_near_the_limit(
    calls: Calls, cost: float, said: list[str]
) -> None:
    calls.set_up(replace(QUIET, MONITOR_MAX_COST=10.0), RunHistory(at=SOON, cost=cost))
    calls.run.jobs = 5
    told = calls.call()
    assert (told["jobs"], told["cost"], told["said"]) == (5, cost, said)
    assert calls.run.acts == []
