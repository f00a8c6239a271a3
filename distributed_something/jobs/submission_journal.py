"""The journal of a submission: a file beside the job file that says which jobs SQS has acknowledged.

It is there while a submission is under way, and after an interruption, so that `--resume` sends the rest.
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
    """Where the journal of a job file lies."""
    return job_file.parent / f".{job_file.name}.submitted"


class SubmissionJournal:
    """Which jobs SQS acknowledged: a header line, then one line of numbers a batch; removed when all are sent."""

    def __init__(self, path: Path, *, resume: bool) -> None:
        self._path, self._resume = path, resume
        self._lock = threading.Lock()
        self._sent = bytearray()
        self._file: TextIO | None = None
        self.done = 0
        self.total = 0

    def open(self, planned: SubmissionPlan, url: str) -> None:
        """Reads what an interrupted submission left, or begins a new journal; raises InputError where they clash."""
        header = {"digest": planned.digest, "queue": url, "count": planned.count}
        self.total, self._sent = planned.count, bytearray(planned.count)
        exists = self._path.exists()
        if exists and not self._resume:
            right = f"add --resume to go on, or delete {self._path} to send every job anew"
            raise InputError(self._path, "", "an earlier submission of this job file was interrupted", right)
        if self._resume and not exists:
            right = "leave --resume out to send every job"
            raise InputError(
                self._path, "", "no submission of this job file was interrupted: this file is not there", right
            )
        if exists:
            self._read(header)
        else:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.write_text(json.dumps(header) + "\n")
        self._file = self._path.open("a", buffering=1)  # each line reaches the system at once

    def is_sent(self, number: int) -> bool:
        if number >= self.total:
            raise InputError(self._path, "", "the table grew while its jobs were sent", "put the old one back")
        return bool(self._sent[number])

    def add(self, numbers: list[int]) -> None:
        """Notes that SQS has these jobs."""
        with self._lock:
            assert self._file is not None  # open() comes first
            self._file.write(" ".join(map(str, numbers)) + "\n")
            self._mark_sent(numbers)

    def close(self) -> None:
        """Leaves the journal for `--resume`."""
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
                written = json.loads(next(lines, ""))
            except ValueError:
                written = None
            if written != header:
                right = "put the old ones back, or delete this file to send every job anew"
                raise InputError(self._path, "", "the job file, its table or the queue changed since then", right)
            for line in lines:
                self._mark_sent(int(word) for word in line.split() if word.isdigit())

    def _cut_last_line(self) -> None:
        """A line without its end was cut off while it was written: a part of a number is another job's number."""
        content = self._path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            os.truncate(self._path, whole)
