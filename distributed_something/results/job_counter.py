"""Counts how the jobs of a run ended, from the lines of journals and from records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

MAX_FAILURES_KEPT = 20_000  # failed jobs whose details are kept in memory; all of them are counted
MAX_FILE_NAMES_KEPT = 20  # names of files that several jobs wrote; all of these files are counted


@dataclass(frozen=True, slots=True)
class FailedJob:
    """A job that failed for good. `ended`: seconds since 1970. `last_lines` and `log` are only in the record."""

    job: str
    ended: float
    reason: str
    reason_class: str = ""
    attempts: int | None = None
    exit_code: int | None = None
    last_lines: tuple[str, ...] = ()
    log: str = ""


@dataclass(frozen=True)
class JobCounts:
    """How many jobs ended in which way.

    `failed`: jobs whose latest submission failed. `repeated`: failed submissions of jobs that were submitted again in
    the same run, so that their later end counts.
    """

    done: int = 0
    already_there: int = 0
    failed: int = 0
    repeated: int = 0

    @property
    def ended(self) -> int:
        """Number of submitted jobs that have ended."""
        return self.done + self.already_there + self.failed + self.repeated


@dataclass(frozen=True)
class OverwrittenFiles:
    """Files that several jobs of the run wrote to a shared location; each has the content of the last job.

    `names`: the first MAX_FILE_NAMES_KEPT keys, sorted.
    """

    count: int = 0
    names: tuple[str, ...] = ()


class JobCounter:
    """Counts final ends of jobs. Lines and records may be added in any order, and more than once.

    A run can submit a job several times; each submission has a message ID of its own. Jobs and messages are stored as
    hashes of 64 bits, because a million names would need several hundred megabytes.
    """

    def __init__(self) -> None:
        self._ends: set[int] = set()  # hashes of (job, message ID)
        self._records: set[int] = set()  # hashes of (job, ETag)
        self._counts: Counter[str] = Counter()
        self._successes: dict[int, float] = {}  # when the job was last done or found done, by the job's hash
        self._failures: dict[int, float] = {}
        self._details: dict[int, FailedJob] = {}
        self._result_times: list[float] = []  # of the oldest and the newest results that were already there
        self._overwritten: set[int] = set()
        self._overwritten_names: list[str] = []

    def add_end(self, line: Mapping[str, Any]) -> None:
        """Count an attempt if it was the last one of its submission. `line` is a journal's line or a record.

        A record also lists how the job's other submissions in this run ended.
        """
        others = line.get("other_submissions")
        for other in others if isinstance(others, list) else ():
            if isinstance(other, dict):
                self.add_end({**other, "job": line.get("job"), "final": True, "other_submissions": None})
        job, state, etag = line.get("job"), line.get("state"), line.get("record_etag")
        if isinstance(job, str) and isinstance(etag, str):
            self._records.add(hash((job, etag)))
        if not isinstance(job, str) or not _is_final(line):
            return
        end = hash((job, line.get("message_id")))
        if end in self._ends:
            return
        self._ends.add(end)
        self._counts[str(state)] += 1
        self._add_overwritten_files(line)
        if state == "skipped":
            self._add_result_time(line)
        key, ended = hash(job), _parse_time(line.get("ended"))
        times = self._failures if state == "failed" else self._successes
        if ended >= times.get(key, 0.0):
            times[key] = ended
            if state == "failed" and (key in self._details or len(self._details) < MAX_FAILURES_KEPT):
                self._details[key] = _build_failed_job(job, ended, line)

    def has_record(self, job: str, etag: str) -> bool:
        """Return whether a line has been added for this version of the job's record."""
        return hash((job, etag)) in self._records

    def count_jobs(self) -> JobCounts:
        failed = sum(self._is_failed(key) for key in self._failures)
        repeated = self._counts["failed"] - failed
        return JobCounts(self._counts["done"], self._counts["skipped"], failed, repeated)

    def list_failed_jobs(self) -> list[FailedJob]:
        """Return the failed jobs, at most MAX_FAILURES_KEPT, in the order in which they failed."""
        failed = (details for key, details in self._details.items() if self._is_failed(key))
        return sorted(failed, key=lambda job: (job.ended, job.job))

    def find_overwritten_files(self) -> OverwrittenFiles:
        return OverwrittenFiles(len(self._overwritten), tuple(sorted(self._overwritten_names)))

    def find_result_times(self) -> tuple[float, float] | None:
        """Return the times of the oldest and the newest results that were already there, in seconds since 1970.

        Return None if there are no such results, or if no time is known.
        """
        return (self._result_times[0], self._result_times[-1]) if self._result_times else None

    def _add_result_time(self, line: Mapping[str, Any]) -> None:
        results_of = line.get("results_of")  # in a record; a journal's line has only the time
        modified = results_of.get("modified") if isinstance(results_of, dict) else line.get("results_modified")
        if time := _parse_time(modified):
            times = [*self._result_times, time]
            self._result_times = [min(times), max(times)]

    def _add_overwritten_files(self, line: Mapping[str, Any]) -> None:
        entries = line.get("overwritten")
        for entry in entries if isinstance(entries, list) else ():
            key = entry.get("key") if isinstance(entry, dict) else entry  # a record also names the other job
            if not isinstance(key, str) or hash(key) in self._overwritten:
                continue
            self._overwritten.add(hash(key))
            if len(self._overwritten_names) < MAX_FILE_NAMES_KEPT:
                self._overwritten_names.append(key)

    def _is_failed(self, key: int) -> bool:
        return self._failures[key] >= self._successes.get(key, 0.0)


def _is_final(line: Mapping[str, Any]) -> bool:
    """Return whether the attempt was the last one. Records from older workers do not say so."""
    state = line.get("state")
    return state in ("done", "skipped", "failed") and bool(line.get("final", True))


def _parse_time(value: object) -> float:
    try:
        return datetime.fromisoformat(str(value)).timestamp()
    except ValueError:
        return 0.0


def _build_failed_job(job: str, ended: float, line: Mapping[str, Any]) -> FailedJob:
    attempts, exit_code = line.get("attempts"), line.get("exit_code")
    last_lines = line.get("last_lines")
    if not isinstance(last_lines, list):
        last_lines = [line["last_line"]] if line.get("last_line") else []
    return FailedJob(
        job, ended,
        reason=str(line.get("reason") or "no reason given"),
        reason_class=str(line.get("reason_class") or ""),
        attempts=attempts if isinstance(attempts, int) else None,
        exit_code=exit_code if isinstance(exit_code, int) else None,
        last_lines=tuple(map(str, last_lines)),
        log=str(line.get("log") or ""),
    )  # fmt: skip
