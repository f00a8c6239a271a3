"""A whole container in this process, on a machine of EC2 that emulators play: every part of it is at work."""

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
from distributed_something.worker.attempt.handler import Hooks
from distributed_something.worker.container import container
from distributed_something.worker.container.container import Container
from distributed_something.worker.container.stop import STOP_RESERVE_SECONDS
from distributed_something.worker.job.job import job_from_message
from distributed_something.worker.job.job_id import job_id
from distributed_something.worker.job.run_keys import RunKeys
from distributed_something.worker.job.worker_settings import read_worker_settings
from distributed_something.worker.machine import spot_notice
from distributed_something.worker.machine.metadata import InstanceMetadata
from tests.support.emulator import KEYS, Lab, ministack, until
from tests.support.metadata_server import INSTANCE, MetadataServer, metadata_server

# Where a program loads it, the worker switches this off itself.
pytestmark = pytest.mark.filterwarnings("ignore:Timed out while delivering logs")


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with ministack(tmp_path_factory.mktemp("cloud")) as url:
        yield url


class Machine:
    """A container at work, and what a test sees of it. `wait()`: its exit code, once it has ended."""

    def __init__(self, lab: Lab, metadata: MetadataServer, failure: Callable[..., str | None]) -> None:
        self.lab, self.metadata = lab, metadata
        told = {"WORK_DIR": str(lab.folder), "LOG_GROUP_NAME": lab.name, "INSTANCE_ID": INSTANCE}
        self._notices: SimpleQueue[float] = SimpleQueue()
        settings, hooks = (
            read_worker_settings(lab.environment | told),
            Hooks(job_from_message, lambda *_: None, failure),
        )
        self.container = Container(settings, hooks, self._notices, InstanceMetadata(metadata.env))
        self._codes: list[int] = []
        self._thread = threading.Thread(target=lambda: self._codes.append(self.container.serve()))
        self._thread.start()

    def wait(self) -> int:
        self._thread.join(30)
        return self._codes[0]

    def end(self) -> None:
        self._notices.put(STOP_RESERVE_SECONDS)
        self._thread.join(30)

    def client(self, service: str) -> Any:
        keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}
        return boto3.client(service, endpoint_url=self.lab.url, **keys)  # type: ignore[call-overload]

    def lines(self) -> list[str]:
        """What the machine reported of itself."""
        group = {"logGroupName": f"{self.lab.name}_perInstance", "logStreamName": INSTANCE}
        logs = self.client("logs")
        try:
            return [event["message"] for event in logs.get_log_events(**group)["events"]]
        except logs.exceptions.ResourceNotFoundException:
            return []


@pytest.fixture
def machine(cloud: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    lab = Lab(cloud, tmp_path)
    with metadata_server() as metadata:
        environment = KEYS | metadata.env | {"AWS_ENDPOINT_URL": cloud, "ECS_CONTAINER_METADATA_URI_V4": "here"}
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        for name in ("CLOSED_CHECK_SECONDS", "HEALTH_CHECK_SECONDS", "USAGE_REPORT_SECONDS"):
            monkeypatch.setattr(container, name, 0.05)
        monkeypatch.setattr(spot_notice, "SPOT_CHECK_SECONDS", 0.05)
        found = Machine(lab, metadata, lambda job, folders, result: "it failed" if result.exit_code else None)
        logs = found.client("logs")
        for group in (lab.name, f"{lab.name}_perInstance"):
            logs.create_log_group(logGroupName=group)
        yield found
        found.end()


def test_a_machine_has_its_alarm_and_reports_how_full_it_is(machine: Machine) -> None:
    alarm = f"App_{INSTANCE}"
    cloudwatch = machine.client("cloudwatch")
    until(lambda: cloudwatch.describe_alarms(AlarmNames=[alarm])["MetricAlarms"], "it has no alarm")
    assert "disk_percent" in until(machine.lines, "it reports nothing")[0]


def test_a_spot_notice_ends_the_container_with_exit_code_0(machine: Machine) -> None:
    machine.metadata.spot_notice(time.time() + 60)
    assert machine.wait() == 0


def test_after_a_rebalance_recommendation_no_job_is_begun(machine: Machine) -> None:
    machine.metadata.rebalance(time.time())
    until(lambda: machine.container.gate.count_places(1, 0) == 0, "it goes on")


def test_a_run_that_is_closed_begins_no_job(machine: Machine) -> None:
    machine.lab.put(RunKeys("App", machine.lab.run).closed)
    until(lambda: machine.container.gate.is_closed, "it goes on")


def test_a_sick_container_takes_no_jobs_and_says_so_beside_the_records(machine: Machine) -> None:
    for number in range(MIN_FAILED_JOBS):
        machine.lab.send(group={"n": number}, command="false")
    until(lambda: machine.container.health.current_pause, "it does not pause")
    assert machine.container.gate.count_places(1, 0) == 0
    prefix = RunKeys("App", machine.lab.run).machines
    listed = lambda: machine.lab.s3.list_objects_v2(Bucket=machine.lab.name, Prefix=prefix).get("Contents")  # noqa: E731
    (document,) = until(listed, "it says nothing")
    assert b'"paused"' in (machine.lab.text(document["Key"]) or b"")


def test_a_jobs_log_streams_to_cloudwatch(machine: Machine) -> None:
    job = job_id(machine.lab.send(group={"x": "said"}, command="echo hello"))
    machine.lab.recorded(job, state="done")
    logs = machine.client("logs")
    stream = {"logGroupName": machine.lab.name, "logStreamName": job}
    until(lambda: logs.describe_log_streams(logGroupName=machine.lab.name, logStreamNamePrefix=job)["logStreams"], "no")
    assert [event["message"] for event in logs.get_log_events(**stream)["events"]] == ["hello"]
