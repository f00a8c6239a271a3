"""The machine's document, which the first container of a machine writes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest

from distributed_something.worker.container.machine_document import (
    IDENTITY_PATH,
    LIFE_CYCLE_PATH,
    write_machine_document,
)
from distributed_something.worker.job.worker_settings import Settings, read_worker_settings
from distributed_something.worker.machine.metadata import InstanceMetadata
from tests.support.fakes import ExactClients, expect_exact_calls
from tests.support.metadata_server import INSTANCE, MetadataServer, run_metadata_server

IDENTITY = {"instanceType": "m5.large", "availabilityZone": "us-east-1c", "pendingTime": "2026-11-23T10:45:00Z"}
KEY = f"runs/App/20261123T104500Z/machines/{INSTANCE}.json"


@pytest.fixture
def server() -> Iterator[MetadataServer]:
    with run_metadata_server() as running_server:
        yield running_server


@pytest.fixture
def aws() -> Iterator[ExactClients]:
    with expect_exact_calls() as strict_aws:
        yield strict_aws


def build_settings() -> Settings:
    environment = {
        "APP_NAME": "App", "RUN": "20261123T104500Z", "SQS_QUEUE_URL": "https://q", "AWS_BUCKET": "app-bucket",
        "SQS_DEAD_LETTER_QUEUE_URL": "https://d", "LOG_GROUP_NAME": "Logs", "AWS_REGION": "us-east-1",
        "SQS_MESSAGE_VISIBILITY": "120", "JOB_RETRIES": "3", "DOCKER_CORES": "4", "INSTANCE_ID": INSTANCE,
    }  # fmt: skip
    return read_worker_settings(environment)


def write_document(server: MetadataServer, aws: ExactClients, settings: Settings | None = None) -> list[float]:
    """Write the document, and return the pauses before further attempts."""
    pauses: list[float] = []

    def wait(seconds: float) -> bool:
        pauses.append(seconds)
        return False

    metadata = InstanceMetadata(server.env)
    write_machine_document(aws.clients.s3, settings or build_settings(), metadata, wait, lambda: 1.0)
    return pauses


def build_request(**facts: object) -> dict[str, object]:
    content = {
        "machine": INSTANCE, "type": "m5.large", "zone": "us-east-1c", "spot": True,
        "launched": "2026-11-23T10:45:00.000Z", "slots": 4, "ended": None, "end_reason": None, "price": None,
    } | facts  # fmt: skip
    return {
        "Bucket": "app-bucket", "Key": KEY, "Body": json.dumps(content).encode(), "ContentType": "application/json",
        "IfNoneMatch": "*",
    }  # fmt: skip


def set_facts(server: MetadataServer) -> None:
    server.texts |= {IDENTITY_PATH: json.dumps(IDENTITY), LIFE_CYCLE_PATH: "spot"}


def test_the_document_says_what_the_machine_is(server: MetadataServer, aws: ExactClients) -> None:
    set_facts(server)
    aws.expect_call("s3.put_object", build_request())
    assert write_document(server, aws) == []


def test_facts_that_the_metadata_lack_are_unknown(server: MetadataServer, aws: ExactClients) -> None:
    server.texts[IDENTITY_PATH] = '{"instanceType": 5, "pendingTime": "soon"}'
    aws.expect_call("s3.put_object", build_request(type=None, zone=None, spot=None, launched=None))
    write_document(server, aws)


def test_a_document_of_another_container_is_kept(server: MetadataServer, aws: ExactClients) -> None:
    set_facts(server)
    aws.expect_error("s3.put_object", "PreconditionFailed")
    assert write_document(server, aws) == []


def test_a_refused_request_is_repeated(server: MetadataServer, aws: ExactClients) -> None:
    set_facts(server)
    aws.expect_error("s3.put_object", "SlowDown")
    aws.expect_call("s3.put_object", build_request())
    assert len(write_document(server, aws)) == 1


def test_only_machines_of_ec2_have_a_document(server: MetadataServer, aws: ExactClients) -> None:
    write_document(server, aws, replace(build_settings(), machine="my-laptop"))
