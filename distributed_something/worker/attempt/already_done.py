"""Whether a job is done already: CHECK_IF_DONE_BOOL."""

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
    """The outputs of a job that is done, None for one that is to do; what its place held, None if nobody looked;
    whether its record in this run says that it is done."""

    outputs: list[ResultFile] | None
    there: dict[str, ListedObject] | None = None
    recorded: bool = True


def observe_prior_results(context: WorkerContext, job: Job, *, first_try: bool) -> PriorResults:
    """One or two requests (a page of 1,000 each), three where an upload came to no end.

    Its record tells for certain. Files tell it only if they are older than this run, on the first try, and all of those
    that went up together: an attempt that died while it uploaded leaves some of them.
    """
    settings = context.settings
    expected = job.expected_files or settings.expected_number_files
    if not first_try or not expected:
        return PriorResults(_find_recorded_results(context, job))
    there = list_s3_objects(context.s3, job.output_bucket, f"{job.output_location}/", job.upload_arguments)
    if not there:
        return PriorResults(None, there)  # the usual case: one request
    begun = _parse_run_start(settings.run)
    old = {key: listed for key, listed in there.items() if listed.modified < begun}
    good = [
        ResultFile(job.output_bucket, key, listed.size, "")
        for key, listed in old.items()
        if listed.size >= settings.min_file_size_bytes and settings.necessary_string in key
    ]
    if len(good) >= expected and _is_upload_complete(context, job, old):
        return PriorResults(good, recorded=False)
    return PriorResults(_find_recorded_results(context, job))


def _is_upload_complete(context: WorkerContext, job: Job, there: dict[str, ListedObject]) -> bool:
    """Whether there are as many as the last one's attempt was to upload; where that is not told, nothing speaks against
    it: one file alone, one of another program, or one that this worker may not read."""
    last = max(there, key=lambda key: there[key].modified)
    try:
        payer = select_payer_arguments(job.upload_arguments)
        answer = context.s3.head_object(Bucket=job.output_bucket, Key=last, **payer)
    except ClientError as error:
        if is_access_denied(error):
            return True
        raise
    told = answer.get("Metadata", {}).get(FILE_COUNT_KEY, "")
    return not told.isdecimal() or int(told) <= len(there)


def _parse_run_start(run: str) -> datetime:
    """The start of a run, as its name tells it; of a worker that was started by hand none is known."""
    try:
        return datetime.strptime(run, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        return datetime.max.replace(tzinfo=UTC)


def _find_recorded_results(context: WorkerContext, job: Job) -> list[ResultFile] | None:
    found = read_record(context, job.id)
    if found is None or not is_record_done(found):
        return None
    return [ResultFile(**output) for output in found.get("outputs", [])]
