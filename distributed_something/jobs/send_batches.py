"""Messages to SQS: in batches of ten, from several threads, until SQS has acknowledged each.

What it acknowledged is written to the journal at once. After Ctrl-C or an error no batch is begun any more, and those
that are on their way are waited for.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

from distributed_something.aws.clients import SENDER_THREADS
from distributed_something.core.errors import AWSError, CloudError, explain_aws_error
from distributed_something.jobs.submission_journal import SubmissionJournal

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient


MAX_BATCH_MESSAGES = 10  # SQS: messages in one SendMessageBatch
MAX_BATCH_BYTES = 1024 * 1024  # SQS: one message and one batch may hold 1 MiB
SEND_ATTEMPTS = 8
NumberedMessage = tuple[int, str]  # (place in the job file from 0, message body)
ProgressCallback = Callable[[int, int], None]  # (sent so far, of how many)
Sleep = Callable[[float], None]


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


def send_all_batches(
    sqs: SQSClient,
    url: str,
    numbered: Iterable[NumberedMessage],
    journal: SubmissionJournal,
    progress: ProgressCallback,
    sleep: Sleep,
) -> None:
    """Sends every message; raises the first error, or KeyboardInterrupt, once no batch is on its way any more."""
    room = threading.Semaphore(2 * SENDER_THREADS)  # so that a stream of a million jobs does not wait in memory
    failures: list[Exception] = []

    def send(batch: list[NumberedMessage]) -> None:
        try:
            send_batch(sqs, url, batch, journal, sleep)
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


def send_batch(
    sqs: SQSClient, url: str, batch: list[NumberedMessage], journal: SubmissionJournal, sleep: Sleep
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
    raise CloudError(f"SQS refuses it ({reason})", action=f"sending job {left[0][0] + 1}")


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
