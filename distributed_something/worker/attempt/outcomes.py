"""Outcomes of an attempt: what happens to the job's record and message.

- done, skipped: the message is deleted.
- interrupted, renewed: a new copy of the message is sent and the original is deleted, because SQS counts every receive
  of a message and ends its leases 12 hours after the first receive. An attempt that failed because another job had
  filled the disk also counts as interrupted.
- failed: the message returns to the queue and stays hidden for a while, which is longer after each failure. After the
  last attempt, or if retrying cannot help, it moves to the dead-letter queue. If `submitJob --replace` has replaced the
  job, the message is deleted.
- bad message: it moves to the dead-letter queue.
- lost lease: the record and the message stay unchanged.

A copy is always sent before the original is deleted.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from distributed_something.worker.attempt.attempt import Attempt, build_message_attributes
from distributed_something.worker.attempt.context import WorkerContext
from distributed_something.worker.attempt.done_document import write_done_document
from distributed_something.worker.attempt.job_record import (
    CLAIM_REASON,
    claim_job_results,
    is_submission_done,
    read_record,
    write_record,
)
from distributed_something.worker.attempt.lease import Lease, LeaseKeeper
from distributed_something.worker.attempt.record_content import (
    DONE_STATE,
    FAILED_STATE,
    INTERRUPTED_STATE,
    SKIPPED_STATE,
    AttemptEnd,
    build_record,
)
from distributed_something.worker.job.failures import (
    AWS_ERRORS,
    BAD_DATA_CLASS,
    Failed,
    Interruption,
    JobAlreadyDone,
    LostLease,
    UploadError,
    is_missing_queue,
)
from distributed_something.worker.job.job_id import HASH_CHARACTERS
from distributed_something.worker.job.worker_settings import Settings
from distributed_something.worker.machine.times import format_duration
from distributed_something.worker.program.explanations.telling_line import read_telling_line
from distributed_something.worker.secret_values import mask_text
from distributed_something.worker.transfer.result_files import get_output_folder
from distributed_something.worker.transfer.results import ResultDestination, has_unchanged_results, upload_results
from distributed_something.worker.transfer.retry import add_deadline
from distributed_something.worker.transfer.shared_results import SHARED_FILE_CLASS, has_unchanged_shared_results

STOPPED_REASON = "its worker was stopped"  # of most interrupted attempts
MAX_LINE_CHARACTERS = 200  # of the log's most telling line that are quoted in a reason
MAX_ATTRIBUTE_CHARACTERS = 1000  # in a message attribute
# S3 is strongly consistent, so retrying does not make a missing object appear, nor does another job's file change.
FINAL_REASON_CLASSES = frozenset({"bad message", "missing input", "bad config", BAD_DATA_CLASS, SHARED_FILE_CLASS})
log = logging.getLogger("worker")


@dataclass(frozen=True)
class OutcomeCallbacks:
    """Callbacks that report how jobs end, for the container's health and its journal."""

    succeeded: Callable[[int], None]  # bytes of disk space that the job used
    failed: Callable[[str, str, str], None]  # job ID, reason, reason class
    recorded: Callable[[dict[str, Any]], None] = lambda record: None  # what the journal needs (see `write_record`)
    # Instead of `failed`, with the job's ID, if the machine cannot be the cause:
    failed_elsewhere: Callable[[str], None] = lambda job_id: None


