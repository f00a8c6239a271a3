"""Whole runs on the local cloud: the four commands as a user types them, with real worker processes and results."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.project import MONITOR_FILE, ROOT, Project, create_project, list_project_processes, wait_until

SQUARE_SCRIPT = "import sys; open(sys.argv[2] + '/answer.txt', 'w').write(str(int(sys.argv[1]) ** 2))"


def build_square_jobs(count: int, **keys: object) -> dict[str, object]:
    """Return the content of a job file with `count` jobs. Each job writes the square of its number to a file."""
    groups = [{"number": number} for number in range(count)]
    command = ["python3", "-c", SQUARE_SCRIPT, "{number}", "{output_dir}"]
    return {"command": command, "output_location": "results/{job}", "expected_files": 1, "groups": groups} | keys


def assert_no_resources_remain(test_project: Project) -> None:
    """Check that no queue, task definition, cluster, fleet, machine, worker, or task folder remains."""
    assert test_project.build_client("sqs").list_queues().get("QueueUrls", []) == []
    ecs, ec2 = test_project.build_client("ecs"), test_project.build_client("ec2")
    clusters = ecs.describe_clusters(clusters=["tryout-cluster"])["clusters"]
    assert {cluster["status"] for cluster in clusters} <= {"INACTIVE"}
    assert ecs.list_task_definitions()["taskDefinitionArns"] == []
    fleets = ec2.describe_spot_fleet_requests()["SpotFleetRequestConfigs"]
    assert {fleet["SpotFleetRequestState"] for fleet in fleets} <= {"cancelled", "cancelled_terminating"}
    machines = [machine for group in ec2.describe_instances()["Reservations"] for machine in group["Instances"]]
    assert {machine["State"]["Name"] for machine in machines} <= {"terminated", "shutting-down"}
    wait_until(lambda: not test_project.list_workers())
    tasks = test_project.folder / "local" / ".cloud" / "tasks"
    assert not tasks.exists() or list(tasks.iterdir()) == []


@pytest.mark.long
def test_a_run_with_the_unedited_example_files_processes_96_wells_from_another_folder(tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    clone.mkdir()
    names = ("run.py", "config.py", "distributed_something", "worker", "files", "examples")
    subprocess.run(["cp", "-r", *(str(ROOT / name) for name in names), str(clone)], check=True)

    def run_command(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(clone / "run.py"), *arguments]
        env = Project.build_environment({})
        return subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120, check=True)

    try:
        run_command("--local", "setup")
        run_command("submitJob", "clone/files/exampleJob.json", "--local")
        run_command("startCluster", "--local", "clone/files/exampleFleet.json")
        result = run_command("--local", "monitor", "clone/files/DistributedSomethingSpotFleetRequestId.json")
    finally:
        run_command("--local", "stop")
    assert "jobs done       96" in result.stdout
    assert "NOT REMOVED" not in result.stdout
    results = clone / "local" / "your-bucket-name" / "cellcount" / "results"
    files = sorted(path.name for path in results.rglob("*") if path.is_file())
    assert files == ["counts.csv"] * 96 + ["marked.png"] * 96
    assert len(list(results.iterdir())) == 96
    (document,) = (clone / "local" / "your-bucket-name" / "runs" / "DistributedSomething").glob("*/run.json")
    check_run_document(json.loads(document.read_text()), clone)
    assert list_project_processes(clone) == []


def check_run_document(document: dict[str, Any], clone: Path) -> None:
    """Check that the document names the run's files, and that the copy of the Job file is there."""
    assert document["config"]["values"]["APP_NAME"] == "DistributedSomething"
    assert document["fleet_file"]["path"] == "clone/files/exampleFleet.json"
    (job_file,) = document["job_files"]
    assert (job_file["path"], job_file["jobs"]) == ("clone/files/exampleJob.json", 96)
    copy = clone / "local" / "your-bucket-name" / job_file["files"]["clone/files/exampleJob.json"]["key"]
    assert copy.read_bytes() == (clone / "files" / "exampleJob.json").read_bytes()


# How many times SQS delivers a message before moving it to the dead-letter queue. SQS delivers a message again if its
# worker was killed, or if the response that contained it was lost, which happens to one response in 40. With a limit of
# 3 deliveries, one run in 100 would lose a job because of two kills and one lost response. With a limit of 6, only one
# run in 600,000 would.
DELIVERIES = 6


@pytest.mark.long
def test_a_run_with_200_jobs_survives_killed_workers_a_killed_monitor_aws_errors_and_duplicate_messages(
    tmp_path: Path,
) -> None:
    with create_project(tmp_path / "p", CHECK_IF_DONE_BOOL="True", JOB_RETRIES=DELIVERIES) as test_project:
        job_file = test_project.write_job_file(**build_square_jobs(200))
        test_project.run("setup", LOCALCLOUD_FAULT_RATE="0.1")
        test_project.run("submitJob", str(job_file))
        send_duplicates(test_project, job_file, [3, 50, 199])
        test_project.run("startCluster", "files/fleet.json")
        monitor = test_project.start("monitor", MONITOR_FILE)
        test_project.kill_worker()
        wait_until(lambda: len(test_project.list_workers()) == 2)
        monitor.kill()
        monitor.communicate()
        test_project.kill_worker()
        result = test_project.run("monitor", MONITOR_FILE)
        assert "NOT REMOVED" not in result.stdout
        assert "jobs failed     0" in result.stdout
        results = test_project.read_results()
        assert len(results) == 200
        assert sorted(map(int, results.values())) == [number**2 for number in range(200)]
        records = test_project.read_records()
        assert [record["state"] for record in records] == ["done"] * 200
        assert all(record["outputs"][0]["size"] > 0 for record in records)
    assert list_project_processes(test_project.folder) == []


