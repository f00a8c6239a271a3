"""The end of `run.py monitor`: what costs money goes first, and how the run ended is printed and lies in the bucket."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import boto3
import pytest

from distributed_something.aws.clients import Clients
from distributed_something.core.errors import CloudError
from distributed_something.core.monitor_file import build_monitor_file_key
from distributed_something.observe.evidence import build_subject_from_run, gather_evidence, observe_active_subject
from distributed_something.run.cleanup.clean_up import clean_up_stale_runs, report_remaining_resources
from distributed_something.run.finish import monitor_run
from distributed_something.run.monitor.policy import Pace
from distributed_something.run.monitor_file_copy import find_monitor_file_copy
from distributed_something.run.run_context import RunContext
from tests.support.account import Account, account
from tests.support.fakes import MONITOR_FILE, SETTINGS, START, FakeOutput, FakeTime, build_context
from tests.support.run_account import EMPTY_ACCOUNT, RunAccount, run_account

SUMMARY = MONITOR_FILE.keys.summary


class Monitored:
    """`run.py monitor` on a run of seven jobs that are all through."""

    def __init__(self, run: RunAccount) -> None:
        self.run, self.time, self.output = run, FakeTime(), FakeOutput()
        run.add_records(7)

    def monitor(self, cheapest: bool = False) -> bool:
        context = build_context(self.run.clients, self.time, self.output)
        return monitor_run(context, MONITOR_FILE, cheapest=cheapest, pace=Pace())


@pytest.fixture
def ends() -> Iterator[Monitored]:
    with run_account(MONITOR_FILE) as run:
        yield Monitored(run)


def test_the_run_ends_and_is_proven_gone_before_its_records_are_read(ends: Monitored) -> None:
    assert ends.monitor()
    exports = ["export", "export"]  # the second is refused while the first is at work, and asked for once more
    assert ends.run.acts == [*exports, "clean-up", "delete the rule", "export", "look", "records", "summary"]
    lines = ends.output.printed.splitlines()
    assert lines[0] == "removed         queue AppQueue"
    assert [line.split(" is ")[0] for line in lines if "is being exported" in line] == [
        "kept            log group AppLogs",
        "kept            log group AppLogs_perInstance",
    ]
    assert "jobs done       7" in lines
    assert ends.run.summary == ends.output.printed


def test_records_that_cannot_be_read_are_told_and_what_is_left_is_listed_all_the_same(ends: Monitored) -> None:
    ends.run.refuse_records("SlowDown")
    ends.run.keep_machine("i-1")
    assert not ends.monitor()
    assert f"LEFT            machine i-1 (app App, run {MONITOR_FILE.run}, running)" in ends.output.printed
    assert "while reading the records of the run: SlowDown: as told" in ends.output.printed


def test_records_alone_that_cannot_be_read_are_a_failure_too(ends: Monitored) -> None:
    ends.run.refuse_records("AccessDenied")
    assert not ends.monitor()


def test_a_summary_that_the_bucket_does_not_take_is_printed(ends: Monitored) -> None:
    ends.run.refuse_summary("AccessDenied")
    assert ends.monitor()
    assert "jobs done       7" in ends.output.printed


def test_a_run_of_which_nothing_was_there_is_not_called_done(ends: Monitored) -> None:
    ends.run.queue_is_there = False
    assert not ends.monitor()
    assert "NO TRACE        neither queue AppQueue nor fleet sfr-0123abcd was there" in ends.output.printed
    assert SUMMARY not in ends.run.bucket.objects, "the summary of the run's true end would be overwritten"


def test_an_end_that_keeps_the_jobs_lies_in_the_bucket_too(ends: Monitored) -> None:
    """Jobs wait, and an hour after the start EC2 knows no such fleet."""
    ends.time.time, ends.run.jobs = START + 3600, 5
    with pytest.raises(CloudError, match="has ended but jobs wait") as raised:
        ends.monitor()
    assert ends.run.summary == f"{raised.value}\n"
    assert ends.run.acts == ["summary"]
    assert ends.output.results == []


@pytest.mark.parametrize(
    ("word", "fleet_id", "noted"),
    [
        (True, MONITOR_FILE.MONITOR_FLEET_ID, True),
        (False, MONITOR_FILE.MONITOR_FLEET_ID, False),
        (True, "sfr-4567abcd", False),  # the next run's
    ],
)
def test_cheapest_mode_is_noted_where_the_auto_monitor_reads_it_or_it_would_undo_it(
    ends: Monitored, word: bool, fleet_id: str, noted: bool
) -> None:
    before = replace(MONITOR_FILE, MONITOR_FLEET_ID=fleet_id)
    key = build_monitor_file_key("App")
    ends.run.bucket.put_object(Key=key, Body=json.dumps(asdict(before)).encode())
    ends.monitor(cheapest=word)
    read: Any = ends.run.bucket
    assert find_monitor_file_copy(read, "app-bucket", key) == replace(before, MONITOR_CHEAPEST=noted)


@pytest.mark.parametrize("body", [None, b"{"])
def test_cheapest_mode_needs_no_copy_in_the_bucket(ends: Monitored, body: bytes | None) -> None:
    if body is not None:
        ends.run.bucket.put_object(Key=build_monitor_file_key("App"), Body=body)
    assert ends.monitor(cheapest=True)


@pytest.fixture
def empty() -> Iterator[Account]:
    with account(EMPTY_ACCOUNT) as made:
        yield made


@pytest.mark.parametrize("yes", [True, False])
def test_without_anything_stale_there_is_nothing_to_report(empty: Account, yes: bool) -> None:
    output = FakeOutput()
    assert clean_up_stale_runs(build_context(empty.clients, output=output), yes=yes)
    assert output.results == ["nothing of older runs is left"]


def test_where_it_may_not_look_for_older_runs_nothing_is_proven(empty: Account) -> None:
    empty.refuse("ec2.DescribeSpotFleetRequests", "UnauthorizedOperation")
    for yes in (True, False):
        assert not clean_up_stale_runs(build_context(empty.clients), yes=yes)


# Without a login


@pytest.mark.parametrize(
    "command",
    [
        lambda context: report_remaining_resources(context, None),
        lambda context: report_remaining_resources(context, MONITOR_FILE),
        lambda context: clean_up_stale_runs(context, yes=False),
        lambda context: gather_evidence(context.clients, build_subject_from_run(MONITOR_FILE), START),
        lambda context: gather_evidence(context.clients, observe_active_subject(SETTINGS, context.clients), START),
    ],
    ids=["--verify of all", "--verify of one", "--stale", "why", "why without a file"],
)
def test_who_is_not_logged_in_is_told_so_in_one_line(
    command: Callable[[RunContext], Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    output = FakeOutput()
    clients = Clients(boto3.Session(region_name="us-east-1"))
    with pytest.raises(CloudError, match=r"NoCredentialsError: .* — log in to AWS"):
        command(build_context(clients, output=output))
    assert output.results == []
