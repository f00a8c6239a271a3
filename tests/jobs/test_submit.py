"""submitJob: sending, retrying, and resuming after an interruption."""

from __future__ import annotations

import dataclasses
import errno
import fcntl
import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TextIO

import boto3
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from distributed_something.aws.s3 import iter_object_keys, read_s3_time
from distributed_something.cli.context import Context, ExitCode
from distributed_something.cli.main import main
from distributed_something.core.clock import Clock
from distributed_something.core.errors import CloudError, InputError
from distributed_something.core.submission import SubmissionDocument, build_submission, build_submission_time
from distributed_something.core.text import shorten_start
from distributed_something.jobs.job_file import load_job_file
from distributed_something.jobs.submission import journal as journal_module
from distributed_something.jobs.submission import waiting_jobs
from distributed_something.jobs.submission.document import find_git_commit
from distributed_something.jobs.submission.journal import SubmissionJournal
from distributed_something.jobs.submission.plan import SubmissionPlan, plan_submission
from distributed_something.jobs.submission.send_batches import SEND_ATTEMPTS, iter_message_batches
from distributed_something.jobs.submission.submit import (
    Submission,
    SubmissionError,
    SubmissionInterruption,
    submit_jobs,
)
from distributed_something.jobs.submission.waiting_jobs import JobSender, describe_other_jobs
from distributed_something.worker import AGAIN_ATTRIBUTE
from tests.support.emulator import KEYS, ROOT, run_ministack, wait_until
from tests.support.fakes import QUEUE_URL, SETTINGS, START, FakeBucket, FakeSqs, FakeTime, build_client_error
from tests.support.run_documents import list_submissions

CONFIG = {name: value for name, value in SETTINGS.model_dump(exclude={"own"}).items() if value != ""}


class Sender:
    """A job file with `count` jobs and the queue to which it is sent."""

    def __init__(self, folder: Path, count: int, sqs: FakeSqs) -> None:
        self.sqs, self.time, self.count = sqs, FakeTime(), count
        self.s3: Any = FakeBucket()
        self.clock = Clock(self.time.now, self.time.sleep)
        self.lines: list[str] = []
        self.path = folder / "job.json"
        self.journal = folder / ".job.json.submitted"
        write_jobs(self.path, count)

    def send(
        self, *, resume: bool = False, progress: Callable[[int, int], None] = lambda sent, total: None, **options: Any
    ) -> int:
        job_file = load_job_file(self.path, lambda bucket, prefix: [])
        clients: Any = SimpleNamespace(sqs=self.sqs, s3=self.s3)
        journal = SubmissionJournal(self.path, resume=resume, replace=options.get("replace", False))
        submission = Submission(job_file, plan_submission(job_file), journal, **options)
        return submit_jobs(
            clients, SETTINGS, submission, self.clock, progress=progress, print_progress=self.lines.append
        )

    @property
    def documents(self) -> list[SubmissionDocument]:
        return list_submissions(self.s3, SETTINGS.AWS_BUCKET, SETTINGS.APP_NAME)

    def interrupt_after(self, sent: int, **options: Any) -> SubmissionInterruption:
        """Send at least `sent` jobs, and then simulate Ctrl-C."""

        def progress(done: int, total: int) -> None:
            if done >= sent:
                raise KeyboardInterrupt

        with pytest.raises(SubmissionInterruption) as caught:
            self.send(progress=progress, **options)
        return caught.value


def write_jobs(path: Path, count: int, **shared: object) -> None:
    groups = [{"number": number} for number in range(count)]
    path.write_text(json.dumps({"command": "work {number}", **shared, "groups": groups}))


def parse_number(body: str) -> int:
    return int(json.loads(body)["group"]["number"])


def read_acknowledged(journal: Path) -> list[int]:
    """Return the job indexes in the complete lines of the journal, without its headers."""
    lines = journal.read_text().splitlines(keepends=True)
    complete = [line for line in lines if line.endswith("\n") and not line.startswith("{")]
    return [int(word) for line in complete for word in line.split()]


# Sending


def write_large_jobs(path: Path, *sizes: int) -> None:
    """Write a job file with one job for each size, which is about the number of bytes of its message."""
    path.write_text(json.dumps({"command": "work {number}", "groups": [
        {"number": number, "text": "x" * size} for number, size in enumerate(sizes)
    ]}))  # fmt: skip


def test_messages_too_large_for_an_older_queue_are_refused_before_anything_is_sent(tmp_path: Path) -> None:
    """A queue that is older than SQS's limit of 1 MiB keeps its limit of 256 KiB until `setup` raises it."""
    sender = Sender(tmp_path, 1, FakeSqs(max_message_bytes=262_144))
    write_large_jobs(sender.path, 10, 300_000, 10, 260_000)
    with pytest.raises(InputError) as caught:
        sender.send()
    assert [problem.key for problem in caught.value.problems] == ["job 2", "job 4"]
    assert "run setup, which raises the queue's limit of 262,144 bytes" in str(caught.value)
    assert sender.sqs.batches == []
    assert not sender.journal.exists()


def test_a_batch_for_an_older_queue_keeps_to_the_limit_of_a_message(tmp_path: Path) -> None:
    sender = Sender(tmp_path, 1, FakeSqs(max_message_bytes=262_144))
    write_large_jobs(sender.path, *[100_000] * 5)
    assert sender.send() == 5
    assert sorted(map(len, sender.sqs.batches)) == [1, 2, 2]