def send_duplicates(test_project: Project, job_file: Path, numbers: list[int]) -> None:
    """Send these jobs' messages again, because SQS may deliver any message twice."""
    content = json.loads(job_file.read_text())
    groups = content.pop("groups")
    sqs = test_project.build_client("sqs")
    url = sqs.get_queue_url(QueueName="TryoutQueue")["QueueUrl"]
    for number in numbers:
        sqs.send_message(QueueUrl=url, MessageBody=json.dumps({**content, "group": groups[number]}))


@pytest.mark.long
def test_a_job_that_always_fails_is_reported_with_its_reason_and_kept_in_its_record(tmp_path: Path) -> None:
    script = "import sys; print('well', sys.argv[1], 'is empty'); sys.exit(7 * (sys.argv[1] == 'B2'))"
    with create_project(tmp_path / "p") as test_project:
        wells = [{"well": well} for well in ("A1", "A2", "B1", "B2")]
        job_file = test_project.write_job_file(
            command=["python3", "-c", script, "{well}"], output_location="out", groups=wells
        )
        test_project.run("setup")
        test_project.run("submitJob", str(job_file))
        test_project.run("startCluster", "files/fleet.json")
        result = test_project.run("monitor", MONITOR_FILE, check=False)
        assert result.returncode == 3
        assert "jobs done       3" in result.stdout
        assert "jobs failed     1" in result.stdout
        assert "B2-" in result.stdout
        assert "  exit code 7: well # is empty  " in result.stdout
        assert " (after 3 attempts)" in result.stdout
        assert "| well B2 is empty" in result.stdout
        assert "removed         dead-letter queue TryoutDead" in result.stdout
        failed = [record for record in test_project.read_records() if record["state"] == "failed"]
        assert [(record["exit_code"], record["attempts"], record["final"]) for record in failed] == [(7, 3, True)]
        assert failed[0]["message"]["group"] == {"well": "B2"}


@pytest.mark.long
def test_no_resources_remain_after_a_run_even_if_commands_are_repeated(tmp_path: Path) -> None:
    with create_project(tmp_path / "p") as test_project:
        job_file = test_project.write_job_file(**build_square_jobs(8))
        for _ in range(2):
            test_project.run("setup")
        test_project.run("submitJob", str(job_file))
        test_project.run("startCluster", "files/fleet.json")
        test_project.run("setup")  # its tasks continue to run
        second_start = test_project.run("startCluster", "files/fleet.json", check=False)
        assert second_start.returncode == 2
        assert "is already running" in second_start.stderr
        for _ in range(2):
            assert "jobs done       8" in test_project.run("monitor", MONITOR_FILE).stdout
        assert_no_resources_remain(test_project)
    assert list_project_processes(test_project.folder) == []


@pytest.mark.long
def test_an_interrupted_machine_is_replaced_and_its_jobs_are_done_on_another_machine(tmp_path: Path) -> None:
    script = "import sys, time; time.sleep(1); open(sys.argv[1] + '/ok.txt', 'w').write('ok')"
    with create_project(tmp_path / "p") as test_project:
        groups = [{"number": number} for number in range(12)]
        command = ["python3", "-c", script, "{output_dir}"]
        job_file = test_project.write_job_file(command=command, output_location="results/{job}", groups=groups)
        test_project.run("setup")
        test_project.run("submitJob", str(job_file))
        test_project.run("startCluster", "files/fleet.json")
        wait_until(lambda: len(test_project.list_workers()) == 2)
        interruption = test_project.run("interrupt", "--notice", "5")
        assert "is interrupted" in interruption.stderr
        result = test_project.run("monitor", MONITOR_FILE)
        assert "jobs done       12" in result.stdout
        assert len(test_project.read_results()) == 12


@pytest.mark.long
def test_two_projects_can_run_at_the_same_time(tmp_path: Path) -> None:
    with create_project(tmp_path / "first") as first, create_project(tmp_path / "second") as second:
        for test_project, count in ((first, 5), (second, 7)):
            test_project.run("setup")
            test_project.run("submitJob", str(test_project.write_job_file(**build_square_jobs(count))))
            test_project.run("startCluster", "files/fleet.json")
        for test_project, count in ((first, 5), (second, 7)):
            assert f"jobs done       {count}" in test_project.run("monitor", MONITOR_FILE).stdout
            assert len(test_project.read_results()) == count


@pytest.mark.long
def test_the_monitor_says_that_jobs_were_lost_if_the_queue_was_deleted_during_the_run(tmp_path: Path) -> None:
    with create_project(tmp_path / "p") as test_project:
        test_project.run("setup")
        test_project.run("submitJob", str(test_project.write_job_file(**build_square_jobs(200))))
        test_project.run("startCluster", "files/fleet.json")
        test_project.stop()  # this deletes the queue, because the local cloud keeps queues in memory
        result = test_project.run("monitor", MONITOR_FILE, check=False)
        assert result.returncode == 3
        counts = dict(re.findall(r"^(jobs done|no record) +([0-9]+)", result.stdout, re.MULTILINE))
        assert int(counts["no record"]) > 0
        assert sum(map(int, counts.values())) == 200
