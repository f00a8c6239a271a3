"""The worker's AWS clients."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.awsrequest import AWSResponse
from botocore.utils import parse_timestamp

from distributed_something.core.config_settings import MIN_LEASE_SECONDS
from distributed_something.worker.machine.worker_clients import Clients, parse_aws_time
from distributed_something.worker.transfer.endpoints.credentials import EndpointCredentials
from tests.support.emulator import KEYS

SHA256 = base64.b64encode(hashlib.sha256(b"x").digest()).decode()


@pytest.fixture
def clients(monkeypatch: pytest.MonkeyPatch) -> Clients:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    return Clients(2, "us-east-1")


class SentError(Exception):
    """Raised instead of sending a request."""


def upload_and_return_headers(s3: Any) -> dict[str, str]:
    """Upload a file with its checksum, and return the request's headers, with names in lowercase."""
    headers = dict[str, str]()

    def record_headers(request: Any, **_: Any) -> None:
        for name, value in request.headers.items():
            headers[name.lower()] = value.decode() if isinstance(value, bytes) else value
        raise SentError

    s3.meta.events.register("before-send.s3", record_headers)
    with pytest.raises(SentError):
        s3.put_object(Bucket="bucket", Key="key", Body=io.BytesIO(b"x"), ChecksumSHA256=SHA256)
    return headers


def test_an_upload_is_sent_in_one_round_trip(clients: Clients) -> None:
    assert "expect" not in upload_and_return_headers(clients("s3"))


def test_an_upload_to_aws_is_not_read_once_more_for_its_signature(clients: Clients) -> None:
    headers = upload_and_return_headers(clients("s3"))
    assert headers["x-amz-content-sha256"] == "UNSIGNED-PAYLOAD"
    assert headers["x-amz-checksum-sha256"] == SHA256
    assert "x-amz-checksum-sha256" in headers["authorization"]  # it is signed


def test_an_upload_to_another_server_is_signed_because_the_connection_may_not_be_encrypted(clients: Clients) -> None:
    s3 = clients.create_endpoint_client("http://storage.example", EndpointCredentials("key", "secret", "us-east-1"))
    assert upload_and_return_headers(s3)["x-amz-content-sha256"] == hashlib.sha256(b"x").hexdigest()


def test_log_calls_retry_less_and_time_out_earlier_than_others(clients: Clients) -> None:
    assert (
        clients("logs").meta.config.retries["total_max_attempts"]
        < clients("sqs").meta.config.retries["total_max_attempts"]
    )
    assert clients("logs").meta.config.read_timeout < clients("s3").meta.config.read_timeout


def test_a_hung_call_is_retried_before_the_shortest_lease_expires(clients: Clients) -> None:
    config = clients.create_lease_client(MIN_LEASE_SECONDS).meta.config
    interval, pause = MIN_LEASE_SECONDS / 3, 1  # botocore's first pause is at most one second
    assert interval + 2 * max(config.connect_timeout, config.read_timeout) + pause < MIN_LEASE_SECONDS


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-25T13:40:31.000Z",
        "2026-11-25T13:40:31+02:00",
        "Wed, 25 Nov 2026 13:40:31 GMT",
        1764078031.5,
        "2026-11-25",
    ],
)
def test_times_are_parsed_the_same_way_as_in_botocore(text: Any) -> None:
    assert parse_aws_time(text) == parse_timestamp(text)


def test_the_times_in_a_listing_are_parsed_without_botocore(clients: Clients, monkeypatch: pytest.MonkeyPatch) -> None:
    s3 = clients("s3")
    monkeypatch.setattr("botocore.utils.parse_timestamp", None)
    body = (
        b"<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>a</Key><Size>1</Size>"
        b"<LastModified>2026-11-25T13:40:31.000Z</LastModified></Contents></ListBucketResult>"
    )
    s3.meta.events.register("before-send.s3", lambda **_: AWSResponse("", 200, {}, _Raw(body)))
    listed = s3.list_objects_v2(Bucket="bucket")["Contents"][0]
    assert listed["LastModified"] == datetime(2026, 11, 25, 13, 40, 31, tzinfo=UTC)


class _Raw(io.BytesIO):
    def stream(self, **_: Any) -> Iterator[bytes]:
        yield self.read()