def test_messages_of_one_mebibyte_are_sent_to_a_queue_that_accepts_them(tmp_path: Path) -> None:
    sender = Sender(tmp_path, 1, FakeSqs())
    write_large_jobs(sender.path, 300_000, 1_000_000)
    assert sender.send() == 2


def test_jobs_are_sent_in_batches_of_ten_from_several_threads(tmp_path: Path) -> None:
    senders, has_several = set[int](), threading.Event()

    class SlowSqs(FakeSqs):
        def send_message_batch(self, **request: Any) -> dict[str, Any]:
            senders.add(threading.get_ident())
            if len(senders) > 1:
                has_several.set()
            assert has_several.wait(10)  # otherwise, one thread could be faster than the start of the others
            return super().send_message_batch(**request)

    sender = Sender(tmp_path, 1005, SlowSqs())
    assert sender.send() == 1005
    assert Counter(map(len, sender.sqs.batches)) == {10: 100, 5: 1}
    assert sorted(map(parse_number, sender.sqs.received)) == list(range(1005))
    assert not sender.journal.exists()
    assert sender.time.slept == []


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can restrict a thread to a processor")
def test_the_threads_that_send_share_one_processor_and_the_main_thread_uses_all(tmp_path: Path) -> None:
    seen: set[frozenset[int]] = set()

    class WatchedSqs(FakeSqs):
        def send_message_batch(self, **request: Any) -> dict[str, Any]:
            seen.add(frozenset(os.sched_getaffinity(0)))
            return super().send_message_batch(**request)

    before = os.sched_getaffinity(0)
    Sender(tmp_path, 1005, WatchedSqs()).send()
    assert [len(processors) for processors in seen] == [1]
    assert os.sched_getaffinity(0) == before


def test_a_batch_contains_at_most_one_mebibyte() -> None:
    numbered = [(number, "x" * 300_000) for number in range(7)]
    assert [len(batch) for batch in iter_message_batches(numbered)] == [3, 3, 1]


def test_only_the_failed_messages_of_a_batch_are_sent_again(tmp_path: Path) -> None:
    sender = Sender(tmp_path, 40, FakeSqs(lambda body, attempt: parse_number(body) % 10 == 3 and attempt < 3))
    assert sender.send() == 40
    retries = [[parse_number(body) for body in batch] for batch in sender.sqs.batches if len(batch) < 10]
    assert sorted(retries) == [[3], [3], [13], [13], [23], [23], [33], [33]]
    assert len(sender.sqs.received) == 40
    assert len(sender.time.slept) == 8
    assert all(0 < pause <= 10 for pause in sender.time.slept)


def test_a_job_that_sqs_keeps_rejecting_ends_the_submission(tmp_path: Path) -> None:
    sender = Sender(tmp_path, 10, FakeSqs(lambda body, attempt: parse_number(body) == 3))
    with pytest.raises(SubmissionError) as caught:
        sender.send()
    assert (caught.value.sent, caught.value.total) == (9, 10)
    assert (caught.value.action, caught.value.problem) == ("sending job 4", "SQS rejects the message (later, please)")
    assert str(caught.value) == (
        "while sending job 4: SQS rejects the message (later, please); "
        "9 of 10 jobs were sent; add --resume to the command to continue"
    )
    assert len(sender.sqs.batches) == SEND_ATTEMPTS
    assert read_acknowledged(sender.journal) == [0, 1, 2, 4, 5, 6, 7, 8, 9]


# Interruptions and --resume


def test_an_interruption_reports_as_many_jobs_as_the_journal_lists(tmp_path: Path) -> None:
    sender = Sender(tmp_path, 2000, FakeSqs())
    error = sender.interrupt_after(500)
    sent_numbers = sorted(map(parse_number, sender.sqs.received))
    assert (error.sent, error.total) == (len(sent_numbers), 2000)
    assert 500 <= len(sent_numbers) < 2000
    assert sorted(read_acknowledged(sender.journal)) == sent_numbers
    assert str(error) == (
        f"interrupted: {len(sent_numbers):,} of 2,000 jobs were sent; add --resume to the command to continue"
    )
    assert error.exit_code == ExitCode.INTERRUPTED
    (document,) = sender.documents
    assert (document.count, document.planned, document.ended is not None) == (len(sent_numbers), 2000, True)


def test_ctrl_c_while_a_sending_thread_starts_also_waits_for_its_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_sending, is_reported = threading.Event(), threading.Event()

    class SlowSqs(FakeSqs):
        def send_message_batch(self, **request: Any) -> dict[str, Any]:
            is_sending.set()
            is_reported.wait(0.5)  # would end at once if the count were reported before the batch is sent
            return super().send_message_batch(**request)

    start = threading.Thread.start

    def start_and_interrupt(thread: threading.Thread) -> None:
        monkeypatch.setattr(threading.Thread, "start", start)  # Ctrl-C is pressed only once
        start(thread)
        assert is_sending.wait(10)
        signal.raise_signal(signal.SIGINT)

    sender = Sender(tmp_path, 20, SlowSqs())
    monkeypatch.setattr(threading.Thread, "start", start_and_interrupt)
    with pytest.raises(SubmissionInterruption) as caught:
        sender.send()
    is_reported.set()
    assert str(caught.value) == "interrupted: 10 of 20 jobs were sent; add --resume to the command to continue"
    assert read_acknowledged(sender.journal) == list(range(10))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_resume_sends_only_the_remaining_jobs(tmp_path: Path) -> None:
    sender = Sender(tmp_path, 2000, FakeSqs())
    sender.interrupt_after(500)
    before = len(sender.sqs.received)
    assert sender.send(resume=True) == 2000 - before
    assert sorted(map(parse_number, sender.sqs.received)) == list(range(2000))
    assert [document.count for document in sender.documents] == [2000]
    assert not sender.journal.exists()


