"""Submissions as the bucket's documents describe them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from botocore.exceptions import ClientError

from distributed_something.core.submission import SubmissionDocument, build_submission, build_submission_time
from distributed_something.observe.documents.submissions import (
    SubmissionReader,
    count_waiting_jobs,
    find_repeated_submission,
    list_queue_submissions,
)
from distributed_something.observe.queue import QueueCounts, QueueState
from tests.support.fakes import QUEUE_URL, START, FakeBucket, build_client_error
from tests.support.run_documents import list_submissions

PREFIX = "runs/App/submissions/"
QUEUE = QueueState(QUEUE_URL, QueueCounts(30, 0), START, "AppDead")
EMPTY_QUEUE = replace(QUEUE, counts=QueueCounts(0, 0))
FIRST = SubmissionDocument(
    "App",
    "AppQueue",
    build_submission_time(START + 60),
    "job.json",
    "digest",
    60,
    60,
    build_submission_time(START + 61),
)
NOW = START + 600


def fill_bucket(*documents: SubmissionDocument, **others: bytes) -> Any:
    bucket = FakeBucket()
    bucket.objects = {f"{PREFIX}{document.time}.json": build_submission(document) for document in documents}
    bucket.objects |= {PREFIX + name.replace("_", "."): content for name, content in others.items()}
    return bucket


def test_submissions_since_a_time_are_listed_from_oldest_to_newest() -> None:
    documents = [replace(FIRST, time=build_submission_time(START + 0.001 * number)) for number in range(40)]
    bucket = fill_bucket(*documents[::-1])
    assert list_submissions(bucket, "app-bucket", "App") == documents
    assert list_submissions(bucket, "app-bucket", "App", START + 0.003) == documents[3:]
    assert list_submissions(bucket, "app-bucket", "App", START + 1) == []
    assert list_submissions(bucket, "app-bucket", "Other") == []


def test_documents_that_are_not_valid_and_other_objects_are_left_out() -> None:
    broken = {build_submission_time(START).replace(".", "_") + "_json": b"{", "notes_txt": b"x", "x_json": b"{}"}
    assert list_submissions(fill_bucket(FIRST, **broken), "app-bucket", "App") == [FIRST]


def test_a_submission_that_has_not_reported_for_two_minutes_was_killed() -> None:
    unfinished = replace(FIRST, count=20, ended=None)
    bucket = fill_bucket(unfinished)
    assert list_submissions(bucket, "app-bucket", "App", now=START + 119) == [unfinished]
    (killed,) = list_submissions(bucket, "app-bucket", "App", now=START + 121)
    assert (killed.end, killed.sent) == (START, 20)


def refuse_reading(**_: object) -> None:
    raise build_client_error("SlowDown", "GetObject")


def test_an_aws_error_is_not_mistaken_for_fewer_submissions() -> None:
    bucket = fill_bucket(FIRST)
    bucket.get_object = refuse_reading
    with pytest.raises(ClientError):
        list_submissions(bucket, "app-bucket", "App")


class CountingBucket(FakeBucket):
    """A bucket that counts its requests."""

    def __init__(self, objects: dict[str, bytes]) -> None:
        super().__init__()
        self.objects, self.requests = objects, list[str]()

    def list_objects_v2(self, **request: Any) -> dict[str, Any]:
        self.requests.append("list")
        return super().list_objects_v2(**request)

    def get_object(self, *, Key: str, **_: Any) -> dict[str, Any]:
        self.requests.append(Key.removeprefix(PREFIX).removesuffix(".json"))
        return super().get_object(Key=Key)


def test_only_submissions_that_are_new_or_have_changed_are_read_again() -> None:
    """`submitJob --resume` continues the document of a submission that has ended."""
    documents = [replace(FIRST, time=build_submission_time(START + number)) for number in range(3)]
    times = [document.time for document in documents]
    bucket: Any = CountingBucket(fill_bucket(*documents[:2]).objects)
    reader = SubmissionReader(bucket, "app-bucket", "App")

    def list_and_count() -> tuple[list[SubmissionDocument], list[str]]:
        bucket.requests.clear()
        return reader.list_submissions(0.0, NOW), sorted(bucket.requests)

    assert list_and_count() == (documents[:2], [*times[:2], "list"])
    assert list_and_count() == (documents[:2], ["list"])
    bucket.objects |= fill_bucket(documents[2], broken_json=b"x").objects
    assert list_and_count() == (documents, [times[2], "list"])
    documents[0] = replace(documents[0], count=61)
    bucket.objects |= fill_bucket(documents[0]).objects
    assert list_and_count() == (documents, [times[0], "list"])
    del bucket.objects[f"{PREFIX}{times[1]}.json"]
    assert list_and_count() == ([documents[0], documents[2]], ["list"])


def test_a_document_that_is_not_valid_is_read_only_once() -> None:
    bucket: Any = CountingBucket({f"{PREFIX}{FIRST.time}.json": b"{"})
    reader = SubmissionReader(bucket, "app-bucket", "App")
    assert [reader.list_submissions(0.0, NOW), reader.list_submissions(0.0, NOW)] == [[], []]
    assert bucket.requests == ["list", FIRST.time, "list"]


def test_a_document_that_could_not_be_read_is_read_the_next_time() -> None:
    bucket = fill_bucket(FIRST)
    reader = SubmissionReader(bucket, "app-bucket", "App")
    bucket.get_object = refuse_reading
    with pytest.raises(ClientError):
        reader.list_submissions(0.0, NOW)
    del bucket.get_object
    assert reader.list_submissions(0.0, NOW) == [FIRST]


def test_only_submissions_to_this_queue_since_it_was_created_count() -> None:
    """The queue's and S3's clocks may differ by a few seconds."""
    before, at_creation, after = (replace(FIRST, time=build_submission_time(START + at)) for at in (-4, -2, 1))
    elsewhere = replace(FIRST, time=build_submission_time(START + 2), queue="OtherQueue")
    bucket = fill_bucket(before, at_creation, after, elsewhere)
    assert list_queue_submissions(bucket, "app-bucket", "App", QUEUE, NOW) == [at_creation, after]


@pytest.mark.parametrize(("removed", "total"), [(0, 90), (20, 70), (100, 0)])
def test_jobs_that_were_removed_from_the_queue_do_not_count_as_submitted(removed: int, total: int) -> None:
    assert count_waiting_jobs([FIRST, replace(FIRST, count=30, removed=removed)]) == total


# The same jobs twice


def find(*documents: SubmissionDocument, queue: QueueState = QUEUE, now: float = NOW) -> SubmissionDocument | None:
    return find_repeated_submission(documents, queue, frozenset({"digest"}), now, settling_seconds=75)


def test_the_same_jobs_are_found_while_the_queue_is_not_empty() -> None:
    later = replace(FIRST, time=build_submission_time(START + 120))
    assert find(FIRST) == FIRST
    assert find(later, FIRST) == later
    assert find(FIRST, queue=EMPTY_QUEUE) is None


def test_other_jobs_are_not_found() -> None:
    assert find(replace(FIRST, digest="other")) is None
    assert find() is None


def test_jobs_that_were_just_sent_are_found_although_sqs_does_not_count_them_yet() -> None:
    assert find(FIRST, queue=EMPTY_QUEUE, now=START + 70) == FIRST


def test_a_submission_that_sent_nothing_is_not_found_but_one_that_has_not_ended_is() -> None:
    assert find(replace(FIRST, count=0)) is None
    sending = replace(FIRST, count=0, ended=None)
    assert find(sending, queue=EMPTY_QUEUE) == sending


def test_jobs_that_a_later_submission_replaced_are_not_found() -> None:
    replacing = replace(FIRST, time=build_submission_time(START + 120), digest="other", replace=True, replaced=True)
    assert find(FIRST, replacing) is None
    assert find(FIRST, replace(replacing, digest="digest")) == replace(replacing, digest="digest")


def test_jobs_are_found_that_an_interrupted_replacement_may_not_have_removed() -> None:
    interrupted = replace(
        FIRST, time=build_submission_time(START + 120), digest="other", count=0, replace=True, removed=9
    )
    assert find(FIRST, interrupted) == FIRST


def test_the_same_jobs_with_another_limit_are_found() -> None:
    first = replace(FIRST, digest="with another limit", jobs_digest="ids")
    digests = frozenset({"digest", "ids"})
    assert find_repeated_submission([first], QUEUE, digests, NOW, settling_seconds=75) == first
    unknown = replace(first, jobs_digest="")
    assert find_repeated_submission([unknown], QUEUE, frozenset({"digest", ""}), NOW, settling_seconds=75) is None
