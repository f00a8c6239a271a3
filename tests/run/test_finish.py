"""Tests that `run.py monitor` ends by stopping costs first, printing the summary, and storing it in the bucket."""

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
from distributed_something.results.summary import RunSummary
from distributed_something.run import finish
from distributed_something.run.cleanup.clean_up import clean_up_stale_runs, report_remaining_resources
from distributed_something.run.finish import MAX_STOP_SECONDS, RunEnd, monitor_run
from distributed_something.run.monitor.history import RunHistory, save_history
from distributed_something.run.monitor.policy import Pace
from distributed_something.run.monitor_file_copy import find_monitor_file_copy
from distributed_something.run.report import make_report
from distributed_something.run.run_context import RunContext
from tests.support.account import Account, emulate_account
from tests.support.fakes import MONITOR_FILE, SETTINGS, START, FakeOutput, FakeTime, build_context
from tests.support.run_account import EMPTY_ACCOUNT, RunAccount, emulate_run_account

SUMMARY = MONITOR_FILE.keys.summary


class MonitorCommand:
    """`run.py monitor` for a run with seven jobs, all of them done."""

    def __init__(self, run: RunAccount) -> None:
        self.run, self.time, self.output = run, FakeTime(), FakeOutput()
        run.add_done_jobs(7)

    def run_command(self, cheapest: bool = False) -> RunEnd:
        context = build_context(self.run.clients, self.time, self.output)
        return monitor_run(context, MONITOR_FILE, cheapest=cheapest, pace=Pace())


@pytest.fixture
def command() -> Iterator[MonitorCommand]:
    with emulate_run_account(MONITOR_FILE) as run:
        yield MonitorCommand(run)


def test_the_records_are_read_after_the_cleanup_is_verified(command: MonitorCommand) -> None:
    assert command.run_command() == RunEnd(is_clean=True, is_complete=True)
    exports = ["export", "export"]  # the second is rejected while the first is running, and is attempted again later
    assert command.run.actions == [
        *exports,
        "cleanup",
        "delete the rule",
        "export",
        "find other runs",
        "records",
        "summary",
    ]
    lines = command.output.printed.splitlines()
    assert lines[0] == "removed         queue AppQueue"
    assert [line.split(" is ")[0] for line in lines if "is being exported" in line] == [
        "kept            log group AppLogs",
        "kept            log group AppLogs_perInstance",
    ]
    assert "jobs done       7" in lines
    assert command.run.summary == command.output.printed


def test_records_that_cannot_be_read_are_reported_and_remaining_resources_are_listed(command: MonitorCommand) -> None:
    command.run.refuse_records("SlowDown")
    command.run.add_unstoppable_machine("i-1")
    assert command.run_command() == RunEnd(is_clean=False, is_complete=False)
    assert f"REMAINING       machine i-1 (app App, run {MONITOR_FILE.run}, running)" in command.output.printed
    assert "while reading the journals and records of the run: SlowDown: test error" in command.output.printed


def test_the_command_fails_if_only_the_records_cannot_be_read(command: MonitorCommand) -> None:
    command.run.refuse_records("AccessDenied")
    assert not command.run_command().is_clean


def test_the_summary_is_printed_if_it_cannot_be_stored(command: MonitorCommand) -> None:
    command.run.refuse_summary("AccessDenied")
    assert command.run_command() == RunEnd(is_clean=True, is_complete=True)
    assert "jobs done       7" in command.output.printed


def test_the_table_of_all_jobs_is_saved_and_mentioned(command: MonitorCommand) -> None:
    command.run_command()
    table = command.run.bucket.objects[MONITOR_FILE.keys.job_table].decode().splitlines()
    assert [line.split("\t")[:2] for line in table[:2]] == [["job", "state"], ["job-0", "done"]]
    assert len(table) == 8
    assert f"all jobs        s3://app-bucket/{MONITOR_FILE.keys.job_table}" in command.output.printed.splitlines()


