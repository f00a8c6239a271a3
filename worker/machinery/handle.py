"""One message from lease to deletion: the only place that says in which order things happen.

parse → already done? → stage in → program → success? → stage out, verified → record → delete. The message goes last:
whatever dies before that leaves the job in the queue.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from boto3.exceptions import Boto3Error
from botocore.exceptions import BotoCoreError, ClientError

from . import program, records, staging
from .failures import Failed, Interrupted, LostLease
from .job import BadMessage, Folders, Job, parse
from .jobid import job_id
from .lease import Keeper, Lease
from .program import Result
from .settings import Settings

log = logging.getLogger("worker")


@dataclass(frozen=True)
class Hooks:
    """The three functions of `generic-worker.py`."""

    make_job: Callable[[dict[str, Any], Folders, Settings], Job]
    prepare: Callable[[Job, Folders], None]
    failure: Callable[[Job, Folders, Result], str | None]


@dataclass
class Attempt:
    """What one try of a job has come to so far."""

    job_id: str
    message: dict[str, Any]
    number: int
    started: float = field(default_factory=time.time)
    result: Result | None = None
    bytes_in: int = 0
    outputs: list[staging.Output] = field(default_factory=list)


class Handler:
    """Handles messages of one queue; one object serves all slots of a container."""

    def __init__(
        self, sqs: Any, s3: Any, settings: Settings, hooks: Hooks, keeper: Keeper, stopping: threading.Event
    ) -> None:
        self._sqs, self._s3, self._settings, self._hooks = sqs, s3, settings, hooks
        self._keeper, self._stopping = keeper, stopping

    def handle(self, raw: dict[str, Any], received: float) -> None:
        """Takes one message as SQS gave it at `received` (the keeper's clock). Raises botocore's errors only."""
        folder = Path(tempfile.mkdtemp(prefix="job-", dir=self._settings.work_dir))
        lease = self._keeper.hold(raw["ReceiptHandle"], received)
        try:
            self._attempt(raw, lease, Folders(folder))
        finally:
            self._keeper.release(lease)
            shutil.rmtree(folder, ignore_errors=True)

    def _attempt(self, raw: dict[str, Any], lease: Lease, folders: Folders) -> None:
        try:
            message = parse(raw["Body"])
        except BadMessage as error:
            self._bury(raw, str(error))
            return
        number = int(raw.get("Attributes", {}).get("ApproximateReceiveCount", 1))
        attempt = Attempt(job_id(message), message, number)
        try:
            job = self._hooks.make_job(message, folders, self._settings)
            attempt.job_id = job.id
            self._do(job, attempt, lease, folders)
            self._finish(attempt, lease, records.DONE, None, folders)
            self._delete(raw)
            log.info("done %s (%.1f s)", job.id, time.time() - attempt.started)
        except BadMessage as error:
            self._bury(raw, str(error))
        except Interrupted:
            log.info("interrupted %s: it goes back to the queue", attempt.job_id)
            self._give_back(raw, lease)
        except LostLease:
            log.warning("lost lease of %s: another worker may have it; nothing of it is kept", attempt.job_id)
        except Failed as error:
            self._fail(raw, attempt, lease, folders, str(error), error.reason_class)
        except (ClientError, BotoCoreError, Boto3Error) as error:
            self._fail(raw, attempt, lease, folders, f"AWS: {error}", "aws")
        except OSError as error:
            self._fail(raw, attempt, lease, folders, f"this machine: {error}", "machine")
        except Exception as error:  # a fault in a hook must cost one attempt, not the container
            log.exception("the worker's own code failed on %s", attempt.job_id)
            self._fail(raw, attempt, lease, folders, f"{type(error).__name__}: {error}", "worker code")

    def _do(self, job: Job, attempt: Attempt, lease: Lease, folders: Folders) -> None:
        if self._settings.check_if_done and self._already_done(job, attempt):
            return
        log.info("start %s (attempt %d)", job.id, attempt.number)
        folders.input_dir.mkdir()
        folders.output_dir.mkdir()
        attempt.bytes_in = staging.fetch(
            self._s3, job.inputs, job.input_bucket, folders.input_dir, lambda: self._check(lease)
        )
        self._hooks.prepare(job, folders)
        self._check(lease)
        attempt.result = program.run(
            job.command, shell=job.shell, folder=folders.root, log=folders.log,
            timeout_seconds=job.timeout_seconds, should_stop=lambda: self._must_stop(lease),
        )  # fmt: skip
        self._judge(job, attempt.result, lease, folders)
        attempt.outputs = staging.publish(self._s3, folders.output_dir, job.output_bucket, job.output_location)

    def _judge(self, job: Job, result: Result, lease: Lease, folders: Folders) -> None:
        if result.timed_out:
            raise Failed(f"it ran longer than {job.timeout_seconds / 60:g} minutes", "time-out")
        if result.stopped:
            self._check(lease)
        reason = self._hooks.failure(job, folders, result)
        if reason is not None:
            killed = result.exit_code < 0
            raise Failed(
                f"killed by signal {-result.exit_code}" if killed else reason, "signal" if killed else "program"
            )
        self._check(lease)  # nothing is published over another worker's result

    def _must_stop(self, lease: Lease) -> bool:
        return self._stopping.is_set() or lease.lost.is_set()

    def _check(self, lease: Lease) -> None:
        if lease.lost.is_set():
            raise LostLease
        if self._stopping.is_set():
            raise Interrupted

    def _already_done(self, job: Job, attempt: Attempt) -> bool:
        """By its record; or, where no attempt of this run can have died while uploading, by its files."""
        found = records.read(self._s3, self._settings, job.id)
        if found is not None and records.is_done(found):
            attempt.outputs = [staging.Output(**output) for output in found.get("outputs", [])]
            return True
        expected = job.expected_files or self._settings.expected_number_files
        if attempt.number > 1 or not expected:
            return False
        there = staging.sizes(self._s3, job.output_bucket, f"{job.output_location}/")
        good = {
            key: size
            for key, size in there.items()
            if size >= self._settings.min_file_size_bytes and self._settings.necessary_string in key
        }
        if len(good) < expected:
            return False
        log.info("skip %s: its %d files are there already", job.id, len(good))
        attempt.outputs = [staging.Output(job.output_bucket, key, size, "") for key, size in good.items()]
        return True

    def _finish(
        self, attempt: Attempt, lease: Lease, state: str, failed: tuple[str, str] | None, folders: Folders
    ) -> None:
        if lease.lost.is_set():
            raise LostLease
        if attempt.result is None and state == records.DONE and self._recorded_as_done(attempt):
            return
        records.write(self._s3, self._settings, self._record(attempt, state, failed, folders), folders.log)

    def _recorded_as_done(self, attempt: Attempt) -> bool:
        return records.is_done(records.read(self._s3, self._settings, attempt.job_id))

    def _record(self, attempt: Attempt, state: str, failed: tuple[str, str] | None, folders: Folders) -> dict[str, Any]:
        settings, result, ended = self._settings, attempt.result, time.time()
        return {
            "job": attempt.job_id,
            "state": state,
            "attempts": attempt.number,
            "app": settings.app_name,
            "run": settings.run,
            "machine": settings.machine,
            "image": settings.image,
            "started": _utc(attempt.started),
            "ended": _utc(ended),
            "seconds": round(ended - attempt.started, 3),
            "exit_code": result.exit_code if result else None,
            "reason": failed[0] if failed else None,
            "reason_class": failed[1] if failed else None,
            "last_lines": program.last_lines(folders.log) if failed and folders.log.exists() else [],
            "peak_memory_bytes": result.peak_memory_bytes if result else None,
            "cpu_seconds": round(result.cpu_seconds, 3) if result else None,
            "bytes_in": attempt.bytes_in,
            "bytes_out": sum(output.size for output in attempt.outputs),
            "outputs": [asdict(output) for output in attempt.outputs],
            "log": f"s3://{settings.aws_bucket}/{records.log_key_of(settings, attempt.job_id)}" if result else None,
            "message": attempt.message,
        }

    def _fail(
        self, raw: dict[str, Any], attempt: Attempt, lease: Lease, folders: Folders, reason: str, kind: str
    ) -> None:
        log.warning("failed %s (attempt %d): %s", attempt.job_id, attempt.number, reason)
        try:
            self._finish(attempt, lease, records.FAILED, (reason, kind), folders)
        except LostLease:
            return
        except (ClientError, BotoCoreError) as error:
            log.warning("the record of %s could not be written: %s", attempt.job_id, error)
        self._give_back(raw, lease)

    def _give_back(self, raw: dict[str, Any], lease: Lease) -> None:
        """Back to the queue at once. If that fails, its lease ends by itself."""
        self._keeper.release(lease)  # before, lest it be extended after
        try:
            self._sqs.change_message_visibility(
                QueueUrl=self._settings.queue_url, ReceiptHandle=raw["ReceiptHandle"], VisibilityTimeout=0
            )
        except (ClientError, BotoCoreError) as error:
            log.warning("a message could not be given back, its lease must end: %s", error)

    def _delete(self, raw: dict[str, Any]) -> None:
        self._sqs.delete_message(QueueUrl=self._settings.queue_url, ReceiptHandle=raw["ReceiptHandle"])

    def _bury(self, raw: dict[str, Any], reason: str) -> None:
        """To the dead-letter queue with its reason: no number of tries makes such a message better."""
        log.error("bad message %s: %s", raw.get("MessageId"), reason)
        if self._settings.dead_letter_queue_url:
            told = {"reason": {"DataType": "String", "StringValue": _printable(reason)[:1000]}}
            self._sqs.send_message(
                QueueUrl=self._settings.dead_letter_queue_url, MessageBody=raw["Body"], MessageAttributes=told
            )
            self._delete(raw)


def _printable(text: str) -> str:
    """SQS refuses some control characters, in attributes too."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _utc(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