def test_jobs_in_an_incomplete_line_of_the_journal_count_as_not_sent(tmp_path: Path) -> None:
    sender = Sender(tmp_path, 2000, FakeSqs())
    sender.interrupt_after(500)
    with sender.journal.open("a") as file:
        file.write("1999 19")
    sender.send(resume=True)
    assert sorted(map(parse_number, sender.sqs.received)) == list(range(2000))


def test_text_added_after_an_incomplete_line_is_never_read_as_another_jobs_number(tmp_path: Path) -> None:
    plan, path = SubmissionPlan(200, "{}", "digest"), tmp_path / ".job.json.submitted"
    document = SubmissionDocument("App", "AppQueue", "20261123T104500.000Z", "job.json", "digest", 200)

    def record(numbers: list[int], *, resume: bool) -> SubmissionJournal:
        journal = SubmissionJournal(tmp_path / "job.json", resume=resume)
        journal.lock()
        journal.read(plan, "url")
        journal.start(plan, "url", document)
        journal.add(numbers)
        journal.close()
        return journal

    record([0, 1], resume=False)
    with path.open("a") as file:
        file.write("3 1")  # the process was killed while it wrote "3 14"
    record([7, 8], resume=True)  # the submission is resumed twice
    resumed = record([9], resume=True)
    assert read_acknowledged(path) == [0, 1, 7, 8, 9]
    assert resumed.done == 5


def test_resume_is_rejected_if_the_jobs_have_changed(tmp_path: Path) -> None:
    sender = Sender(tmp_path, 2000, FakeSqs())
    sender.interrupt_after(500)
    before = len(sender.sqs.received)
    write_jobs(sender.path, 2001)
    with pytest.raises(
        InputError,
        match="--canary, or the queue has changed since the submission of 2,000 jobs was interrupted; restore them",
    ):
        sender.send(resume=True)
    assert len(sender.sqs.received) == before


@pytest.mark.parametrize("content", ["\0\xff", "[]\n", "3\n1 2 3\n"])
def test_resume_is_rejected_if_the_journal_cannot_be_read(tmp_path: Path, content: str) -> None:
    sender = Sender(tmp_path, 20, FakeSqs())
    sender.journal.write_text(content)
    with pytest.raises(InputError, match="add --replace to remove the waiting jobs from the queue and start over"):
        sender.send(resume=True)


def test_resume_is_rejected_if_no_submission_was_interrupted(tmp_path: Path) -> None:
    sender = Sender(tmp_path, 20, FakeSqs())
    sender.send()
    with pytest.raises(
        InputError, match=r"this file does not exist, so .* was interrupted; leave out --resume to send all jobs"
    ):
        sender.send(resume=True)
    assert len(sender.sqs.received) == 20


def test_a_submission_interrupted_before_the_first_job_can_be_repeated(tmp_path: Path) -> None:
    class EmptyBucket(FakeBucket):
        """An S3 client for an empty bucket; Ctrl-C interrupts the first listing."""

        pressed = False

        def get_paginator(self, name: str) -> Any:
            if not self.pressed:
                self.pressed = True
                raise KeyboardInterrupt
            return super().get_paginator(name)

    sender = Sender(tmp_path, 20, FakeSqs())
    sender.s3 = EmptyBucket()
    (tmp_path / "data").mkdir()
    write_jobs(sender.path, 20, upload={"data": "data"})
    with pytest.raises(SubmissionInterruption, match="0 of 20 jobs were sent; run the same command again"):
        sender.send()
    assert sender.send() == 20


def test_the_journal_is_deleted_after_an_interruption_if_all_jobs_were_sent(tmp_path: Path) -> None:
    sender = Sender(tmp_path, 10, FakeSqs())
    assert str(sender.interrupt_after(10)) == "interrupted: but all 10 jobs were sent"
    assert not sender.journal.exists()


def test_the_journal_is_deleted_after_an_error_if_no_job_was_sent(tmp_path: Path) -> None:
    def refuse(**_: object) -> None:
        raise EndpointConnectionError(endpoint_url="https://sqs")

    sender = Sender(tmp_path, 10, FakeSqs())
    sender.sqs.send_message_batch = refuse  # type: ignore[method-assign,assignment]
    with pytest.raises(CloudError, match="0 of 10 jobs were sent; run the same command again"):
        sender.send()
    assert not sender.journal.exists()


# The document in the bucket


def test_a_submission_writes_a_document_when_it_begins_and_at_its_end(tmp_path: Path) -> None:
    sender = Sender(tmp_path, 30, FakeSqs())
    begun: list[SubmissionDocument] = []
    sender.send(progress=lambda sent, total: begun.extend(sender.documents[: not begun]), git_commit="c0ffee-dirty")
    time = build_submission_time(START)
    plan = plan_submission(load_job_file(sender.path, lambda bucket, prefix: []))
    digests = {"digest": plan.digest, "jobs_digest": plan.jobs_digest}
    expected = SubmissionDocument(
        app="App",
        queue="AppQueue",
        time=time,
        job_file="job.json",
        planned=30,
        git_commit="c0ffee-dirty",
        path=str(sender.path),
        files={str(sender.path): hashlib.sha256(sender.path.read_bytes()).hexdigest()},
        **digests,
    )
    assert begun == [expected]
    assert sender.documents == [dataclasses.replace(expected, count=30, ended=time)]