def test_a_table_that_cannot_be_written_is_only_noted(command: MonitorCommand) -> None:
    command.run.refuse_document(MONITOR_FILE.keys.job_table, "AccessDenied")
    assert command.run_command() == RunEnd(is_clean=True, is_complete=True)
    assert "all jobs" not in command.run.summary
    (note,) = [line for line in command.output.progress if "jobs.tsv" in line]
    assert note.startswith("note: jobs.tsv, the table of the run's jobs, could not be written: while writing runs/")


def test_the_summary_of_a_canary_is_about_all_jobs_of_its_file_and_check_can_read_what_it_measured(
    command: MonitorCommand,
) -> None:
    command.run.add_submission(7, START - 60)
    objects = command.run.bucket.objects
    (key,) = (key for key in objects if "/submissions/" in key)
    objects[key] = json.dumps(json.loads(objects[key]) | {"canary_of": 100}).encode()
    run = {"config": {"values": {"MACHINE_TYPE": ["m5.large"]}}, "job_files": [{"path": "job.json", "submission": key}]}
    objects[MONITOR_FILE.keys.run_document] = json.dumps(run).encode()
    command.run.account.responses["ec2.DescribeSpotPriceHistory"] = {"SpotPriceHistory": []}
    assert command.run_command() == RunEnd(is_clean=True, is_complete=True)
    assert "next run        100 jobs of job.json on" in command.run.summary
    document = json.loads(objects["runs/App/forecast.json"])
    assert (document["jobs"], document["canary"], document["forecast"]) == (100, 7, None)


def test_the_report_is_saved_beside_the_summary_and_mentioned(command: MonitorCommand) -> None:
    command.run_command()
    assert command.run.bucket.objects[MONITOR_FILE.keys.report].lower().startswith(b"<!doctype html>")
    assert command.output.progress[-1] == f"report          s3://app-bucket/{MONITOR_FILE.keys.report}"


def test_a_report_that_cannot_be_written_is_one_line_and_changes_nothing_else(command: MonitorCommand) -> None:
    command.run.refuse_document(MONITOR_FILE.keys.report, "AccessDenied")
    assert command.run_command() == RunEnd(is_clean=True, is_complete=True)
    note = command.output.progress[-1]
    assert note.startswith("note: report.html could not be made: while writing runs/App/")
    assert "; to try again, type: python run.py report " in note
    assert "\n" not in note


