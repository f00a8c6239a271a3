"""What the run's containers say: which of them take no jobs, and what they logged last."""

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
from tests.support.fakes import MONITOR_FILE, RUN, START, Exact, exact

STREAMS_QUERY = {"logGroupName": "AppLogs_perInstance", "orderBy": "LastEventTime", "descending": True, "limit": 50}


@pytest.fixture
def aws() -> Iterator[Exact]:
    with exact() as made:
        yield made


def test_a_container_that_takes_no_jobs_is_told_with_its_machine_and_its_reason(aws: Exact) -> None:
    prefix = f"runs/App/{RUN}/machines/"
    written = {"Key": f"{prefix}i-1-c1.json", "LastModified": datetime.fromtimestamp(START, UTC)}
    aws.answer("s3.list_objects_v2", {"Bucket": "app-bucket", "Prefix": prefix}, Contents=[written])
    document = {"machine": "i-1", "container": "c1", "reason": "its disk is full", "state": "paused"}
    raw = json.dumps(document).encode()
    wanted = {"Bucket": "app-bucket", "Key": written["Key"]}
    aws.answer("s3.get_object", wanted, Body=StreamingBody(io.BytesIO(raw), len(raw)))
    (paused,) = list_paused_machines(aws.clients.s3, "app-bucket", MONITOR_FILE.keys, START + 60)
    assert paused == PausedMachine("i-1", "its disk is full")
    assert format_paused_machine(paused) == "i-1 takes no jobs: its disk is full"


def test_without_a_log_group_nobody_has_logged(aws: Exact) -> None:
    aws.refuse("logs.describe_log_streams", "ResourceNotFoundException", wanted=STREAMS_QUERY)
    assert find_log_tail(aws.clients.logs, "AppLogs", "App") is None


def stream(name: str, at: float | None = None) -> dict[str, Any]:
    return {"logStreamName": name} | ({} if at is None else {"lastEventTimestamp": int(at * 1000)})


def test_a_stream_that_nobody_wrote_to_is_no_sign_of_life(aws: Exact) -> None:
    aws.answer("logs.describe_log_streams", STREAMS_QUERY, logStreams=[stream("App/worker/1")])
    assert find_log_tail(aws.clients.logs, "AppLogs", "App") is None


def test_the_last_lines_are_those_of_the_apps_own_container_that_wrote_last(aws: Exact) -> None:
    """A machine's agent, and an app of a similar name, log beside it."""
    found = [stream("i-1", START + 9), stream("AppTwo/worker/1", START + 5), stream("App/worker/2", START + 3)]
    aws.answer("logs.describe_log_streams", STREAMS_QUERY, logStreams=found)
    wanted = {
        "logGroupName": "AppLogs_perInstance",
        "logStreamName": "App/worker/2",
        "limit": 5,
        "startFromHead": False,
    }
    aws.answer("logs.get_log_events", wanted, events=[{"message": "start a-1\n"}, {"message": "done a-1"}])
    assert find_log_tail(aws.clients.logs, "AppLogs", "App") == LogTail(START + 9, ("start a-1", "done a-1"))


def test_where_only_others_logged_there_is_a_time_and_no_line(aws: Exact) -> None:
    aws.answer("logs.describe_log_streams", STREAMS_QUERY, logStreams=[stream("i-1", START)])
    assert find_log_tail(aws.clients.logs, "AppLogs", "App") == LogTail(START)