def test_a_second_submission_has_a_document_of_its_own_even_in_the_same_millisecond(tmp_path: Path) -> None:
    sender = Sender(tmp_path, 30, FakeSqs())
    sender.send()
    sender.send()
    assert [(document.time, document.count) for document in sender.documents] == [
        (build_submission_time(START), 30), (build_submission_time(START + 0.001), 30)
    ]  # fmt: skip


def test_a_document_whose_first_response_was_lost_is_not_written_twice(tmp_path: Path) -> None:
    """botocore repeats the request by itself, and S3 then says that the key is occupied."""
    sender = Sender(tmp_path, 30, FakeSqs())
    put_object = sender.s3.put_object

    def lose_response(**request: Any) -> Any:
        put_object(**request)
        sender.s3.put_object = put_object
        return put_object(**request)

    sender.s3.put_object = lose_response
    sender.send()
    assert [document.count for document in sender.documents] == [sender.count]


def test_the_document_is_updated_while_jobs_are_sent_so_that_a_killed_process_leaves_a_count(tmp_path: Path) -> None:
    sender = Sender(tmp_path, 2000, FakeSqs())
    counts: list[int] = []

    def progress(sent: int, total: int) -> None:
        sender.time.sleep(1)
        counts.append(sender.documents[0].count)

    sender.send(progress=progress)
    assert 10 < len(set(counts)) < 30
    assert counts == sorted(counts)


def test_resume_continues_the_same_document_with_the_total_count(tmp_path: Path) -> None:
    sender = Sender(tmp_path, 2000, FakeSqs())
    sender.interrupt_after(500, git_commit="first")
    (interrupted,) = sender.documents
    sender.time.sleep(3600)
    sender.send(resume=True, git_commit="second")
    assert sender.documents == [dataclasses.replace(interrupted, count=2000, ended=build_submission_time(START + 3600))]


def test_resume_accepts_the_journal_of_a_version_without_documents(tmp_path: Path) -> None:
    sender = Sender(tmp_path, 2000, FakeSqs())
    digest = plan_submission(load_job_file(sender.path, lambda bucket, prefix: [])).digest
    header = {"digest": digest, "queue": QUEUE_URL, "count": 2000}
    sender.journal.write_text(json.dumps(header) + "\n0 1 2 3 4 5 6 7 8 9\n")
    sender.interrupt_after(500, resume=True)
    sender.send(resume=True)
    assert sorted(map(parse_number, sender.sqs.received)) == list(range(10, 2000))
    assert [document.count for document in sender.documents] == [2000]


@pytest.mark.parametrize("resume", [False, True])
def test_nothing_is_sent_if_the_document_cannot_be_written(tmp_path: Path, resume: bool) -> None:
    sender = Sender(tmp_path, 2000, FakeSqs())
    if resume:
        sender.interrupt_after(500)
    before = len(sender.sqs.received)
    sender.s3.put_object = refuse_writing
    with pytest.raises(SubmissionError, match="while writing the submission to"):
        sender.send(resume=resume)
    assert len(sender.sqs.received) == before
    assert sender.journal.exists() == resume


def test_a_document_that_cannot_be_written_at_the_end_is_only_a_note(tmp_path: Path) -> None:
    sender = Sender(tmp_path, 30, FakeSqs())

    def lose_permission(sent: int, total: int) -> None:
        sender.s3.put_object = refuse_writing

    assert sender.send(progress=lose_permission) == 30
    assert sender.lines == [
        "note: the number of sent jobs could not be written to the bucket (needs s3:PutObject);",
        "      monitor may show too few jobs",
    ]


def refuse_writing(**_: object) -> None:
    raise build_client_error("AccessDenied", "PutObject")


def test_the_document_has_the_time_of_aws_if_the_clock_of_this_computer_is_wrong(tmp_path: Path) -> None:
    date = {"ResponseMetadata": {"HTTPHeaders": {"date": "Mon, 23 Nov 2026 11:45:00 GMT"}}}
    sender = Sender(tmp_path, 30, FakeSqs())
    sender.s3.head_bucket = lambda **_: date
    sender.send(again=True)
    assert sender.documents[0].time == sender.documents[0].ended == "20261123T114500.000Z"
    assert sender.sqs.attributes[0]["again_since"]["StringValue"] == "2026-11-23T11:45:00.000Z"


def test_a_refusal_by_s3_has_a_date_too() -> None:
    date = {"ResponseMetadata": {"HTTPHeaders": {"date": "Mon, 23 Nov 2026 11:45:00 GMT"}}}

    def refuse(response: Any) -> Any:
        def head_bucket(**_: object) -> None:
            raise ClientError({"Error": {"Code": "403"}, **response}, "HeadBucket")

        return SimpleNamespace(head_bucket=head_bucket)

    assert read_s3_time(refuse(date), "app-bucket", START) == START + 3600
    assert read_s3_time(refuse(date), "app-bucket", START + 3601.5) == START + 3601.5
    assert read_s3_time(refuse({}), "app-bucket", START) == START


def test_the_git_commit_of_the_project_is_known_with_its_changes(tmp_path: Path) -> None:
    assert find_git_commit(tmp_path) is None
    assert find_git_commit(tmp_path / "missing") is None
    (tmp_path / "config.py").write_text("1")
    git = ["git", "-C", str(tmp_path), "-c", "user.name=x", "-c", "user.email=x@example.com"]
    subprocess.run([*git, "init", "--quiet"], check=True)
    assert find_git_commit(tmp_path) is None  # there is no commit yet
    subprocess.run([*git, "add", "--all"], check=True)
    subprocess.run([*git, "commit", "--quiet", "--no-gpg-sign", "-m", "x"], check=True)
    subprocess.run([*git, "tag", "v1"], check=True)
    commit = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    assert find_git_commit(tmp_path) == commit
    (tmp_path / "config.py").write_text("2")
    assert find_git_commit(tmp_path) == f"{commit}-dirty"


