"""Tests for commands that are typed in the wrong order or with the wrong file: the error says what to type instead."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from distributed_something.cli.context import Context
from distributed_something.run.finish import RunEnd
from tests.support.offline import Outcome, block_requests, join_error_commands, run_command, write_project

MONITOR_FILE = "files/TryoutSpotFleetRequestId.json"
RUN_PY = "python run.py --local --project ."
COMMANDS = [
    f"{RUN_PY} setup",
    f"{RUN_PY} submitJob files/job.json",
    f"{RUN_PY} startCluster files/fleet.json",
    f"{RUN_PY} monitor {MONITOR_FILE}",
]
MISSING_MONITOR_FILE = f"startCluster writes {MONITOR_FILE}; type: {'; then: '.join(COMMANDS)}\n"
MISSING_RESOURCES = (
    "the queue TryoutQueue, the dead-letter queue TryoutDead, the cluster tryout-cluster and the service TryoutService "
    "do not exist; run setup first: python run.py --local --project . setup"
)


@pytest.fixture(autouse=True)
def _nothing_is_sent() -> Iterator[None]:
    with block_requests():
        yield


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(write_project(tmp_path))
    (tmp_path / "files" / "monitor.json").rename(tmp_path / "saved.json")
    return tmp_path


def run(*words: str) -> Outcome:
    outcome = run_command("--local", "--project", ".", *words)
    assert (outcome.code, outcome.out) == (2, "")
    return replace(outcome, err=join_error_commands(outcome.err))


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("monitor",), f"give the path of a monitor file: {MISSING_MONITOR_FILE}"),
        (("monitor", "True"), f"give the path of a monitor file: {MISSING_MONITOR_FILE}"),
        (("monitor", "files/fleet.json"), f"this is a Fleet file, not a monitor file; give the monitor file: "
                                          f"{MISSING_MONITOR_FILE}"),
        (("monitor", "files/job.json"), f"this is a Job file, not a monitor file; give the monitor file: "
                                        f"{MISSING_MONITOR_FILE}"),
        (("monitor", "config.py"), "this is a Python file, not a monitor file; give the monitor file: startCluster"),
        (("why", "config.py"), "this is a Python file, not a monitor file"),
        (("cleanup", "files/job.json"), "this is a Job file, not a monitor file; give the monitor file, or leave it "
                                        f"out to clean up the whole app: {RUN_PY} cleanup\n"),
        (("startCluster", "files/job.json"), "this is a Job file, not a Fleet file; give the Fleet file: "
                                             "python run.py --local --project . startCluster files/fleet.json"),
        (("startCluster", "saved.json"), "this is a monitor file, not a Fleet file; give the Fleet file: python"),
        (("check", "files/job.json"), "give the Fleet file: python run.py --local --project . check files/fleet.json"),
        (("submitJob", "files/fleet.json"), "this is a Fleet file, not a Job file; give the Job file: "
                                            "python run.py --local --project . submitJob files/job.json"),
        (("submitJob", "saved.json"), "this is a monitor file, not a Job file; give the Job file: python run.py"),
        (("runJob", "files/fleet.json", "--index", "1"), "this is a Fleet file, not a Job file; give the Job file"),
    ],
)  # fmt: skip
def test_a_wrong_file_is_recognized_and_the_right_command_is_named(words: tuple[str, ...], message: str) -> None:
    assert message in run(*words).err


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize(
    ("remaining", "count"),
    [(("setup", "submitJob", "startCluster", "monitor"), 4), (("submitJob", "startCluster", "monitor"), 3),
     (("startCluster", "monitor"), 2)],
)  # fmt: skip
def test_the_commands_that_are_still_missing_are_named_in_their_order(
    monkeypatch: pytest.MonkeyPatch, remaining: tuple[str, ...], count: int
) -> None:
    monkeypatch.setattr(Context, "find_remaining_commands", lambda _: remaining)
    assert run("monitor").err.endswith(f"type: {'; then: '.join(COMMANDS[-count:])}\n")


def test_each_command_is_on_lines_of_its_own_that_fit_a_terminal_and_can_be_copied(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = project / "a folder with a name that is much longer than those of most other folders"
    write_project(folder)
    (folder / "files" / "monitor.json").unlink()
    monkeypatch.setattr(Context, "find_remaining_commands", lambda _: ("startCluster", "monitor"))
    outcome = run_command("--local", "--project", folder.name, "monitor")
    lines = outcome.err.splitlines()
    assert lines[0].startswith("run.py: ")
    assert lines[0].endswith("; type:")
    assert all(line.startswith("  ") for line in lines[1:])
    start, watch = re.sub(r" \\\n +", " ", "\n".join(lines[1:])).splitlines()
    prefix = ["python", "run.py", "--local", "--project", folder.name]
    assert shlex.split(start) == [*prefix, "startCluster", f"{folder.name}/files/fleet.json"]
    assert shlex.split(watch) == [*prefix, "monitor", f"{folder.name}/{MONITOR_FILE}"]


@pytest.mark.usefixtures("project")
def test_if_it_is_unknown_what_exists_all_commands_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Context, "find_remaining_commands", lambda _: ())
    assert run("monitor").err.endswith(f"type, as far as you have not: {'; then: '.join(COMMANDS)}\n")


@pytest.mark.usefixtures("project")
def test_while_a_run_is_active_its_own_monitor_file_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the file is lost, its copy in the bucket is used."""
    monkeypatch.setattr(Context, "find_remaining_commands", lambda _: ("monitor",))
    assert run("status", "files/none.json").err.endswith(f": {RUN_PY} status {MONITOR_FILE}\n")


