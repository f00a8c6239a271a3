"""The report of a whole local run with failures, an interruption, and a retry of flaky jobs."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.project import MONITOR_FILE, Project, create_project, wait_until

SCRIPT = (
    'case $2 in bad) echo "ValueError: no well $1"; exit 1 ;; flaky) test -e "$4/$1" || { touch "$4/$1"; exit 3; } ;;'
    ' slow) sleep 8 ;; esac; echo well > "$3/out.txt"'
)
KINDS = ["bad"] * 3 + ["flaky"] * 2 + ["slow"] * 4 + ["good"] * 15


def read_run_files(project: Project, pattern: str) -> list[tuple[str, str]]:
    """Return the run and the content of the files of runs in the local results, the oldest run first."""
    paths = sorted((project.folder / "local").glob(f"*/runs/*/*/{pattern}"))
    return [(path.relative_to(project.folder / "local").parts[3], path.read_text()) for path in paths]


@pytest.mark.long
def test_a_run_has_a_report_during_it_at_its_end_and_afterward(tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    command = ["sh", "-c", SCRIPT, "x", "{n}", "{kind}", "{output_dir}", str(marks)]
    groups = [{"n": f"{number:02}", "kind": kind} for number, kind in enumerate(KINDS)]
    with create_project(tmp_path / "p", JOB_RETRIES=2, DOCKER_CORES=2, CLUSTER_MACHINES=2) as project:
        jobs = project.write_job_file(command=command, output_location="results/{job}", groups=groups)
        project.run("setup")
        project.run("submitJob", str(jobs))
        project.run("startCluster", "files/fleet.json")
        wait_until(lambda: "running" in project.run("status", check=False).stdout)
        project.run("report", "-o", str(tmp_path / "during"))
        project.run("interrupt")
        assert project.run("monitor", MONITOR_FILE, check=False).returncode == 3

        ((run, page),) = read_run_files(project, "report.html")
        documents = [json.loads(text) for _, text in read_run_files(project, "machines/i-*.json")]
        machines: list[dict[str, Any]] = [document for document in documents if "container" not in document]
        assert len(machines) >= 2
        assert all(
            machine["type"] and machine["zone"] and machine["launched"] < machine["ended"] for machine in machines
        )
        assert all(machine["price"] > 0 and machine["end_reason"] for machine in machines)

        ((_, table),) = read_run_files(project, "jobs.tsv")
        rows = list(csv.DictReader(table.splitlines(), delimiter="\t"))
        assert len(rows) == len(KINDS)
        assert all(row["job"] in page for row in rows if row["state"] == "failed")
        assert "ValueError: no well" in page
        (cause,) = {row["cause"] for row in rows if row["state"] == "failed"}
        assert f"--only {cause}" in page

        result = project.run("report", run, "-o", str(tmp_path / "after"))
        assert result.stdout.startswith("report          ")
        assert (tmp_path / "after/report.html").exists()
        assert (tmp_path / "during/report.html").exists()