class AttemptFinisher:
    """Finishes attempts at the jobs of one queue.

    `delete_soon` takes the lease of a finished job's message, deletes the message, and then releases the lease.

    `is_replaced` returns whether a message that was sent at that time (seconds since 1970, or None if unknown) was
    replaced.

    Every method may raise LostLease or an AWS error. The job then returns to the queue when its lease expires.
    """

    def __init__(
        self, context: WorkerContext, keeper: LeaseKeeper, callbacks: OutcomeCallbacks,
        delete_soon: Callable[[Lease], None], is_replaced: Callable[[float | None], bool] = lambda sent: False,
    ) -> None:  # fmt: skip
        self._context, self._keeper, self._callbacks = context, keeper, callbacks
        self._sqs, self._settings, self._delete_soon = context.sqs, context.settings, delete_soon
        self._is_replaced = is_replaced

    def record_done(self, attempt: Attempt) -> None:
        """Record that the job is done and delete its message. The results must already be verified.

        Raise JobAlreadyDone if another attempt was the first to record that the job is done.
        """
        if attempt.job is not None and attempt.job.needs_done_document:
            _check_lease(attempt)
            write_done_document(self._context, attempt)
        end = AttemptEnd(DONE_STATE, is_final=True)
        if not self._write_record(attempt, end, has_own_results=lambda: self._has_own_results(attempt)):
            other = read_record(self._context, attempt.name) or {}
            attempt.is_recorded = is_submission_done(other, attempt.message_id)
            attempt.results_of = {"run": self._settings.run, "modified": other.get("ended")}
            raise JobAlreadyDone
        self._queue_deletion(attempt)
        own_bytes_in = attempt.bytes_in - attempt.shared.fetched_bytes  # the next job needs only as much
        self._callbacks.succeeded(own_bytes_in + attempt.bytes_out)
        log.info("done %s (%.1f s)", attempt.name, self._context.clock.now() - attempt.started)

    def claim_results(self, attempt: Attempt) -> bool:
        """Write a record that reserves the job's results for this attempt; return False if the job is already done."""
        end = AttemptEnd(INTERRUPTED_STATE, is_final=False, reason=CLAIM_REASON, reason_class="crash")
        record = build_record(self._context, attempt, end)
        return claim_job_results(self._context, record)

    def record_skipped(self, attempt: Attempt) -> None:
        """Delete the message of a job that is already done, and record that the job was skipped.

        Nothing is recorded if the message was delivered again after this run finished the job.
        """
        if not attempt.is_recorded:
            self._write_record(attempt, AttemptEnd(SKIPPED_STATE, is_final=True))
        self._queue_deletion(attempt)
        log.info("skip %s: it is already done", attempt.name)

    def finish_failure(self, attempt: Attempt, reason: str) -> None:
        """Move the message of a job that has failed for good; its record is already written."""
        log.warning("%s has already failed: %s", attempt.name, reason)
        self._move_to_dead_letters(attempt, reason)

    def reject_message(self, attempt: Attempt, reason: str) -> None:
        """Record a message that retrying cannot help, and move it to the dead-letter queue.

        The record of a message that is not JSON is named after a hash of its text.
        """
        log.error("bad message %s: %s", attempt.raw.get("MessageId"), reason)
        if not attempt.message:
            attempt.name = f"message-{hashlib.sha256(attempt.raw['Body'].encode()).hexdigest()[:HASH_CHARACTERS]}"
        if self._is_replaced(attempt.sent):
            self._drop_replaced_job(attempt, reason, "bad message")
            return
        self._write_record(attempt, self._build_failure(attempt, reason, "bad message"))
        self._move_to_dead_letters(attempt, reason)

    def discard_attempt(self, attempt: Attempt) -> None:
        """Log that another worker may have the job, whose lease is lost.

        If the lease is not lost, another attempt has written the job's results. The message then returns to the queue
        after a pause, in which the other attempt can end, instead of staying hidden until its lease expires.
        """
        if attempt.lease.is_lost or attempt.is_settled:
            log.warning("lost lease of %s: another worker may have the job; this attempt is discarded", attempt.name)
            return
        log.warning("%s: another attempt has written the job's results; the job returns to the queue", attempt.name)
        try:
            self._change_visibility(
                attempt, min(self._settings.retry_seconds[-1], max(0, int(attempt.lease.seconds_left)))
            )
        except AWS_ERRORS as error:
            log.warning("%s: the job returns to the queue when its lease expires: %s", attempt.name, error)

    def return_interrupted(
        self, attempt: Attempt, reason: str = STOPPED_REASON, reason_class: str = "interrupted"
    ) -> None:
        """Return an interrupted job to the queue and record the interruption, which does not count as a failure.

        The message is sent before the record is written, because little time remains and S3 may not respond.
        """
        _check_lease(attempt)
        log.info("interrupted %s: the job returns to the queue: %s", attempt.name, reason)
        self._resend_message(attempt)
        if attempt.has_started:
            end = AttemptEnd(INTERRUPTED_STATE, False, reason, reason_class)
            self._try_write_record(attempt, end)

    def limit_upload(self, check: Callable[[], None]) -> Callable[[], None]:
        """Return a check for an upload that starts now: it calls `check`, and ends an upload that takes too long."""
        clock, settings = self._context.clock, self._settings
        return add_deadline(
            check, clock.monotonic() + settings.max_transfer_seconds, clock.monotonic,
            lambda: UploadError(describe_transfer_limit("uploading files", settings)),
        )  # fmt: skip

    def return_stalled(self, attempt: Attempt) -> None:
        """Return the job of a stopping container while a stage of the attempt still hangs in a request.

        No record is written, because S3 may be what does not respond.
        """
        _check_lease(attempt)
        attempt.lease.give_up()  # first, so that the stage publishes nothing once another worker may have the job
        log.warning("interrupted %s while it waited for a server: the job returns to the queue", attempt.name)
        self._resend_message(attempt)

    def release_message(self, attempt: Attempt) -> None:
        """Make the message of a stopping container visible while the end of its attempt hangs in a request."""
        _check_lease(attempt)
        attempt.lease.give_up()
        log.warning("the end of %s waits for a server: the job returns to the queue", attempt.name)
        self._change_visibility(attempt, 0)

    def renew_message(self, attempt: Attempt) -> None:
        """Replace a message with a new one because its lease would end before the job's time limit.

        SQS limits the lease to 12 hours after the first receive.
        """
        _check_lease(attempt)
        log.info("renew %s: it returns to the queue as a new message", attempt.name)
        self._resend_message(attempt)

    def record_failure(self, attempt: Attempt, reason: str, reason_class: str) -> None:
        """Record the failure, and return the job to the queue.

        After the last attempt, or if retrying cannot help, move the message to the dead-letter queue instead. That
        requires the record, because everything that users see about failed jobs comes from records. If it cannot be
        written, the message returns to the queue when its lease expires.
        """
        _check_lease(attempt)
        log.warning("failed %s (attempt %d): %s", attempt.name, attempt.number, reason)
        if self._is_replaced(attempt.sent):
            self._drop_replaced_job(attempt, reason, reason_class)
            return
        end = self._build_failure(attempt, reason, reason_class)
        write = self._write_record if end.is_final else self._try_write_record
        if not write(attempt, end):
            self._delete_message(attempt)  # another attempt has finished the job
            return
        self._upload_failed_results(attempt)
        if attempt.retry_of or attempt.has_failed_elsewhere:
            self._callbacks.failed_elsewhere(attempt.name)
        else:
            self._callbacks.failed(attempt.name, _format_reason(reason, attempt.folders.log), reason_class)
        if end.is_final:
            self._move_to_dead_letters(attempt, f"{reason_class}: {reason}")
        else:
            self._return_message(attempt)

    def _drop_replaced_job(self, attempt: Attempt, reason: str, reason_class: str) -> None:
        """Record the failure, and delete the message: `submitJob --replace` removed all waiting ones like it."""
        log.info("%s was replaced, and is not tried again", attempt.name)
        self._write_record(attempt, AttemptEnd(FAILED_STATE, False, reason, reason_class, is_replaced=True))
        self._callbacks.failed_elsewhere(attempt.name)
        self._delete_message(attempt)

    def _build_failure(self, attempt: Attempt, reason: str, reason_class: str) -> AttemptEnd:
        is_last = reason_class in FINAL_REASON_CLASSES or attempt.failures + 1 >= self._settings.job_retries
        is_final = is_last and bool(self._settings.dead_letter_queue_url)
        return AttemptEnd(FAILED_STATE, is_final, reason, reason_class)

    def _has_own_results(self, attempt: Attempt) -> bool:
        job = attempt.job
        if job is None:
            return False
        s3 = self._context.get_s3(job.output_endpoint)
        if job.shared_location:
            return has_unchanged_shared_results(s3, attempt.outputs, job.upload_arguments)
        return has_unchanged_results(s3, job.output_location, attempt.outputs, job.upload_arguments)

    def _write_record(
        self, attempt: Attempt, end: AttemptEnd, has_own_results: Callable[[], bool] = lambda: False
    ) -> bool:
        """Write the record and report it. Return False if another attempt's record must be kept."""
        is_released = end.state == INTERRUPTED_STATE  # an interrupted attempt has already released its lease
        if not is_released:
            _check_lease(attempt)
        record = build_record(self._context, attempt, end)
        check = self.limit_upload((lambda: None) if is_released else partial(_check_lease, attempt))
        written = write_record(self._context, record, attempt.folders.log, has_own_results, check)
        if written is not None:
            attempt.has_failed_elsewhere = _has_failed_elsewhere(written)
            self._callbacks.recorded(written)
        return written is not None

    def _try_write_record(self, attempt: Attempt, end: AttemptEnd) -> bool:
        """Write the record, and return False if another attempt's record must be kept. Errors are logged."""
        try:
            return self._write_record(attempt, end)
        except (*AWS_ERRORS, UploadError, OSError, Interruption) as error:
            cause = "the container must stop" if isinstance(error, Interruption) else error
            log.warning("the record of %s could not be written: %s", attempt.name, cause)
            return True

    def _upload_failed_results(self, attempt: Attempt) -> None:
        """If the job's `keep_failed` is set, upload the failed attempt's files to their own location."""
        if attempt.job is None or not attempt.job.keep_failed:
            return
        folder = get_output_folder(attempt.job, attempt.folders)
        if not folder.is_dir():
            return
        destination = ResultDestination(self._settings.aws_bucket, self._settings.keys.failed_results(attempt.name))
        try:
            upload_results(
                self._context.s3,
                folder,
                destination,
                check=self.limit_upload(partial(_check_lease, attempt)),
                sleep=self._context.clock.sleep,
                transfers=self._context.transfers,
            )
        except (*AWS_ERRORS, Failed, OSError) as error:
            log.warning("the files of the failed attempt at %s could not be uploaded: %s", attempt.name, error)

    def _resend_message(self, attempt: Attempt) -> None:
        self._sqs.send_message(
            QueueUrl=self._settings.queue_url,
            MessageBody=attempt.raw["Body"],
            MessageAttributes=build_message_attributes(attempt),
        )
        self._delete_message(attempt)
        self._keeper.release_lease(attempt.lease)

    def _return_message(self, attempt: Attempt) -> None:
        """Return the message to the queue. It stays hidden until the job may be tried again."""
        delays = self._settings.retry_seconds
        delay = delays[min(attempt.failures, len(delays) - 1)]
        # SQS may still accept an old receipt, which would take the message away from the worker that has it now.
        _check_lease(attempt)
        self._change_visibility(attempt, min(delay, max(0, int(attempt.lease.seconds_left))))

    def _change_visibility(self, attempt: Attempt, seconds: int) -> None:
        self._keeper.release_lease(attempt.lease)  # first, so that the lease is not extended again
        self._sqs.change_message_visibility(
            QueueUrl=self._settings.queue_url,
            ReceiptHandle=attempt.raw["ReceiptHandle"],
            VisibilityTimeout=seconds,
        )
        attempt.is_settled = True

    def _move_to_dead_letters(self, attempt: Attempt, reason: str) -> None:
        if not self._settings.dead_letter_queue_url:
            self._return_message(attempt)
            return
        _check_lease(attempt)
        text = _replace_control_characters(reason)[:MAX_ATTRIBUTE_CHARACTERS]
        try:
            self._sqs.send_message(
                QueueUrl=self._settings.dead_letter_queue_url,
                MessageBody=attempt.raw["Body"],
                MessageAttributes={"reason": {"DataType": "String", "StringValue": text}},
            )
        except ClientError as error:
            if not is_missing_queue(error):
                raise
            # Otherwise, the message would return for as long as the run lasts.
            log.warning(
                "the dead-letter queue does not exist, so only the record keeps the message of %s", attempt.name
            )
        self._delete_message(attempt)

    def _queue_deletion(self, attempt: Attempt) -> None:
        attempt.is_deletion_queued = True
        self._delete_soon(attempt.lease)

    def _delete_message(self, attempt: Attempt) -> None:
        self._sqs.delete_message(QueueUrl=self._settings.queue_url, ReceiptHandle=attempt.raw["ReceiptHandle"])
        attempt.is_settled = True


def _check_lease(attempt: Attempt) -> None:
    """Raise LostLease if the lease is lost. Checked before each step, because every call to AWS takes time."""
    if attempt.lease.is_lost:
        raise LostLease


def describe_transfer_limit(transfer: str, settings: Settings) -> str:
    """Return the reason for the end of a transfer that took too long."""
    return f"{transfer} took longer than {format_duration(settings.max_transfer_seconds)} (MAX_TRANSFER_MINUTES)"


def _has_failed_elsewhere(record: dict[str, Any]) -> bool:
    """Return whether an earlier attempt failed on another machine than the record's last attempt."""
    return any(
        earlier.get("state") == FAILED_STATE and earlier.get("machine") != record["machine"]
        for earlier in record["earlier_attempts"]
    )


def _format_reason(reason: str, log: Path) -> str:
    """Return the reason and the log's most telling line as one line, without secrets: a document may contain it."""
    telling = read_telling_line(log) if log.exists() else None
    return mask_text(f"{reason}: {telling[:MAX_LINE_CHARACTERS]}" if telling else reason)


def _replace_control_characters(text: str) -> str:
    """Return the text in a form that SQS accepts in an attribute: not empty and without control characters."""
    return "".join(character if character.isprintable() else "?" for character in text) or "?"
