"""Two apps with one dead-letter queue on the local cloud, as two configs in one project: both have failed jobs."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.support.project import CONFIG, MONITOR_FILE, Project, create_project

SHARED = "TryoutDead"
SECOND = CONFIG | {
    "APP_NAME": "Second", "SQS_QUEUE_NAME": "SecondQueue", "SQS_DEAD_LETTER_QUEUE": SHARED,
    "ECS_CLUSTER": "second-cluster", "LOG_GROUP_NAME": "SecondLogs", "JOB_RETRIES": 1,
}  # fmt: skip


def submit_failing_job(project: Project, *options: str) -> None:
    """Set up an app, submit a job that succeeds and one that fails, and start the machines."""
    script = "import sys; open(sys.argv[2] + '/out', 'w').write('x'); sys.exit(int(sys.argv[1]))"
    groups = [{"code": "0"}, {"code": "7"}]
    command = ["python3", "-c", script, "{code}", "{output_dir}"]
    location = f"results{len(options)}/{{job}}"  # each app has its own
    job_file = project.write_job_file(command=command, output_location=location, groups=groups)
    project.run("setup", *options)
    project.run("submitJob", str(job_file), *options)
    project.run("startCluster", "files/fleet.json", *options)


def check_outcome(result: subprocess.CompletedProcess[str]) -> None:
    """Check the exit code and the counts of one app's `monitor`."""
    assert result.returncode == 3, result.stdout + result.stderr
    assert {"jobs done       1", "jobs failed     1"} <= set(result.stdout.splitlines())


@pytest.mark.long
def test_two_apps_with_one_dead_letter_queue_both_end_without_an_error(tmp_path: Path) -> None:
    with create_project(tmp_path / "p", JOB_RETRIES=1) as project:
        config = project.folder / "second.py"
        config.write_text("".join(f"{name} = {value!r}\n" for name, value in SECOND.items()))
        options = ("--config", str(config))
        submit_failing_job(project)
        submit_failing_job(project, *options)

        first = project.run("monitor", MONITOR_FILE, check=False)
        check_outcome(first)
        assert f"kept dead-letter queue {SHARED} (other queues use it)" in " ".join(first.stdout.split())
        project.run("cleanup", "--verify", MONITOR_FILE)

        second = project.run("monitor", "files/SecondSpotFleetRequestId.json", *options, check=False)
        check_outcome(second)
        owner = "it belongs to the app Tryout, whose cleanup deletes it"
        assert f"kept dead-letter queue {SHARED} ({owner})" in " ".join(second.stdout.split())
        assert "REMAINING" not in first.stdout + second.stdout
        project.run("cleanup", "--verify")

        kept = " ".join(project.run("cleanup", "--yes").stdout.split())
        assert f"dead-letter queue {SHARED} (it is not empty; cleanup --failed-too deletes it)" in " ".join(
            kept.split()
        )
        assert f"removed         dead-letter queue {SHARED}" in project.run("cleanup", "--failed-too").stdout
        assert project.build_client("sqs").list_queues().get("QueueUrls", []) == []


@pytest.mark.long
def test_a_colleagues_queue_is_still_there_and_unchanged_at_the_end(tmp_path: Path) -> None:
    with create_project(tmp_path / "p", JOB_RETRIES=1, SQS_DEAD_LETTER_QUEUE="LabDead") as project:
        sqs = project.build_client("sqs")
        url = sqs.create_queue(QueueName="LabDead", Attributes={"MessageRetentionPeriod": "345600"})["QueueUrl"]
        attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
        redrive = json.dumps({"deadLetterTargetArn": attributes["QueueArn"], "maxReceiveCount": 5})
        sqs.create_queue(QueueName="Colleague", Attributes={"RedrivePolicy": redrive})
        submit_failing_job(project)
        result = project.run("monitor", MONITOR_FILE, check=False)

        check_outcome(result)
        assert "kept dead-letter queue LabDead (several apps share it)" in " ".join(result.stdout.split())
        assert "(several apps share it)" in project.run("cleanup", "--failed-too").stdout
        after = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
        assert after["MessageRetentionPeriod"] == "345600"
        assert after["ApproximateNumberOfMessages"] == "1"
        assert sqs.list_queue_tags(QueueUrl=url)["Tags"] == {"app": "shared"}
