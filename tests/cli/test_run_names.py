"""Runs that are given by their names, after a later run has replaced the monitor file, or after it was deleted."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from distributed_something.cli.context import ExitCode
from distributed_something.core.monitor_file import MonitorFile, build_monitor_file_key, build_run_name
from distributed_something.results.summary import RunSummary, save_run_summary
from distributed_something.run.finish import RunEnd
from distributed_something.run.monitor_file_copy import save_run_copy
from tests.support.failed_run import BUCKET, LATER, Project, list_error_lines, open_project
from tests.support.fakes import MONITOR_FILE
from tests.support.offline import block_requests, run_command, write_project
from tests.support.run_documents import RunDocuments

RUN = MONITOR_FILE.run
LOCAL_FILE = "files/AppSpotFleetRequestId.json"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Project]:
    with open_project(tmp_path, monkeypatch, capsys) as project:
        yield project


def start_later_run(project: Project, file: MonitorFile = LATER) -> None:
    """Replace the monitor file and the app's copy, as startCluster does."""
    project.later.put_object(build_monitor_file_key("App"), json.dumps(asdict(file)).encode())
    save_run_copy(project.clients.s3, BUCKET, file)
    (project.folder / LOCAL_FILE).write_text(json.dumps(asdict(file)))


def fail_two_kinds(project: Project) -> None:
    project.fail_jobs(3)
    project.run.end_job("slow", "failed", message={"group": {"n": 9}}, reason_class="time-out", reason="timed out")


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> list[MonitorFile]:
    """Runs that `monitor` would watch."""
    runs: list[MonitorFile] = []

    def monitor_run(_: Any, run: MonitorFile, **__: Any) -> RunEnd:
        runs.append(run)
        return RunEnd(True, True)

    monkeypatch.setattr("distributed_something.run.finish.monitor_run", monitor_run)
    return runs


def test_failed_jobs_that_only_left_out_are_sent_by_the_command_that_retry_prints(project: Project) -> None:
    fail_two_kinds(project)
    lines = project.send_jobs("--only", "time-out").splitlines()
    number = lines.index("not selected    3 other failed jobs; to send them later, type:")
    command = lines[number + 1].strip()
    assert command == f"python run.py retry {RUN}"
    start_later_run(project)
    project.later.end_job("slow")
    project.empty_queue()
    code, _, error = project.run_command(*command.split()[2:])
    assert code == ExitCode.DONE
    assert re.search(r"^to send +3 jobs$", error, re.M), error
    assert len(project.sent) == 4


def test_jobs_that_succeeded_since_or_wait_in_the_queue_are_not_left_out(project: Project) -> None:
    fail_two_kinds(project)
    project.later.end_job("slow")
    error = project.send_jobs("--only", "program")
    assert "not selected" not in error
    assert "not selected" not in project.send_jobs("--yes", "--only", "slow")


