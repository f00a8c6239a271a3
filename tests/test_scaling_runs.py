"""A whole run that shrinks as its machines fall idle, while spot takes some away and its monitor is killed."""

from __future__ import annotations

import subprocess
from pathlib import Path

import localcloud
from tests.gates import Gates, machines, target
from tests.project import MONITOR_FILE, ROOT, Project, processes_of, project, wait_for

SHORT = ("a", "b", "c", "d", "e", "f")


def test_idle_machines_end_while_a_long_job_runs_on_through_interruptions_and_two_killed_monitors(
    tmp_path: Path,
) -> None:
    gates = Gates(tmp_path / "gates")
    with project(tmp_path / "p", CLUSTER_MACHINES=3, DOCKER_CORES=1) as made:
        made.run("setup")
        made.run("submitJob", gates.job_file(made, long="last", **dict.fromkeys(SHORT, "first")))
        made.run("startCluster", "files/fleet.json")
        first = made.start("monitor", MONITOR_FILE)
        long_on = gates.wait_for_start(made, "long")
        others = machines(made) - {long_on}
        assert len(others) == 2
        take_away(made, others)
        kill(first)
        second = made.start("monitor", MONITOR_FILE)
        # While jobs wait, what spot took comes back.
        wait_for(lambda: len(machines(made) - others) == 3 and target(made) == 3, 60)

        gates.open("first")
        wait_for(lambda: target(made) == 1, 60)
        kill(second)
        third = made.start("monitor", MONITOR_FILE)
        wait_for(lambda: machines(made) == {long_on}, 60)
        assert third.poll() is None
        assert gates.starts("long") == [long_on]

        gates.open("last")
        out, err = third.communicate(timeout=60)
        assert third.returncode == 0, out + err
        assert "jobs done       7" in out
        assert "jobs failed     0" in out
        assert gates.starts("long") == [long_on]
        assert sorted(made.results().values()) == sorted(("long", *SHORT))
        verified = made.run("cleanup", MONITOR_FILE, "--verify")
        assert "nothing is left" in verified.stdout
        assert machines(made) == set()
        wait_for(lambda: not made.workers())
    assert processes_of(made.folder) == []


def take_away(made: Project, ids: set[str]) -> None:
    """Spot takes these machines, after a notice of two seconds."""
    cloud = localcloud.start(made.folder, worker_root=ROOT)
    for instance in ids:
        assert cloud.interrupt(instance, notice_seconds=2) == instance


def kill(monitor: subprocess.Popen[str]) -> None:
    """As when the laptop is shut."""
    assert monitor.poll() is None
    monitor.kill()
    monitor.communicate()
