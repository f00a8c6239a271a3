"""The journal of a submission: a file next to the job file that lists the jobs acknowledged by SQS.

It exists while jobs are being sent and after an interruption, so that `--resume` can send the remaining jobs.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TextIO

from distributed_something.core.errors import InputError
from distributed_something.jobs.submission_plan import SubmissionPlan


def build_journal_path(job_file: Path) -> Path:
    """Return the path of a job file's journal."""
    return job_file.parent / f".{job_file.name}.submitted"


class SubmissionJournal:
    """The jobs that SQS acknowledged: a header line, then one line of job indexes (from 0) for each batch.

    `done`: the number of acknowledged jobs. `total`: the total number of jobs.
    """

    def __init__(self, path: Path, *, resume: bool) -> None:
        self._path, self._resume = path, resume
        self._lock = threading.Lock()
        self._sent = bytearray()
        self._file: TextIO | None = None
        self.done = 0
        self.total = 0

    def open(self, plan: SubmissionPlan, url: str) -> None:
        """Read the journal of an interrupted submission, or start a new journal.

        Raise InputError if the journal exists without `--resume`, if it does not exist with `--resume`, or if the jobs
        or the queue have changed.
        """
        header = {"digest": plan.digest, "queue": url, "count": plan.count}
        self.total, self._sent = plan.count, bytearray(plan.count)
        exists = self._path.exists()
        if exists and not self._resume:
            remedy = f"add --resume to continue it, or delete {self._path} to send all jobs again"
            raise InputError(self._path, "", "an earlier submission of this job file was interrupted", remedy)
        if self._resume and not exists:
            problem = "this file does not exist, so no submission of this job file was interrupted"
            raise InputError(self._path, "", problem, "leave out --resume to send all jobs")
        if exists:
            self._read(header)
        else:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.write_text(json.dumps(header) + "\n")
        self._file = self._path.open("a", buffering=1)  # each line is written immediately

    def is_sent(self, number: int) -> bool:
        if number >= self.total:
            raise InputError(self._path, "", "the table grew while its jobs were being sent", "restore the old table")
        return bool(self._sent[number])

    def add(self, numbers: list[int]) -> None:
        """Record that SQS has acknowledged these jobs."""
        with self._lock:
            assert self._file is not None  # open() was called first
            self._file.write(" ".join(map(str, numbers)) + "\n")
            self._mark_sent(numbers)

    def close(self) -> None:
        """Close the journal and keep it for `--resume`."""
        if self._file is not None:
            self._file.close()

    def remove(self) -> None:
        self._path.unlink(missing_ok=True)

    def _mark_sent(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            if 0 <= number < self.total and not self._sent[number]:
                self._sent[number] = 1
                self.done += 1

    def _read(self, header: dict[str, Any]) -> None:
        self._cut_last_line()
        with self._path.open() as lines:
            try:
                journal_header = json.loads(next(lines, ""))
            except ValueError:
                journal_header = None
            if journal_header != header:
                problem = "the job file, its table, or the queue has changed since the interruption"
                raise InputError(self._path, "", problem, "restore them, or delete this file to send all jobs again")
            for line in lines:
                self._mark_sent(int(word) for word in line.split() if word.isdigit())

    def _cut_last_line(self) -> None:
        """Remove an incomplete last line, because its last number may be cut off and refer to another job."""
        content = self._path.read_bytes()
        complete = content.rfind(b"\n") + 1
        if complete < len(content):
            os.truncate(self._path, complete)
