"""Submission documents: what each `submitJob` sent, stored in the bucket as `runs/APP_NAME/submissions/TIME.json`.

A run's total number of jobs comes from these documents. Each `submitJob` has a document of its own, so that two of them
never overwrite each other's counts. `retry` writes such a document too, and a list of the jobs that it sent again.
"""

from __future__ import annotations

import json
from dataclasses import MISSING, asdict, dataclass, field, fields
from datetime import UTC, datetime
from pathlib import PurePath
from typing import Any

_TIME_FORMAT = "%Y%m%dT%H%M%S"
_VALUE_TYPES: dict[str, Any] = {
    "dict[str, str]": dict,
    "str": str,
    "str | None": (str, type(None)),
    "int": int,
    "bool": bool,
}


@dataclass(frozen=True)
class SubmissionDocument:
    """One submission. Times are in UTC, such as `20261123T104500.123Z`; `time` is when it began, and also its key.

    `ended`: None while jobs are being sent, or if the process was killed. `queue`: the queue's name. `count`: the jobs
    that SQS has acknowledged so far, including those that `--resume` sent. `planned`: all jobs in the Job file, whose
    name is `job_file`. `digest`: of all messages. `git_commit`: of the project's folder, followed by `-dirty` if files
    have changed since; None if unknown. `again`: whether older results do not count. `removed`: the waiting jobs that
    `--replace` removed from the queue. `replace`: whether `--replace` was given; `replaced`: whether it removed all
    waiting jobs, and `replaced_at` when; None in documents of older versions. `jobs_digest`: of all job IDs, in any
    order, so it does not depend on limits such as timeout_minutes. `path`: the Job file as the user typed it, also for
    `retry --with`; `retry_of`: the run whose failed jobs `retry` sent; both "" otherwise, and in older documents.
    `files`: the SHA-256 of the Job file and its table, keyed by path; empty in older documents. After `--canary`,
    `canary_of` is how many jobs the Job file has, and `canary_digest` is the digest of all its messages, while
    `planned` and the other digests are those of the chosen jobs; otherwise 0 and "". `already_there`: how many jobs had
    results before they were sent, so that workers will skip them; 0 if that is unknown.
    """

    app: str
    queue: str
    time: str
    job_file: str
    digest: str
    planned: int
    count: int = 0
    ended: str | None = None
    git_commit: str | None = None
    again: bool = False
    removed: int = 0
    replace: bool = False
    replaced: bool = False
    jobs_digest: str = ""
    replaced_at: str | None = None
    path: str = ""
    retry_of: str = ""
    files: dict[str, str] = field(default_factory=dict)
    canary_of: int = 0
    canary_digest: str = ""
    already_there: int = 0

    @property
    def job_count(self) -> int:
        """How many jobs the entire Job file has."""
        return self.canary_of or self.planned

    @property
    def file_digest(self) -> str:
        """The digest of all messages of the entire Job file."""
        return self.canary_digest or self.digest

    @property
    def job_file_path(self) -> str:
        """The Job file as the user typed it or, in documents of older versions, its name; "" for plain repetitions."""
        return self.path or ("" if self.retry_of else self.job_file)

    @property
    def began(self) -> float:
        """When the submission began, in seconds since 1970."""
        return parse_submission_time(self.time)

    @property
    def end(self) -> float | None:
        """When the submission ended, in seconds since 1970; None if `ended` is None."""
        return None if self.ended is None else parse_submission_time(self.ended)

    @property
    def removal_end(self) -> float | None:
        """When `--replace` had removed all waiting jobs, in seconds since 1970; None if it has not done that."""
        if not self.replaced:
            return None
        return self.began if self.replaced_at is None else parse_submission_time(self.replaced_at)

    @property
    def is_removing(self) -> bool:
        """Whether `--replace` is still removing the jobs that wait in the queue."""
        return self.replace and not self.replaced and self.ended is None

    @property
    def sent(self) -> int:
        """How many jobs were sent or, while jobs are being sent, will be sent."""
        return self.planned if self.ended is None else self.count


