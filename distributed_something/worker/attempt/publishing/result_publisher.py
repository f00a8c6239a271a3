"""Publishes the results of an attempt: calls the hook `deliver`, and uploads the results.

They are uploaded to the job's own location, or to one that other jobs also use.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from botocore.exceptions import ClientError

from distributed_something.worker.attempt.already_done import is_current_result
from distributed_something.worker.attempt.attempt import Attempt
from distributed_something.worker.attempt.context import WorkerContext
from distributed_something.worker.attempt.job_record import is_submission_done, read_record
from distributed_something.worker.attempt.outcomes import AttemptFinisher
from distributed_something.worker.hooks.delivery import Delivery, DeliveryError
from distributed_something.worker.hooks.hook_calls import HookRunner
from distributed_something.worker.job.failures import JobAlreadyDone, SharedByOtherJob, UploadError, is_access_denied
from distributed_something.worker.job.job import Job
from distributed_something.worker.transfer.reservations import Reservations
from distributed_something.worker.transfer.result_files import get_output_folder
from distributed_something.worker.transfer.results import ResultDestination, ResultFile, upload_results
from distributed_something.worker.transfer.retry import RETRY_PAUSES_SECONDS, check_requests, sleep_with_checks
from distributed_something.worker.transfer.s3_listing import ListedObject, list_s3_objects
from distributed_something.worker.transfer.shared_results import SharingRules, upload_shared_results
from distributed_something.worker.transfer.stored_result import ResultOwner, read_stored_result

log = logging.getLogger("worker")


class ResultPublisher:
    """Uploads results. One publisher serves all slots of a container."""

    def __init__(self, context: WorkerContext, finisher: AttemptFinisher, hooks: HookRunner) -> None:
        self._context, self._finisher, self._hooks = context, finisher, hooks

    def publish_results(self, attempt: Attempt, job: Job, check: Callable[[], None]) -> None:
        """Deliver and upload the results. `check` can end this by raising an exception.

        Files in the bucket may show a later run that the job is done, so they are uploaded last. Raise JobAlreadyDone
        if another attempt has finished the job in the meantime.
        """
        if self._hooks.has_deliver:
            with check_requests(check):
                if self._is_done_elsewhere(attempt, job):
                    raise JobAlreadyDone
            attempt.delivered = self._deliver_results(attempt, job, check)
            check()
        if job.upload_results:
            upload = self._upload_shared_results if job.shared_location else self._upload_own_results
            limited_check = self._finisher.limit_upload(check)
            with check_requests(limited_check):
                attempt.outputs = _name_endpoint(job, partial(upload, attempt, job, limited_check))

    def _deliver_results(self, attempt: Attempt, job: Job, check: Callable[[], None]) -> list[Delivery]:
        """Call the hook `deliver`, and repeat this after errors that may be temporary."""
        for pause in RETRY_PAUSES_SECONDS:
            try:
                return self._hooks.deliver_results(attempt.name, job, attempt.folders, check)
            except DeliveryError as error:
                log.warning("%s: %s; trying again in %d s", attempt.name, error, pause)
            sleep_with_checks(pause, check, self._context.clock.sleep)
        return self._hooks.deliver_results(attempt.name, job, attempt.folders, check)

    def _upload_own_results(self, attempt: Attempt, job: Job, check: Callable[[], None]) -> list[ResultFile]:
        """Upload the results to the job's own location.

        If another job of this run writes there, too, because the implementation gave both the same location, this job
        replaces the other one's files, and its record names them. Otherwise, which files remain and whether anybody
        notices would depend on which of the jobs ends first.
        """
        try:
            replaceable = self._claim_output_location(attempt, job)
            return upload_results(
                self._context.get_s3(job.output_endpoint), get_output_folder(job, attempt.folders),
                self._build_destination(job, replaceable),
                leave_out=job.leave_out, check=check, sleep=self._context.clock.sleep,
                transfers=self._context.get_transfers(job.output_endpoint),
            )  # fmt: skip
        except SharedByOtherJob:
            log.warning(
                "%s: another job writes to s3://%s/%s, too; its files are replaced",
                attempt.name, job.output_bucket, job.output_location,
            )  # fmt: skip
            return self._upload_shared_results(attempt, replace(job, may_replace=True), check)

    def _upload_shared_results(self, attempt: Attempt, job: Job, check: Callable[[], None]) -> list[ResultFile]:
        """Upload the results to a location that other jobs also use."""
        if self._is_done_elsewhere(attempt, job):
            raise JobAlreadyDone

        def record_overwrite(key: str, other_job: str) -> None:
            attempt.overwritten.append({"key": key, "job": other_job})

        reservations = Reservations(self._context.s3, self._context.settings.aws_bucket, self._context.settings.keys)
        return upload_shared_results(
            self._context.get_s3(job.output_endpoint), get_output_folder(job, attempt.folders),
            self._build_destination(job, {}),
            SharingRules(
                reservations, job.may_replace, partial(self._claim_results, attempt),
                partial(is_current_result, self._context), record_overwrite,
            ),
            leave_out=job.leave_out, check=check, sleep=self._context.clock.sleep,
        )  # fmt: skip

    def _build_destination(self, job: Job, replaceable: dict[str, ListedObject]) -> ResultDestination:
        owner = ResultOwner(job.id, self._context.settings.run)
        return ResultDestination(
            job.output_bucket, job.output_location, job.upload_arguments, replaceable, owner,
            is_aws=not job.output_endpoint,
        )  # fmt: skip

    def _claim_results(self, attempt: Attempt) -> None:
        """Reserve the job's results for this attempt.

        Raise JobAlreadyDone if the message was delivered twice and the first attempt has finished; its results are
        kept.
        """
        if not self._finisher.claim_results(attempt):
            raise JobAlreadyDone

    def _is_done_elsewhere(self, attempt: Attempt, job: Job) -> bool:
        """Return whether another attempt has finished the job in the meantime."""
        return is_submission_done(read_record(self._context, job.id), attempt.message_id)

    def _claim_output_location(self, attempt: Attempt, job: Job) -> dict[str, ListedObject]:
        """Return the objects that this attempt's results may replace, after claiming them from attempts that died.

        The listing comes before the claim. If another attempt's results arrive in between, they differ from the
        listing, and S3 rejects the replacement. Raise SharedByOtherJob if the newest object is another job's.
        """
        if attempt.listed_objects == {}:
            return {}
        s3 = self._context.get_s3(job.output_endpoint)
        listed_objects = list_s3_objects(s3, job.output_bucket, f"{job.output_location}/", job.upload_arguments)
        if listed_objects:
            self._check_writer(job, max(listed_objects, key=lambda key: listed_objects[key].modified))
            self._claim_results(attempt)
        elif self._is_done_elsewhere(attempt, job):
            raise JobAlreadyDone
        return listed_objects

    def _check_writer(self, job: Job, key: str) -> None:
        """Raise SharedByOtherJob if another job of this run wrote the object. One that may not be read is not known."""
        s3 = self._context.get_s3(job.output_endpoint)
        try:
            stored = read_stored_result(s3, job.output_bucket, key, job.upload_arguments, with_checksum=False)
        except ClientError as error:
            if is_access_denied(error):
                return
            raise
        writer = stored.owner if stored else None
        if writer is not None and writer.job != job.id and writer.run == self._context.settings.run:
            raise SharedByOtherJob


def _name_endpoint(job: Job, upload: Callable[[], list[ResultFile]]) -> list[ResultFile]:
    """Return what `upload` returns. Its error names the server if that is not AWS's."""
    try:
        return upload()
    except UploadError as error:
        if not job.output_endpoint:
            raise
        raise UploadError(f"{error} (on {job.output_endpoint})") from None
