"""The end of `run.py monitor`: what costs money goes first, and how the run ended is printed and lies in the bucket."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from types import SimpleNamespace
from typing import Any

import botocore.client
import pytest
from botocore.exceptions import NoCredentialsError

from distributed_something.aws import sqs
from distributed_something.aws.ec2_fleet import FleetState
from distributed_something.core.errors import CloudError
from distributed_something.core.monitor_file import build_monitor_file_key
from distributed_something.observe.evidence import build_subject_from_run, gather_evidence, observe_active_subject
from distributed_something.observe.queue import QueueCounts
from distributed_something.observe.resources import Resource
from distributed_something.observe.service import ServiceState
from distributed_something.observe.snapshot import RunSnapshot
from distributed_something.results import records
from distributed_something.results.records import RunSummary
from distributed_something.run import finish
from distributed_something.run.cleanup import export_logs, inventory, orphans, remove
from distributed_something.run.cleanup.inventory import Inventory
from distributed_something.run.cleanup.orphans import OrphanReport
from distributed_something.run.cleanup.report import CleanupReport
from distributed_something.run.finish import clean_up_stale_runs, monitor_run, report_remaining_resources
from distributed_something.run.monitor.history import RunHistory
from distributed_something.run.monitor.policy import Pace
from distributed_something.run.monitor_file_copy import find_monitor_file_copy
from tests.run.test_monitor import refused
from tests.support.fakes import MONITOR_FILE, RUN, SETTINGS, START, FakeBucket, exact

LOOK = RunSnapshot(START, QueueCounts(0, 0), 0, 7, FleetState("active", 3, ("i-1", "i-2")), ServiceState(6, 6, 0))
GROUP = "log group AppLogs is being exported"


class Finish:
    """`finish.monitor` on a run that is over; `done`: what it did, in order."""

    def __init__(self, patch: pytest.MonkeyPatch, look: RunSnapshot = LOOK) -> None:
        self.done: list[str] = []
        self.left, self.bucket = Inventory(), FakeBucket()
        self.error: Exception | None = None
        self.clients: Any = SimpleNamespace(s3=self.bucket, sqs=None)
        patch.setattr(sqs, "find", lambda *_: None)
        patch.setattr(finish, "watch", lambda *_, show, **__: show(look, RunHistory()) or RunHistory())
        patch.setattr(export_logs, "go_on", lambda *_: self._note("export", [GROUP]))
        patch.setattr(remove, "cleanup", lambda *_: self._note("clean-up", CleanupReport(removed=["queue AppQueue"])))
        patch.setattr(inventory, "verify", lambda *_, **__: self._note("verify", self.left))
        patch.setattr(records, "summarise", lambda *_: self._note("records", RunSummary(7, 0)))

    def _note(self, what: str, answer: Any) -> Any:
        self.done.append(what)
        if what == "records" and self.error is not None:
            raise self.error
        return answer

    def monitor(self) -> bool:
        return monitor_run(self.clients, MONITOR_FILE, SETTINGS, cheapest=False, pace=Pace())


def test_the_run_ends_and_is_proven_gone_before_its_records_are_read(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ends = Finish(monkeypatch)
    assert ends.monitor()
    assert ends.done == ["export", "clean-up", "export", "verify", "records"]
    told = capsys.readouterr().out
    assert told.splitlines()[:3] == ["removed         queue AppQueue", f"kept            {GROUP}", "jobs done       7"]
    assert ends.bucket.objects == {f"runs/App/{RUN}/summary.txt": told.encode()}


def test_records_that_cannot_be_read_are_told_and_what_is_left_is_listed_all_the_same(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ends = Finish(monkeypatch)
    ends.error, ends.left = refused("SlowDown"), Inventory([Resource("machine", "i-1", "App")])
    assert not ends.monitor()
    told = capsys.readouterr().out
    assert "LEFT            machine i-1 (app App)" in told
    assert "while reading the records of the run: SlowDown: as told" in told


def test_records_alone_that_cannot_be_read_are_a_failure_too(monkeypatch: pytest.MonkeyPatch) -> None:
    ends = Finish(monkeypatch)
    ends.error = refused("AccessDenied")
    assert not ends.monitor()


def test_a_summary_that_the_bucket_does_not_take_is_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ends = Finish(monkeypatch)

    def put_object(**_: Any) -> None:
        raise refused("AccessDenied")

    monkeypatch.setattr(ends.bucket, "put_object", put_object)
    assert ends.monitor()
    assert "jobs done       7" in capsys.readouterr().out


def test_a_run_of_which_nothing_was_there_is_not_called_done(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ends = Finish(monkeypatch, RunSnapshot(START, None, 0, None, None, None))
    assert not ends.monitor()
    assert "NO TRACE        neither queue AppQueue nor fleet sfr-0123abcd was there" in capsys.readouterr().out
    assert ends.bucket.objects == {}, "the summary of the run's true end would be overwritten"


def test_an_end_that_keeps_the_jobs_lies_in_the_bucket_too(monkeypatch: pytest.MonkeyPatch) -> None:
    ends = Finish(monkeypatch)

    def watch(*_: Any, show: Callable[..., None], **__: Any) -> None:
        show(LOOK, RunHistory())
        raise CloudError("the run has cost what it may")

    monkeypatch.setattr(finish, "watch", watch)
    with pytest.raises(CloudError, match="has cost what it may"):
        ends.monitor()
    assert ends.bucket.objects == {f"runs/App/{RUN}/summary.txt": b"the run has cost what it may\n"}
    assert ends.done == []


@pytest.mark.parametrize(
    ("word", "fleet_id", "noted"),
    [
        (True, MONITOR_FILE.MONITOR_FLEET_ID, True),
        (False, MONITOR_FILE.MONITOR_FLEET_ID, False),
        (True, "sfr-4567abcd", False),  # the next run's
    ],
)
def test_cheapest_mode_is_noted_where_the_auto_monitor_reads_it_or_it_would_undo_it(
    monkeypatch: pytest.MonkeyPatch, word: bool, fleet_id: str, noted: bool
) -> None:
    ends = Finish(monkeypatch)
    before = replace(MONITOR_FILE, MONITOR_FLEET_ID=fleet_id)
    key = build_monitor_file_key("App")
    ends.bucket.put_object(Key=key, Body=json.dumps(asdict(before)).encode())
    monitor_run(ends.clients, MONITOR_FILE, SETTINGS, cheapest=word, pace=Pace())
    read: Any = ends.bucket
    assert find_monitor_file_copy(read, "app-bucket", key) == replace(before, MONITOR_CHEAPEST=noted)


@pytest.mark.parametrize("body", [None, b"{"])
def test_cheapest_mode_needs_no_copy_in_the_bucket(monkeypatch: pytest.MonkeyPatch, body: bytes | None) -> None:
    ends = Finish(monkeypatch)
    if body is not None:
        ends.bucket.put_object(Key=build_monitor_file_key("App"), Body=body)
    assert monitor_run(ends.clients, MONITOR_FILE, SETTINGS, cheapest=True, pace=Pace())


def test_without_anything_stale_there_is_nothing_to_report(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(orphans, "find", lambda _: OrphanReport())
    monkeypatch.setattr(orphans, "remove", lambda *_: CleanupReport())
    assert clean_up_stale_runs(SimpleNamespace(), yes=True)  # type: ignore[arg-type]
    assert capsys.readouterr().out == "nothing of older runs is left\n"


# Without a login


def stranger(**_: Any) -> Any:
    raise NoCredentialsError


@pytest.mark.parametrize(
    "command",
    [
        lambda clients: report_remaining_resources(clients, None, SETTINGS, pause=300.0),
        lambda clients: report_remaining_resources(clients, MONITOR_FILE, SETTINGS, pause=300.0),
        lambda clients: clean_up_stale_runs(clients, yes=False),
        lambda clients: gather_evidence(clients, build_subject_from_run(MONITOR_FILE), START),
        lambda clients: gather_evidence(clients, observe_active_subject(SETTINGS, clients), START),
    ],
    ids=["--verify of all", "--verify of one", "--stale", "why", "why without a file"],
)
def test_who_is_not_logged_in_is_told_so_in_one_line(
    command: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(botocore.client.BaseClient, "_make_api_call", lambda *_: stranger())
    with exact() as aws, pytest.raises(CloudError, match=r"NoCredentialsError: .* — log in to AWS"):
        command(aws.clients)
    assert capsys.readouterr().out == ""


def test_where_it_may_not_look_for_older_runs_nothing_is_proven(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orphans, "find", lambda _: OrphanReport(unseen=["while looking for fleets: AccessDenied"]))
    assert not clean_up_stale_runs(SimpleNamespace(), yes=False)  # type: ignore[arg-type]
