"""Whole runs whose fleet shrinks because machines are idle (despite interruptions and killed monitors) or because
MAX_COST is reached.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from distributed_something.localcloud import start_local_cloud
from distributed_something.localcloud.base.layout import build_layout
from tests.support.gates import Gates, get_target_capacity, list_running_machines
from tests.support.project import MONITOR_FILE, ROOT, Project, create_project, list_project_processes, wait_until

SHORT_JOBS = ("a", "b", "c", "d", "e", "f")


@pytest.mark.long
def test_idle_machines_are_terminated_during_a_long_job_despite_interruptions_and_two_killed_monitors(
    tmp_path: Path,
) -> None:
    gates = Gates(tmp_path / "gates")
    with create_project(tmp_path / "p", CLUSTER_MACHINES=3, DOCKER_CORES=1) as test_project:
        test_project.run("setup")
        test_project.run(
            "submitJob", gates.write_job_file(test_project, long="last", **dict.fromkeys(SHORT_JOBS, "first"))
        )
        test_project.run("startCluster", "files/fleet.json")
        first_monitor = test_project.start("monitor", MONITOR_FILE)
        long_job_machine = gates.wait_for_start(test_project, "long")
        other_machines = list_running_machines(test_project) - {long_job_machine}
        assert len(other_machines) == 2
        interrupt_machines(test_project, other_machines)
        kill_monitor(first_monitor)
        second_monitor = test_project.start("monitor", MONITOR_FILE)
        # The fleet replaces interrupted machines while jobs wait.
        wait_until(
            lambda: (
                len(list_running_machines(test_project) - other_machines) == 3
                and get_target_capacity(test_project) == 3
            )
        )

        gates.open_gate("first")
        wait_until(lambda: get_target_capacity(test_project) == 1)
        kill_monitor(second_monitor)
        # Two monitors that run at the same time do not interfere with each other.
        third_monitor, fourth_monitor = (test_project.start("monitor", MONITOR_FILE) for _ in range(2))
        wait_until(lambda: list_running_machines(test_project) == {long_job_machine})
        assert third_monitor.poll() is None
        assert gates.list_starts("long") == [long_job_machine]

        gates.open_gate("last")
        stdout, stderr = third_monitor.communicate(timeout=120)
        assert third_monitor.returncode == 0, stdout + stderr
        stdout, stderr = fourth_monitor.communicate(timeout=120)
        assert fourth_monitor.returncode == 0, stdout + stderr
        assert "jobs done       7" in stdout
        assert "jobs failed     0" in stdout
        assert gates.list_starts("long") == [long_job_machine]
        assert sorted(test_project.read_results().values()) == sorted(("long", *SHORT_JOBS))
        verification = test_project.run("cleanup", MONITOR_FILE, "--verify")
        assert "nothing is left" in verification.stdout
        assert list_running_machines(test_project) == set()
        wait_until(lambda: not test_project.list_workers())
    assert list_project_processes(test_project.folder) == []


@pytest.mark.long
def test_at_max_cost_running_jobs_finish_no_new_jobs_start_and_startcluster_continues_the_run(tmp_path: Path) -> None:
    """A spot machine in the local cloud costs 0.00001 USD per hour, and this run has two."""
    gates, cost_per_second = Gates(tmp_path / "gates"), 2 * 0.00001 / 3600
    with create_project(
        tmp_path / "p", CLUSTER_MACHINES=2, DOCKER_CORES=1, MAX_COST=4 * cost_per_second
    ) as test_project:
        test_project.run("setup")
        test_project.run(
            "submitJob", gates.write_job_file(test_project, a="first", b="first", c="rest", d="rest", e="rest")
        )
        test_project.run("startCluster", "files/fleet.json")
        for name in ("a", "b"):
            gates.wait_for_start(test_project, name)
        monitor = test_project.start("monitor", MONITOR_FILE)
        wait_until(lambda: get_target_capacity(test_project) == 0 and count_informed_workers(test_project) == 2)
        assert monitor.poll() is None
        second_start = test_project.run("startCluster", "files/fleet.json", check=False)
        assert second_start.returncode == 2
        assert "is already running" in second_start.stderr
        assert f"monitor {MONITOR_FILE}" in second_start.stderr

        gates.open_gate("first")
        stdout, stderr = monitor.communicate(timeout=120)
        assert monitor.returncode == 3, stdout + stderr
        assert sum("MAX_COST is reached" in line for line in stderr.splitlines()) == 1
        assert "3 jobs remain in the queue" in " ".join(stdout.split())
        assert "startCluster" in stdout.partition("\nnext:")[2]
        assert "in the queue    3" in stdout
        assert gates.list_starts("c") == gates.list_starts("d") == gates.list_starts("e") == []
        wait_until(lambda: list_running_machines(test_project) == set())

        gates.open_gate("rest")
        path = test_project.folder / "config.py"
        path.write_text(path.read_text().replace("MAX_COST", "NO_MAX_COST"))
        test_project.run("startCluster", "files/fleet.json")
        assert "jobs failed     0" in test_project.run("monitor", MONITOR_FILE).stdout
        assert len(test_project.read_results()) == 5
        assert "nothing is left" in test_project.run("cleanup", "--verify").stdout
    assert list_project_processes(test_project.folder) == []


def count_informed_workers(test_project: Project) -> int:
    """Return how many containers have logged that the run has reached MAX_COST."""
    return sum("MAX_COST" in log.read_text() for log in build_layout(test_project.folder).task_logs.glob("*.log"))


def interrupt_machines(test_project: Project, instance_ids: set[str]) -> None:
    """Interrupt these spot machines, with a notice of two seconds."""
    cloud = start_local_cloud(test_project.folder, default_worker=ROOT / "worker")
    for instance_id in instance_ids:
        assert cloud.interrupt_machine(instance_id, notice_seconds=2) == instance_id


def kill_monitor(monitor: subprocess.Popen[str]) -> None:
    """Kill the monitor, as if the computer had been turned off."""
    assert monitor.poll() is None
    monitor.kill()
    monitor.communicate()
