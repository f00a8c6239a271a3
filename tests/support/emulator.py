"""SQS and S3 emulators on this computer, and real workers that use them, for the worker tests."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import sysconfig
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
from botocore.exceptions import ClientError

from tests.support.paths import ROOT

LOGIN = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
KEYS = LOGIN | {"AWS_DEFAULT_REGION": "us-east-1"}


@contextmanager
def run_ministack(folder: Path) -> Iterator[str]:
    """Run ministack on the loopback interface while the block runs. Yield its address."""
    port = _find_free_port()
    env = os.environ | {
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
        "LOG_LEVEL": "WARNING",
        "TMPDIR": str(folder),
        "STATE_DIR": str(folder),
        "DOCKER_HOST": f"unix://{folder}/none.sock",  # with an engine, it would remove other emulators' containers
        "IOT_MTLS_ENABLED": "0",
        "SFTP_ENABLED": "0",
    }
    with (folder / "ministack.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "ministack"], cwd=folder, env=env, stdout=log, stderr=log, start_new_session=True
        )
    try:
        wait_until(lambda: process.poll() is None and _is_listening(port), "ministack did not start")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


@contextmanager
def run_roto(folder: Path) -> Iterator[str]:
    """Run roto while the block runs. Yield its address.

    A second emulator ensures that the worker does not depend on ministack's peculiarities.
    """
    port = _find_free_port()
    server = Path(sysconfig.get_path("scripts")) / "roto-server"
    command = [str(server), "--port", str(port), "--data-dir", str(folder / "roto-data")]
    with (folder / "roto.log").open("w") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, start_new_session=True)
    try:
        wait_until(lambda: process.poll() is None and _is_listening(port), "roto did not start")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def wait_until(condition: Callable[[], Any], failure: str, seconds: float = 60) -> Any:
    """Wait until the condition returns a true value, and return that value. Fail with `failure` after `seconds`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.03)
    raise AssertionError(failure)


@dataclass
class WorkerLab:
    """A queue with its dead-letter queue, a bucket, and the workers that a test starts."""

    url: str
    folder: Path
    job_retries: int = 2
    max_receives: int = 0  # 0: one more than `job_retries`, as in the queue that `setup` creates
    visibility: int = 2
    run: str = "20261123T104500Z"
    name: str = field(default_factory=lambda: f"lab-{uuid.uuid4().hex[:8]}")
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        session = boto3.Session(aws_access_key_id="test", aws_secret_access_key="test", region_name="us-east-1")
        self.sqs, self.s3 = (session.client(name, endpoint_url=self.url) for name in ("sqs", "s3"))
        self.dead_url = self.sqs.create_queue(QueueName=f"{self.name}-dead")["QueueUrl"]
        arn = self.sqs.get_queue_attributes(QueueUrl=self.dead_url, AttributeNames=["QueueArn"])["Attributes"][
            "QueueArn"
        ]
        redrive = json.dumps(
            {"deadLetterTargetArn": arn, "maxReceiveCount": str(self.max_receives or self.job_retries + 1)}
        )
        self.queue_url = self.sqs.create_queue(QueueName=self.name, Attributes={"RedrivePolicy": redrive})["QueueUrl"]
        self.s3.create_bucket(Bucket=self.name)

    @property
    def environment(self) -> dict[str, str]:
        """A worker's variables as a task definition sets them. Workers must not need AWS_DEFAULT_REGION."""
        return LOGIN | {
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_ENDPOINT_URL": self.url,
            "AWS_REGION": "us-east-1",
            "APP_NAME": "App",
            "RUN": self.run,
            "SQS_QUEUE_URL": self.queue_url,
            "SQS_DEAD_LETTER_QUEUE_URL": self.dead_url,
            "AWS_BUCKET": self.name,
            "SQS_MESSAGE_VISIBILITY": str(self.visibility),
            "EXPECTED_NUMBER_FILES": "1",
            "JOB_RETRIES": str(self.job_retries),
            "RETRY_SECONDS": "0",
        }

    def start_worker(self, script: Path = ROOT / "worker" / "generic-worker.py", **env: str) -> subprocess.Popen[bytes]:
        """Start `python worker/generic-worker.py`, or another script. `read_log` returns its output."""
        work = self.folder / "work"
        work.mkdir(exist_ok=True)
        paths = {"PATH": os.environ["PATH"], "WORK_DIR": str(work), "PYTHONPATH": str(ROOT)}
        with (self.folder / "worker.log").open("ab") as log:
            command = [sys.executable, str(script)]
            env = paths | self.environment | env
            worker = subprocess.Popen(command, env=env, stdout=log, stderr=log, start_new_session=True)
        self.workers.append(worker)
        return worker

    def kill_workers(self) -> None:
        """Kill all running workers."""
        for worker in self.workers:
            with suppress(ProcessLookupError):
                os.killpg(worker.pid, signal.SIGKILL)
            worker.wait()

    def read_log(self) -> str:
        return (self.folder / "worker.log").read_text()

    def send_job(self, **message: Any) -> dict[str, Any]:
        self.send_text(json.dumps(message))
        return message

    def send_text(self, body: str) -> None:
        self.sqs.send_message(QueueUrl=self.queue_url, MessageBody=body)

    def read_object(self, key: str) -> bytes | None:
        """Return an object's content, or None if the object does not exist."""
        try:
            return bytes(self.s3.get_object(Bucket=self.name, Key=key)["Body"].read())
        except ClientError:
            return None

    def put_object(self, key: str, body: bytes = b"x") -> None:
        self.s3.put_object(Bucket=self.name, Key=key, Body=body)

    def read_record(self, job: str) -> dict[str, Any] | None:
        content = self.read_object(f"runs/App/{self.run}/jobs/{job}.json")
        return json.loads(content) if content else None

    def wait_for_record(self, job: str, **expected: Any) -> dict[str, Any]:
        """Wait until a job's record has the expected values, and return the record."""

        def find_matching_record() -> dict[str, Any] | None:
            record = self.read_record(job)
            return record if record and all(record[key] == value for key, value in expected.items()) else None

        wait_until(
            find_matching_record,
            f"the record of {job} never had the values {expected}; before the wait, it was {self.read_record(job)}",
        )
        return find_matching_record() or {}

    def wait_for_journal(self, **expected: Any) -> list[dict[str, Any]]:
        """Wait until a journal's first line has the expected values, and return the journal's lines."""

        def read_journal() -> list[dict[str, Any]]:
            prefix = f"runs/App/{self.run}/attempts/"
            for entry in self.s3.list_objects_v2(Bucket=self.name, Prefix=prefix).get("Contents", []):
                lines = [json.loads(line) for line in (self.read_object(entry["Key"]) or b"").splitlines()]
                if lines and all(lines[0][key] == value for key, value in expected.items()):
                    return lines
            return []

        return list(wait_until(read_journal, f"no journal had the values {expected}"))

    def receive_dead_letters(self) -> list[dict[str, Any]]:
        """Return the messages in the dead-letter queue. Calls within the next two seconds do not return them again."""
        return list(
            self.sqs.receive_message(
                QueueUrl=self.dead_url, MaxNumberOfMessages=10, VisibilityTimeout=2, MessageAttributeNames=["All"]
            ).get("Messages", [])
        )

    def count_messages(self, hidden: bool = False) -> int:
        """Return the number of messages that can be received or, with `hidden`, that are hidden by a lease."""
        name = "ApproximateNumberOfMessages" + ("NotVisible" if hidden else "")
        response = self.sqs.get_queue_attributes(QueueUrl=self.queue_url, AttributeNames=[name])
        return int(response["Attributes"][name])


def _find_free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
