"""How a container runs its parts: slots start in turn and share one processor, and a failure stops the container."""

from __future__ import annotations

import os
import sys
import time
from queue import SimpleQueue
from typing import Any

import pytest

from distributed_something.worker.attempt.acknowledge import MessageDeleter
from distributed_something.worker.attempt.handler import Hooks
from distributed_something.worker.attempt.lease import LeaseKeeper
from distributed_something.worker.container import container
from distributed_something.worker.container.container import Container
from distributed_something.worker.container.intake import JobIntake
from distributed_something.worker.container.slot import Slot
from distributed_something.worker.container.stop import StopRequest
from distributed_something.worker.job.worker_settings import read_worker_settings
from distributed_something.worker.logs.job_log import JobLogs
from distributed_something.worker.machine.metadata import InstanceMetadata
from tests.support.fakes import QUEUE_URL


def build_container(monkeypatch: pytest.MonkeyPatch, **env: str) -> Container:
    """Return a container with AWS clients that are never used."""
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    settings = read_worker_settings({"APP_NAME": "A", "SQS_QUEUE_URL": QUEUE_URL, "AWS_BUCKET": "b"} | env)
    metadata = InstanceMetadata({"AWS_EC2_METADATA_DISABLED": "true"})
    return Container(settings, Hooks(*[lambda *_: None] * 3), SimpleQueue(), metadata)


def test_a_containers_slots_start_one_after_another(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr(StopRequest, "wait", lambda _, seconds: waited.append(seconds))
    monkeypatch.setattr(JobIntake, "run", lambda _: None)
    monkeypatch.setattr(JobIntake, "wait_for_attempt", lambda *_: None)
    assert build_container(monkeypatch, DOCKER_CORES="3", SECONDS_TO_START="7").serve() == 0
    assert sorted(waited) == [0, 7, 14]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can restrict a thread to a processor")
def test_a_containers_threads_share_one_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[type, frozenset[int]] = {}
    for part in (Slot, JobIntake, LeaseKeeper, MessageDeleter):
        monkeypatch.setattr(part, "run", lambda self: seen.update({type(self): frozenset(os.sched_getaffinity(0))}))
    before = os.sched_getaffinity(0)
    assert build_container(monkeypatch, DOCKER_CORES="3").serve() == 0
    assert len(seen) == 4
    assert [len(processors) for processors in set(seen.values())] == [1]
    assert os.sched_getaffinity(0) == before


@pytest.mark.parametrize("part", [Slot, JobIntake])
def test_a_container_ends_with_exit_code_1_if_a_slot_or_the_intake_fails(
    part: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> None:
        raise RuntimeError("can't start new thread")

    stop = StopRequest(time.monotonic)
    monkeypatch.setattr(container, "StopRequest", lambda _: stop)
    for other in (Slot, JobIntake):  # they would go on, and end only because the container stops
        monkeypatch.setattr(other, "run", lambda _: stop.wait(10))
    monkeypatch.setattr(part, "run", fail)
    assert build_container(monkeypatch, DOCKER_CORES="2").serve() == 1
    assert stop.is_announced


def test_a_container_names_itself_alike_in_its_facts_and_in_its_health_documents(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LOCAL_CONTAINER", "task-7")
    tested = build_container(monkeypatch)
    report = tested._build_health_report()
    assert tested._context.facts.container == "task-7"
    assert report._build_document(None, 0.0)["container"] == "task-7"
    tested._tools.launcher.end()


@pytest.mark.parametrize(("value", "group"), [("True", "Logs"), ("False", "")])
def test_the_logs_of_jobs_are_sent_to_cloudwatch_unless_the_config_says_not_to(
    monkeypatch: pytest.MonkeyPatch, value: str, group: str
) -> None:
    groups: list[str] = []

    class RecordingLogs(JobLogs):
        def __init__(self, logs_client: Any, group: str, *arguments: Any, **options: Any) -> None:
            super().__init__(logs_client, group, *arguments, **options)
            groups.append(group)

    monkeypatch.setattr(container, "JobLogs", RecordingLogs)
    build_container(monkeypatch, LOG_GROUP_NAME="Logs", STREAM_JOB_LOGS=value)
    assert groups == [group]
