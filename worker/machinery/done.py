"""Whether a job is done already: CHECK_IF_DONE_BOOL."""

from __future__ import annotations

from typing import Any

from . import records
from .job import Job
from .settings import Settings
from .staging import Output, sizes


def outputs_of(s3: Any, settings: Settings, job: Job, *, first_try: bool) -> list[Output] | None:
    """The outputs of a job that is done; None for one that is to do. One or two requests (a page of 1,000 each).

    Its record in this run tells for certain. Its files alone tell it only on the first try: an attempt that died while
    it uploaded leaves some of them.
    """
    expected = job.expected_files or settings.expected_number_files
    if not first_try or not expected:
        return _recorded(s3, settings, job)
    there = sizes(s3, job.output_bucket, f"{job.output_location}/")
    if not there:
        return None  # the usual case: one request
    recorded = _recorded(s3, settings, job)
    if recorded is not None:
        return recorded
    good = [
        Output(job.output_bucket, key, size, "")
        for key, size in there.items()
        if size >= settings.min_file_size_bytes and settings.necessary_string in key
    ]
    return good if len(good) >= expected else None


def _recorded(s3: Any, settings: Settings, job: Job) -> list[Output] | None:
    found = records.read(s3, settings, job.id)
    if found is None or not records.is_done(found):
        return None
    return [Output(**output) for output in found.get("outputs", [])]
