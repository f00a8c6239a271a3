"""Messages of jobs that are through are deleted in batches; each keeps its lease until SQS says that it is gone."""

from __future__ import annotations

import logging
import threading
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError

from distributed_something.worker.attempt.acknowledge import DELETE_BATCH_SIZE, MAX_FINAL_DELETES, MessageDeleter
from distributed_something.worker.attempt.lease import Lease, LeaseKeeper
from tests.support.fakes import QUEUE_URL


class Sqs:
    """Remembers batches. Refuses a receipt named `stale` for good, one named `later` as often as `fails` says; `down`:
    what every call raises."""

    def __init__(self, fails: int = 0) -> None:
        self.batches: list[list[str]] = []
        self.fails = fails
        self.down: Exception | None = None

    def delete_message_batch(self, *, QueueUrl: str, Entries: list[dict[str, str]]) -> dict[str, Any]:
        assert QueueUrl == QUEUE_URL
        assert len({entry["Id"] for entry in Entries}) == len(Entries)
        self.batches.append([entry["ReceiptHandle"] for entry in Entries])
        if self.down:
            raise self.down
        failed = [fault for entry in Entries if (fault := self._fault(entry["ReceiptHandle"], entry["Id"]))]
        wrong = {fault["Id"] for fault in failed}
        return {"Successful": [{"Id": one["Id"]} for one in Entries if one["Id"] not in wrong], "Failed": failed}

    def _fault(self, receipt: str, number: str) -> dict[str, Any] | None:
        if receipt == "later" and self.fails:
            self.fails -= 1
            return {"Id": number, "SenderFault": False, "Code": "InternalError", "Message": "busy"}
        stale = {"Id": number, "SenderFault": True, "Code": "ReceiptHandleIsInvalid", "Message": "stale"}
        return stale if receipt == "stale" else None


class Work:
    """A deleter with its queue, the leases that it was given, and a clock."""

    def __init__(self, fails: int = 0) -> None:
        self.sqs, self.now = Sqs(fails), 1000.0
        self.keeper = LeaseKeeper(self.sqs, QUEUE_URL, 30, lambda: self.now)
        self.deleter = MessageDeleter(self.sqs, QUEUE_URL, self.keeper.release_lease)

    def delete(self, *receipts: str) -> list[Lease]:
        leases = [self.keeper.add_lease(receipt, self.now) for receipt in receipts]
        for lease in leases:
            self.deleter.delete_soon(lease)
        return leases

    @property
    def held(self) -> set[str]:
        return {lease.receipt for lease in self.keeper.held_leases}


def test_no_call_has_more_messages_than_sqs_takes() -> None:
    work = Work()
    work.delete(*(f"r{n}" for n in range(2 * DELETE_BATCH_SIZE + 3)))
    work.deleter.send_all()
    assert [len(batch) for batch in work.sqs.batches] == [DELETE_BATCH_SIZE, DELETE_BATCH_SIZE, 3]
    work.deleter.send_all()
    assert len(work.sqs.batches) == 3


def test_a_lease_is_kept_up_to_the_deletion_of_its_message() -> None:
    work = Work()
    work.delete("a", "b")
    assert work.held == {"a", "b"}
    work.deleter.send_all()
    assert work.held == set()


def test_what_sqs_fails_to_delete_keeps_its_lease_and_is_tried_again() -> None:
    work = Work(fails=1)
    work.delete("a", "later")
    assert not work.deleter.send_all()
    assert work.held == {"later"}
    assert work.deleter.send_all()
    assert work.sqs.batches == [["a", "later"], ["later"]]
    assert work.held == set()


@pytest.mark.parametrize("trouble", [EndpointConnectionError(endpoint_url="sqs"), AttributeError("null is no answer")])
def test_a_call_that_fails_is_made_again_with_the_same_messages(trouble: Exception) -> None:
    work = Work()
    work.sqs.down = trouble
    work.delete("a")
    assert not work.deleter.send_all()
    work.sqs.down = None
    assert work.deleter.send_all()
    assert work.sqs.batches == [["a"], ["a"]]
    assert work.held == set()


def test_an_answer_that_does_not_name_a_message_has_not_deleted_it(monkeypatch: pytest.MonkeyPatch) -> None:
    work = Work()
    work.delete("a")
    with monkeypatch.context() as odd:
        odd.setattr(work.sqs, "delete_message_batch", lambda **_: {})
        assert not work.deleter.send_all()
    assert work.held == {"a"}


def test_what_sqs_refuses_for_good_is_told_and_left_to_its_jobs_record(caplog: pytest.LogCaptureFixture) -> None:
    work = Work()
    work.delete("stale")
    with caplog.at_level(logging.WARNING):
        assert work.deleter.send_all()
    assert [record.getMessage().endswith("stale") for record in caplog.records] == [True]
    assert work.held == set()


def test_a_message_whose_lease_is_lost_is_tried_once_more_and_given_up() -> None:
    work = Work(fails=99)
    (lease,) = work.delete("later")
    work.now += 31
    assert lease.is_lost
    assert work.deleter.send_all()
    assert (work.sqs.batches, work.held) == ([["later"]], set())


def test_all_is_sent_before_the_container_ends() -> None:
    work = Work(fails=1)
    sending = threading.Thread(target=work.deleter.run)
    sending.start()
    work.delete("later", *(f"r{n}" for n in range(25)))
    work.deleter.end()
    sending.join(10)
    assert not sending.is_alive()
    assert work.held == set()


def test_a_container_ends_although_sqs_does_not_delete() -> None:
    work = Work(fails=99)
    work.delete("later")
    work.deleter.end()
    work.deleter.run()
    assert work.sqs.batches == [["later"]] * MAX_FINAL_DELETES
