"""Whole runs: the four commands as typed, real emulators, real worker processes, real results."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.support.project import MONITOR_FILE, ROOT, Project, processes_of, project, wait_for

SQUARE = "import sys; open(sys.argv[2] + '/answer.txt', 'w').write(str(int(sys.argv[1]) ** 2))"


def squares(count: int, **more: object) -> dict[str, object]:
    """A job file of `count` jobs, each of which writes the square of its number."""
    groups = [{"number": number} for number in range(count)]
    command = ["python3", "-c", SQUARE, "{number}", "{output_dir}"]
    return {"command": command, "output_location": "results/{job}", "expected_files": 1, "groups": groups} | more


def assert_nothing_is_left(made: Project) -> None:
    """No queue, service, task definition, cluster, fleet, machine, worker or task folder."""
    assert made.client("sqs").list_queues().get("QueueUrls", []) == []
    ecs, ec2 = made.client("ecs"), made.client("ec2")
    clusters = ecs.describe_clusters(clusters=["tryout-cluster"])["clusters"]
    assert {cluster["status"] for cluster in clusters} <= {"INACTIVE"}
    assert ecs.list_task_definitions()["taskDefinitionArns"] == []
    fleets = ec2.describe_spot_fleet_requests()["SpotFleetRequestConfigs"]
    assert {fleet["SpotFleetRequestState"] for fleet in fleets} <= {"cancelled", "cancelled_terminating"}
    machines = [one for group in ec2.describe_instances()["Reservations"] for one in group["Instances"]]
    assert {machine["State"]["Name"] for machine in machines} <= {"terminated", "shutting-down"}
    wait_for(lambda: not made.workers())
    tasks = made.folder / "local" / ".cloud" / "tasks"
    assert not tasks.exists() or list(tasks.iterdir()) == []


def test_the_shipped_files_count_96_wells_unedited_from_another_folder(tmp_path: Path) -> None:
    home = tmp_path / "clone"
    subprocess.run(["cp", "-r", *map(str, _shipped()), str(_made(home))], check=True)

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(home / "run.py"), *words]
        env = Project.environment({})
        return subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120, check=True)

    try:
        run("--local", "setup")
        run("submitJob", "clone/files/exampleJob.json", "--local")
        run("startCluster", "--local", "clone/files/exampleFleet.json")
        done = run("--local", "monitor", "clone/files/DistributedSomethingSpotFleetRequestId.json")
    finally:
        run("--local", "stop")
    assert "jobs done       96" in done.stdout
    assert "NOT REMOVED" not in done.stdout
    results = home / "local" / "your-bucket-name" / "cellcount" / "results"
    files = sorted(path.name for path in results.rglob("*") if path.is_file())
    assert files == ["counts.csv"] * 96 + ["marked.png"] * 96
    assert len(list(results.iterdir())) == 96
    assert processes_of(home) == []


# Deliveries of a message before it goes to the dead-letter queue. One answer in 40 is lost, and a message that was in
# it is delivered again, as is one whose worker was killed. With 3 deliveries, one run in a hundred loses a job (two
# kills of one job and a lost answer); with 6, one in 600,000 (two kills and four lost answers).
DELIVERIES = 6


def test_a_run_of_200_jobs_survives_killed_workers_a_killed_monitor_faults_of_aws_and_double_delivery(
    tmp_path: Path,
) -> None:
    with project(tmp_path / "p", CHECK_IF_DONE_BOOL="True", JOB_RETRIES=DELIVERIES) as made:
        job_file = made.job_file(**squares(200))
        made.run("setup", LOCALCLOUD_FAULT_RATE="0.1")
        made.run("submitJob", str(job_file))
        send_again(made, job_file, [3, 50, 199])
        made.run("startCluster", "files/fleet.json")
        monitor = made.start("monitor", MONITOR_FILE)
        made.kill_a_worker()
        wait_for(lambda: len(made.workers()) == 2)
        monitor.kill()
        monitor.communicate()
        made.kill_a_worker()
        done = made.run("monitor", MONITOR_FILE)
        assert "NOT REMOVED" not in done.stdout
        assert "jobs failed     0" in done.stdout
        answers = made.results()
        assert len(answers) == 200
        assert sorted(map(int, answers.values())) == [number**2 for number in range(200)]
        records = made.records()
        assert [record["state"] for record in records] == ["done"] * 200
        assert all(record["outputs"][0]["size"] > 0 for record in records)
    assert processes_of(made.folder) == []


def send_again(made: Project, job_file: Path, numbers: list[int]) -> None:
    """The same messages once more, as SQS may deliver any message twice."""
    content = json.loads(job_file.read_text())
    groups = content.pop("groups")
    sqs = made.client("sqs")
    url = sqs.get_queue_url(QueueName="TryoutQueue")["QueueUrl"]
    for number in numbers:
        sqs.send_message(QueueUrl=url, MessageBody=json.dumps({**content, "group": groups[number]}))


def test_a_job_that_always_fails_is_in_the_dead_letter_queue_and_named_with_its_reason(tmp_path: Path) -> None:
    script = "import sys; print('well', sys.argv[1], 'is empty'); sys.exit(7 * (sys.argv[1] == 'B2'))"
    with project(tmp_path / "p") as made:
        wells = [{"well": well} for well in ("A1", "A2", "B1", "B2")]
        job = made.job_file(command=["python3", "-c", script, "{well}"], output_location="out", groups=wells)
        made.run("setup")
        made.run("submitJob", str(job))
        made.run("startCluster", "files/fleet.json")
        done = made.run("monitor", MONITOR_FILE)
        assert "jobs done       3" in done.stdout
        assert "jobs failed     1" in done.stdout
        assert "B2-" in done.stdout
        assert "exit code 7 (after 3 attempts)" in done.stdout
        assert "| well B2 is empty" in done.stdout
        assert "kept            dead-letter queue TryoutDead (failed jobs in it: 1)" in done.stdout
        failed = [record for record in made.records() if record["state"] == "failed"]
        assert [(record["exit_code"], record["attempts"]) for record in failed] == [(7, 3)]


def test_nothing_is_left_after_a_run_and_every_command_may_be_typed_twice(tmp_path: Path) -> None:
    with project(tmp_path / "p") as made:
        job = made.job_file(**squares(8))
        for _ in range(2):
            made.run("setup")
        made.run("submitJob", str(job))
        made.run("startCluster", "files/fleet.json")
        made.run("setup")  # on a live run: its tasks go on
        again = made.run("startCluster", "files/fleet.json", check=False)
        assert again.returncode == 2
        assert "is already running" in again.stderr
        first = made.run("monitor", MONITOR_FILE)
        assert "jobs done       8" in first.stdout
        second = made.run("monitor", MONITOR_FILE)
        assert "jobs done       8" in second.stdout
        assert_nothing_is_left(made)
    assert processes_of(made.folder) == []


def test_a_machine_that_is_taken_away_is_replaced_and_its_jobs_are_done_elsewhere(tmp_path: Path) -> None:
    script = "import sys, time; time.sleep(1); open(sys.argv[1] + '/ok.txt', 'w').write('ok')"
    with project(tmp_path / "p") as made:
        groups = [{"number": number} for number in range(12)]
        command = ["python3", "-c", script, "{output_dir}"]
        job = made.job_file(command=command, output_location="results/{job}", groups=groups)
        made.run("setup")
        made.run("submitJob", str(job))
        made.run("startCluster", "files/fleet.json")
        wait_for(lambda: len(made.workers()) == 2)
        taken = made.run("interrupt", "--notice", "5")
        assert "is taken away" in taken.stderr
        done = made.run("monitor", MONITOR_FILE)
        assert "jobs done       12" in done.stdout
        assert len(made.results()) == 12


def test_two_projects_run_side_by_side(tmp_path: Path) -> None:
    with project(tmp_path / "one") as one, project(tmp_path / "two") as two:
        for made, count in ((one, 5), (two, 7)):
            made.run("setup")
            made.run("submitJob", str(made.job_file(**squares(count))))
            made.run("startCluster", "files/fleet.json")
        for made, count in ((one, 5), (two, 7)):
            assert f"jobs done       {count}" in made.run("monitor", MONITOR_FILE).stdout
            assert len(made.results()) == count


def _shipped() -> list[Path]:
    names = ("run.py", "config.py", "distributed_something", "worker", "files", "examples")
    return [ROOT / name for name in names]


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def test_a_monitor_that_finds_no_trace_of_its_run_says_so_and_does_not_call_it_done(tmp_path: Path) -> None:
    with project(tmp_path / "p") as made:
        made.run("setup")
        made.run("submitJob", str(made.job_file(**squares(200))))
        made.run("startCluster", "files/fleet.json")
        made.stop()  # the queue of the local cloud lives in memory: it is gone, as after a kill
        done = made.run("monitor", MONITOR_FILE, check=False)
        assert done.returncode == 1
        assert "NOT FOUND       neither queue TryoutQueue\n                nor fleet sfr-" in done.stdout