@dataclass(frozen=True)
class RetryList:
    """The jobs of a run that a submission sent again, stored as `runs/APP_NAME/RUN/retries/TIME.json`.

    `time`: the time of the submission. `jobs`: the ID of each new message's job, keyed by the failed job's ID.
    """

    time: str
    jobs: dict[str, str]

    @property
    def began(self) -> float:
        """When the submission began, in seconds since 1970."""
        return parse_submission_time(self.time)


def build_retry_list(retries: RetryList) -> bytes:
    """Return the list as JSON."""
    return json.dumps(asdict(retries)).encode()


def parse_retry_list(text: bytes | str) -> RetryList:
    """Return the list in this JSON. Raise ValueError if it is not valid."""
    content = json.loads(text)
    jobs = content.get("jobs") if isinstance(content, dict) else None
    if not isinstance(jobs, dict) or not all(isinstance(job, str) for job in jobs.values()):
        raise ValueError("not a list of jobs that were sent again")
    retries = RetryList(str(content.get("time")), jobs)
    parse_submission_time(retries.time)
    return retries


def build_submission_time(seconds: float) -> str:
    """Return a time (seconds since 1970) in the form that documents use. Times in this form sort like numbers."""
    whole, milliseconds = divmod(round(seconds * 1000), 1000)
    return f"{datetime.fromtimestamp(whole, UTC):{_TIME_FORMAT}}.{milliseconds:03}Z"


def parse_submission_time(text: str) -> float:
    """Return a time in seconds since 1970. Raise ValueError if `text` does not have the form of a document's times."""
    seconds = datetime.strptime(text, f"{_TIME_FORMAT}.%fZ").replace(tzinfo=UTC).timestamp()
    if build_submission_time(seconds) != text:  # strptime also accepts other numbers of digits
        raise ValueError(f"{text!r} is not the time of a submission")
    return seconds


def build_submission(document: SubmissionDocument) -> bytes:
    """Return the document as JSON."""
    return json.dumps(asdict(document)).encode()


def parse_submission(text: bytes | str) -> SubmissionDocument:
    """Return the document in this JSON. Unknown keys are ignored.

    Raise ValueError if `text` is not a JSON object, or if a value is missing or has the wrong type.
    """
    try:
        content = json.loads(text)
    except RecursionError as error:
        raise ValueError(str(error)) from None
    return parse_submission_object(content)


def parse_submission_object(content: object) -> SubmissionDocument:
    """Return the document that was parsed from JSON. Raise ValueError under the same conditions."""
    if not isinstance(content, dict):
        raise ValueError("not an object")
    values: dict[str, Any] = {}
    for key in fields(SubmissionDocument):
        default = {} if key.default_factory is dict else key.default
        value = content.get(key.name, None if default is MISSING else default)
        is_boolean = isinstance(value, bool)  # a bool is an int in Python, but not in JSON
        if not isinstance(value, _VALUE_TYPES[str(key.type)]) or (is_boolean and key.type != "bool"):
            raise ValueError(f"{key.name} is {value!r}")
        if isinstance(value, int) and value < 0:
            raise ValueError(f"{key.name} is negative")
        if isinstance(value, dict) and not all(isinstance(item, str) for item in value.values()):
            raise ValueError(f"{key.name} is {value!r}")
        values[key.name] = value
    document = SubmissionDocument(**values)
    for time in (document.time, document.ended, document.replaced_at):
        if time is not None:
            parse_submission_time(time)
    return document


def is_same_path(first: str, second: str) -> bool:
    """Return whether both may be the same file, typed in different folders: they have the same name and folder."""
    parts = [PurePath(path).parts[-2:] for path in (first, second)]
    shorter = min(map(len, parts))
    return parts[0][-shorter:] == parts[1][-shorter:]
