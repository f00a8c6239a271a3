"""The four commands twice with the same Job file: what is done stays done, and only failed jobs run again."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.support.project import MONITOR_FILE, Project, create_project

# Each job notes that it started. "one" ends with another last line in each job.
SCRIPT = (
    'echo start >> "$2/$1"; case $3 in segv) kill -SEGV $$ ;; one) echo line; echo "error $1 at $1"; exit 1 ;;'
    ' slow) exec sleep 60 ;; *) echo well > "$4/out.txt" ;; esac'
)
KINDS = ["segv"] * 5 + ["one"] * 4 + ["slow"] * 3 + ["good"] * 48


def write_jobs(project: Project, starts: Path, kinds: list[str], **shared: object) -> str:
    starts.mkdir(exist_ok=True)
    command = ["sh", "-c", SCRIPT, "x", "{n}", str(starts), "{kind}", "{output_dir}"]
    groups = [{"n": f"{number:02}", "kind": kind} for number, kind in enumerate(kinds)]
    return str(project.write_job_file(command=command, output_location="results/{job}", groups=groups, **shared))


def run_commands(project: Project, job_file: str) -> tuple[int, dict[str, str]]:
    """Run the four commands; return the exit code of `monitor` and the summary's numbers."""
    project.run("setup")
    project.run("submitJob", job_file)
    project.run("startCluster", "files/fleet.json")
    result = project.run("monitor", MONITOR_FILE, check=False)
    names = ("jobs done", "already there", "jobs failed", "no record", "dead letters")
    rows = (line for line in result.stdout.splitlines() if line.startswith(names))
    return result.returncode, {line[:16].strip(): line[16:].split()[0] for line in rows}


def list_starts(starts: Path) -> dict[str, int]:
    """Return how often each job's program started."""
    return {path.name: len(path.read_text().split()) for path in starts.iterdir()}


def read_documents(project: Project) -> dict[str, tuple[str, dict[str, Any]]]:
    """Return the text and the JSON document of each run's summary, by the run's name."""
    paths = sorted(find_runs(project).glob("*/summary.txt"))
    return {path.parent.name: (path.read_text(), json.loads(path.with_suffix(".json").read_text())) for path in paths}


def read_summaries(project: Project) -> dict[str, tuple[str, dict[str, Any]]]:
    """Return the text and the numbers of each run's summary, by the run's name."""
    return {run: (text, document["jobs"]) for run, (text, document) in read_documents(project).items()}


def read_job_table(project: Project) -> list[dict[str, str]]:
    """Return the rows of the only run's `jobs.tsv`."""
    (path,) = find_runs(project).glob("*/jobs.tsv")
    with path.open(newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def find_runs(project: Project) -> Path:
    return project.folder / "local" / "tryout-bucket" / "runs" / "Tryout"


@pytest.mark.long
def test_twelve_of_sixty_jobs_fail_in_both_runs(tmp_path: Path) -> None:
    starts = tmp_path / "starts"
    with create_project(tmp_path / "p", JOB_RETRIES=2, DOCKER_CORES=4) as project:
        job_file = write_jobs(project, starts, KINDS, timeout_minutes=0.03)
        assert run_commands(project, job_file) == (3, {"jobs done": "48", "jobs failed": "12"})
        first_summaries = read_summaries(project)
        records = [record for record in project.read_records() if record["state"] == "failed"]
        assert [record["final"] for record in records] == [True] * 12
        reasons = Counter((record["reason_class"], record["exit_code"]) for record in records)
        assert reasons == {("signal", -11): 5, ("program", 1): 4, ("time-out", -15): 3}
        ((text, document),) = read_documents(project).values()
        causes = [(failure["cause"], failure["jobs"]) for failure in document["failures"]]
        assert causes == [
            ("segmentation fault", 5),
            ("exit code 1: error # at #", 4),
            ("timed out after 1.8 seconds", 3),
        ]
        for failure in document["failures"]:
            assert f"{failure['id']}  {failure['cause']}  " in text
        rows = read_job_table(project)
        assert len(rows) == 60
        assert Counter(row["cause"] for row in rows) == {
            "": 48, **{failure["id"]: failure["jobs"] for failure in document["failures"]},
        }  # fmt: skip
        assert {row["output_location"] for row in rows} == {f"s3://tryout-bucket/results/{row['job']}" for row in rows}

        assert run_commands(project, job_file) == (3, {"jobs done": "0", "already there": "48", "jobs failed": "12"})
        summaries = read_summaries(project)
        assert len(summaries) == 2
        assert summaries.items() >= first_summaries.items(), "the first summary is unchanged"
        assert len(project.read_results()) == 48
        assert {name: count for name, count in list_starts(starts).items() if int(name) >= 12} == {
            f"{number:02}": 1 for number in range(12, 60)
        }


@pytest.mark.long
def test_a_changed_time_limit_starts_no_program_again_and_adds_no_result(tmp_path: Path) -> None:
    starts = tmp_path / "starts"
    with create_project(tmp_path / "p") as project:
        run_commands(project, write_jobs(project, starts, ["good"] * 6, timeout_minutes=5))
        results = project.read_results()
        job_file = write_jobs(project, starts, ["good"] * 6, timeout_minutes=60, expected_files=1)
        assert run_commands(project, job_file) == (0, {"jobs done": "0", "already there": "6", "jobs failed": "0"})
        assert project.read_results() == results
        assert list_starts(starts) == {f"{number:02}": 1 for number in range(6)}