def test_a_fault_in_the_report_is_one_line_and_changes_nothing_else(
    command: MonitorCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    def draw_badly(*_: object) -> None:
        raise ZeroDivisionError("no such\nbin")

    monkeypatch.setattr(make_report, "write_page", draw_badly)
    assert command.run_command() == RunEnd(is_clean=True, is_complete=True)
    note = command.output.progress[-1]
    assert note.startswith("note: report.html could not be made: ZeroDivisionError: no such bin; to try again, type: ")


def test_a_run_without_a_queue_or_a_fleet_does_not_count_as_done(command: MonitorCommand) -> None:
    command.run.has_queue = False
    assert not command.run_command().is_clean
    expected = "NOT FOUND       neither queue AppQueue\n                nor fleet sfr-0123abcd exists."
    assert expected in command.output.printed
    assert SUMMARY not in command.run.bucket.objects, "it would overwrite the run's real summary"


def test_a_run_that_ends_with_jobs_in_its_queue_is_not_complete_and_its_summary_says_why(
    command: MonitorCommand,
) -> None:
    """Jobs are waiting, but an hour after the start, EC2 does not list the fleet."""
    command.time.time, command.run.jobs = START + 3600, 5
    assert command.run_command() == RunEnd(is_clean=True, is_complete=False)
    assert command.run.actions == ["records", "summary"], "nothing is deleted"
    assert command.run.summary == command.output.printed
    lines = command.run.summary.splitlines()
    assert "has ended, but jobs are still waiting" in " ".join(lines[:2])
    assert max(map(len, lines)) <= 80
    assert lines[2:6] == [
        "verdict         5 jobs left in the queue", "jobs done       7", "jobs failed     0", "in the queue    5"
    ]  # fmt: skip


def test_jobs_that_end_while_the_last_containers_stop_are_in_the_summary(command: MonitorCommand) -> None:
    command.time.time, command.run.jobs = START + 3600, 5
    service = {"serviceName": MONITOR_FILE.names.service, "status": "ACTIVE", "desiredCount": 0, "pendingCount": 0}
    looks = iter([2, 2, 1, 0])

    def describe_services(_: object) -> dict[str, Any]:
        running = next(looks, 0)
        if not running:
            command.run.jobs = 3
            command.run.add_done_jobs(9)
        return {"services": [service | {"runningCount": running}]}

    command.run.account.responses["ecs.ListTasks"] = {"taskArns": []}
    command.run.account.responses["ecs.DescribeServices"] = describe_services
    command.run_command()
    lines = command.run.summary.splitlines()
    assert lines[3:6] == ["jobs done       9", "jobs failed     0", "in the queue    3"]


def test_the_summary_does_not_wait_for_a_container_that_never_stops(command: MonitorCommand) -> None:
    command.time.time, command.run.jobs = START + 3600, 5
    service = {"serviceName": MONITOR_FILE.names.service, "status": "ACTIVE", "desiredCount": 0, "pendingCount": 0}
    command.run.account.responses["ecs.ListTasks"] = {"taskArns": []}
    command.run.account.responses["ecs.DescribeServices"] = {"services": [service | {"runningCount": 1}]}
    assert command.run_command() == RunEnd(is_clean=True, is_complete=False)
    assert command.time.time - START - 3600 <= MAX_STOP_SECONDS + 5


def test_a_later_monitor_shows_the_summary_of_the_end_and_does_not_change_it(command: MonitorCommand) -> None:
    command.run_command()
    summary, command.output = command.run.summary, FakeOutput()
    command.run.account.requests.clear()
    assert command.run_command() == RunEnd(is_clean=True, is_complete=True)
    assert command.run.summary == summary
    assert "summary" not in command.run.actions
    assert f"this run has ended before; its summary:\n{summary}" in command.output.printed


def test_a_monitor_that_watched_the_run_says_that_another_one_has_ended_it(
    command: MonitorCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The auto-monitor was faster: it saves its summary while this monitor cleans up."""
    summaries = iter([None, RunSummary("run", True, True, "jobs done       7", START + 60)])
    monkeypatch.setattr(finish, "find_run_summary", lambda *_: next(summaries))
    assert command.run_command() == RunEnd(is_clean=True, is_complete=True)
    assert "another monitor has ended this run; its summary:\njobs done       7" in command.output.printed
    assert command.output.progress[-1].endswith(f"s3://app-bucket/{MONITOR_FILE.keys.report} (in a few minutes)")


@pytest.mark.parametrize("jobs", [5, 0])
def test_the_summary_of_an_early_end_is_not_changed_either(command: MonitorCommand, jobs: int) -> None:
    """The fleet was canceled at the early end. Later, jobs still wait, or a new run has taken them."""
    command.time.time, command.run.jobs = START + 3600, 5
    command.run_command()
    summary, command.run.jobs, command.output = command.run.summary, jobs, FakeOutput()
    assert command.run_command() == RunEnd(is_clean=True, is_complete=False)
    assert command.run.summary == summary
    assert command.output.printed.endswith(f"this run has ended before; its summary:\n{summary}")


def test_jobs_of_the_next_batch_are_not_counted_as_jobs_of_the_run_that_is_ending(command: MonitorCommand) -> None:
    """The next batch is submitted to the same queue while the monitor still removes machines."""
    history = RunHistory(at=START, submissions_since=START, other_jobs=7, dead_letters=0, ended=START + 60)
    save_history(command.run.clients.s3, MONITOR_FILE, history)
    command.run.jobs = 100
    command.run.add_submission(100, began=START + 90)
    assert command.run_command().is_complete
    lines = command.run.summary.splitlines()
    assert "jobs done       7" in lines
    assert not [line for line in lines if line.startswith(("in the queue", "no record"))]


def test_a_monitor_that_was_killed_after_the_cleanup_is_continued_by_the_next_one(command: MonitorCommand) -> None:
    """The queue and the fleet are gone, but there is no summary. The history says how many jobs the run had."""
    command.run.has_queue = False
    history = RunHistory(at=START, submissions_since=START, other_jobs=8, dead_letters=0, ended=START + 60)
    save_history(command.run.clients.s3, MONITOR_FILE, history)
    assert command.run_command() == RunEnd(is_clean=True, is_complete=False)
    lines = command.run.summary.splitlines()
    assert "jobs done       7" in lines
    assert "no record       1 (neither ended nor in the queue)" in lines


@pytest.mark.parametrize(
    ("cheapest", "fleet_id", "is_saved"),
    [
        (True, MONITOR_FILE.MONITOR_FLEET_ID, True),
        (False, MONITOR_FILE.MONITOR_FLEET_ID, False),
        (True, "sfr-4567abcd", False),  # belongs to the next run
    ],
)
def test_cheapest_mode_is_saved_for_the_auto_monitor(
    command: MonitorCommand, cheapest: bool, fleet_id: str, is_saved: bool
) -> None:
    copy = replace(MONITOR_FILE, MONITOR_FLEET_ID=fleet_id)
    key = build_monitor_file_key("App")
    command.run.bucket.put_object(Key=key, Body=json.dumps(asdict(copy)).encode())
    command.run_command(cheapest=cheapest)
    bucket: Any = command.run.bucket
    assert find_monitor_file_copy(bucket, "app-bucket", key) == replace(copy, MONITOR_CHEAPEST=is_saved)


@pytest.mark.parametrize("body", [None, b"{"])
def test_cheapest_mode_works_without_a_valid_copy_in_the_bucket(command: MonitorCommand, body: bytes | None) -> None:
    if body is not None:
        command.run.bucket.put_object(Key=build_monitor_file_key("App"), Body=body)
    assert command.run_command(cheapest=True).is_complete


@pytest.fixture
def empty_account() -> Iterator[Account]:
    with emulate_account(EMPTY_ACCOUNT) as aws_account:
        yield aws_account


@pytest.mark.parametrize("yes", [True, False])
def test_without_orphans_the_report_says_so(empty_account: Account, yes: bool) -> None:
    output = FakeOutput()
    assert clean_up_stale_runs(build_context(empty_account.clients, output=output), yes=yes)
    assert output.results == ["nothing is left from older runs"]


def test_the_search_for_orphans_fails_if_a_kind_cannot_be_listed(empty_account: Account) -> None:
    empty_account.refuse_call("ec2.DescribeSpotFleetRequests", "UnauthorizedOperation")
    for yes in (True, False):
        assert not clean_up_stale_runs(build_context(empty_account.clients), yes=yes)


# Without a login


@pytest.mark.parametrize(
    "run_command",
    [
        lambda context: report_remaining_resources(context, None),
        lambda context: report_remaining_resources(context, MONITOR_FILE),
        lambda context: clean_up_stale_runs(context, yes=False),
        lambda context: gather_evidence(context.clients, build_subject_from_run(MONITOR_FILE), START),
        lambda context: gather_evidence(context.clients, observe_active_subject(context.clients, SETTINGS), START),
    ],
    ids=["--verify for all runs", "--verify for one run", "--stale", "why", "why without a file"],
)
def test_a_command_without_a_login_fails_with_one_line(
    run_command: Callable[[RunContext], Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    output = FakeOutput()
    clients = Clients(boto3.Session(region_name="us-east-1"))
    with pytest.raises(CloudError, match=r"NoCredentialsError: .* — log in to AWS"):
        run_command(build_context(clients, output=output))
    assert output.results == []
