"""Leases are extended in time and in batches, and are lost if SQS rejects the extension or every call fails."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.awsrequest import AWSResponse
from botocore.stub import Stubber

from distributed_something.worker.attempt.lease import LeaseKeeper
from distributed_something.worker.machine.times import read_boot_clock

HOUR = 3600
QUEUE_URL = "https://sqs.us-east-1.amazonaws.com/123456789012/queue"


class FakeClock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def build_request(first: int, last: int, first_id: int = 0) -> dict[str, Any]:
    """Return the request that extends the leases for receipts `first` to `last`."""
    entries = [
        {"Id": str(n), "ReceiptHandle": f"r{receipt}", "VisibilityTimeout": 30}
        for n, receipt in enumerate(range(first, last + 1), first_id)
    ]
    return {"QueueUrl": QUEUE_URL, "Entries": entries}


def build_response(count: int, *rejected: str) -> dict[str, Any]:
    successful = [{"Id": str(n)} for n in range(count) if str(n) not in rejected]
    failed = [{"Id": number, "SenderFault": True, "Code": "MessageNotInflight"} for number in rejected]
    return {"Successful": successful, "Failed": failed}


@pytest.fixture
def sqs() -> Any:
    return boto3.client("sqs", region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b")


def test_leases_are_extended_in_batches_of_ten(sqs: Any) -> None:
    keeper = LeaseKeeper(sqs, QUEUE_URL, 30, clock := FakeClock())
    leases = [keeper.add_lease(f"r{n}", clock()) for n in range(12)]
    clock.now += 10
    with Stubber(sqs) as stub:
        stub.add_response("change_message_visibility_batch", build_response(10), build_request(0, 9))
        stub.add_response("change_message_visibility_batch", build_response(2), build_request(10, 11))
        keeper.tick()
        stub.assert_no_pending_responses()
    assert {lease.expires for lease in leases} == {1040.0}


def test_only_the_lease_whose_extension_sqs_rejects_is_lost(sqs: Any) -> None:
    keeper = LeaseKeeper(sqs, QUEUE_URL, 30, clock := FakeClock())
    leases = [keeper.add_lease(f"r{n}", clock()) for n in range(3)]
    with Stubber(sqs) as stub:
        stub.add_response("change_message_visibility_batch", build_response(3, "1"), build_request(0, 2))
        keeper.tick()
    assert [lease.is_lost for lease in leases] == [False, True, False]


def test_a_lease_that_could_not_be_extended_before_it_expired_is_lost(sqs: Any) -> None:
    keeper = LeaseKeeper(sqs, QUEUE_URL, 30, clock := FakeClock())
    lease = keeper.add_lease("r0", clock())
    lost = []
    with Stubber(sqs) as stub:
        for _ in range(3):
            stub.add_client_error("change_message_visibility_batch", "ServiceUnavailable", http_status_code=503)
            clock.now += 10
            keeper.tick()
            lost.append(lease.is_lost)
    assert lost == [False, False, True]


@pytest.mark.skipif(
    not hasattr(time, "CLOCK_BOOTTIME"), reason="only Linux has a clock that keeps running during suspension"
)
def test_a_lease_expires_while_the_computer_is_suspended(sqs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    awake, asleep = time.clock_gettime(time.CLOCK_BOOTTIME), 3600.0
    lease = LeaseKeeper(sqs, QUEUE_URL, 30, read_boot_clock).add_lease("r0", read_boot_clock())
    assert not lease.is_lost
    monkeypatch.setattr(time, "clock_gettime", lambda which: awake + asleep if which == time.CLOCK_BOOTTIME else awake)
    assert lease.is_lost


@pytest.mark.parametrize(
    "body", [b"null", b"[]", b'"x"', b"\xff\xfe", b'{"Successful": [{"Id": "z"}]}', b'{"Successful": [{"Id": "99"}]}',
            b'{"Successful": [null]}', b'{"Failed": [{"Id": "-1", "SenderFault": true}]}', b"<html>", b""]
)  # fmt: skip
def test_after_an_invalid_response_the_round_continues_and_no_lease_is_lost(sqs: Any, body: bytes) -> None:
    keeper = LeaseKeeper(sqs, QUEUE_URL, 30, clock := FakeClock())
    leases = [keeper.add_lease(f"r{n}", clock()) for n in range(11)]
    valid_body = json.dumps({"Successful": [{"Id": "0"}]}).encode()
    bodies = [body, valid_body, json.dumps(build_response(10)).encode(), valid_body]

    def respond(request: Any, **_: Any) -> AWSResponse:
        return AWSResponse(request.url, 200, {}, RawResponse(bodies.pop(0)))

    sqs.meta.events.register("before-send.sqs", respond)
    clock.now += 10
    keeper.tick()
    assert {lease.expires for lease in leases[:10]} == {1030.0}
    assert leases[10].expires == 1040.0
    keeper.tick()
    assert {lease.expires for lease in leases} == {1040.0}
    assert not any(lease.is_lost for lease in leases)


class RawResponse:
    """A raw HTTP response from which botocore can read the bytes."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def stream(self) -> Iterator[bytes]:
        yield self._content


