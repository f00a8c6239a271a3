"""Uploads the results of an attempt to the job's own location, or to one that other jobs also use."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from distributed_something.worker.attempt.already_done import is_current_result
from distributed_something.worker.attempt.attempt import Attempt
from distributed_something.worker.attempt.context import WorkerContext
from distributed_something.worker.attempt.job_record import is_submission_done, read_record
from distributed_something.worker.attempt.outcomes import AttemptFinisher
from distributed_something.worker.job.failures import JobAlreadyDone
from distributed_something.worker.job.job import Job
from distributed_something.worker.transfer.reservations import Reservations
from distributed_something.worker.transfer.result_files import get_output_folder
from distributed_something.worker.transfer.results import ResultDestination, ResultFile, upload_results
from distributed_something.worker.transfer.s3_listing import ListedObject, list_s3_objects
from distributed_something.worker.transfer.shared_results import SharingRules, upload_shared_results
from distributed_something.worker.transfer.stored_result import ResultOwner


class ResultPublisher:
    """Uploads results. One publisher serves all slots of a container."""

    def __init__(self, context: WorkerContext, finisher: AttemptFinisher) -> None:
        self._context, self._s3, self._finisher = context, context.s3, finisher

    def upload_results(self, attempt: Attempt, job: Job, check: Callable[[], None]) -> list[ResultFile]:
        """Upload the results and return them. `check` can end the upload by raising an exception.

        Raise JobAlreadyDone if another attempt has finished the job in the meantime.
        """
        upload = self._upload_shared_results if job.shared_location else self._upload_own_results
        return upload(attempt, job, check)

    def _upload_own_results(self, attempt: Attempt, job: Job, check: Callable[[], None]) -> list[ResultFile]:
        """Upload the results to the job's own location."""
        replaceable = self._claim_output_location(attempt, job)
        return upload_results(
            self._s3, get_output_folder(job, attempt.folders),
            self._build_destination(job, replaceable),
            leave_out=job.leave_out, check=check, sleep=self._context.clock.sleep, transfers=self._context.transfers,
        )  # fmt: skip

    def _upload_shared_results(self, attempt: Attempt, job: Job, check: Callable[[], None]) -> list[ResultFile]:
        """Upload the results to a location that other jobs also use."""
        if self._is_done_elsewhere(attempt, job):
            raise JobAlreadyDone

        def record_overwrite(key: str, other_job: str) -> None:
            attempt.overwritten.append({"key": key, "job": other_job})

        reservations = Reservations(self._s3, self._context.settings.aws_bucket, self._context.settings.keys)
        return upload_shared_results(
            self._s3, get_output_folder(job, attempt.folders), self._build_destination(job, {}),
            SharingRules(
                reservations, job.may_replace, partial(self._claim_results, attempt),
                partial(is_current_result, self._context), record_overwrite,
            ),
            leave_out=job.leave_out, check=check, sleep=self._context.clock.sleep,
        )  # fmt: skip

    def _build_destination(self, job: Job, replaceable: dict[str, ListedObject]) -> ResultDestination:
        owner = ResultOwner(job.id, self._context.settings.run)
        return ResultDestination(job.output_bucket, job.output_location, job.upload_arguments, replaceable, owner)

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
        listing, and S3 rejects the replacement.
        """
        if attempt.listed_objects == {}:
            return {}
        listed_objects = list_s3_objects(self._s3, job.output_bucket, f"{job.output_location}/", job.upload_arguments)
        if listed_objects:
            self._claim_results(attempt)
        elif self._is_done_elsewhere(attempt, job):
            raise JobAlreadyDone
        return listed_objects
