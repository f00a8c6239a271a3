"""Whole runs in the local cloud with a topic: exactly the expected messages, and none that changes the run."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.support.project import MONITOR_FILE, Project, create_project, wait_until

TOPIC = "arn:aws:sns:us-east-1:111122223333:lab"  # in a real account; the local cloud makes its own
LOCAL_TOPIC = "arn:aws:sns:us-east-1:123456789012:lab"


def read_messages(app: Project) -> list[dict[str, str]]:
    path = app.folder / "local" / "notifications.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def start_run(app: Project, command: str) -> None:
    app.run("setup")
    app.write_job_file(command=command, shell=True, groups=[{"n": str(number)} for number in range(4)])
    app.run("submitJob", "files/job.json")
    app.run("startCluster", "files/fleet.json")


@pytest.mark.long
def test_both_monitors_together_send_each_message_once(tmp_path: Path) -> None:
    with create_project(tmp_path / "p", AUTO_MONITOR="True", NOTIFY=TOPIC, JOB_RETRIES=1) as app:
        app.run("setupAWS")
        start_run(app, "test {n} != 2 && echo {n} > {output_dir}/out.txt")
        assert app.run("monitor", MONITOR_FILE, check=False).returncode == 3
        wait_until(lambda: app.build_client("events").list_rules()["Rules"] == [])
        wait_until(lambda: len(read_messages(app)) == 2)

        failure, end = read_messages(app)
        assert {failure["topic"], end["topic"]} == {LOCAL_TOPIC}
        assert failure["subject"] == "Tryout: 1 job failed"
        assert "cause           exit code 1 (F" in failure["message"]
        assert "for example     2-" in failure["message"]
        assert end["subject"] == "Tryout: the run has ended: 1 of 4 jobs failed"
        assert "jobs done       3\nalready there   0\njobs failed     1\nin the queue    0\n" in end["message"]
        for label in ("summary", "report"):
            (address,) = re.findall(rf"^{label} +s3://(\S+)", end["message"], re.M)
            bucket, _, key = address.partition("/")
            text = app.build_client("s3").get_object(Bucket=bucket, Key=key)["Body"].read().decode()
            assert "1 of 4 jobs failed" in text or "1 failed" in text


@pytest.mark.long
def test_a_topic_that_refuses_changes_nothing_but_a_line(tmp_path: Path) -> None:
    results = {}
    for name in ("with", "without"):
        with create_project(tmp_path / name, NOTIFY=TOPIC, JOB_RETRIES=1) as app:
            start_run(app, "exit 7")
            if name == "without":
                app.build_client("sns").delete_topic(TopicArn=LOCAL_TOPIC)
            monitor = app.run("monitor", MONITOR_FILE, check=False)
            subjects = [message["subject"] for message in read_messages(app)]
            results[name] = (monitor.returncode, monitor.stdout, monitor.stderr, subjects)

    assert results["with"][0] == results["without"][0] == 3
    assert results["without"][3] == []
    failure, stop, end = results["with"][3]
    assert failure.startswith("Tryout: ")
    assert stop == "Tryout: stopped because nothing works"
    assert end == "Tryout: the run has ended: 4 of 4 jobs failed"
    lines = [line for line in results["without"][2].splitlines() if line.startswith("not notified")]
    assert [line.split(":")[0].split()[-1] for line in lines] == ["failure", "nothing_works", "end"]
    for name in ("with", "without"):
        assert "every job failed. The machines were stopped" in " ".join(results[name][1].split())
