"""Whole runs that shrink: as machines fall idle, while spot takes some and monitors are killed, and at MAX_COST."""

from __future__ import annotations

import subprocess
from pathlib import Path

from distributed_something.localcloud import start_local_cloud
from distributed_something.localcloud.base.layout import build_layout
from tests.support.gates import Gates, machines, target
from tests.support.project import MONITOR_FILE, ROOT, Project, processes_of, project, wait_for

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
        wait_for(lambda: len(machines(made) - others) == 3 and target(made) == 3)

        gates.open("first")
        wait_for(lambda: target(made) == 1)
        kill(second)
        # Two at once do no harm.
        third, beside = made.start("monitor", MONITOR_FILE), made.start("monitor", MONITOR_FILE)
        wait_for(lambda: machines(made) == {long_on})
        assert third.poll() is None
        assert gates.starts("long") == [long_on]

        gates.open("last")
        out, err = third.communicate(timeout=120)
        assert third.returncode == 0, out + err
        out, err = beside.communicate(timeout=120)
        assert beside.returncode == 0, out + err
        assert "jobs done       7" in out
        assert "jobs failed     0" in out
        assert gates.starts("long") == [long_on]
        assert sorted(made.results().values()) == sorted(("long", *SHORT))
        verified = made.run("cleanup", MONITOR_FILE, "--verify")
        assert "nothing is left" in verified.stdout
        assert machines(made) == set()
        wait_for(lambda: not made.workers())
    assert processes_of(made.folder) == []


def test_at_max_cost_no_job_is_begun_running_ones_finish_and_another_start_goes_on(tmp_path: Path) -> None:
    """The local cloud's spot machines cost 0.00001 USD an hour."""
    gates, cost_of_a_second = Gates(tmp_path / "gates"), 2 * 0.00001 / 3600
    with project(tmp_path / "p", CLUSTER_MACHINES=2, DOCKER_CORES=1, MAX_COST=4 * cost_of_a_second) as made:
        made.run("setup")
        made.run("submitJob", gates.job_file(made, a="first", b="first", c="rest", d="rest", e="rest"))
        made.run("startCluster", "files/fleet.json")
        for name in ("a", "b"):
            gates.wait_for_start(made, name)
        watching = made.start("monitor", MONITOR_FILE)
        wait_for(lambda: target(made) == 0 and told_workers(made) == 2)
        assert watching.poll() is None
        refused = made.run("startCluster", "files/fleet.json", check=False)
        assert refused.returncode == 2
        assert "watch it with monitor and this file" in refused.stderr

        gates.open("first")
        out, err = watching.communicate(timeout=120)
        assert watching.returncode == 1, out + err
        assert sum("MAX_COST is reached" in line for line in err.splitlines()) == 1
        assert "3 jobs remain in the queue. startCluster continues with them" in err.splitlines()[-1]
        assert gates.starts("c") == gates.starts("d") == gates.starts("e") == []
        wait_for(lambda: machines(made) == set())

        gates.open("rest")
        path = made.folder / "config.py"
        path.write_text(path.read_text().replace("MAX_COST", "NO_MAX_COST"))
        made.run("startCluster", "files/fleet.json")
        assert "jobs failed     0" in made.run("monitor", MONITOR_FILE).stdout
        assert len(made.results()) == 5
        assert "nothing is left" in made.run("cleanup", "--verify").stdout
    assert processes_of(made.folder) == []


def told_workers(made: Project) -> int:
    """Containers that know that the run has cost what it may."""
    return sum("MAX_COST" in log.read_text() for log in build_layout(made.folder).task_logs.glob("*.log"))


def take_away(made: Project, ids: set[str]) -> None:
    """Spot takes these machines, after a notice of two seconds."""
    cloud = start_local_cloud(made.folder, worker_root=ROOT)
    for instance in ids:
        assert cloud.interrupt(instance, notice_seconds=2) == instance


def kill(monitor: subprocess.Popen[str]) -> None:
    """As when the laptop is shut."""
    assert monitor.poll() is None
    monitor.kill()
    monitor.communicate()
