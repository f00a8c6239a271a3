"""Whether a job is done already: CHECK_IF_DONE_BOOL."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import ClientError

from . import records
from .job import Job
from .settings import Settings
from .staging import FILES_KEY, Listed, Output, listed
from .uploadflags import payer


@dataclass(frozen=True)
class Found:
    """The outputs of a job that is done, None for one that is to do; what its place held, None if nobody looked;
    whether its record in this run says that it is done."""

    outputs: list[Output] | None
    there: dict[str, Listed] | None = None
    recorded: bool = True


def look(s3: Any, settings: Settings, job: Job, *, first_try: bool) -> Found:
    """One or two requests (a page of 1,000 each), three where an upload came to no end.

    Its record tells for certain. Files tell it only if they are older than this run, on the first try, and all of those
    that went up together: an attempt that died while it uploaded leaves some of them.
    """
    expected = job.expected_files or settings.expected_number_files
    if not first_try or not expected:
        return Found(_recorded(s3, settings, job))
    there = listed(s3, job.output_bucket, f"{job.output_location}/", job.upload_arguments)
    if not there:
        return Found(None, there)  # the usual case: one request
    begun = _begin_of(settings.run)
    old = {key: one for key, one in there.items() if one.modified < begun}
    good = [
        Output(job.output_bucket, key, one.size, "")
        for key, one in old.items()
        if one.size >= settings.min_file_size_bytes and settings.necessary_string in key
    ]
    if len(good) >= expected and _all_went_up(s3, job, old):
        return Found(good, recorded=False)
    return Found(_recorded(s3, settings, job))


def _all_went_up(s3: Any, job: Job, there: dict[str, Listed]) -> bool:
    """Whether there are as many as the last one's attempt was to upload; where that is not told, nothing speaks against
    it: one file alone, one of another program, or one that this worker may not read."""
    last = max(there, key=lambda key: there[key].modified)
    try:
        answer = s3.head_object(Bucket=job.output_bucket, Key=last, **payer(job.upload_arguments))
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") != "403":
            raise
        return True
    told = answer.get("Metadata", {}).get(FILES_KEY, "")
    return not told.isdecimal() or int(told) <= len(there)


def _begin_of(run: str) -> datetime:
    """The start of a run, as its name tells it; of a worker that was started by hand none is known."""
    try:
        return datetime.strptime(run, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        return datetime.max.replace(tzinfo=UTC)


def _recorded(s3: Any, settings: Settings, job: Job) -> list[Output] | None:
    found = records.read(s3, settings, job.id)
    if found is None or not records.is_done(found):
        return None
    return [Output(**output) for output in found.get("outputs", [])]
