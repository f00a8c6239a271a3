"""A CloudWatch log stream: its name, batches, and requests."""

from __future__ import annotations

import boto3
import pytest
from botocore.stub import ANY, Stubber

from distributed_something.worker.logs.log_stream import (
    BATCH_BYTES,
    BATCH_EVENTS,
    MAX_BATCH_BYTES,
    MAX_BATCH_EVENTS,
    MAX_EVENT_CHARACTERS,
    LogBackoff,
    LogStream,
    build_stream_name,
)
from tests.worker.logs.fake_logs import EVENT_BYTES, GROUP
from tests.worker.logs.job_logs_harness import JobLogsHarness

# pytest resets warning filters for each test; test_logs_on_emulator.py tests the worker's own filter.
pytestmark = pytest.mark.filterwarnings("ignore::watchtower.WatchtowerWarning")


def test_a_batch_stays_within_the_aws_limits() -> None:
    assert BATCH_EVENTS <= MAX_BATCH_EVENTS
    assert BATCH_BYTES <= MAX_BATCH_BYTES
    assert 4 * MAX_EVENT_CHARACTERS + 2 * 26 <= EVENT_BYTES


@pytest.mark.parametrize("name", ["a:b*c", "{machine_name}-{0}", "x" * 600, ""])
def test_any_name_becomes_a_valid_stream_name(harness: JobLogsHarness, name: str) -> None:
    stream = LogStream(harness.client, GROUP, name, LogBackoff("a test"))
    stream.send("text", 0)
    stream.close()
    assert stream.join(60)
    assert harness.client.streams == {build_stream_name(name): ["text"]}
    assert not set(build_stream_name(name)) & set(":*")
    assert 1 <= len(build_stream_name(name)) <= 512


def test_requests_match_the_aws_api() -> None:
    client = boto3.client("logs", "us-east-1", aws_access_key_id="t", aws_secret_access_key="t")
    names = {"logGroupName": GROUP, "logStreamName": "one"}
    events = [{"timestamp": 1_500, "message": "a"}, {"timestamp": 1_500, "message": " "}]
    with Stubber(client) as stub:
        stub.add_client_error("put_log_events", "ResourceNotFoundException", expected_params=names | {"logEvents": ANY})
        stub.add_response("create_log_stream", {}, names)
        stub.add_response("put_log_events", {}, names | {"logEvents": events})
        stream = LogStream(client, GROUP, "one", LogBackoff("a test"))
        for text in ("a", ""):
            stream.send(text, 1.5)
        stream.close()
        assert stream.join(60)
        stub.assert_no_pending_responses()
