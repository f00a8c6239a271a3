"""submitJob: what is sent, what is sent again, and what survives an interruption."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from botocore.exceptions import EndpointConnectionError

from distributed_something.aws.s3 import upload_folders
from distributed_something.cli.context import Context, ExitCode
from distributed_something.cli.main import main
from distributed_something.core.clock import Clock
from distributed_something.core.errors import CloudError, InputError
from distributed_something.jobs.job_file import load_job_file
from distributed_something.jobs.send_batches import SEND_ATTEMPTS, iter_message_batches
from distributed_something.jobs.submission_journal import SubmissionJournal
from distributed_something.jobs.submission_plan import SubmissionPlan, plan_submission
from distributed_something.jobs.submit import (
    ChangedTableError,
    Submission,
    SubmissionError,
    SubmissionInterruption,
    submit_jobs,
)
from tests.support.emulator import KEYS, ROOT, ministack, until
from tests.support.fakes import SETTINGS, FakeSqs, FakeTime

CONFIG = {name: value for name, value in SETTINGS.model_dump(exclude={"own"}).items() if value != ""}


class Sender:
    """A job file of so many jobs, and the queue that it is sent to."""

    def __init__(self, folder: Path, count: int, sqs: FakeSqs) -> None:
        self.sqs, self.time, self.count = sqs, FakeTime(), count
        self.s3: Any = None
        self.clock = Clock(self.time.now, self.time.sleep)
        self.said: list[str] = []
        self.path = folder / "job.json"
        self.journal = folder / ".job.json.submitted"
        write_jobs(self.path, count)

    def send(self, *, resume: bool = False, progress: Callable[[int, int], None] = lambda sent, total: None) -> int:
        loaded = load_job_file(self.path, lambda bucket, prefix: [])
        clients: Any = SimpleNamespace(sqs=self.sqs, s3=self.s3)
        submission = Submission(loaded, plan_submission(loaded), SubmissionJournal(self.journal, resume=resume))
        return submit_jobs(SETTINGS, clients, submission, self.clock, progress=progress, say=self.said.append)

    def interrupt_after(self, sent: int) -> SubmissionInterruption:
        """Sends until at least `sent` jobs are through, then Ctrl-C."""

        def progress(done: int, total: int) -> None:
            if done >= sent:
                raise KeyboardInterrupt

        with pytest.raises(SubmissionInterruption) as caught:
            self.send(progress=progress)
        return caught.value


def write_jobs(path: Path, count: int, **shared: object) -> None:
    groups = [{"number": number} for number in range(count)]
    path.write_text(json.dumps({"command": "work {number}", **shared, "groups": groups}))


def number_of(body: str) -> int:
    return int(json.loads(body)["group"]["number"])


def acknowledged(journal: Path) -> list[int]:
    """The whole lines of the journal, the first aside."""
    whole = [line for line in journal.read_text().splitlines(keepends=True)[1:] if line.endswith("\n")]
    return [int(word) for line in whole for word in line.split()]


# Sending


def test_jobs_go_out_in_batches_of_ten_from_several_threads(tmp_path: Path) -> None:
    sent = Sender(tmp_path, 1005, FakeSqs())
    assert sent.send() == 1005
    assert Counter(map(len, sent.sqs.batches)) == {10: 100, 5: 1}
    assert len(sent.sqs.threads) > 1
    assert sorted(map(number_of, sent.sqs.received)) == list(range(1005))
    assert not sent.journal.exists()
    assert sent.time.slept == []


def test_a_batch_holds_at_most_a_mebibyte() -> None:
    numbered = [(number, "x" * 300_000) for number in range(7)]
    assert [len(batch) for batch in iter_message_batches(numbered)] == [3, 3, 1]


def test_what_a_batch_reports_as_failed_is_sent_again_and_only_that(tmp_path: Path) -> None:
    sent = Sender(tmp_path, 40, FakeSqs(lambda body, attempt: number_of(body) % 10 == 3 and attempt < 3))
    assert sent.send() == 40
    again = [[number_of(body) for body in batch] for batch in sent.sqs.batches if len(batch) < 10]
    assert sorted(again) == [[3], [3], [13], [13], [23], [23], [33], [33]]
    assert len(sent.sqs.received) == 40
    assert len(sent.time.slept) == 8
    assert all(0 < pause <= 10 for pause in sent.time.slept)


def test_it_gives_up_on_a_job_that_sqs_never_takes(tmp_path: Path) -> None:
    sent = Sender(tmp_path, 10, FakeSqs(lambda body, attempt: number_of(body) == 3))
    with pytest.raises(SubmissionError) as caught:
        sent.send()
    assert (caught.value.sent, caught.value.total) == (9, 10)
    assert (caught.value.action, caught.value.problem) == ("sending job 4", "SQS refuses it (later, please)")
    assert str(caught.value) == (
        "while sending job 4: SQS refuses it (later, please); "
        "9 of 10 jobs are sent; the same command with --resume goes on"
    )
    assert len(sent.sqs.batches) == SEND_ATTEMPTS
    assert acknowledged(sent.journal) == [0, 1, 2, 4, 5, 6, 7, 8, 9]


def test_the_queue_is_told_how_many_jobs_it_ever_got(tmp_path: Path) -> None:
    sent = Sender(tmp_path, 30, FakeSqs())
    sent.sqs.tags["jobs_submitted"] = "12"
    sent.send()
    assert sent.sqs.tags == {"jobs_submitted": "42"}


# Interrupted, and going on


def test_interrupted_it_says_how_many_were_sent_and_the_journal_holds_just_these(tmp_path: Path) -> None:
    sent = Sender(tmp_path, 2000, FakeSqs())
    error = sent.interrupt_after(500)
    through = sorted(map(number_of, sent.sqs.received))
    assert (error.sent, error.total) == (len(through), 2000)
    assert 500 <= len(through) < 2000
    assert sorted(acknowledged(sent.journal)) == through
    assert str(error) == (
        f"interrupted: {len(through):,} of 2,000 jobs are sent; the same command with --resume goes on"
    )
    assert error.exit_code == ExitCode.INTERRUPTED
    assert sent.sqs.tags == {"jobs_submitted": str(len(through))}


def test_ctrl_c_while_a_sending_thread_starts_waits_for_its_batch_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = threading.Event()

    class Slow(FakeSqs):
        def send_message_batch(self, **request: Any) -> dict[str, Any]:
            told.wait(0.5)  # as long as it takes, if the user was told before
            return super().send_message_batch(**request)

    start = threading.Thread.start

    def start_and_interrupt(thread: threading.Thread) -> None:
        start(thread)
        signal.raise_signal(signal.SIGINT)

    sent = Sender(tmp_path, 20, Slow())
    monkeypatch.setattr(threading.Thread, "start", start_and_interrupt)
    with pytest.raises(SubmissionInterruption) as caught:
        sent.send()
    told.set()
    assert str(caught.value) == "interrupted: 10 of 20 jobs are sent; the same command with --resume goes on"
    assert acknowledged(sent.journal) == list(range(10))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_resume_sends_the_rest_and_nothing_again(tmp_path: Path) -> None:
    sent = Sender(tmp_path, 2000, FakeSqs())
    sent.interrupt_after(500)
    before = len(sent.sqs.received)
    assert sent.send(resume=True) == 2000 - before
    assert sorted(map(number_of, sent.sqs.received)) == list(range(2000))
    assert sent.sqs.tags == {"jobs_submitted": "2000"}
    assert not sent.journal.exists()


def test_a_line_of_the_journal_that_was_cut_off_counts_as_not_sent(tmp_path: Path) -> None:
    sent = Sender(tmp_path, 2000, FakeSqs())
    sent.interrupt_after(500)
    with sent.journal.open("a") as file:
        file.write("1999 19")
    sent.send(resume=True)
    assert sorted(map(number_of, sent.sqs.received)) == list(range(2000))


def test_what_is_noted_after_a_cut_off_line_never_reads_as_another_job(tmp_path: Path) -> None:
    planned, path = SubmissionPlan(200, "{}", "digest"), tmp_path / "journal"
    first = SubmissionJournal(path, resume=False)
    first.open(planned, "url")
    first.add([0, 1])
    first.close()
    with path.open("a") as file:
        file.write("3 1")  # killed while it wrote «3 14»
    for noted in ([7, 8], [9]):  # interrupted again, and gone on with again
        again = SubmissionJournal(path, resume=True)
        again.open(planned, "url")
        again.add(noted)
        again.close()
    assert acknowledged(path) == [0, 1, 7, 8, 9]
    assert again.done == 5


def test_resume_is_refused_when_the_jobs_changed(tmp_path: Path) -> None:
    sent = Sender(tmp_path, 2000, FakeSqs())
    sent.interrupt_after(500)
    before = len(sent.sqs.received)
    write_jobs(sent.path, 2001)
    with pytest.raises(InputError, match="changed since then"):
        sent.send(resume=True)
    assert len(sent.sqs.received) == before


@pytest.mark.parametrize("content", ["", "\0\xff", "[]\n", "3\n1 2 3\n"])
def test_resume_is_refused_when_the_journal_is_no_journal(tmp_path: Path, content: str) -> None:
    sent = Sender(tmp_path, 20, FakeSqs())
    sent.journal.write_text(content)
    with pytest.raises(InputError, match="delete this file"):
        sent.send(resume=True)


def test_resume_without_an_interrupted_submission_is_refused(tmp_path: Path) -> None:
    sent = Sender(tmp_path, 20, FakeSqs())
    sent.send()
    with pytest.raises(InputError, match="leave --resume out"):
        sent.send(resume=True)
    assert len(sent.sqs.received) == 20


def test_interrupted_before_the_first_job_the_same_command_begins_anew(tmp_path: Path) -> None:
    class EmptyBucket:
        """An S3 client in whose first call somebody presses Ctrl-C."""

        pressed = False

        def get_paginator(self, name: str) -> SimpleNamespace:
            if not self.pressed:
                self.pressed = True
                raise KeyboardInterrupt
            return SimpleNamespace(paginate=lambda **_: [])

    sent = Sender(tmp_path, 20, FakeSqs())
    sent.s3 = EmptyBucket()
    (tmp_path / "data").mkdir()
    write_jobs(sent.path, 20, upload={"data": "data"})
    with pytest.raises(SubmissionInterruption, match="0 of 20 jobs are sent; the same command begins anew"):
        sent.send()
    assert sent.send() == 20


def test_interrupted_after_the_last_job_nothing_is_left_to_do(tmp_path: Path) -> None:
    sent = Sender(tmp_path, 10, FakeSqs())
    assert str(sent.interrupt_after(10)) == "interrupted: but all 10 jobs are sent"
    assert not sent.journal.exists()


def test_a_cloud_that_takes_no_job_at_all_leaves_nothing_to_resume(tmp_path: Path) -> None:
    def refuse(**_: object) -> None:
        raise EndpointConnectionError(endpoint_url="https://sqs")

    sent = Sender(tmp_path, 10, FakeSqs())
    sent.sqs.send_message_batch = refuse  # type: ignore[method-assign,assignment]
    with pytest.raises(CloudError, match="0 of 10 jobs are sent; the same command begins anew"):
        sent.send()
    assert not sent.journal.exists()


# As typed


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "config.py").write_text("".join(f"{name} = {value!r}\n" for name, value in CONFIG.items()))
    return tmp_path


def typed(home: Path, *arguments: str) -> list[str]:
    return ["--config", str(home / "config.py"), "submitJob", str(home / "job.json"), *arguments]


def test_a_plain_repeat_of_an_interrupted_submission_ends_with_2(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sent = Sender(home, 2000, FakeSqs())
    sent.interrupt_after(500)
    before = len(sent.sqs.received)
    monkeypatch.setattr(Context, "clients", SimpleNamespace(sqs=sent.sqs, s3=None))
    assert main(typed(home)) == ExitCode.INPUT
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "add --resume to go on, or delete" in told
    assert len(sent.sqs.received) == before
    assert main(typed(home, "--resume")) == ExitCode.DONE
    assert f"{2000 - before:,} of 2,000 sent" in capsys.readouterr().err


def test_dry_run_prints_the_number_and_one_message_and_asks_aws_nothing(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Context, "clients", property(lambda _: pytest.fail("a client was made")))
    write_jobs(home / "job.json", 1234)
    assert main(typed(home, "--dry-run")) == ExitCode.DONE
    assert capsys.readouterr().out == (
        '1234 jobs; the first message:\n{"command": "work {number}", "group": {"number": 0}}\n'
    )
    assert sorted(path.name for path in home.iterdir()) == ["config.py", "job.json"]


# Real processes, a real queue


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with ministack(tmp_path_factory.mktemp("cloud")) as url:
        yield url


class Typed:
    """`run.py submitJob` as a process, sending to an emulator; every message is large, so that it takes a while."""

    def __init__(self, home: Path, cloud: str, count: int) -> None:
        self.home, self.count = home, count
        self.journal = home / ".job.json.submitted"
        self.env = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        self.env |= KEYS | {"AWS_ENDPOINT_URL": cloud}
        self.sqs: Any = client("sqs", cloud)
        self.url = self.sqs.create_queue(QueueName="AppQueue")["QueueUrl"]
        self.sqs.purge_queue(QueueUrl=self.url)
        write_jobs(home / "job.json", count, padding="x" * 4000)

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, str(ROOT / "run.py"), *typed(self.home, *arguments)]

    def stop_in_the_middle(self, number: int) -> tuple[int, str]:
        """Starts the command, sends it the signal `number` once jobs are through; exit code and what it said."""
        process = subprocess.Popen(self.command(), env=self.env, stderr=subprocess.PIPE, text=True)
        until(lambda: self.journal.exists() and len(acknowledged(self.journal)) >= 100, "nothing was sent")
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
        return process.returncode, said

    def resume(self) -> None:
        subprocess.run(self.command("--resume"), env=self.env, check=True, capture_output=True, timeout=60)

    def in_queue(self) -> int:
        answer = self.sqs.get_queue_attributes(QueueUrl=self.url, AttributeNames=["ApproximateNumberOfMessages"])
        return int(answer["Attributes"]["ApproximateNumberOfMessages"])

    def received(self) -> Counter[int]:
        """How often each job is in the queue."""
        found: Counter[int] = Counter()
        while messages := self.sqs.receive_message(
            QueueUrl=self.url, MaxNumberOfMessages=10, VisibilityTimeout=600
        ).get("Messages"):
            found.update(number_of(message["Body"]) for message in messages)
        return found


def client(service: str, url: str) -> Any:
    session: Any = boto3.Session("test", "test", region_name="us-east-1")
    return session.client(service, endpoint_url=url)


def test_killed_in_the_middle_it_goes_on_and_no_job_is_lost_and_none_acknowledged_comes_twice(
    home: Path, cloud: str
) -> None:
    sent = Typed(home, cloud, 3000)
    code, _ = sent.stop_in_the_middle(signal.SIGKILL)
    assert code == -signal.SIGKILL
    before = acknowledged(sent.journal)
    assert 100 <= len(before) < 3000
    sent.resume()
    found = sent.received()
    assert sorted(found) == list(range(3000))
    assert {found[number] for number in before} == {1}
    assert not sent.journal.exists()


def test_ctrl_c_ends_with_130_and_tells_just_what_the_queue_got(home: Path, cloud: str) -> None:
    sent = Typed(home, cloud, 20_000)
    code, said = sent.stop_in_the_middle(signal.SIGINT)
    assert code == ExitCode.INTERRUPTED
    through = len(acknowledged(sent.journal))
    assert 100 <= through < 20_000
    assert sent.in_queue() == through
    assert said == (
        f"run.py: interrupted: {through:,} of 20,000 jobs are sent; the same command with --resume goes on\n"
    )
    sent.resume()
    assert sent.in_queue() == 20_000


def test_upload_folders_are_brought_up_once_and_then_only_what_changed(home: Path, cloud: str) -> None:
    s3 = client("s3", cloud)
    s3.create_bucket(Bucket="app-bucket")
    images = home / "images"
    (images / "deep").mkdir(parents=True)
    (images / "a.txt").write_text("a")
    (images / "deep" / "b.txt").write_text("b")
    said: list[str] = []

    def bring_up() -> None:
        upload_folders(s3, "app-bucket", {images: "project/images"}, said.append)

    bring_up()
    bring_up()
    later = (images / "a.txt").stat().st_mtime + 60
    (images / "a.txt").write_text("z")  # of the same size: only its time tells
    os.utime(images / "a.txt", (later, later))
    bring_up()
    assert [line.split(": ")[-1] for line in said] == [
        "2 files uploaded, 0 unchanged", "0 files uploaded, 2 unchanged", "1 files uploaded, 1 unchanged",
    ]  # fmt: skip
    assert s3.get_object(Bucket="app-bucket", Key="project/images/a.txt")["Body"].read() == b"z"
    assert s3.get_object(Bucket="app-bucket", Key="project/images/deep/b.txt")["Body"].read() == b"b"


@pytest.mark.parametrize("rows", ["1\n2\n4\n", "1\n2\n"])
def test_a_table_that_changes_between_the_check_and_the_sending_is_told(tmp_path: Path, rows: str) -> None:
    path, table, sqs = tmp_path / "job.json", tmp_path / "jobs.csv", FakeSqs()
    path.write_text('{"command": "work {n}", "groups": "jobs.csv"}')
    table.write_text("n\n1\n2\n3\n")
    loaded = load_job_file(path, lambda bucket, prefix: [])
    planned = plan_submission(loaded)
    table.write_text("n\n" + rows)
    clients: Any = SimpleNamespace(sqs=sqs, s3=None)
    submission = Submission(loaded, planned, SubmissionJournal(tmp_path / "journal", resume=False))
    with pytest.raises(ChangedTableError, match=r"job\.json: its table changed while its jobs were sent; not all"):
        submit_jobs(SETTINGS, clients, submission, Clock(), progress=lambda sent, total: None, say=lambda text: None)
