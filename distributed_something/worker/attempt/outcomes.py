"""The ends of an attempt: what happens to its record, and what to its message.

done, skipped: deleted.   interrupted, renewed: sent again as new, then deleted, since SQS counts every receive, and the
hours from the first one on.   failed: back to the queue at once; after the last try, or where none can help, to the
dead-letter queue.   bad: to the dead-letter queue.   lost: nothing.   A copy is sent before the original is deleted.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from distributed_something.worker.attempt.attempt import Attempt, build_message_attributes
from distributed_something.worker.attempt.context import WorkerContext
from distributed_something.worker.attempt.job_record import (
    CLAIM_REASON,
    DONE_STATE,
    FAILED_STATE,
    INTERRUPTED_STATE,
    build_record,
    claim_job_results,
    write_record,
)
from distributed_something.worker.attempt.lease import Lease, LeaseKeeper
from distributed_something.worker.job.failures import AWS_ERRORS, Failed, JobAlreadyDone, LostLease, UploadError
from distributed_something.worker.program.program import read_last_lines
from distributed_something.worker.transfer.results import ResultDestination, has_unchanged_results, upload_results

MAX_LINE_CHARACTERS = 200  # characters, of a log's last line
MAX_ATTRIBUTE_CHARACTERS = 1000  # characters, in a message attribute
# S3 has what was written as soon as it says so: no further try will find more.
FINAL_REASON_CLASSES = frozenset({"missing input"})
log = logging.getLogger("worker")


@dataclass(frozen=True)
class OutcomeCallbacks:
    """Who is told how jobs end: what decides whether this container is sick."""

    succeeded: Callable[[int], None]  # bytes that it needed on the disk
    failed: Callable[[str, str, str], None]  # job id, reason, class


class AttemptFinisher:
    """Ends attempts on one queue. Every method may raise LostLease, or AWS's errors; a lease's end brings the job back.

    `delete_soon` is told the leases of jobs whose record says that they are done, and releases them.
    """

    def __init__(
        self, context: WorkerContext, keeper: LeaseKeeper, callbacks: OutcomeCallbacks,
        delete_soon: Callable[[Lease], None],
    ) -> None:  # fmt: skip
        self._context, self._keeper, self._callbacks = context, keeper, callbacks
        self._sqs, self._settings, self._delete_soon = context.sqs, context.settings, delete_soon

    def record_done(self, attempt: Attempt) -> None:
        """Its outputs are verified. Raises JobAlreadyDone where another attempt's record says so first."""
        if not self._write_record(attempt, DONE_STATE, still_ours=lambda: self._has_own_results(attempt)):
            raise JobAlreadyDone
        self._queue_deletion(attempt)
        self._callbacks.succeeded(attempt.bytes_in + sum(output.size for output in attempt.outputs))
        log.info("done %s (%.1f s)", attempt.name, self._context.clock.now() - attempt.started)

    def claim_results(self, attempt: Attempt) -> bool:
        """Before it replaces what another attempt left; False where the job is done."""
        record = build_record(self._context, attempt, INTERRUPTED_STATE, CLAIM_REASON, "crash")
        return claim_job_results(self._context, record)

    def record_skipped(self, attempt: Attempt) -> None:
        """It was done before; a run that did not do it itself notes where its outputs are."""
        if not attempt.recorded:
            self._write_record(attempt, DONE_STATE)
        self._queue_deletion(attempt)
        log.info("skip %s: it is done already", attempt.name)

    def reject_message(self, attempt: Attempt, reason: str) -> None:
        """No number of tries makes such a message better."""
        log.error("bad message %s: %s", attempt.raw.get("MessageId"), reason)
        self._move_to_dead_letters(attempt, reason)

    def log_lost_lease(self, attempt: Attempt) -> None:
        """Another worker may have it."""
        log.warning("lost lease of %s: another worker may have it; nothing of this attempt is kept", attempt.name)

    def return_interrupted(self, attempt: Attempt) -> None:
        """Not the job's fault. Its message comes first: there is little time, and S3 may hang."""
        _check_lease(attempt)
        log.info("interrupted %s: it goes back to the queue", attempt.name)
        self._resend_message(attempt)
        if attempt.begun:
            self._try_write_record(attempt, INTERRUPTED_STATE, "its worker was told to stop", "interrupted")

    def renew_message(self, attempt: Attempt) -> None:
        """It was received so long ago that SQS would end its lease before its program may have to end."""
        _check_lease(attempt)
        log.info("renew %s: it goes back to the queue as a new message", attempt.name)
        self._resend_message(attempt)

    def record_failure(self, attempt: Attempt, reason: str, kind: str) -> None:
        """Tried again at once, as long as there are tries and they can help."""
        _check_lease(attempt)
        log.warning("failed %s (attempt %d): %s", attempt.name, attempt.number, reason)
        if not self._try_write_record(attempt, FAILED_STATE, reason, kind):
            self._delete_message(attempt)  # another worker did it
            return
        self._keep_failed_results(attempt)
        self._callbacks.failed(attempt.name, _format_reason(reason, attempt.folders.log), kind)
        last = kind in FINAL_REASON_CLASSES or attempt.failures + 1 >= self._settings.job_retries
        if last and self._settings.dead_letter_queue_url:
            self._move_to_dead_letters(attempt, f"{kind}: {reason}")
        else:
            self._return_message(attempt)

    def _has_own_results(self, attempt: Attempt) -> bool:
        job = attempt.job
        return job is not None and has_unchanged_results(
            self._context.s3, job.output_location, attempt.outputs, job.upload_arguments
        )

    def _write_record(
        self, attempt: Attempt, state: str, reason: str | None = None, kind: str | None = None,
        still_ours: Callable[[], bool] = lambda: False,
    ) -> bool:  # fmt: skip
        if state != INTERRUPTED_STATE:  # which has no lease any more
            _check_lease(attempt)
        record = build_record(self._context, attempt, state, reason, kind)
        return write_record(self._context, record, attempt.folders.log, still_ours)

    def _try_write_record(self, attempt: Attempt, state: str, reason: str, kind: str) -> bool:
        """False only where a record is there that must stay."""
        try:
            return self._write_record(attempt, state, reason, kind)
        except (*AWS_ERRORS, UploadError, OSError) as error:
            log.warning("the record of %s could not be written: %s", attempt.name, error)
            return True

    def _keep_failed_results(self, attempt: Attempt) -> None:
        """What a failed attempt wrote, for a look at it, if the job file asks: apart from all that is a result."""
        if attempt.job is None or not attempt.job.keep_failed:
            return
        folder = attempt.job.output_dir or attempt.folders.output_dir
        if not folder.is_dir():
            return
        apart = ResultDestination(self._settings.aws_bucket, self._settings.keys.failed_results(attempt.name))
        try:
            upload_results(
                self._context.s3, folder, apart, check=partial(_check_lease, attempt), sleep=self._context.clock.sleep
            )
        except (*AWS_ERRORS, Failed, OSError) as error:
            log.warning("the failed outputs of %s could not be kept: %s", attempt.name, error)

    def _resend_message(self, attempt: Attempt) -> None:
        self._sqs.send_message(
            QueueUrl=self._settings.queue_url,
            MessageBody=attempt.raw["Body"],
            MessageAttributes=build_message_attributes(attempt),
        )
        self._delete_message(attempt)
        self._keeper.release_lease(attempt.lease)

    def _return_message(self, attempt: Attempt) -> None:
        _check_lease(attempt)  # an old receipt may still do: the message would be taken from whoever has it now
        self._keeper.release_lease(attempt.lease)  # before, lest it be extended after
        self._sqs.change_message_visibility(
            QueueUrl=self._settings.queue_url, ReceiptHandle=attempt.raw["ReceiptHandle"], VisibilityTimeout=0
        )

    def _move_to_dead_letters(self, attempt: Attempt, reason: str) -> None:
        if not self._settings.dead_letter_queue_url:
            self._return_message(attempt)
            return
        _check_lease(attempt)
        text = _replace_control_characters(reason)[:MAX_ATTRIBUTE_CHARACTERS]
        self._sqs.send_message(
            QueueUrl=self._settings.dead_letter_queue_url,
            MessageBody=attempt.raw["Body"],
            MessageAttributes={"reason": {"DataType": "String", "StringValue": text}},
        )
        self._delete_message(attempt)

    def _queue_deletion(self, attempt: Attempt) -> None:
        attempt.leaving = True
        self._delete_soon(attempt.lease)

    def _delete_message(self, attempt: Attempt) -> None:
        self._sqs.delete_message(QueueUrl=self._settings.queue_url, ReceiptHandle=attempt.raw["ReceiptHandle"])


def _check_lease(attempt: Attempt) -> None:
    """Raises LostLease: what was a moment ago may be another worker's now, after each call to AWS."""
    if attempt.lease.is_lost:
        raise LostLease


def _format_reason(reason: str, log: Path) -> str:
    """What a person wants to read of a failure in one line."""
    last = read_last_lines(log, 1) if log.exists() else []
    return f"{reason}: {last[0].strip()[:MAX_LINE_CHARACTERS]}" if last and last[0].strip() else reason


def _replace_control_characters(text: str) -> str:
    """SQS refuses some control characters, in attributes too, and an empty text."""
    return "".join(letter if letter.isprintable() else "?" for letter in text) or "?"
