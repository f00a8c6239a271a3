"""Runs in which nothing works: each from the first command to the way out, by the messages alone."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest

from tests.support.project import MONITOR_FILE, ROOT, Project, create_project, join_commands, wait_until

WRITE = ["sh", "-c", "echo {n} > {output_dir}/answer"]


def write_jobs(project: Project, command: list[str], count: int = 4) -> str:
    groups = [{"n": number} for number in range(count)]
    return str(project.write_job_file(command=command, output_location="results/{job}", groups=groups))


def count_machines(project: Project) -> int:
    groups = project.build_client("ec2").describe_instances()["Reservations"]
    machines = [machine for group in groups for machine in group["Instances"]]
    return sum(machine["State"]["Name"] in ("pending", "running") for machine in machines)


@pytest.mark.long
def test_a_worker_that_cannot_be_imported_ends_the_run_with_its_last_lines_and_no_job_is_lost(tmp_path: Path) -> None:
    with create_project(tmp_path / "p") as project:
        worker = project.folder / "worker" / "generic-worker.py"
        worker.write_text("import numpyy\n")
        project.run("setup")
        project.run("submitJob", write_jobs(project, WRITE))
        project.run("startCluster", "files/fleet.json")
        end = project.run("monitor", MONITOR_FILE, check=False)
        assert end.returncode == 3
        lines = end.stdout.splitlines()
        assert re.fullmatch(
            r"\d+ containers started and stopped without taking a job in \d+ s\. The machines were stopped, and the"
            r" queue was kept",
            " ".join(lines[:2]),
        )
        assert "machines        2" in lines, "although no container reported its machine"
        assert "ECS             Essential container in task exited (exit code 1)" in lines
        assert "  | ModuleNotFoundError: No module named 'numpyy'" in lines
        assert "in the queue    4" in lines
        wait_until(lambda: count_machines(project) == 0)
        assert "No module named 'numpyy'" in project.run("why", MONITOR_FILE).stdout

        shutil.copy(ROOT / "worker" / "generic-worker.py", worker)
        project.run("setup")
        project.run("startCluster", "files/fleet.json")
        assert "jobs done       4" in project.run("monitor", MONITOR_FILE).stdout
        assert len(project.read_results()) == 4


DYING_HOOK = """
import os

def prepare(job, folders):
    if job.id.startswith("{n}"):
        print("native code: abort", flush=True)
        os._exit(3)