def test_a_lost_lease_is_not_extended(sqs: Any) -> None:
    keeper = LeaseKeeper(sqs, QUEUE_URL, 30, clock := FakeClock())
    keeper.add_lease("r0", clock())
    clock.now += 30
    keeper.add_lease("r1", clock())
    with Stubber(sqs) as stub:
        stub.add_response("change_message_visibility_batch", build_response(1), build_request(1, 1, first_id=1))
        keeper.tick()
        stub.assert_no_pending_responses()


def slow_down(sqs: Any, clock: FakeClock, seconds: float) -> None:
    """Let each extension take this long."""

    def advance_clock(**_: Any) -> None:
        clock.now += seconds

    sqs.meta.events.register("before-parameter-build.sqs.ChangeMessageVisibilityBatch", advance_clock)


def test_an_extension_counts_from_the_request_because_sqs_may_have_begun_it_long_before_its_response(sqs: Any) -> None:
    keeper = LeaseKeeper(sqs, QUEUE_URL, 30, clock := FakeClock())
    lease = keeper.add_lease("r0", clock())
    clock.now += 10
    slow_down(sqs, clock, 15)
    with Stubber(sqs) as stub:
        stub.add_response("change_message_visibility_batch", build_response(1), build_request(0, 0))
        keeper.tick()
    assert lease.expires == 1000.0 + 10 + 30


def test_a_lease_that_was_lost_during_an_extension_stays_lost_although_sqs_confirms_the_extension(sqs: Any) -> None:
    keeper = LeaseKeeper(sqs, QUEUE_URL, 30, clock := FakeClock())
    lease = keeper.add_lease("r0", clock())
    clock.now += 10
    slow_down(sqs, clock, 25)
    with Stubber(sqs) as stub:
        stub.add_response("change_message_visibility_batch", build_response(1), build_request(0, 0))
        keeper.tick()
        assert lease.is_lost
        keeper.tick()  # it is not extended again either
    assert lease.is_lost


def test_a_lease_that_was_given_up_is_lost_and_not_extended(sqs: Any) -> None:
    keeper = LeaseKeeper(sqs, QUEUE_URL, 30, clock := FakeClock())
    lease = keeper.add_lease("r0", clock())
    lease.give_up()
    with Stubber(sqs):
        keeper.tick()
    assert lease.is_lost


def test_a_released_lease_is_not_extended(sqs: Any) -> None:
    keeper = LeaseKeeper(sqs, QUEUE_URL, 30, clock := FakeClock())
    keeper.release_lease(keeper.add_lease("r0", clock()))
    with Stubber(sqs):
        keeper.tick()


def test_a_lease_is_extended_to_at_most_twelve_hours(sqs: Any) -> None:
    keeper = LeaseKeeper(sqs, QUEUE_URL, 8 * HOUR, clock := FakeClock())
    lease = keeper.add_lease("r0", clock(), age=HOUR)  # received an hour ago by another worker
    timeouts: list[int] = []
    with Stubber(sqs) as stub:
        sqs.meta.events.register(
            "before-parameter-build.sqs.ChangeMessageVisibilityBatch",
            lambda params, **_: timeouts.extend(entry["VisibilityTimeout"] for entry in params["Entries"]),
        )
        for _ in range(2):
            stub.add_response("change_message_visibility_batch", build_response(1))
            clock.now += 2 * HOUR
            keeper.tick()
        clock.now += 7 * HOUR
        keeper.tick()  # the lease can no longer be extended
    assert timeouts == [8 * HOUR, 7 * HOUR - 60]
    assert lease.is_lost
