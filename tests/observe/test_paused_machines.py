"""Tests for what the run's containers report: their pauses and their last log lines."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.response import StreamingBody

from distributed_something.observe.containers import (
    LogTail,
    PausedMachine,
    find_log_tail,
    format_paused_machine,
    list_paused_machines,
)
from distributed_something.observe.service import ServiceState
from tests.support.fakes import MONITOR_FILE, RUN, START, ExactClients, expect_exact_calls

STREAMS_QUERY = {"logGroupName": "AppLogs_perInstance", "orderBy": "LastEventTime", "descending": True, "limit": 50}


@pytest.fixture
def aws() -> Iterator[ExactClients]:
    with expect_exact_calls() as stubbed_aws:
        yield stubbed_aws


def read_pause(aws: ExactClients, **content: Any) -> PausedMachine:
    """Return what is reported about a container that wrote a health document with this content."""
    prefix = f"runs/App/{RUN}/machines/"
    listed_object = {"Key": f"{prefix}i-1-c1.json", "LastModified": datetime.fromtimestamp(START, UTC)}
    aws.expect_call("s3.list_objects_v2", {"Bucket": "app-bucket", "Prefix": prefix}, Contents=[listed_object])
    document = {"machine": "i-1", "container": "c1", "state": "paused"} | content
    body = json.dumps(document).encode()
    query = {"Bucket": "app-bucket", "Key": listed_object["Key"]}
    aws.expect_call("s3.get_object", query, Body=StreamingBody(io.BytesIO(body), len(body)))
    (paused,) = list_paused_machines(aws.clients.s3, "app-bucket", MONITOR_FILE.keys, START + 60)
    return paused


def test_a_paused_container_is_reported_with_its_machine_and_reason(aws: ExactClients) -> None:
    paused = read_pause(aws, reason="its disk is full")
    assert paused == PausedMachine("i-1", "its disk is full")
    assert format_paused_machine(paused, None) == "i-1 takes no jobs: its disk is full"


@pytest.mark.parametrize(
    ("code", "service", "advice"),
    [
        (
            "AccessDeniedException",
            ServiceState(2, 2, 0),
            "run setupAWS, which lets the containers'",
        ),
        ("DEPLOYMENT_BLOCKED", ServiceState(2, 2, 0), "wait: a deployment"),
        ("DEPLOYMENT_BLOCKED", ServiceState(2, 5, 0), "wait: more containers are protected than"),
        ("DEPLOYMENT_BLOCKED", None, "wait: a deployment"),
        ("ThrottlingException", ServiceState(2, 2, 0), "wait: the container asks again"),
        ("", None, "wait: the container asks again"),
    ],
)
def test_refused_protection_is_reported_with_a_remedy_for_its_cause(
    aws: ExactClients, code: str, service: ServiceState | None, advice: str
) -> None:
    paused = read_pause(aws, reason="ECS refuses", protection=code, since="2026-11-23T10:45:00.000Z", until=None)
    assert (paused.protection, paused.since, paused.refused_since) == (code, None, START)
    line = format_paused_machine(paused, service)
    assert line.startswith(f"i-1 takes no jobs: ECS refuses; {advice}")


def test_without_a_log_group_there_is_no_log_tail(aws: ExactClients) -> None:
    aws.expect_error("logs.describe_log_streams", "ResourceNotFoundException", request=STREAMS_QUERY)
    assert find_log_tail(aws.clients.logs, "AppLogs", "App") is None


def build_stream(name: str, at: float | None = None) -> dict[str, Any]:
    return {"logStreamName": name} | ({} if at is None else {"lastEventTimestamp": int(at * 1000)})


def test_an_empty_log_stream_is_ignored(aws: ExactClients) -> None:
    aws.expect_call("logs.describe_log_streams", STREAMS_QUERY, logStreams=[build_stream("App/worker/1")])
    assert find_log_tail(aws.clients.logs, "AppLogs", "App") is None


def test_the_last_lines_come_from_the_apps_most_recent_container(aws: ExactClients) -> None:
    """The machines' agents and an app with a similar name log to the same group."""
    streams = [
        build_stream("i-1", START + 9),
        build_stream("AppTwo/worker/1", START + 5),
        build_stream("App/worker/2", START + 3),
    ]
    aws.expect_call("logs.describe_log_streams", STREAMS_QUERY, logStreams=streams)
    query = {
        "logGroupName": "AppLogs_perInstance",
        "logStreamName": "App/worker/2",
        "limit": 5,
        "startFromHead": False,
    }
    aws.expect_call("logs.get_log_events", query, events=[{"message": "start a-1\n"}, {"message": "done a-1"}])
    assert find_log_tail(aws.clients.logs, "AppLogs", "App") == LogTail(START + 9, ("start a-1", "done a-1"))


def test_without_logs_from_the_apps_containers_the_log_tail_has_only_a_time(aws: ExactClients) -> None:
    aws.expect_call("logs.describe_log_streams", STREAMS_QUERY, logStreams=[build_stream("i-1", START)])
    assert find_log_tail(aws.clients.logs, "AppLogs", "App") == LogTail(START)