def test_a_fleet_file_that_was_given_is_the_one_to_start_with(project: Path) -> None:
    shutil.copy(project / "files" / "fleet.json", project / "files" / "other.json")
    assert f"{RUN_PY} startCluster files/other.json; then: {COMMANDS[3]}" in run("monitor", "files/other.json").err


def test_the_monitor_file_of_the_app_is_named_once_it_exists(project: Path) -> None:
    shutil.copy(project / "saved.json", project / "files" / "TryoutSpotFleetRequestId.json")
    command = "python run.py --local --project . monitor files/TryoutSpotFleetRequestId.json"
    assert run("monitor", "files/fleet.json").err.endswith(f"give the monitor file: {command}\n")


def test_a_project_without_a_fleet_file_needs_fleet_file_first(project: Path) -> None:
    (project / "files" / "fleet.json").unlink()
    message = "give the Fleet file: fleetFile writes one; type: python run.py --local --project . fleetFile\n"
    assert message in run("startCluster", "files/job.json").err


def test_several_job_files_are_listed(project: Path) -> None:
    shutil.copy(project / "files" / "job.json", project / "files" / "other.json")
    assert "where JOBFILE is one of files/job.json, files/other.json" in run("submitJob", "files/fleet.json").err


def test_a_path_within_another_project_is_completed(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "elsewhere").mkdir()
    monkeypatch.chdir(project / "elsewhere")
    err = join_error_commands(run_command("--project", "..", "submitJob", "files/job.json", "--dry-run").err)
    assert "give its path from the current folder: python run.py --project .. submitJob ../files/job.json" in err


def test_a_folder_that_is_not_a_project_is_named_with_the_projects_that_were_meant(project: Path) -> None:
    (project / "empty").mkdir()
    write_project(project / "empty" / "inner")
    outcome = run_command("--project", "empty", "setup")
    assert outcome.code == 2
    assert "there is no such file; give the folder of a project with --project; these are projects: " in outcome.err
    assert "empty/inner" in outcome.err


@pytest.mark.usefixtures("project")
def test_before_setup_everything_that_is_missing_is_named_at_once() -> None:
    assert MISSING_RESOURCES in run("submitJob", "files/fleet.json").err


def test_problems_of_the_config_and_the_file_and_a_missing_setup_are_reported_together(project: Path) -> None:
    (project / "files" / "fleet.json").write_text('{"LaunchSpecifications": []}')
    lines = run("startCluster", "files/fleet.json").err.splitlines()
    assert [line.split("; ")[0].removeprefix("run.py: ") for line in lines] == [
        "files/fleet.json: LaunchSpecifications: this key is missing",
        "files/fleet.json: IamFleetRole: this key is missing",
        f"config.py: {MISSING_RESOURCES.split('; ')[0]}",
    ]
    with (project / "config.py").open("a") as config:
        config.write("CLUSTER_MACHINES = 'two'\n")
    lines = run("startCluster", "files/fleet.json").err.splitlines()
    assert lines[0].startswith("run.py: config.py: CLUSTER_MACHINES: ")
    assert len(lines) == 3


def test_a_monitor_file_of_another_app_is_pointed_out(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (project / "config.py").open("a") as config:
        config.write("APP_NAME = 'Other'\n")
    monkeypatch.setattr("distributed_something.run.finish.monitor_run", lambda *_, **__: RunEnd(True, True))
    err = run_command("--project", ".", "monitor", "saved.json").err
    own = "python run.py --project . monitor files/OtherSpotFleetRequestId.json"
    assert err.startswith(f"note: saved.json belongs to the app Tryout; for Other, type:\n  {own}\n")
