"""The journal of a submission: a file next to the job file that lists the jobs acknowledged by SQS.

It exists while jobs are being sent and after an interruption, so that `--resume` can send the remaining jobs. It is
also a lock: while one `submitJob` sends a job file, another one on the same computer is rejected. The operating system
releases the lock when the process ends, however it ends.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TextIO

from distributed_something.core.errors import CloudError, InputError
from distributed_something.core.submission import SubmissionDocument, parse_submission_object
from distributed_something.core.text import format_count
from distributed_something.jobs.submission.plan import SubmissionPlan

_START_OVER_REMEDY = "add --replace to remove the waiting jobs from the queue and start over"


def build_journal_path(job_file: Path) -> Path:
    """Return the path of a job file's journal: the same file for a link to the job file and for the job file itself."""
    target = job_file.resolve() if job_file.is_symlink() else job_file
    return target.parent / f".{target.name}.submitted"


class SubmissionJournal:
    """The jobs that SQS acknowledged: a header line, then one line of job indexes (from 0) for each batch.

    The header contains the submission's document, so that `--resume` continues the same one.

    `job_file`: for messages. `command`: what writes the journal, for messages. `resume`: whether to continue the
    submission in the journal. `replace`: whether a journal of an interrupted submission is discarded. `done`: the
    number of acknowledged jobs. `total`: the total number of jobs.
    """

    def __init__(
        self, job_file: Path, *, resume: bool = False, replace: bool = False, command: str = "submitJob of this file"
    ) -> None:
        self.job_file, self.resume, self._command = job_file, resume, command
        self._path, self._replace = build_journal_path(job_file), replace
        self._lock = threading.Lock()  # for the threads of this process
        self._sent = bytearray()
        self._file: TextIO | None = None
        self._is_started = False
        self.done = 0
        self.total = 0

    def lock(self) -> None:
        """Lock the journal until `close`, unless this was done before. Call this before anything else.

        Raise InputError if another process has locked it, if it exists without `--resume`, or if it does not exist with
        `--resume`.
        """
        if self._file is not None:
            return
        try:
            self._file = _open_locked(self._path)
        except BlockingIOError:
            problem = f"another {self._command} is running"
            raise InputError(self.job_file, "", problem, "wait until it ends") from None
        except OSError as error:
            problem = f"this file cannot be written ({error.strerror})"
            raise InputError(self._path, "", problem, "allow writing in the Job file's folder") from None
        try:
            self._check_existence()
        except InputError:
            self.close()
            raise

    def read(self, plan: SubmissionPlan, url: str) -> SubmissionDocument | None:
        """Read which jobs the interrupted submission sent, and return its document.

        Return None for a new submission, or if the journal was written by a version without documents. Raise InputError
        if the jobs or the queue have changed.
        """
        self.total, self.done, self._sent = plan.count, 0, bytearray(plan.count)
        if not self.resume:
            return None
        self._cut_last_line()
        with self._path.open(errors="replace") as lines:
            header = _parse_object(next(lines, ""))
            if any(header.get(key) != value for key, value in _build_header(plan, url).items()):
                raise self._build_change_error(header, plan)
            return self._read_lines(header, lines, self._mark_sent)

    def _build_change_error(self, header: dict[str, Any], plan: SubmissionPlan) -> InputError:
        canary = _read_canary(header)
        if canary not in (0, plan.count):
            problem = f"the interrupted submission is a canary of {format_count(canary, 'job')}"
            return InputError(self._path, "", problem, f"{_format_resume(canary)}, or {_START_OVER_REMEDY}")
        jobs = f" of {format_count(header['count'], 'job')}" if isinstance(header.get("count"), int) else ""
        problem = (
            f"the job file, its table, --canary, or the queue has changed since the submission{jobs} was interrupted"
        )
        return InputError(self._path, "", problem, f"restore them, or {_START_OVER_REMEDY}")

    def read_interrupted(self) -> SubmissionDocument | None:
        """Return the document of an interrupted submission that `--replace` discards, with the number of jobs it sent.

        Return None if there is none, or if a version without documents wrote the journal.
        """
        sent: set[int] = set()
        with self._path.open(errors="replace") as lines:
            document = self._read_lines(_parse_object(next(lines, "")), lines, sent.update)
        return None if document is None else replace(document, count=min(len(sent), document.planned))

    @staticmethod
    def _read_lines(
        header: dict[str, Any], lines: Iterable[str], mark_sent: Callable[[Iterable[int]], object]
    ) -> SubmissionDocument | None:
        document = header.get("submission")
        for line in lines:
            if line.startswith("{"):
                document = _parse_object(line).get("submission")
            else:
                mark_sent(int(word) for word in line.split() if word.isdigit())
        with suppress(ValueError):
            return parse_submission_object(document)
        return None

    @property
    def is_interrupted(self) -> bool:
        """Whether the journal contains an interrupted submission. The journal must be locked and not started."""
        return self._path.stat().st_size > 0

    def read_sent_jobs(self) -> tuple[SubmissionDocument, set[int]] | None:
        """Return the document of an interrupted submission in the journal, and the indexes of the jobs that it sent.

        Return None if there is none.
        """
        self._cut_last_line()
        header, *lines = self._path.read_text(errors="replace").splitlines() or [""]
        try:
            document = parse_submission_object(_parse_object(header).get("submission"))
        except ValueError:
            return None
        return document, {int(word) for line in lines for word in line.split() if word.isdigit()}

    def discard(self) -> None:
        """Remove what the journal contains."""
        assert self._file is not None  # lock() was called first
        self._file.truncate(0)

    def start(self, plan: SubmissionPlan, url: str, document: SubmissionDocument) -> None:
        """Write the document to the journal, either to a new one or to the one that was read.

        Raise CloudError if the disk is full, as `write_document` and `add` do.
        """
        assert self._file is not None  # lock() was called first
        header: dict[str, Any] = {"submission": asdict(document)}
        if not self.resume:
            self._file.truncate(0)
            header = _build_header(plan, url) | header
        self._write_line(json.dumps(header))
        self._is_started = True

    def write_document(self, document: SubmissionDocument) -> None:
        """Write a newer version of the document to the journal."""
        self._write_line(json.dumps({"submission": asdict(document)}))

    def is_sent(self, number: int) -> bool:
        return bool(self._sent[number])

    def add(self, numbers: list[int]) -> None:
        """Record that SQS has acknowledged these jobs."""
        with self._lock:
            self._mark_sent(numbers)  # also if the disk is full: they are in the queue
            self._write_line(" ".join(map(str, numbers)))

    def _write_line(self, line: str) -> None:
        assert self._file is not None  # lock() was called first
        try:
            self._file.write(f"{line}\n")
        except OSError as error:
            problem = f"{self._path} cannot be written ({error.strerror}); make room on the disk"
            raise CloudError(problem, action="noting which jobs were sent") from error

    def close(self) -> None:
        """Release the lock. Keep the journal for `--resume`, unless no job or every job has been sent."""
        if self._file is None:
            return
        is_empty = not os.fstat(self._file.fileno()).st_size
        if is_empty or (self._is_started and self.done in (0, self.total)):
            self._path.unlink(missing_ok=True)  # before the lock is released, so that it is not another process's
        file, self._file = self._file, None
        with suppress(OSError):  # the disk is full: the error that this caused is already on its way
            file.close()

    def _check_existence(self) -> None:
        is_interrupted = self.is_interrupted
        if is_interrupted and not self.resume and not self._replace:
            with self._path.open(errors="replace") as lines:
                canary = _read_canary(_parse_object(next(lines, "")))
            what = f"canary of {format_count(canary, 'job')}" if canary else "submission"
            problem = f"an earlier {what} of this job file was interrupted"
            raise InputError(self._path, "", problem, f"{_format_resume(canary)}, or {_START_OVER_REMEDY}")
        if self.resume and not is_interrupted:
            problem = "this file does not exist, so no submission of this job file was interrupted"
            raise InputError(self._path, "", problem, "leave out --resume to send all jobs")

    def _mark_sent(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            if 0 <= number < self.total and not self._sent[number]:
                self._sent[number] = 1
                self.done += 1

    def _cut_last_line(self) -> None:
        """Remove an incomplete last line, because its last number may be cut off and refer to another job."""
        content = self._path.read_bytes()
        complete = content.rfind(b"\n") + 1
        if complete < len(content):
            os.truncate(self._path, complete)


def _parse_object(line: str) -> dict[str, Any]:
    """Return the JSON object in this line, or an empty one if there is none."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _read_canary(header: dict[str, Any]) -> int:
    """Return how many jobs the interrupted submission has if it is a canary; otherwise, 0."""
    with suppress(ValueError):
        document = parse_submission_object(header.get("submission"))
        return document.planned if document.canary_of else 0
    return 0


def _format_resume(canary: int) -> str:
    return f"type --canary {canary} --resume to continue it" if canary else "add --resume to continue it"


def _build_header(plan: SubmissionPlan, url: str) -> dict[str, Any]:
    return {"digest": plan.digest, "queue": url, "count": plan.count}


def _open_locked(path: Path) -> TextIO:
    """Open the file for appending, create it if necessary, and lock it.

    Raise BlockingIOError if another process has locked it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        file = path.open("a", buffering=1)  # each line is written immediately
        try:
            _lock_file(file)
            if _is_same_file(file, path):
                return file
        except BaseException:  # also Ctrl-C: the file, which may be locked, is closed in any case
            file.close()
            raise
        file.close()  # its owner deleted it just before releasing the lock


def _lock_file(file: TextIO) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        pass  # some network file systems have no locks; sending the jobs matters more


def _is_same_file(file: TextIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
