"""`run.py submitJob`: every job is checked before the first is sent; batches of ten go out from several threads.

What SQS acknowledged is written to a journal beside the job file, so that an interrupted submission goes on with
`--resume` where it stopped. A job is sent twice only if the process dies between SQS's answer and the journal's
line; the worker makes that harmless.
"""

from __future__ import annotations

import hashlib
import itertools
import signal
import threading
from array import array
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

from distributed_something.aws.clients import SENDER_THREADS, Clients
from distributed_something.aws.s3 import upload_folders
from distributed_something.aws.sqs import add_submitted_count, require_job_queue
from distributed_something.core.errors import AWSError, CloudError, InputError, UserFacingError, explain_aws_error
from distributed_something.jobs.job_file import JobFile
from distributed_something.jobs.submission_journal import NumberedMessage, SubmissionJournal, SubmissionPlan

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

    from distributed_something.core.config_settings import Settings


MAX_BATCH_MESSAGES = 10  # SQS: messages in one SendMessageBatch
MAX_BATCH_BYTES = 1024 * 1024  # SQS: one message and one batch may hold 1 MiB
SEND_ATTEMPTS = 8
_SHARD_COUNT = 256
ProgressCallback = Callable[[int, int], None]  # (sent so far, of how many)


class SubmissionInterruption(UserFacingError):
    """Ctrl-C in the middle of sending; what was sent is known."""

    exit_code = 130


def plan_submission(job_file: JobFile) -> SubmissionPlan:
    """Reads and checks every job without sending anything; raises InputError for the first that is wrong."""
    seen = [array("Q") for _ in range(_SHARD_COUNT)]
    whole, count, first = hashlib.sha256(), 0, ""
    for body, identity in job_file.iter_checked_messages():
        first = first or body
        count += 1
        whole.update(body.encode())
        digest = hashlib.blake2b(identity.encode(), digest_size=8).digest()
        seen[digest[0]].append(int.from_bytes(digest, "big"))
    if not count:
        raise InputError(job_file.path, job_file.groups_key, "there is no job in it", "list at least one")
    _check_duplicates(job_file, seen)
    return SubmissionPlan(count, first, whole.hexdigest())


def submit_jobs(
    settings: Settings,
    clients: Clients,
    job_file: JobFile,
    planned: SubmissionPlan,
    *,
    journal: SubmissionJournal,
    progress: ProgressCallback,
    say: Callable[[str], None],
    sleep: Callable[[float], None],
) -> int:
    """Brings the `upload` folders up, sends every job that the journal does not hold; how many were sent now."""
    url = require_job_queue(settings, clients)
    journal.open(planned, url)
    before = journal.done
    try:
        upload_folders(clients.s3, settings.AWS_BUCKET, job_file.uploads, say)
        _send_all_batches(clients.sqs, url, _iter_unsent_jobs(job_file, planned, journal), journal, progress, sleep)
    except KeyboardInterrupt:
        raise SubmissionInterruption(f"interrupted: {_format_progress(journal.done, planned.count)}") from None
    except CloudError as error:
        raise CloudError(f"{error}; {_format_progress(journal.done, planned.count)}") from error
    finally:
        _note_submitted_count(clients.sqs, url, journal.done - before, say)
        journal.close()
        if journal.done in (0, planned.count):
            journal.remove()  # nothing to go on with
    return journal.done - before


def _iter_unsent_jobs(
    job_file: JobFile, planned: SubmissionPlan, journal: SubmissionJournal
) -> Iterator[NumberedMessage]:
    """The jobs that the journal does not hold; raises Problem at the end where they are not those that were checked."""
    whole = hashlib.sha256()
    for number, body in enumerate(job_file.bodies()):
        whole.update(body.encode())
        if not journal.is_sent(number):
            yield number, body
    if whole.hexdigest() != planned.digest:
        raise UserFacingError(
            f"{job_file.path}: its table changed while its jobs were sent; not all of them were checked"
        )


def iter_message_batches(numbered: Iterable[NumberedMessage]) -> Iterator[list[NumberedMessage]]:
    """Cuts a stream of messages into batches that SQS takes: ten messages and 1 MiB at the most."""
    batch: list[NumberedMessage] = []
    size = 0
    for number, body in numbered:
        if batch and (len(batch) == MAX_BATCH_MESSAGES or size + len(body) > MAX_BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append((number, body))
        size += len(body)  # bodies are ASCII: json.dumps escapes the rest
    if batch:
        yield batch


def _send_all_batches(
    sqs: SQSClient,
    url: str,
    numbered: Iterable[NumberedMessage],
    journal: SubmissionJournal,
    progress: ProgressCallback,
    sleep: Callable[[float], None],
) -> None:
    room = threading.Semaphore(2 * SENDER_THREADS)  # so that a stream of a million jobs does not wait in memory
    failures: list[Exception] = []

    def send(batch: list[NumberedMessage]) -> None:
        try:
            _send_batch(sqs, url, batch, journal, sleep)
        except Exception as error:  # whatever it is: raised again below, in the thread that the user waits for
            failures.append(error)
        finally:
            room.release()

    pool = ThreadPoolExecutor(SENDER_THREADS)
    with _catch_ctrl_c() as pressed:
        try:
            for batch in iter_message_batches(numbered):
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
def _catch_ctrl_c() -> Iterator[threading.Event]:
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
    sqs: SQSClient, url: str, batch: list[NumberedMessage], journal: SubmissionJournal, sleep: Callable[[float], None]
) -> None:
    """Sends until SQS has acknowledged every message of the batch; raises CloudError when it will not."""
    left = batch
    for attempt in range(SEND_ATTEMPTS):
        if attempt:
            sleep(min(0.2 * 2**attempt, 10))
        try:
            answer = sqs.send_message_batch(
                QueueUrl=url, Entries=[{"Id": str(number), "MessageBody": body} for number, body in left]
            )
        except AWSError as error:
            raise explain_aws_error("sending jobs", error) from error
        acknowledged = {int(entry["Id"]) for entry in answer.get("Successful", [])}
        if acknowledged:
            journal.add(sorted(acknowledged))
        left = [(number, body) for number, body in left if number not in acknowledged]
        if not left:
            return
    reason = next((entry.get("Message", entry["Code"]) for entry in answer.get("Failed", [])), "no reason given")
    raise CloudError(f"while sending job {left[0][0] + 1}: SQS refuses it ({reason})")


def _format_progress(done: int, count: int) -> str:
    if done == count:
        return f"but all {count:,} jobs are sent"
    how = "with --resume goes on" if done else "begins anew"
    return f"{done:,} of {count:,} jobs are sent; the same command {how}"


def _note_submitted_count(sqs: SQSClient, url: str, sent: int, say: Callable[[str], None]) -> None:
    """Tells the monitor how many jobs there are; without it only its view of «done» is poorer."""
    if not sent:
        return
    try:
        add_submitted_count(sqs, url, sent)
    except AWSError:
        say("note: the count of jobs could not be put on the queue; monitor will count from what it sees")


def _check_duplicates(job_file: JobFile, seen: list[array[int]]) -> None:
    for shard in seen:
        ordered = sorted(shard)
        twin = next((a for a, b in itertools.pairwise(ordered) if a == b), None)
        if twin is None:
            continue
        places = [
            n
            for n, (_, identity) in enumerate(job_file.iter_checked_messages(), 1)
            if int.from_bytes(hashlib.blake2b(identity.encode(), digest_size=8).digest(), "big") == twin
        ]
        wrong = f"jobs {' and '.join(map(str, places[:3]))} are the same job"
        raise InputError(job_file.path, job_file.groups_key, wrong, "keep one of them")
