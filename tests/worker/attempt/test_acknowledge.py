"""Messages of finished jobs are deleted in batches; each keeps its lease until SQS confirms the deletion."""

from __future__ import annotations

import logging
import threading
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError

from distributed_something.worker.attempt.acknowledge import DELETE_BATCH_SIZE, MAX_FINAL_DELETES, MessageDeleter
from distributed_something.worker.attempt.lease import Lease, LeaseKeeper
from tests.support.fakes import QUEUE_URL


class FakeQueue:
    """A queue that records the batches it receives.

    It always rejects the receipt `stale`, and it rejects the receipt `later` the first `failures` times. While `error`
    is set, every call raises that error.
    """

    def __init__(self, failures: int = 0) -> None:
        self.batches: list[list[str]] = []
        self.failures = failures
        self.error: Exception | None = None

    def delete_message_batch(self, *, QueueUrl: str, Entries: list[dict[str, str]]) -> dict[str, Any]:
        assert QueueUrl == QUEUE_URL
        assert len({entry["Id"] for entry in Entries}) == len(Entries)
        self.batches.append([entry["ReceiptHandle"] for entry in Entries])
        if self.error:
            raise self.error
        failed = [failure for entry in Entries if (failure := self._find_failure(entry["ReceiptHandle"], entry["Id"]))]
        failed_ids = {failure["Id"] for failure in failed}
        return {
            "Successful": [{"Id": entry["Id"]} for entry in Entries if entry["Id"] not in failed_ids],
            "Failed": failed,
        }

    def _find_failure(self, receipt: str, number: str) -> dict[str, Any] | None:
        if receipt == "later" and self.failures:
            self.failures -= 1
            return {"Id": number, "SenderFault": False, "Code": "InternalError", "Message": "busy"}
        stale = {"Id": number, "SenderFault": True, "Code": "ReceiptHandleIsInvalid", "Message": "stale"}
        return stale if receipt == "stale" else None


class DeleterHarness:
    """A deleter with a queue, leases, and a clock."""

    def __init__(self, failures: int = 0) -> None:
        self.sqs, self.now = FakeQueue(failures), 1000.0
        self.keeper = LeaseKeeper(self.sqs, QUEUE_URL, 30, lambda: self.now)
        self.deleter = MessageDeleter(self.sqs, QUEUE_URL, self.keeper.release_lease)

    def delete(self, *receipts: str) -> list[Lease]:
        leases = [self.keeper.add_lease(receipt, self.now) for receipt in receipts]
        for lease in leases:
            self.deleter.delete_soon(lease)
        return leases

    @property
    def leased_receipts(self) -> set[str]:
        return {lease.receipt for lease in self.keeper.leases}


def test_no_call_deletes_more_messages_than_sqs_allows() -> None:
    harness = DeleterHarness()
    harness.delete(*(f"r{n}" for n in range(2 * DELETE_BATCH_SIZE + 3)))
    harness.deleter.send_all()
    assert [len(batch) for batch in harness.sqs.batches] == [DELETE_BATCH_SIZE, DELETE_BATCH_SIZE, 3]
    harness.deleter.send_all()
    assert len(harness.sqs.batches) == 3


def test_a_lease_is_released_when_its_message_is_deleted() -> None:
    harness = DeleterHarness()
    harness.delete("a", "b")
    assert harness.leased_receipts == {"a", "b"}
    harness.deleter.send_all()
    assert harness.leased_receipts == set()


def test_a_message_that_sqs_fails_to_delete_keeps_its_lease_until_a_retry_succeeds() -> None:
    harness = DeleterHarness(failures=1)
    harness.delete("a", "later")
    assert not harness.deleter.send_all()
    assert harness.leased_receipts == {"later"}
    assert harness.deleter.send_all()
    assert harness.sqs.batches == [["a", "later"], ["later"]]
    assert harness.leased_receipts == set()


@pytest.mark.parametrize("error", [EndpointConnectionError(endpoint_url="sqs"), AttributeError("the response is null")])
def test_a_failed_call_is_retried_with_the_same_messages(error: Exception) -> None:
    harness = DeleterHarness()
    harness.sqs.error = error
    harness.delete("a")
    assert not harness.deleter.send_all()
    harness.sqs.error = None
    assert harness.deleter.send_all()
    assert harness.sqs.batches == [["a"], ["a"]]
    assert harness.leased_receipts == set()


def test_a_message_missing_from_the_response_does_not_count_as_deleted(monkeypatch: pytest.MonkeyPatch) -> None:
    harness = DeleterHarness()
    harness.delete("a")
    with monkeypatch.context() as patch:
        patch.setattr(harness.sqs, "delete_message_batch", lambda **_: {})
        assert not harness.deleter.send_all()
    assert harness.leased_receipts == {"a"}


def test_a_deletion_that_sqs_permanently_rejects_is_logged_and_not_retried(caplog: pytest.LogCaptureFixture) -> None:
    harness = DeleterHarness()
    harness.delete("stale")
    with caplog.at_level(logging.WARNING):
        assert harness.deleter.send_all()
    assert [record.getMessage().endswith("stale") for record in caplog.records] == [True]
    assert harness.leased_receipts == set()


def test_the_deletion_of_a_message_whose_lease_is_lost_is_not_retried() -> None:
    harness = DeleterHarness(failures=99)
    (lease,) = harness.delete("later")
    harness.now += 31
    assert lease.is_lost
    assert harness.deleter.send_all()
    assert (harness.sqs.batches, harness.leased_receipts) == ([["later"]], set())


def test_all_messages_are_deleted_before_the_container_ends() -> None:
    harness = DeleterHarness(failures=1)
    thread = threading.Thread(target=harness.deleter.run)
    thread.start()
    harness.delete("later", *(f"r{n}" for n in range(25)))
    harness.deleter.end()
    thread.join(10)
    assert not thread.is_alive()
    assert harness.leased_receipts == set()


def test_a_container_ends_even_if_sqs_never_deletes_its_messages() -> None:
    harness = DeleterHarness(failures=99)
    harness.delete("later")
    harness.deleter.end()
    harness.deleter.run()
    assert harness.sqs.batches == [["later"]] * MAX_FINAL_DELETES
