"""Whether a job is done already: CHECK_IF_DONE_BOOL."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from . import records
from .job import Job
from .settings import Settings
from .staging import Listed, Output, listed


@dataclass(frozen=True)
class Found:
    """The outputs of a job that is done, None for one that is to do; what its place held, None if nobody looked;
    whether its record in this run says that it is done."""

    outputs: list[Output] | None
    there: dict[str, Listed] | None = None
    recorded: bool = True


def look(s3: Any, settings: Settings, job: Job, *, first_try: bool) -> Found:
    """One or two requests (a page of 1,000 each).

    Its record tells for certain. Without one, files tell it only if they are older than this run, and on the first try:
    an attempt that died while it uploaded leaves some of them, and its record would tell if they were all.
    """
    expected = job.expected_files or settings.expected_number_files
    if not first_try or not expected:
        return Found(_recorded(s3, settings, job))
    there = listed(s3, job.output_bucket, f"{job.output_location}/", job.upload_arguments)
    if not there:
        return Found(None, there)  # the usual case: one request
    recorded = _recorded(s3, settings, job)
    if recorded is not None:
        return Found(recorded)
    begun = _begin_of(settings.run)
    good = [
        Output(job.output_bucket, key, one.size, "")
        for key, one in there.items()
        if one.size >= settings.min_file_size_bytes and settings.necessary_string in key and one.modified < begun
    ]
    return Found(good if len(good) >= expected else None, recorded=False)


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