# --again and --replace

SUBMISSION = {"submission": {"DataType": "String", "StringValue": "20261123T104500.000Z"}}


def test_again_adds_the_time_of_the_submission_to_every_message_also_after_resume(tmp_path: Path) -> None:
    sender = Sender(tmp_path, 2000, FakeSqs())
    sender.interrupt_after(500, again=True)
    sender.time.sleep(3600)
    sender.send(resume=True)
    again = {AGAIN_ATTRIBUTE: {"DataType": "String", "StringValue": "2026-11-23T10:45:00.000Z"}}
    assert sender.sqs.attributes == [SUBMISSION | again] * 2000
    assert [document.again for document in sender.documents] == [True]


def test_every_message_has_the_time_of_its_submission(tmp_path: Path) -> None:
    sender = Sender(tmp_path, 30, FakeSqs())
    sender.send()
    assert [document.time for document in sender.documents] == ["20261123T104500.000Z"]
    assert sender.sqs.attributes == [SUBMISSION] * 30


def test_again_cannot_be_added_to_a_submission_that_was_started_without_it(tmp_path: Path) -> None:
    sender = Sender(tmp_path, 2000, FakeSqs())
    sender.interrupt_after(500)
    before = len(sender.sqs.received)
    with pytest.raises(InputError, match="started without --again; leave out --again, or start over with --replace"):
        sender.send(resume=True, again=True)
    assert len(sender.sqs.received) == before


def test_attributes_count_towards_the_size_of_a_batch() -> None:
    attributes = {"again_since": {"DataType": "String", "StringValue": "2026-11-23T10:45:00.000Z"}}
    numbered = [(number, "x" * (256 * 1024 - 41)) for number in range(4)]
    assert [len(batch) for batch in iter_message_batches(numbered, lambda _: attributes)] == [4]
    assert [
        len(batch)
        for batch in iter_message_batches(
            [(0, "xx"), *numbered[1:], (4, "x" * (256 * 1024 - 42))], lambda _: attributes
        )
    ] == [4, 1]


def test_replace_removes_the_waiting_jobs_first_and_records_their_number(tmp_path: Path) -> None:
    sender = Sender(tmp_path, 1005, FakeSqs())
    sender.send()
    write_jobs(sender.path, 20)
    sender.time.sleep(60)
    assert sender.send(replace=True) == 20
    assert sorted(map(parse_number, sender.sqs.received)) == list(range(20))
    assert [(document.count, document.removed) for document in sender.documents] == [(1005, 0), (20, 1005)]
    document = sender.documents[1]
    assert (document.removal_end or 0) >= document.began
    told = json.loads(sender.s3.objects[f"runs/App/replaced/{SETTINGS.SQS_QUEUE_NAME}.json"])
    assert told == {"began": document.time, "removed_at": document.replaced_at}, "workers read this"
    assert sender.lines == ["replace         1,005 waiting jobs removed; running jobs were not stopped"]


def test_replace_says_which_of_the_removed_jobs_this_job_file_does_not_send_again(tmp_path: Path) -> None:
    sender = Sender(tmp_path, 30, FakeSqs())
    sender.send()
    other, own_path = tmp_path / "other.json", sender.path
    write_jobs(other, 5)
    sender.path = other
    sender.time.sleep(60)
    sender.send()
    sender.path = own_path
    add_script_jobs(sender, 3)
    sender.time.sleep(60)
    assert sender.send(replace=True) == 30
    job, other_job = shorten_start(str(own_path)), shorten_start(str(other))
    assert " ".join(" ".join(sender.lines).split()) == (
        "replace 38 waiting jobs removed; running jobs were not stopped"
        " note 3 of them were sent by a script, not by submitJob: run it again"
        f" note 5 of them were from {other_job}: send it again, unless {job} replaces it"
    )


def test_replace_counts_jobs_of_unknown_submissions_and_of_retry(tmp_path: Path) -> None:
    """`retry` keeps the time of the submission that had sent the jobs first."""
    sender = Sender(tmp_path, 4, FakeSqs())
    sender.send()
    add_script_jobs(sender, 1, retry_of="20261122T104500Z")
    add_script_jobs(sender, 2, submission="20261120T104500.000Z")
    add_script_jobs(sender, 3, submission="20261123T104500.000Z", retry_of="20261122T104500Z")
    sender.send(replace=True)
    assert " ".join(" ".join(sender.lines[1:]).split()) == (
        "note 1 of them was sent by a script, not by submitJob: run it again"
        f" note 2 of them were from another Job file: send it again, unless {shorten_start(str(sender.path))}"
        " replaces it"
    )


def test_a_retry_that_replaces_its_own_jobs_does_not_mention_them() -> None:
    retry = SubmissionDocument("App", "AppQueue", "20261123T104500.000Z", "retry of R", "", 9, retry_of="R")
    senders = {JobSender("", "R"): 3, JobSender("20261120T104500.000Z", "R"): 2, JobSender("", "Q"): 1}
    s3: Any = FakeBucket()
    assert describe_other_jobs(s3, "bucket", retry, senders) == [
        "1 of them was sent by a script, not by submitJob: run it again"
    ]


