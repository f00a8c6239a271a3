"""Sends messages to SQS in batches of ten, from several threads, until SQS has acknowledged every message.

Acknowledged messages are written to the journal at once. After Ctrl-C or an error, no new batch is started, and the
batches already being sent are completed.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from distributed_something.aws.clients import SENDER_THREADS
from distributed_something.aws.sqs import MAX_MESSAGE_BYTES
from distributed_something.core.errors import AWSError, CloudError, explain_aws_error
from distributed_something.jobs.submission.journal import SubmissionJournal
from distributed_something.worker import use_one_processor

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient


MAX_BATCH_MESSAGES = 10  # SQS: maximum number of messages per SendMessageBatch
SEND_ATTEMPTS = 8
NumberedMessage = tuple[int, str]  # (index in the job file from 0, message body)
ProgressCallback = Callable[[int, int], None]  # (number of jobs sent, total number of jobs)
Sleep = Callable[[float], None]
MessageAttributes = Mapping[str, Any]  # in SQS's form
AttributeBuilder = Callable[[int], MessageAttributes]  # of the message with this index


def iter_message_batches(
    numbered: Iterable[NumberedMessage],
    build_attributes: AttributeBuilder | None = None,
    max_bytes: int = MAX_MESSAGE_BYTES,
) -> Iterator[list[NumberedMessage]]:
    """Split a stream of messages into batches that SQS accepts: at most ten messages and `max_bytes`, with attributes.

    `max_bytes`: the queue's limit for a message. SQS's limit for a batch is the same number for new queues.
    """
    batch: list[NumberedMessage] = []
    attributes, attribute_bytes, size = None, 0, 0
    for number, body in numbered:
        previous, attributes = attributes, build_attributes(number) if build_attributes else None
        if attributes is not previous:  # seldom: all messages of a Job file have the same ones
            attribute_bytes = _count_attribute_bytes(attributes or {})
        message_bytes = len(body) + attribute_bytes  # bodies are ASCII: json.dumps escapes all other characters
        if batch and (len(batch) == MAX_BATCH_MESSAGES or size + message_bytes > max_bytes):
            yield batch
            batch, size = [], 0
        batch.append((number, body))
        size += message_bytes
    if batch:
        yield batch


def _count_attribute_bytes(attributes: MessageAttributes) -> int:
    """Return how many bytes a message's attributes add to its size: their names, types, and values."""
    return sum(len(text.encode()) for name, values in attributes.items() for text in (name, *values.values()))


def send_all_batches(
    sqs: SQSClient,
    url: str,
    batches: Iterator[list[NumberedMessage]],
    journal: SubmissionJournal,
    progress: ProgressCallback,
    sleep: Sleep,
    build_attributes: AttributeBuilder | None = None,
) -> None:
    """Send every batch (see `iter_message_batches`) with its messages' attributes.

    After an error or Ctrl-C, complete the batches already started, and then raise the first error or KeyboardInterrupt.
    `progress` is called by one thread at a time.
    """
    lock = threading.Lock()  # for `batches` and `progress`
    failures: list[BaseException] = []

    def take_batch() -> list[NumberedMessage] | None:
        with lock:
            if failures or pressed.is_set():
                return None
            progress(journal.done, journal.total)
            return next(batches, None)

    def send_batches() -> None:
        # Each thread takes its batches itself: a thread that hands them out would cost two thread switches a batch.
        try:
            while batch := take_batch():
                send_batch(sqs, url, batch, journal, sleep, build_attributes)
        except BaseException as error:  # raised again below, in the main thread
            failures.append(error)

    with catch_ctrl_c() as pressed, ThreadPoolExecutor(SENDER_THREADS, initializer=use_one_processor) as pool:
        for _ in range(SENDER_THREADS):
            pool.submit(send_batches)
    progress(journal.done, journal.total)
    if failures:
        raise failures[0]
    if pressed.is_set():
        raise KeyboardInterrupt


def send_batch(
    sqs: SQSClient,
    url: str,
    batch: list[NumberedMessage],
    journal: SubmissionJournal,
    sleep: Sleep,
    build_attributes: AttributeBuilder | None = None,
) -> None:
    """Send the batch until SQS has acknowledged every message. Raise CloudError if SQS keeps rejecting one."""
    remaining = batch
    for attempt in range(SEND_ATTEMPTS):
        if attempt:
            sleep(min(0.2 * 2**attempt, 10))
        try:
            entries = [_build_entry(message, build_attributes) for message in remaining]
            response = sqs.send_message_batch(QueueUrl=url, Entries=entries)
        except AWSError as error:
            raise explain_aws_error("sending jobs", error) from error
        acknowledged = {int(entry["Id"]) for entry in response.get("Successful", [])}
        if acknowledged:
            journal.add(sorted(acknowledged))
        remaining = [(number, body) for number, body in remaining if number not in acknowledged]
        if not remaining:
            return
    reason = next((entry.get("Message", entry["Code"]) for entry in response.get("Failed", [])), "no reason given")
    raise CloudError(f"SQS rejects the message ({reason})", action=f"sending job {remaining[0][0] + 1}")


def _build_entry(message: NumberedMessage, build_attributes: AttributeBuilder | None) -> Any:
    number, body = message
    attributes = build_attributes(number) if build_attributes else {}
    return {"Id": str(number), "MessageBody": body} | ({"MessageAttributes": attributes} if attributes else {})


@contextmanager
def catch_ctrl_c() -> Iterator[threading.Event]:
    """Make Ctrl-C set the event that is yielded. Only a second Ctrl-C raises KeyboardInterrupt at once.

    If KeyboardInterrupt were raised while the pool starts a thread, the pool would not register that thread and would
    not wait for it. That thread could then send its batch after the number of sent jobs was reported to the user.
    """
    pressed = threading.Event()

    def press(number: int, frame: object) -> None:
        if pressed.is_set():
            raise KeyboardInterrupt
        pressed.set()

    is_main = threading.current_thread() is threading.main_thread()  # only this thread may set signal handlers
    if not is_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield pressed
        return
    signal.signal(signal.SIGINT, press)
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
