"""`retry` sends exactly the jobs that failed, whenever and however often it is called."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.support.project import MONITOR_FILE, ROOT, Project, create_project, join_commands

# Each job notes that it started. "slow" takes longer than the first limit; "wrong" needs another command.
SCRIPT = (
    'echo start >> "$2/$1"; case $3 in segv) kill -SEGV $$ ;; one) echo "error $1 at $1"; exit 1 ;;'
    ' slow) sleep 4 ;; wrong) test "$5" = right || exit 2 ;; esac; echo well > "$4/out.txt"'
)
SIXTY = ["segv"] * 5 + ["one"] * 4 + ["slow"] * 3 + ["good"] * 48


def write_jobs(project: Project, starts: Path, kinds: list[str], version: str = "old", **shared: object) -> str:
    starts.mkdir(exist_ok=True)
    command = ["sh", "-c", SCRIPT, "x", "{n}", str(starts), "{kind}", "{output_dir}", version]
    groups = [{"n": f"{number:02}", "kind": kind} for number, kind in enumerate(kinds)]
    return str(project.write_job_file(command=command, output_location="results/{job}", groups=groups, **shared))


def run_jobs(project: Project, *submit: str) -> int:
    """Submit jobs if given, run all jobs in the queue to the end, and return the exit code of `monitor`."""
    if submit:
        project.run("setup")
        project.run(*submit)
    project.run("startCluster", "files/fleet.json")
    return project.run("monitor", MONITOR_FILE, check=False).returncode


def count_starts(starts: Path) -> dict[str, int]:
    """Return how often each job's program started."""
    return {path.name: len(path.read_text().split()) for path in sorted(starts.iterdir())}


def read_records(project: Project, run: str = "") -> list[dict[str, Any]]:
    """Return the records of the run with this name, by default those of the newest run."""
    records = project.read_records()
    newest = run or max(record["run"] for record in records)
    return [record for record in records if record["run"] == newest]


def count_queue(project: Project) -> int:
    sqs = project.build_client("sqs")
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    url = sqs.get_queue_url(QueueName="TryoutQueue")["QueueUrl"]
    return sum(map(int, sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"].values()))


def test_three_of_twelve_failed_jobs_run_again_with_a_longer_limit(tmp_path: Path) -> None:
    starts = tmp_path / "starts"
    with create_project(tmp_path / "p", JOB_RETRIES=1, DOCKER_CORES=4) as project:
        assert run_jobs(project, "submitJob", write_jobs(project, starts, SIXTY, timeout_minutes=0.03)) == 3
        assert count_starts(starts) == {f"{number:02}": 1 for number in range(60)}
        first = {record["job"]: record for record in read_records(project)}

        dry = project.run("retry", "--only", "time-out", "--timeout", "1", "--dry-run")
        message = json.loads(dry.stdout.splitlines()[-1])
        assert (message["timeout_minutes"], message["group"]["kind"]) == (1, "slow")
        assert re.search(r"^to send +3 jobs$", dry.stdout, re.M), dry.stdout

        result = project.run("retry", "--only", "time-out", "--timeout", "1")
        assert re.search(r"^jobs failed +12, 3 selected$", result.stderr, re.M), result.stderr
        (retry_rest,) = re.findall(
            r"^not selected +9 other failed jobs; .*\n +python \S+ (.*)", join_commands(result.stderr), re.M
        )
        start, monitor = join_commands(result.stderr).splitlines()[-2:]
        options = f"--local --project {project.folder}"
        assert start == f"next: python {ROOT / 'run.py'} {options} startCluster files/fleet.json"
        assert monitor == f"then: python {ROOT / 'run.py'} {options} monitor {MONITOR_FILE}"
        assert run_jobs(project) == 0

        slow = {f"{number:02}" for number in (9, 10, 11)}
        assert count_starts(starts) == {f"{number:02}": 2 if f"{number:02}" in slow else 1 for number in range(60)}
        assert len(project.read_results()) == 51
        second = {record["job"]: record for record in read_records(project)}
        assert {record["message"]["group"]["n"] for record in second.values()} == slow
        for job, record in second.items():
            assert (record["state"], record["time_limit_seconds"]) == ("done", 60)
            assert record["retry_of"] == {"run": first[job]["run"], "job": job}
            assert record["outputs"][0]["key"].startswith(f"results/{job}/")
        assert {record["retry_of"] for record in first.values()} == {None}

        # The monitor file now belongs to the second run. The command that retry printed sends the nine others.
        (run,) = {record["run"] for record in first.values()}
        assert retry_rest == f"{options} retry {run} --timeout 1"
        again = project.run("retry", run, "--only", "time-out")
        assert re.search(r"^succeeded +3 of them since", again.stderr, re.M), again.stderr
        assert re.search(r"^to send +no jobs$", again.stderr, re.M), again.stderr
        rest = project.run("retry", run)
        assert re.search(r"^to send +9 jobs$", rest.stderr, re.M), rest.stderr
        assert json.loads(project.run("status", run, "--json", check=False).stdout)["jobs"]["failed"] == 12


@pytest.mark.long
def test_retry_refuses_while_the_queue_holds_jobs_and_never_sends_a_job_that_still_waits(tmp_path: Path) -> None:
    starts = tmp_path / "starts"
    with create_project(tmp_path / "p", JOB_RETRIES=1) as project:
        job_file = write_jobs(project, starts, ["wrong", "wrong", "good"])
        assert run_jobs(project, "submitJob", job_file) == 3
        project.run("retry", "--only", "program")

        refused = project.run("retry", check=False)
        assert refused.returncode == 2
        assert "run.py: queue TryoutQueue: it still holds 2 jobs; add --yes" in refused.stderr

        project.run("retry", "--yes")
        assert count_queue(project) == 2
        assert run_jobs(project) == 3
        assert count_starts(starts) == {"00": 2, "01": 2, "02": 1}

        # The jobs failed again, so they can be sent again.
        assert re.search(r"^to send +2 jobs$", project.run("retry").stderr, re.M)


@pytest.mark.long
def test_retry_works_after_cleanup_and_without_the_monitor_file_and_takes_keys_from_a_corrected_job_file(
    tmp_path: Path,
) -> None:
    starts = tmp_path / "starts"
    with create_project(tmp_path / "p", JOB_RETRIES=1) as project:
        assert run_jobs(project, "submitJob", write_jobs(project, starts, ["wrong", "good", "wrong"])) == 3
        old = {record["message"]["group"]["n"]: record for record in read_records(project)}
        project.run("cleanup", "--yes")
        (project.folder / MONITOR_FILE).unlink()

        project.write_job_file(command=["echo", "{plate}"], groups=[])
        wrong = project.run("retry", "--with", str(project.folder / "files" / "job.json"), check=False)
        assert wrong.returncode == 2
        assert "nothing fills the placeholder {plate}" in wrong.stderr

        corrected = write_jobs(project, starts, ["other"], "right")
        result = project.run("retry", "--with", corrected)
        assert "queue" in result.stderr
        assert run_jobs(project) == 0

        records = read_records(project)
        assert sorted(record["message"]["group"]["n"] for record in records) == ["00", "02"]
        for record in records:
            failed = old[record["message"]["group"]["n"]]
            assert record["state"] == "done"
            assert record["retry_of"] == {"run": failed["run"], "job": failed["job"]}
            assert record["job"] != failed["job"]
        assert len(project.read_results()) == 3
        assert count_starts(starts) == {"00": 2, "01": 1, "02": 2}
