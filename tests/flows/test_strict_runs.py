"""Runs in a local cloud that answers like AWS where AWS is difficult (LOCALCLOUD_AWS=strict)."""

from __future__ import annotations

from pathlib import Path

import pytest

from distributed_something.localcloud.base.mode import STRICT_VALUE, STRICT_VARIABLE
from tests.support.project import MONITOR_FILE, Project, create_project, join_commands, wait_until


@pytest.fixture(autouse=True)
def strict_cloud(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(STRICT_VARIABLE, STRICT_VALUE)


def write_jobs(project: Project, count: int, *, failing: int = 0) -> str:
    """Write a Job file with `count` jobs, and return its path. The first `failing` jobs fail."""
    groups = [{"number": str(number)} for number in range(count)]
    command = ["sh", "-c", f"echo {{number}} > {{output_dir}}/number.txt; test {{number}} -ge {failing}"]
    return str(project.write_job_file(command=command, output_location="results/{number}", groups=groups))


def test_a_whole_run_succeeds_although_aws_is_difficult(tmp_path: Path) -> None:
    with create_project(tmp_path / "p") as project:
        job_file = write_jobs(project, 12)
        assert "submitJob" in join_commands(project.run("setup").stderr)
        project.run("submitJob", job_file)
        project.run("startCluster", "files/fleet.json")
        project.run("status")
        result = project.run("monitor", MONITOR_FILE)
        assert "jobs done       12" in result.stdout
        assert "NOT REMOVED" not in result.stdout
        assert sorted(project.read_results().values()) == sorted(f"{number}\n" for number in range(12))


@pytest.mark.long  # a second run, for which the names of the deleted queues must first become free again
def test_failed_jobs_are_retried_at_once_although_aws_does_not_find_the_new_queue_yet(tmp_path: Path) -> None:
    with create_project(tmp_path / "p", JOB_RETRIES=1) as project:
        project.run("setup")
        project.run("submitJob", write_jobs(project, 4, failing=2))
        project.run("startCluster", "files/fleet.json")
        assert project.run("monitor", MONITOR_FILE, check=False).returncode == 3
        project.run("why", check=False)
        assert "2 of 2 sent" in project.run("retry", "--with", write_jobs(project, 4), "--yes").stderr
        project.run("startCluster", "files/fleet.json")
        result = project.run("monitor", MONITOR_FILE)
        assert "jobs done       2" in result.stdout
        assert "NOT REMOVED" not in result.stdout
        assert len(project.read_results()) == 4


@pytest.mark.long  # the auto-monitor is called every two seconds
def test_the_auto_monitor_ends_a_run_although_aws_is_difficult(tmp_path: Path) -> None:
    with create_project(tmp_path / "p", AUTO_MONITOR="True") as project:
        project.run("setupAWS")
        project.run("setup")
        project.run("submitJob", write_jobs(project, 6))
        project.run("startCluster", "files/fleet.json")
        events = project.build_client("events")
        wait_until(lambda: events.list_rules()["Rules"] == [])
        assert project.run("status").stdout.count("every job is done") == 1
        project.run("cleanup", "--verify")


@pytest.mark.long
def test_a_run_can_be_cleaned_up_while_it_is_active_and_leaves_nothing(tmp_path: Path) -> None:
    with create_project(tmp_path / "p") as project:
        project.run("setup")
        project.run("submitJob", write_jobs(project, 40))
        project.run("startCluster", "files/fleet.json", "--wait", "0")
        assert "NOT REMOVED" not in project.run("cleanup", MONITOR_FILE, "--yes").stdout
        assert "nothing is left" in project.run("cleanup", "--verify").stdout
