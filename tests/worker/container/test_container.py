"""A complete container in this process, on an emulated EC2 machine, with all of its parts running."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import boto3
import pytest

from distributed_something.worker.admission.health import MIN_FAILED_JOBS
from distributed_something.worker.attempt.handler import Hooks, JobHandler
from distributed_something.worker.container import container
from distributed_something.worker.container.container import Container
from distributed_something.worker.container.stop import STOP_RESERVE_SECONDS
from distributed_something.worker.job.job_id import job_id
from distributed_something.worker.job.message.job_template import job_from_message
from distributed_something.worker.job.run_keys import RunKeys
from distributed_something.worker.job.worker_settings import read_worker_settings
from distributed_something.worker.machine import spot_notice
from distributed_something.worker.machine.metadata import InstanceMetadata
from tests.support.emulator import KEYS, WorkerLab, run_ministack, wait_until
from tests.support.metadata_server import INSTANCE, MetadataServer, run_metadata_server

# The worker disables this warning when it imports watchtower, but pytest resets the filters.
pytestmark = pytest.mark.filterwarnings("ignore:Timed out while delivering logs")


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with run_ministack(tmp_path_factory.mktemp("cloud")) as url:
        yield url


class Machine:
    """A running container, with access to what it reports to AWS."""

    def __init__(self, lab: WorkerLab, metadata: MetadataServer, failure: Callable[..., str | None]) -> None:
        self.lab, self.metadata = lab, metadata
        variables = {"WORK_DIR": str(lab.folder), "LOG_GROUP_NAME": lab.name, "INSTANCE_ID": INSTANCE}
        self._notices: SimpleQueue[float] = SimpleQueue()
        settings, hooks = (
            read_worker_settings(lab.environment | variables),
            Hooks(job_from_message, lambda *_: None, failure),
        )
        self.container = Container(settings, hooks, self._notices, InstanceMetadata(metadata.env))
        self._codes: list[int] = []
        self._thread = threading.Thread(target=lambda: self._codes.append(self.container.serve()))
        self._thread.start()

    def wait(self) -> int:
        """Wait until the container stops, and return its exit code."""
        self._thread.join(30)
        return self._codes[0]

    def end(self) -> None:
        self._notices.put(STOP_RESERVE_SECONDS)
        self._thread.join(30)

    def create_client(self, service: str) -> Any:
        keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}
        return boto3.client(service, endpoint_url=self.lab.url, **keys)  # type: ignore[call-overload]

    def read_usage_lines(self) -> list[str]:
        """Return the machine's usage report lines."""
        group = {"logGroupName": f"{self.lab.name}_perInstance", "logStreamName": INSTANCE}
        logs = self.create_client("logs")
        try:
            return [event["message"] for event in logs.get_log_events(**group)["events"]]
        except logs.exceptions.ResourceNotFoundException:
            return []


@pytest.fixture
def machine(cloud: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    lab = WorkerLab(cloud, tmp_path)
    with run_metadata_server() as metadata:
        environment = KEYS | metadata.env | {"AWS_ENDPOINT_URL": cloud, "ECS_CONTAINER_METADATA_URI_V4": "here"}
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        for name in ("CLOSED_CHECK_SECONDS", "HEALTH_CHECK_SECONDS", "USAGE_REPORT_SECONDS"):
            monkeypatch.setattr(container, name, 0.05)
        monkeypatch.setattr(spot_notice, "SPOT_CHECK_SECONDS", 0.05)
        running_machine = Machine(lab, metadata, lambda job, folders, result: "it failed" if result.exit_code else None)
        logs = running_machine.create_client("logs")
        for group in (lab.name, f"{lab.name}_perInstance"):
            logs.create_log_group(logGroupName=group)
        yield running_machine
        running_machine.end()


def test_a_machine_has_an_idle_alarm_and_reports_its_usage(machine: Machine) -> None:
    alarm = f"App_{INSTANCE}"
    cloudwatch = machine.create_client("cloudwatch")
    wait_until(lambda: cloudwatch.describe_alarms(AlarmNames=[alarm])["MetricAlarms"], "no alarm was created")
    assert "disk_percent" in wait_until(machine.read_usage_lines, "no usage was reported")[0]


def test_a_spot_notice_ends_the_container_with_exit_code_0(machine: Machine) -> None:
    machine.metadata.set_spot_notice(time.time() + 60)
    assert machine.wait() == 0


@pytest.mark.parametrize("stage", ["run_attempt", "finish_attempt"])
def test_a_slot_that_fails_ends_the_whole_container_with_exit_code_1(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    """ECS then starts another container. One that went on would have fewer slots and keep the failed slot's job."""

    def fail(*_: Any) -> bool:
        raise ZeroDivisionError

    monkeypatch.setattr(JobHandler, stage, fail)
    machine.lab.send_job(group={"x": stage}, command="true")
    assert machine.wait() == 1


def test_no_job_is_started_after_a_rebalance_recommendation(machine: Machine) -> None:
    machine.metadata.set_rebalance_recommendation(time.time())
    wait_until(lambda: machine.container.gate.count_allowed_jobs(1, 0) == 0, "the container still takes jobs")


def test_no_job_is_started_after_the_run_is_closed(machine: Machine) -> None:
    machine.lab.put_object(RunKeys("App", machine.lab.run).closed)
    wait_until(lambda: machine.container.gate.is_closed, "the container still takes jobs")


def test_an_unhealthy_container_takes_no_jobs_and_writes_a_document_about_its_pause(machine: Machine) -> None:
    for number in range(MIN_FAILED_JOBS):
        machine.lab.send_job(group={"n": number}, command="false")
    wait_until(lambda: machine.container.health.current_pause, "the container did not pause")
    assert machine.container.gate.count_allowed_jobs(1, 0) == 0
    prefix = RunKeys("App", machine.lab.run).machines

    def has_pause_document() -> bool:
        documents = machine.lab.s3.list_objects_v2(Bucket=machine.lab.name, Prefix=prefix).get("Contents", [])
        return any(b'"paused"' in (machine.lab.read_object(document["Key"]) or b"") for document in documents)

    wait_until(has_pause_document, "no document was written")


def test_a_jobs_log_is_sent_to_cloudwatch(machine: Machine) -> None:
    job = job_id(machine.lab.send_job(group={"x": "log"}, command="echo hello"))
    machine.lab.wait_for_record(job, state="done")
    logs = machine.create_client("logs")
    stream = {"logGroupName": machine.lab.name, "logStreamName": job}
    wait_until(
        lambda: logs.describe_log_streams(logGroupName=machine.lab.name, logStreamNamePrefix=job)["logStreams"],
        "no stream",
    )
    assert [event["message"] for event in logs.get_log_events(**stream)["events"]] == ["hello"]