def add_script_jobs(sender: Sender, count: int, **attributes: str) -> None:
    sender.sqs.received += [f"{len(sender.sqs.received)} {number}" for number in range(count)]
    sender.sqs.attributes += [
        {name: {"DataType": "String", "StringValue": text} for name, text in attributes.items()}
    ] * count


def test_replace_discards_an_interrupted_submission(tmp_path: Path) -> None:
    sender = Sender(tmp_path, 2000, FakeSqs())
    sender.interrupt_after(500)
    write_jobs(sender.path, 20)
    assert sender.send(replace=True) == 20
    assert sorted(map(parse_number, sender.sqs.received)) == list(range(20))
    assert not sender.journal.exists()


def test_replace_ends_the_document_of_the_submission_that_it_replaces(tmp_path: Path) -> None:
    """Otherwise, all jobs of a submission that was killed would count as sent."""
    sender = Sender(tmp_path, 3000, FakeSqs())
    sender.interrupt_after(1000)
    killed = dataclasses.replace(sender.documents[0], count=0, ended=None)
    key = f"runs/App/submissions/{killed.time}.json"
    sender.s3.objects[key] = build_submission(killed)
    sent = len(read_acknowledged(sender.journal))
    sender.send(replace=True)
    first, second = sender.documents
    assert (first.count, first.ended is not None) == (sent, True)
    assert (second.count, second.replace, second.replaced) == (3000, True, True)


def test_resume_is_rejected_if_replace_had_not_removed_all_waiting_jobs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sender = Sender(tmp_path, 30, FakeSqs())
    sender.send()
    document = dataclasses.replace(sender.documents[0], count=0, ended=None, replace=True)
    plan = plan_submission(load_job_file(sender.path, lambda bucket, prefix: []))
    journal = SubmissionJournal(sender.path, replace=True)
    journal.lock()
    journal.start(plan, QUEUE_URL, document)
    journal._file.close()  # type: ignore[union-attr]  # as if the process was killed
    with pytest.raises(InputError, match="had not removed all waiting jobs yet; use --replace instead of --resume"):
        sender.send(resume=True)


def test_an_error_while_waiting_jobs_are_removed_ends_the_submission_before_jobs_are_sent(tmp_path: Path) -> None:
    sender = Sender(tmp_path, 30, FakeSqs())
    sender.send()
    sender.sqs.delete_message_batch = raise_access_error  # type: ignore[method-assign]
    with pytest.raises(
        SubmissionError, match=r"while removing waiting jobs: .* 0 of 30 jobs were sent; run the same command"
    ):
        sender.send(replace=True)
    assert [(document.count, document.removed) for document in sender.documents] == [(30, 0), (0, 0)]
    assert len(sender.sqs.batches) == 3


def raise_access_error(**_: object) -> Any:
    raise build_client_error("AccessDenied", "DeleteMessageBatch")


def test_ctrl_c_while_waiting_jobs_are_removed_ends_the_submission(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sender, pressed = Sender(tmp_path, 3000, FakeSqs()), threading.Event()
    sender.send()
    delete = sender.sqs.delete_message_batch

    def press_and_delete(**request: Any) -> dict[str, Any]:
        pressed.set()
        return delete(**request)

    sender.sqs.delete_message_batch = press_and_delete  # type: ignore[method-assign]
    monkeypatch.setattr(waiting_jobs, "catch_ctrl_c", lambda: nullcontext(pressed))
    with pytest.raises(SubmissionInterruption, match="0 of 3,000 jobs were sent; run the same command again"):
        sender.send(replace=True)
    removed = sender.documents[1].removed
    assert 0 < removed < 3000
    assert len(sender.sqs.received) == 3000 - removed


# The lock


def test_a_second_submission_of_the_same_file_is_rejected_also_through_a_link(tmp_path: Path) -> None:
    sender = Sender(tmp_path, 30, FakeSqs())
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "elsewhere" / "link.json"
    link.symlink_to(sender.path)
    first = SubmissionJournal(sender.path)
    first.lock()
    for path in (sender.path, link):
        with pytest.raises(InputError, match=f"{path}: another submitJob of this file is running; wait until it ends"):
            SubmissionJournal(path).lock()
    first.close()
    SubmissionJournal(link).lock()


def test_a_journal_that_its_owner_deletes_while_it_is_being_locked_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / ".job.json.submitted"
    flock, calls = fcntl.flock, []

    def delete_first(file: Any, operation: int) -> None:
        if not calls:
            path.unlink()
        calls.append(operation)
        flock(file, operation)

    monkeypatch.setattr(fcntl, "flock", delete_first)
    journal = SubmissionJournal(tmp_path / "job.json")
    journal.lock()
    assert len(calls) == 2
    assert path.exists()
    journal.close()
    assert not path.exists()


def test_jobs_can_be_sent_from_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(file: Any, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    assert Sender(tmp_path, 30, FakeSqs()).send() == 30


class FullDisk:
    """An open journal on a disk that has room for `lines` more lines."""

    def __init__(self, file: TextIO, lines: int) -> None:
        self._file, self._lines = file, lines

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def write(self, text: str) -> int:
        self._lines -= 1
        if self._lines < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return self._file.write(text)

    def close(self) -> None:
        self._file.close()
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("lines", [0, 1, 3])
def test_if_the_disk_is_full_the_error_says_how_many_jobs_are_in_the_queue_and_the_others_can_be_sent_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: int
) -> None:
    sender = Sender(tmp_path, 2000, FakeSqs())
    open_journal = journal_module._open_locked
    with monkeypatch.context() as patch:
        patch.setattr(journal_module, "_open_locked", lambda path: FullDisk(open_journal(path), lines))
        with pytest.raises(
            SubmissionError, match=r"cannot be written \(No space left on device\); make room"
        ) as caught:
            sender.send()
    assert caught.value.sent == len(sender.sqs.received)
    sender.send(resume=sender.journal.exists())
    assert set(map(parse_number, sender.sqs.received)) == set(range(2000))


def test_a_journal_that_cannot_be_written_is_reported_before_anything_is_sent(tmp_path: Path) -> None:
    sender = Sender(tmp_path, 30, FakeSqs())
    sender.journal.mkdir()
    with pytest.raises(
        InputError, match=r"submitted: this file cannot be written \(Is a directory\); allow writing in"
    ):
        sender.send()
    assert sender.sqs.received == []


# The command


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "config.py").write_text("".join(f"{name} = {value!r}\n" for name, value in CONFIG.items()))
    return tmp_path