"""


def write_dying_worker(project: Project, job: str) -> Path:
    """Let the worker die whenever it prepares this job; return the file with the hooks."""
    worker = project.folder / "worker" / "generic-worker.py"
    text = worker.read_text()
    worker.write_text(text.replace("def failure(", DYING_HOOK.replace("{n}", job).lstrip() + "def failure(", 1))
    return worker


def find_summary(project: Project) -> str:
    """Return the summary that the auto-monitor saved."""
    s3 = project.build_client("s3")
    names = [item["Key"] for item in s3.list_objects_v2(Bucket="tryout-bucket", Prefix="runs/")["Contents"]]
    (key,) = (name for name in names if name.endswith("/summary.txt"))
    return str(s3.get_object(Bucket="tryout-bucket", Key=key)["Body"].read().decode())


def check_crash_report(text: str, retry: str) -> list[str]:
    """Check that a summary says how the worker died, and that a correction comes first; return the commands."""
    assert "its container ended with exit code 3" in " ".join(text.split())
    assert "  | native code: abort" in text
    assert "Correct worker/generic-worker.py" in " ".join(text.split())
    commands = [line.strip() for line in join_commands(text).partition("\nnext: ")[2].splitlines()]
    assert [shlex.split(command)[5:] for command in commands] == [
        ["setup"], ["retry", retry], ["startCluster", "files/fleet.json"], ["monitor", retry],
    ]  # fmt: skip
    return commands


@pytest.mark.long
def test_a_worker_that_dies_in_a_hook_is_corrected_and_its_job_is_sent_again(tmp_path: Path) -> None:
    with create_project(tmp_path / "p", JOB_RETRIES=2) as project:
        worker = write_dying_worker(project, "2")
        groups = [{"n": str(number)} for number in range(4)]
        job_file = project.write_job_file(command=WRITE, output_location="results/{job}", groups=groups)
        project.run("setup")
        project.run("submitJob", str(job_file))
        project.run("startCluster", "files/fleet.json")
        end = project.run("monitor", MONITOR_FILE, check=False)
        assert end.returncode == 3
        commands = check_crash_report(end.stdout, MONITOR_FILE)
        assert commands[0].endswith(" setup")
        status = project.run("status", MONITOR_FILE, check=False).stdout
        assert join_commands(status).endswith(join_commands(end.stdout).partition("\nnext: ")[2])

        shutil.copy(ROOT / "worker" / "generic-worker.py", worker)
        for command in commands:
            last = project.run(*shlex.split(command)[5:])
        assert "verdict         every job is done" in last.stdout
        assert len(project.read_results()) == 4


@pytest.mark.long
def test_the_auto_monitor_says_how_a_worker_died_and_which_commands_the_user_types(tmp_path: Path) -> None:
    """It knows neither the project's folder nor its files, except from the monitor file."""
    with create_project(tmp_path / "p", JOB_RETRIES=2, AUTO_MONITOR="True") as project:
        write_dying_worker(project, "2")
        groups = [{"n": str(number)} for number in range(4)]
        job_file = project.write_job_file(command=WRITE, output_location="results/{job}", groups=groups)
        project.run("setupAWS")
        project.run("setup")
        project.run("submitJob", str(job_file))
        project.run("startCluster", "files/fleet.json")
        wait_until(lambda: not project.build_client("events").list_rules()["Rules"])
        commands = check_crash_report(find_summary(project), MONITOR_FILE)
        prefix = shlex.join(["python", str(ROOT / "run.py"), "--local", "--project", str(project.folder)])
        assert all(command.startswith(prefix) for command in commands)
        assert "buildImage" not in "".join(commands), "these workers do not run in containers"
        shown = project.run("monitor", check=False).stdout
        assert join_commands(shown).endswith("\n".join(commands[1:]).replace("\n", "\n      ") + "\n")


@pytest.mark.long
def test_containers_whose_log_driver_is_refused_end_the_run_and_setup_is_the_way_out(tmp_path: Path) -> None:
    with create_project(tmp_path / "p") as project:
        project.run("setup")
        project.run("submitJob", write_jobs(project, WRITE))
        project.build_client("logs").delete_log_group(logGroupName="Tryout_perInstance")
        project.run("startCluster", "files/fleet.json")
        end = project.run("monitor", MONITOR_FILE, check=False)
        assert end.returncode == 3
        assert "cause           containers cannot write to their log" in end.stdout.splitlines()
        assert "remedy          run setup, which creates the log groups" in end.stdout
        assert "failed to initialize logging driver" in " ".join(end.stdout.split())
        assert "in the queue    4" in end.stdout.splitlines()
        next_command = join_commands(end.stdout).partition("\nnext: ")[2].splitlines()[0]
        assert next_command.endswith(" setup")

        project.run("setup")
        project.run("startCluster", "files/fleet.json")
        assert "jobs done       4" in project.run("monitor", MONITOR_FILE).stdout


@pytest.mark.long
def test_the_auto_monitor_also_ends_a_run_whose_worker_cannot_be_imported(tmp_path: Path) -> None:
    with create_project(tmp_path / "p", AUTO_MONITOR="True") as project:
        (project.folder / "worker" / "generic-worker.py").write_text("import numpyy\n")
        project.run("setupAWS")
        project.run("setup")
        project.run("submitJob", write_jobs(project, WRITE))
        project.run("startCluster", "files/fleet.json")
        wait_until(lambda: not project.build_client("events").list_rules()["Rules"])
        assert count_machines(project) == 0
        end = project.run("monitor", MONITOR_FILE, check=False)
        assert end.returncode == 3
        assert "  | ModuleNotFoundError: No module named 'numpyy'" in end.stdout


