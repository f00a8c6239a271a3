"""The check whether a job is already done (CHECK_IF_DONE_BOOL)."""

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

    `outputs`: the job's result files if it is done, else None. `listed_objects`: what its output location contained, or
    None if that was not listed. `is_recorded`: whether a record of this run says that the job is done.
    """

    outputs: list[ResultFile] | None
    listed_objects: dict[str, ListedObject] | None = None
    is_recorded: bool = True


def observe_prior_results(context: WorkerContext, job: Job, *, is_first_attempt: bool) -> PriorResults:
    """Return the results that earlier attempts at the job uploaded.

    A record of this run decides. On the first attempt, files also count if they are older than this run and form a
    complete upload, because an attempt that died during its upload leaves only some of its files.

    Makes one or two requests (listing takes one per 1,000 objects), or three if an upload was incomplete.
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
    """Return whether all files of the most recent upload exist. Each file's metadata contains the number of files.

    Also return True if the number is unknown, as for a single file, a file of another program, or an unreadable one.
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
    """Return the start time that the run's name contains, or the latest possible time for a worker started by hand."""
    try:
        return datetime.strptime(run, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        return datetime.max.replace(tzinfo=UTC)


def _find_recorded_results(context: WorkerContext, job: Job) -> list[ResultFile] | None:
    record = read_record(context, job.id)
    if record is None or not is_record_done(record):
        return None
    return [ResultFile(**output) for output in record.get("outputs", [])]