def build_arguments(home: Path, *arguments: str) -> list[str]:
    return ["--config", str(home / "config.py"), "submitJob", str(home / "job.json"), *arguments]


def test_submitting_again_without_resume_after_an_interruption_is_rejected(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sender = Sender(home, 2000, FakeSqs())
    sender.interrupt_after(500)
    before = len(sender.sqs.received)
    monkeypatch.setattr(Context, "find_remaining_commands", lambda _: ("startCluster", "monitor"))
    ecs = SimpleNamespace(describe_services=lambda **_: {"services": []})
    monkeypatch.setattr(Context, "clients", SimpleNamespace(sqs=sender.sqs, s3=sender.s3, ecs=ecs))
    assert main(build_arguments(home)) == ExitCode.INPUT
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "was interrupted; add --resume to continue it, or add --replace to remove the waiting" in error
    assert len(sender.sqs.received) == before
    assert main(build_arguments(home, "--resume")) == ExitCode.DONE
    assert f"{2000 - before:,} of 2,000 sent" in capsys.readouterr().err


def test_dry_run_prints_the_job_count_and_one_message_without_calling_aws(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Context, "clients", property(lambda _: pytest.fail("a client was created")))
    write_jobs(home / "job.json", 1234)
    assert main(build_arguments(home, "--dry-run")) == ExitCode.DONE
    assert capsys.readouterr().out == (
        '1,234 jobs; the first message:\n{"command": "work {number}", "group": {"number": 0}}\n'
    )
    assert sorted(path.name for path in home.iterdir()) == ["config.py", "job.json"]


# Real processes and a real queue


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with run_ministack(tmp_path_factory.mktemp("cloud")) as url:
        yield url


class SubmitProcess:
    """A `run.py submitJob` process that sends to an emulator. Large messages make it slow enough to be interrupted."""

    def __init__(self, home: Path, cloud: str, count: int) -> None:
        self.home, self.count = home, count
        self.journal = home / ".job.json.submitted"
        self.env = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        self.env |= KEYS | {"AWS_ENDPOINT_URL": cloud}
        self.sqs: Any = build_client("sqs", cloud)
        self.url = self.sqs.create_queue(QueueName="AppQueue")["QueueUrl"]
        self.sqs.purge_queue(QueueUrl=self.url)
        s3 = build_client("s3", cloud)
        s3.create_bucket(Bucket="app-bucket")
        for key in list(iter_object_keys(s3, "app-bucket", "runs/")):  # documents of other tests with the same jobs
            s3.delete_object(Bucket="app-bucket", Key=key)
        write_jobs(home / "job.json", count, padding="x" * 4000)

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, str(ROOT / "run.py"), *build_arguments(self.home, *arguments)]

    def stop_in_the_middle(self, number: int) -> tuple[int, str]:
        """Start the command, and send it this signal after 100 jobs. Return its exit code and standard error."""
        process = subprocess.Popen(self.command(), env=self.env, stderr=subprocess.PIPE, text=True)
        wait_until(lambda: self.journal.exists() and len(read_acknowledged(self.journal)) >= 100, "nothing was sent")
        process.send_signal(number)
        _, error = process.communicate(timeout=60)
        return process.returncode, error

    def resume(self) -> None:
        subprocess.run(self.command("--resume"), env=self.env, check=True, capture_output=True, timeout=60)

    def count_queued_jobs(self) -> int:
        response = self.sqs.get_queue_attributes(QueueUrl=self.url, AttributeNames=["ApproximateNumberOfMessages"])
        return int(response["Attributes"]["ApproximateNumberOfMessages"])

    def count_received_jobs(self) -> Counter[int]:
        """Return how many times each job is in the queue."""
        counts: Counter[int] = Counter()
        while messages := self.sqs.receive_message(
            QueueUrl=self.url, MaxNumberOfMessages=10, VisibilityTimeout=600
        ).get("Messages"):
            counts.update(parse_number(message["Body"]) for message in messages)
        return counts


def build_client(service: str, url: str) -> Any:
    session: Any = boto3.Session("test", "test", region_name="us-east-1")
    return session.client(service, endpoint_url=url)


def test_a_killed_submission_can_be_resumed_without_losing_jobs_or_repeating_acknowledged_jobs(
    home: Path, cloud: str
) -> None:
    submission = SubmitProcess(home, cloud, 3000)
    code, _ = submission.stop_in_the_middle(signal.SIGKILL)
    assert code == -signal.SIGKILL
    before = read_acknowledged(submission.journal)
    assert 100 <= len(before) < 3000
    submission.resume()
    counts = submission.count_received_jobs()
    assert sorted(counts) == list(range(3000))
    assert {counts[number] for number in before} == {1}
    assert not submission.journal.exists()