@pytest.mark.long
def test_if_all_jobs_failed_before_the_first_look_the_queue_is_kept_for_the_corrected_jobs(tmp_path: Path) -> None:
    with create_project(tmp_path / "p", JOB_RETRIES=2) as project:
        project.run("setup")
        refused = project.run("startCluster", "files/fleet.json", check=False)
        assert refused.returncode == 2
        assert "the queue TryoutQueue of Tryout is empty" in refused.stderr
        assert project.build_client("ec2").describe_spot_fleet_requests()["SpotFleetRequestConfigs"] == []

        project.run("submitJob", write_jobs(project, ["false"], 2))
        project.run("startCluster", "files/fleet.json")
        wait_until(lambda: count_dead_letters(project) == 2)
        end = project.run("monitor", MONITOR_FILE, check=False)
        assert end.returncode == 3
        assert end.stdout.startswith("every job failed. ")
        assert "jobs failed     2" in end.stdout
        assert project.run("startCluster", "files/fleet.json", check=False).returncode == 2

        project.run("submitJob", write_jobs(project, WRITE, 2))
        project.run("startCluster", "files/fleet.json")
        assert "jobs done       2" in project.run("monitor", MONITOR_FILE).stdout


def count_dead_letters(project: Project) -> int:
    sqs = project.build_client("sqs")
    url = sqs.get_queue_url(QueueName="TryoutDead")["QueueUrl"]
    name = "ApproximateNumberOfMessages"
    return int(sqs.get_queue_attributes(QueueUrl=url, AttributeNames=[name])["Attributes"][name])


@pytest.mark.long
def test_an_outage_of_a_second_does_not_use_up_all_attempts(tmp_path: Path) -> None:
    """Four jobs fail until a file exists, which is created as soon as each of them has failed once."""
    with create_project(tmp_path / "p", JOB_RETRIES=4, DOCKER_CORES=4) as project:
        ready, seen = tmp_path / "ready", tmp_path / "seen"
        seen.mkdir()
        script = f"touch {seen}/{{n}}; test -e {ready} && echo {{n}} > {{output_dir}}/answer"
        project.run("setup")
        project.run("submitJob", write_jobs(project, ["sh", "-c", script]))
        project.run("startCluster", "files/fleet.json")
        wait_until(lambda: len(list(seen.iterdir())) == 4)
        ready.touch()
        assert "jobs done       4" in project.run("monitor", MONITOR_FILE).stdout


@pytest.mark.long
def test_a_sick_machine_is_recognized_although_fewer_than_five_jobs_are_left(tmp_path: Path) -> None:
    """The machine that runs the first job breaks. The other one needs three seconds for each job."""
    with create_project(tmp_path / "p", JOB_RETRIES=40, DOCKER_CORES=1) as project:
        sick = tmp_path / "sick"
        script = (
            f"mkdir {sick} 2>/dev/null && echo $INSTANCE_ID > {sick}/name; "
            f"grep -q $INSTANCE_ID {sick}/name && exit 1; "
            "sleep 3; echo {n} > {output_dir}/answer"
        )
        project.run("setup")
        project.run("submitJob", write_jobs(project, ["sh", "-c", script], 4))
        project.run("startCluster", "files/fleet.json")
        assert "jobs done       4" in project.run("monitor", MONITOR_FILE).stdout
        runs = project.folder / "local" / "tryout-bucket" / "runs"
        documents = [json.loads(path.read_text()) for path in runs.glob("*/*/machines/*.json")]
        (health,) = [document for document in documents if document.get("reason")]
        assert health["machine"] == (sick / "name").read_text().strip()
        assert "times in a row, only on this machine; the last failure: exit code 1" in health["reason"]