@pytest.mark.parametrize("command", ["status", "retry", "why"])
def test_a_command_accepts_a_runs_name_instead_of_its_monitor_file(
    project: Project, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    history: dict[str, Any] = {"HistoryRecords": []}  # moto does not implement this request
    monkeypatch.setattr(project.clients.ec2, "describe_spot_fleet_request_history", lambda **_: history)
    failed = project.run.end_job("slow", "failed", message={"group": {"n": 9}}, reason_class="time-out", reason="slow")
    project.run.write_journal("container", failed)
    save_run_copy(project.clients.s3, BUCKET, MONITOR_FILE)
    start_later_run(project)
    (project.folder / LOCAL_FILE).unlink()
    code, out, error = project.run_command(command, RUN)
    assert (code, RUN in out + error) == (ExitCode.UNFINISHED if command == "status" else ExitCode.DONE, True)


def test_advice_about_an_earlier_run_retries_that_run_and_monitors_the_next_one(project: Project) -> None:
    failed = project.run.end_job("slow", "failed", message={"group": {"n": 9}}, reason_class="time-out", reason="slow")
    project.run.write_journal("container", failed)
    save_run_summary(project.clients.s3, MONITOR_FILE, RunSummary("run", True, False, "text"), None)
    save_run_copy(project.clients.s3, BUCKET, MONITOR_FILE)
    start_later_run(project)
    _, out, _ = project.run_command("status", RUN)
    assert f"python run.py retry {RUN} --only F" in out
    assert out.endswith(f"retry {RUN} --timeout MINUTES\n      python run.py startCluster FLEETFILE\n"
                        f"      python run.py monitor {LOCAL_FILE}\n")  # fmt: skip


@pytest.mark.parametrize("command", ["status", "retry", "why", "monitor", "cleanup"])
@pytest.mark.parametrize("name", ["20261123T104501Z", "2026-11-23T10:45:00Z", "20261123", "20261123t104500z"])
def test_a_wrong_name_is_one_line_with_the_newest_runs(project: Project, command: str, name: str) -> None:
    for hour in range(12):
        file = replace(MONITOR_FILE, MONITOR_START_TIME=MONITOR_FILE.MONITOR_START_TIME + hour * 3_600_000)
        RunDocuments(project.clients.s3, file).end_job("job")
    code, out, error = project.run_command(command, name)
    newest = [build_run_name(MONITOR_FILE.MONITOR_START_TIME / 1000 + hour * 3600) for hour in range(11, 6, -1)]
    problem = f"{name}: there is no such run of App in s3://{BUCKET}/runs/App/"
    assert (code, out) == (ExitCode.INPUT, "")
    assert error == f"run.py: {problem}; give one of the newest runs: {', '.join(newest)} and 7 more\n"


def test_before_the_first_run_a_wrong_name_says_what_starts_one(project: Project) -> None:
    code, _, error = project.run_command("status", "20261123T104501Z")
    assert (code, error.endswith("; startCluster starts the first one\n")) == (ExitCode.INPUT, True)


def test_a_run_of_an_older_version_is_found_while_it_is_the_newest_one(project: Project) -> None:
    """Older versions kept only the app's copy."""
    project.fail_jobs(1)
    assert re.search(r"^to send +1 job$", project.send_jobs(RUN), re.M)
    project.clients.s3.delete_object(Bucket=BUCKET, Key=MONITOR_FILE.keys.monitor_file)
    start_later_run(project)
    code, _, error = project.retry(RUN)
    assert (code, len(list_error_lines(error))) == (ExitCode.INPUT, 1)
    assert error.startswith(f"run.py: {RUN}: an older version, which kept no monitor file in s3://{BUCKET}/runs/App/")
    assert f"the run's summary is runs/App/{RUN}/summary.txt in the bucket" in error


def test_a_file_with_a_runs_name_is_a_file(project: Project) -> None:
    (project.folder / RUN).write_text(json.dumps(asdict(LATER)))
    project.later.end_job("done")
    assert f"run             {LATER.run} of App" in project.send_jobs(RUN)


def test_monitor_uses_the_copy_in_the_bucket_if_its_file_was_deleted(
    project: Project, watched: list[MonitorFile]
) -> None:
    note = f"note: {LOCAL_FILE} does not exist; using its copy in the bucket\n"
    for arguments in ((), (LOCAL_FILE,), (f"./{LOCAL_FILE}",), ("True",)):
        code, _, error = project.run_command("monitor", *arguments)
        assert (code, error) == (ExitCode.DONE, note)
    assert watched == [MONITOR_FILE] * 4
    (project.folder / LOCAL_FILE).write_text(json.dumps(asdict(MONITOR_FILE)))
    assert project.run_command("monitor") == (ExitCode.DONE, "", "")
    project.clients.s3.delete_object(Bucket=BUCKET, Key=build_monitor_file_key("App"))
    (project.folder / LOCAL_FILE).unlink()
    code, _, error = project.run_command("monitor")
    assert (code, len(list_error_lines(error))) == (ExitCode.INPUT, 1)
    assert f"this monitor file does not exist, and there is no copy in s3://{BUCKET}/monitors/App" in error


def test_monitor_watches_only_the_newest_run(project: Project, watched: list[MonitorFile]) -> None:
    assert project.run_command("monitor", RUN) == (ExitCode.DONE, "", "")
    save_run_copy(project.clients.s3, BUCKET, MONITOR_FILE)
    start_later_run(project)
    code, _, error = project.run_command("monitor", RUN)
    assert (code, len(list_error_lines(error))) == (ExitCode.INPUT, 1)
    assert error.startswith(f"run.py: {RUN}: {LATER.run} is the newest run of App, and monitor acts only on that one")
    assert error.endswith(f"type:\n  python run.py status {RUN}\n")
    assert project.run_command("monitor", LATER.run) == (ExitCode.DONE, "", "")
    assert watched == [MONITOR_FILE, LATER]


def test_without_a_local_cloud_there_is_no_copy_and_none_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(write_project(tmp_path))
    with block_requests():
        for command in ("monitor", "status", "retry"):
            outcome = run_command("--local", "--project", ".", command)
            assert outcome.code == ExitCode.INPUT
            assert "there is no copy in s3://tryout-bucket/monitors/" in outcome.err