@pytest.mark.long
def test_a_second_process_is_rejected_while_the_first_one_sends(home: Path, cloud: str) -> None:
    submission = SubmitProcess(home, cloud, 3000)
    link = home / "link"
    link.symlink_to(home, target_is_directory=True)
    first = subprocess.Popen(submission.command(), env=submission.env, stderr=subprocess.PIPE, text=True)
    wait_until(lambda: submission.journal.exists() and read_acknowledged(submission.journal), "nothing was sent")
    first.send_signal(signal.SIGSTOP)  # so that it cannot end before the others start
    for path, arguments in ((home, ()), (link, ("--yes",)), (home, ("--resume",)), (link, ("--replace",))):
        command = submission.command(*arguments)
        command[command.index(str(home / "job.json"))] = str(path / "job.json")
        second = subprocess.run(command, cwd=ROOT / "docs", env=submission.env, capture_output=True, text=True)
        assert second.returncode == ExitCode.INPUT
        assert second.stderr == (
            f"run.py: {path}/job.json: another submitJob of this file is running; wait until it ends\n"
        )
    first.kill()
    first.communicate(timeout=60)
    submission.resume()  # the lock ended with the process
    assert set(submission.count_received_jobs()) == set(range(3000))


def test_ctrl_c_ends_the_command_with_exit_code_130_and_the_number_of_queued_jobs(home: Path, cloud: str) -> None:
    submission = SubmitProcess(home, cloud, 20_000)
    code, error = submission.stop_in_the_middle(signal.SIGINT)
    assert code == ExitCode.INTERRUPTED
    sent_count = len(read_acknowledged(submission.journal))
    assert 100 <= sent_count < 20_000
    assert submission.count_queued_jobs() == sent_count
    assert error == (
        f"run.py: interrupted: {sent_count:,} of 20,000 jobs were sent; add --resume to the command to continue\n"
    )
    submission.resume()
    assert submission.count_queued_jobs() == 20_000


def test_replace_removes_waiting_jobs_and_running_jobs_keep_their_messages(home: Path, cloud: str) -> None:
    submission = SubmitProcess(home, cloud, 300)
    subprocess.run(submission.command(), env=submission.env, check=True, capture_output=True, timeout=60)
    request = {"QueueUrl": submission.url, "MaxNumberOfMessages": 5, "VisibilityTimeout": 600}
    running = submission.sqs.receive_message(**request)["Messages"]
    write_jobs(home / "job.json", 20)
    command = submission.command("--replace", "--again")
    replaced = subprocess.run(command, env=submission.env, check=True, capture_output=True, text=True, timeout=60)
    assert replaced.stderr.splitlines()[0] == (
        "replace         295 waiting jobs removed; running jobs were not stopped"
    )
    extension: Any = [
        {"Id": str(number), "ReceiptHandle": message["ReceiptHandle"], "VisibilityTimeout": 0}
        for number, message in enumerate(running)
    ]
    response = submission.sqs.change_message_visibility_batch(QueueUrl=submission.url, Entries=extension)
    assert len(response["Successful"]) == 5
    assert submission.count_queued_jobs() == 25


@pytest.mark.parametrize("rows", ["1\n2\n4\n", "1\n2\n"])
def test_what_was_checked_is_sent_although_the_table_changes(tmp_path: Path, rows: str) -> None:
    path, table, sqs = tmp_path / "job.json", tmp_path / "jobs.csv", FakeSqs()
    path.write_text('{"command": "work {n}", "groups": "jobs.csv"}')
    table.write_text("n\n1\n2\n3\n")
    job_file = load_job_file(path, lambda bucket, prefix: [])
    plan = plan_submission(job_file)
    table.write_text("n\n" + rows)
    clients: Any = SimpleNamespace(sqs=sqs, s3=FakeBucket())
    submission = Submission(job_file, plan, SubmissionJournal(path))
    notes: list[str] = []
    sent = submit_jobs(
        clients, SETTINGS, submission, Clock(), progress=lambda sent, total: None, print_progress=notes.append
    )
    assert sent == 3
    assert " ".join("".join(notes).split()) == (
        "note the table changed after its jobs were checked; what was checked is sent, and no copy of the table is kept"
    )
    assert list(submission.input_files) == [path]
    assert sorted(json.loads(body)["group"]["n"] for body in sqs.received) == ["1", "2", "3"]


def refuse_connection(context: Context) -> None:
    """Fail like an account that cannot be reached: nothing can be sent to it."""
    raise CloudError("no account")


@pytest.mark.parametrize("arguments", [(), ("--dry-run",)])
def test_invalid_jobs_are_reported_in_one_line_each_and_nothing_is_sent(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    monkeypatch.setattr(Context, "clients", property(refuse_connection))
    (home / "jobs.csv").write_text("well\nA01\nA02,x\nA03,x\nA01\n")
    (home / "job.json").write_text('{"command": "work {well}", "groups": "jobs.csv"}')
    assert main(build_arguments(home, *arguments)) == ExitCode.INPUT
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.replace(f"{home}/", "").splitlines() == [
        "run.py: jobs.csv: line 3, column 2: the row has 2 cells, but the header has 1; give the row as many cells as "
        "the header",
        "run.py: jobs.csv: line 4, column 2: the row has 2 cells, but the header has 1; give the row as many cells as "
        "the header",
        "run.py: job.json: groups: jobs 1 and 4 are the same job; keep one of them",
    ]
    assert not (home / ".job.json.submitted").exists()
