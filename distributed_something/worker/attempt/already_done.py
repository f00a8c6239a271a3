"""Checks whether a job is already done (CHECK_IF_DONE_BOOL)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from botocore.exceptions import ClientError

from distributed_something.worker.attempt.context import WorkerContext
from distributed_something.worker.attempt.job_record import is_record_done, read_record
from distributed_something.worker.job.failures import is_access_denied
from distributed_something.worker.job.job import Job
from distributed_something.worker.job.upload_flags import select_payer_arguments
from distributed_something.worker.transfer.results import FILE_COUNT_KEY, ResultFile
from distributed_something.worker.transfer.s3_listing import ListedObject, list_s3_objects


@dataclass(frozen=True)
class PriorResults:
    """The results of earlier attempts at a job.

    `outputs`: the job's result files if it is done, else None. `listed_objects`: the objects at the job's output
    location, or None if they were not listed. `is_recorded`: whether a record from this run says that the job is done.
    """

    outputs: list[ResultFile] | None
    listed_objects: dict[str, ListedObject] | None = None
    is_recorded: bool = True


def observe_prior_results(context: WorkerContext, job: Job, *, is_first_attempt: bool) -> PriorResults:
    """Return the results that earlier attempts at the job uploaded.

    A record from this run is decisive. On the first attempt, files that are older than this run also count if they form
    a complete upload; an attempt that died during its upload leaves only some of its files.

    Makes one or two requests (a listing takes one per 1,000 objects), or three if an upload was incomplete.
    """
    settings = context.settings
    expected = job.expected_files or settings.expected_number_files
    if not is_first_attempt or not expected:
        return PriorResults(_find_recorded_results(context, job))
    listed_objects = list_s3_objects(context.s3, job.output_bucket, f"{job.output_location}/", job.upload_arguments)
    if not listed_objects:
        return PriorResults(None, listed_objects)  # the usual case: one request
    run_start = _parse_run_start(settings.run)
    older_objects = {key: listed for key, listed in listed_objects.items() if listed.modified < run_start}
    result_files = [
        ResultFile(job.output_bucket, key, listed.size, "")
        for key, listed in older_objects.items()
        if listed.size >= settings.min_file_size_bytes and settings.necessary_string in key
    ]
    if len(result_files) >= expected and _is_upload_complete(context, job, older_objects):
        return PriorResults(result_files, is_recorded=False)
    return PriorResults(_find_recorded_results(context, job))


def _is_upload_complete(context: WorkerContext, job: Job, listed_objects: dict[str, ListedObject]) -> bool:
    """Return whether all files from the most recent upload exist. Each file's metadata contains the file count.

    Also return True if the count is unknown: for a single file, for another program's file, or without read permission.
    """
    last = max(listed_objects, key=lambda key: listed_objects[key].modified)
    try:
        payer = select_payer_arguments(job.upload_arguments)
        response = context.s3.head_object(Bucket=job.output_bucket, Key=last, **payer)
    except ClientError as error:
        if is_access_denied(error):
            return True
        raise
    file_count = response.get("Metadata", {}).get(FILE_COUNT_KEY, "")
    return not file_count.isdecimal() or int(file_count) <= len(listed_objects)


def _parse_run_start(run: str) -> datetime:
    """Return the start time in the run's name, or the latest possible time for a worker that was started by hand."""
    try:
        return datetime.strptime(run, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        return datetime.max.replace(tzinfo=UTC)


def _find_recorded_results(context: WorkerContext, job: Job) -> list[ResultFile] | None:
    record = read_record(context, job.id)
    if record is None or not is_record_done(record):
        return None
    return [ResultFile(**output) for output in record.get("outputs", [])]
