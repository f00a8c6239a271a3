"""`run.py submitJob`: every job is checked before the first is sent; batches of ten go out from several threads.

What SQS acknowledged is written to a journal beside the job file, so that an interrupted submission goes on with
`--resume` where it stopped. A job is sent twice only if the process dies between SQS's answer and the journal's
line; the worker makes that harmless.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import signal
import threading
from array import array
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from control import queue, s3
from control.clients import SENDERS, Clients
from control.errors import AWSError, CloudError, InputError, Problem, doing, explain
from control.jobs import JobFile

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

    from control.settings import Settings

BATCH_MESSAGES = 10  # SQS: messages in one SendMessageBatch
BATCH_BYTES = 1024 * 1024  # SQS: one message and one batch may hold 1 MiB
SEND_TRIES = 8
_SHARDS = 256

Numbered = tuple[int, str]  # (place in the job file from 0, message body)
Progress = Callable[[int, int], None]  # (sent so far, of how many)


@dataclass(frozen=True)
class Plan:
    """What a job file amounts to: how many jobs, the first one's body, and a digest of them all."""

    count: int
    first: str
    digest: str


class Interrupted(Problem):
    """Ctrl-C in the middle of sending; what was sent is known."""

    exit_code = 130


def plan(job_file: JobFile) -> Plan:
    """Reads and checks every job without sending anything; raises InputError for the first that is wrong."""
    seen = [array("Q") for _ in range(_SHARDS)]
    whole, count, first = hashlib.sha256(), 0, ""
    for body, identity in job_file.checked():
        first = first or body
        count += 1
        whole.update(body.encode())
        digest = hashlib.blake2b(identity.encode(), digest_size=8).digest()
        seen[digest[0]].append(int.from_bytes(digest, "big"))
    if not count:
        raise InputError(job_file.path, job_file.groups_key, "there is no job in it", "list at least one")
    _refuse_twins(job_file, seen)
    return Plan(count, first, whole.hexdigest())


def submit(
    settings: Settings, clients: Clients, job_file: JobFile, planned: Plan, *, journal: Journal, progress: Progress,
    say: Callable[[str], None], sleep: Callable[[float], None],
) -> int:  # fmt: skip
    """Brings the `upload` folders up, sends every job that the journal does not hold; how many were sent now."""
    url = find_queue(settings, clients)
    journal.open(planned, url)
    before = journal.done
    try:
        s3.bring_up(clients.s3, settings.AWS_BUCKET, job_file.uploads, say)
        _send_all(clients.sqs, url, _left(job_file, planned, journal), journal, progress, sleep)
    except KeyboardInterrupt:
        raise Interrupted(f"interrupted: {_how_far(journal.done, planned.count)}") from None
    except CloudError as error:
        raise CloudError(f"{error}; {_how_far(journal.done, planned.count)}") from error
    finally:
        _note(clients.sqs, url, journal.done - before, say)
        journal.close()
        if journal.done in (0, planned.count):
            journal.remove()  # nothing to go on with
    return journal.done - before


def _left(job_file: JobFile, planned: Plan, journal: Journal) -> Iterator[Numbered]:
    """The jobs that the journal does not hold; raises Problem at the end where they are not those that were checked."""
    whole = hashlib.sha256()
    for number, body in enumerate(job_file.bodies()):
        whole.update(body.encode())
        if not journal.holds(number):
            yield number, body
    if whole.hexdigest() != planned.digest:
        raise Problem(f"{job_file.path}: its table changed while its jobs were sent; not all of them were checked")


def find_queue(settings: Settings, clients: Clients) -> str:
    """The job queue's URL; raises CloudError where `setup` has not made it."""
    with doing(f"looking for the queue {settings.SQS_QUEUE_NAME}"):
        url = queue.find(clients.sqs, settings.SQS_QUEUE_NAME)
    if url is None:
        raise CloudError(f"the queue {settings.SQS_QUEUE_NAME} does not exist: run setup first")
    return url


