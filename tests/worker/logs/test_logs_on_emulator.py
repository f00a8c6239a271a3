"""Logs that a container in another process sends to an emulator: they are complete and leave no threads or warnings."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest

from tests.support.emulator import KEYS, run_ministack
from tests.support.paths import ROOT
from tests.worker.logs.fake_logs import GROUP

CREDENTIALS = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}
WORKER = """
import json, logging, os, sys, threading
from pathlib import Path
import boto3
from distributed_something.worker.logs.container_log import start_container_log, stop_container_log
from distributed_something.worker.logs.job_log import JobLogs
from distributed_something.worker.logs.log_stream import LogBackoff
from types import SimpleNamespace
client = boto3.client("logs")
start_container_log(client, SimpleNamespace(log_group_name="AppLogs", machine="m"))
jobs = JobLogs(client, sys.argv[1], backoff=LogBackoff("job logs", 0.1))
thread = threading.Thread(target=jobs.run)
thread.start()
for n in range(20):
    path = Path(f"{n}.log")
    jobs.follow_log(f"job-{n}", path)
    path.write_bytes(b"".join(b"%d\\n" % line for line in range(n * 200)))
    jobs.unfollow_log(f"job-{n}")
    path.unlink()
jobs.end(float(sys.argv[2]))
thread.join()
logging.getLogger("worker").info("the end")
stop_container_log(5)
print(json.dumps([thread.name for thread in threading.enumerate()]))
"""


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with run_ministack(tmp_path_factory.mktemp("emulator")) as address:
        boto3.client("logs", endpoint_url=address, **CREDENTIALS).create_log_group(logGroupName=GROUP)
        yield address


def run_worker(url: str, folder: Path, group: str, seconds: float) -> subprocess.CompletedProcess[str]:
    env = os.environ | KEYS | {"AWS_ENDPOINT_URL": url, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", WORKER, group, str(seconds)]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=60, check=True)


def test_all_of_a_containers_logs_are_sent_and_no_thread_is_left_running(url: str, tmp_path: Path) -> None:
    process = run_worker(url, tmp_path, GROUP, 30)
    assert process.stderr == ""
    assert json.loads(process.stdout.splitlines()[-1]) == ["MainThread"]
    client = boto3.client("logs", endpoint_url=url, **CREDENTIALS)
    streams = client.describe_log_streams(logGroupName=GROUP)["logStreams"]
    assert (
        len([stream for stream in streams if stream["logStreamName"].startswith("job-")]) == 19
    )  # job 0 printed nothing
    assert [stream for stream in streams if stream["logStreamName"].startswith("m-")]
    events = client.get_log_events(logGroupName=GROUP, logStreamName="job-19", startFromHead=True, limit=10_000)
    assert [event["message"] for event in events["events"]] == [str(n) for n in range(3_800)]


def test_a_missing_log_group_is_logged_in_one_line_without_warnings(url: str, tmp_path: Path) -> None:
    process = run_worker(url, tmp_path, "NoSuchGroup", 2)
    assert process.stderr == ""
    assert process.stdout.count("job logs may be incomplete in CloudWatch") == 1
    assert "does not exist: NoSuchGroup" in process.stdout