def batches(numbered: Iterable[Numbered]) -> Iterator[list[Numbered]]:
    """Cuts a stream of messages into batches that SQS takes: ten messages and 1 MiB at the most."""
    batch: list[Numbered] = []
    size = 0
    for number, body in numbered:
        if batch and (len(batch) == BATCH_MESSAGES or size + len(body) > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append((number, body))
        size += len(body)  # bodies are ASCII: json.dumps escapes the rest
    if batch:
        yield batch


class Journal:
    """Which jobs SQS acknowledged: a header line, then one line of numbers a batch; removed when all are sent."""

    def __init__(self, path: Path, *, resume: bool) -> None:
        self._path, self._resume = path, resume
        self._lock = threading.Lock()
        self._sent = bytearray()
        self._file: TextIO | None = None
        self.done = 0
        self.total = 0

    def open(self, planned: Plan, url: str) -> None:
        """Reads what an interrupted submission left, or begins a new journal; raises InputError where they clash."""
        header = {"digest": planned.digest, "queue": url, "count": planned.count}
        self.total, self._sent = planned.count, bytearray(planned.count)
        exists = self._path.exists()
        if exists and not self._resume:
            right = f"add --resume to go on, or delete {self._path} to send every job anew"
            raise InputError(self._path, "", "an earlier submission of this job file was interrupted", right)
        if self._resume and not exists:
            right = "leave --resume out to send every job"
            raise InputError(
                self._path, "", "no submission of this job file was interrupted: this file is not there", right
            )
        if exists:
            self._read(header)
        else:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.write_text(json.dumps(header) + "\n")
        self._file = self._path.open("a", buffering=1)  # each line reaches the system at once

    def holds(self, number: int) -> bool:
        if number >= self.total:
            raise InputError(self._path, "", "the table grew while its jobs were sent", "put the old one back")
        return bool(self._sent[number])

    def add(self, numbers: list[int]) -> None:
        """Notes that SQS has these jobs."""
        with self._lock:
            assert self._file is not None  # open() comes first
            self._file.write(" ".join(map(str, numbers)) + "\n")
            self._mark(numbers)

    def close(self) -> None:
        """Leaves the journal for `--resume`."""
        if self._file is not None:
            self._file.close()

    def remove(self) -> None:
        self._path.unlink(missing_ok=True)

    def _mark(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            if 0 <= number < self.total and not self._sent[number]:
                self._sent[number] = 1
                self.done += 1

    def _read(self, header: dict[str, Any]) -> None:
        self._cut_last_line()
        with self._path.open() as lines:
            try:
                written = json.loads(next(lines, ""))
            except ValueError:
                written = None
            if written != header:
                right = "put the old ones back, or delete this file to send every job anew"
                raise InputError(self._path, "", "the job file, its table or the queue changed since then", right)
            for line in lines:
                self._mark(int(word) for word in line.split() if word.isdigit())

    def _cut_last_line(self) -> None:
        """A line without its end was cut off while it was written: a part of a number is another job's number."""
        content = self._path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            os.truncate(self._path, whole)


def _send_all(
    sqs: SQSClient, url: str, numbered: Iterable[Numbered], journal: Journal, progress: Progress,
    sleep: Callable[[float], None],
) -> None:  # fmt: skip
    room = threading.Semaphore(2 * SENDERS)  # so that a stream of a million jobs does not wait in memory
    failures: list[Exception] = []

    def send(batch: list[Numbered]) -> None:
        try:
            _send_batch(sqs, url, batch, journal, sleep)
        except Exception as error:  # whatever it is: raised again below, in the thread that the user waits for
            failures.append(error)
        finally:
            room.release()

    pool = ThreadPoolExecutor(SENDERS)
    with _ctrl_c() as pressed:
        try:
            for batch in batches(numbered):
                room.acquire()
                if failures or pressed.is_set():
                    break
                pool.submit(send, batch)
                progress(journal.done, journal.total)
        finally:
            pool.shutdown(wait=True, cancel_futures=bool(failures))
    progress(journal.done, journal.total)
    if failures:
        raise failures[0]
    if pressed.is_set():
        raise KeyboardInterrupt


@contextmanager
def _ctrl_c() -> Iterator[threading.Event]:
    """Ctrl-C sets the event, and only a second one is raised at once.

    Raised while the pool starts a thread, it leaves one that the pool does not know of and so does not wait for: its
    batch would be sent after the user was told how many were.
    """
    pressed = threading.Event()

    def press(number: int, frame: object) -> None:
        if pressed.is_set():
            raise KeyboardInterrupt
        pressed.set()

    main = threading.current_thread() is threading.main_thread()  # only it may set a handler, and only it is raised in
    if not main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield pressed
        return
    signal.signal(signal.SIGINT, press)
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _send_batch(
    sqs: SQSClient, url: str, batch: list[Numbered], journal: Journal, sleep: Callable[[float], None]
) -> None:
    """Sends until SQS has acknowledged every message of the batch; raises CloudError when it will not."""
    left = batch
    for attempt in range(SEND_TRIES):
        if attempt:
            sleep(min(0.2 * 2**attempt, 10))
        try:
            answer = sqs.send_message_batch(
                QueueUrl=url, Entries=[{"Id": str(number), "MessageBody": body} for number, body in left]
            )
        except AWSError as error:
            raise explain("sending jobs", error) from error
        acknowledged = {int(entry["Id"]) for entry in answer.get("Successful", [])}
        if acknowledged:
            journal.add(sorted(acknowledged))
        left = [(number, body) for number, body in left if number not in acknowledged]
        if not left:
            return
    reason = next((entry.get("Message", entry["Code"]) for entry in answer.get("Failed", [])), "no reason given")
    raise CloudError(f"while sending job {left[0][0] + 1}: SQS refuses it ({reason})")


def _how_far(done: int, count: int) -> str:
    if done == count:
        return f"but all {count:,} jobs are sent"
    how = "with --resume goes on" if done else "begins anew"
    return f"{done:,} of {count:,} jobs are sent; the same command {how}"


def _note(sqs: SQSClient, url: str, sent: int, say: Callable[[str], None]) -> None:
    """Tells the monitor how many jobs there are; without it only its view of «done» is poorer."""
    if not sent:
        return
    try:
        queue.note_submitted(sqs, url, sent)
    except AWSError:
        say("note: the count of jobs could not be put on the queue; monitor will count from what it sees")


def _refuse_twins(job_file: JobFile, seen: list[array[int]]) -> None:
    for shard in seen:
        ordered = sorted(shard)
        twin = next((a for a, b in itertools.pairwise(ordered) if a == b), None)
        if twin is None:
            continue
        places = [
            n
            for n, (_, identity) in enumerate(job_file.checked(), 1)
            if int.from_bytes(hashlib.blake2b(identity.encode(), digest_size=8).digest(), "big") == twin
        ]
        wrong = f"jobs {' and '.join(map(str, places[:3]))} are the same job"
        raise InputError(job_file.path, job_file.groups_key, wrong, "keep one of them")
