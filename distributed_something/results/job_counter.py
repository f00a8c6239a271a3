"""Counts how the jobs of a run ended, from the lines of journals and from records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, partial
from operator import itemgetter
from typing import Any

from distributed_something.observe.documents.replacements import NO_REPLACEMENTS
from distributed_something.results.group_values import GroupValueCounter, read_group_values
from distributed_something.results.status.attempt_lines import (
    Sending,
    compute_line_seconds,
    parse_time,
    read_integer,
    read_missing_input,
    read_number,
    read_sending,
    read_sent_time,
    read_start_error,
    read_submission,
)
from distributed_something.worker import mask_lines, mask_text

NO_REASON = "no reason given"
MAX_FAILURES_KEPT = 20_000  # failed jobs whose details are kept in memory; all of them are counted
_HASH_BITS = 2**60 - 1
MAX_FILE_NAMES_KEPT = 20  # names of files that several jobs wrote; all of these files are counted


@dataclass(frozen=True, slots=True)
class FailedJob:
    """A job that failed for good, or whose latest attempt failed.

    `ended`: seconds since 1970. `last_lines` and `log` are only in the record. `telling_line`: the line of the log that
    says most about the failure; in lines from older workers, the last one. `seconds`: how long all attempts at the job
    took that did not succeed, as far as they are known. `group`: the values of the job's group. `start_error`: why the
    program could not be started, such as ENOENT; "" if it was started or never tried. `sent`: when the job's message
    was sent or, in lines of older workers, when the attempt began, in seconds since 1970; 0 if unknown. `submission`:
    the time of the submission whose Job file the message was made from; "" if a script sent it, None if an older worker
    did not say. `message_keys`: of the message; only in the record. `missing_input`: the address in S3 of an input that
    was not there; "" if there is none, or if it is unknown. `input_endpoint`: the input's S3 server; "" is AWS.
    """

    job: str
    ended: float
    reason: str
    reason_class: str = ""
    attempts: int | None = None
    exit_code: int | None = None
    last_lines: tuple[str, ...] = ()
    log: str = ""
    telling_line: str = ""
    seconds: float = 0.0
    group: Mapping[str, str] = field(default_factory=dict, hash=False)
    time_limit_seconds: float | None = None
    peak_memory_bytes: int | None = None
    memory_limit_bytes: int | None = None
    start_error: str = ""
    sent: float = 0.0
    submission: str | None = None
    message_keys: tuple[str, ...] = ()
    missing_input: str = ""
    input_endpoint: str = ""


@dataclass(frozen=True)
class JobCounts:
    """How many jobs ended in which way.

    `done`: jobs that the run did. `already_there`: submissions that were skipped. `failed`: jobs whose latest
    submission failed. `repeated_done` and `repeated_failures`: further submissions of jobs, which ended in this way in
    the same run. `replaced`: submissions that have ended, and that `submitJob --replace` has replaced; others do the
    same work. `replaced_done`, `replaced_already_there`, `replaced_failures`: those of them that were done, were
    skipped, or had failed for good.
    """

    done: int = 0
    already_there: int = 0
    failed: int = 0
    repeated_done: int = 0
    repeated_failures: int = 0
    replaced: int = 0
    replaced_done: int = 0
    replaced_already_there: int = 0
    replaced_failures: int = 0

    @property
    def repeated(self) -> int:
        return self.repeated_done + self.repeated_failures

    @property
    def ended(self) -> int:
        """Number of submissions that have ended."""
        return self.done + self.already_there + self.failed + self.repeated + self.replaced


@dataclass(frozen=True)
class OverwrittenFiles:
    """Files that several jobs of the run wrote to a shared location; each has the content of the last job.

    `names`: the first MAX_FILE_NAMES_KEPT keys, sorted.
    """

    count: int = 0
    names: tuple[str, ...] = ()


class JobCounter:
    """Counts final ends of jobs. Lines and records may be added in any order, and more than once.

    `on_end` is called once for each end of a submission with its line. `replacements` may be set at any time.

    A run can submit a job several times; each submission has a message ID of its own. Jobs and messages are stored as
    hashes, because a million names would need several hundred megabytes.
    """

    def __init__(self, on_end: Callable[[Mapping[str, Any]], object] = lambda line: None) -> None:
        self._on_end = on_end
        self._ends: set[int] = set()  # hashes of (job, message ID)
        self._records: set[int] = set()  # hashes of (job, ETag)
        self._counts: Counter[str] = Counter()
        # When the job was last done or found done, by the job's hash. The time is negative if it was only found done.
        self._successes: dict[int, float] = {}
        self._failures: dict[int, float] = {}
        self._details: dict[int, FailedJob] = {}
        self._failing: dict[int, FailedJob] = {}  # failed attempts of submissions that have not ended, by their hash
        self._result_times: list[float] = []  # of the oldest and the newest results that were already there
        self._overwritten: set[int] = set()
        self._overwritten_names: list[str] = []
        self._attempts: set[int] = set()  # hashes of attempts that were not the last of their submission
        self._seconds: dict[int, float] = {}  # of all attempts without success, by the job's hash
        self.total_seconds = 0.0  # of all attempts, as far as they are known
        self.group_values = GroupValueCounter()  # of all jobs that have ended
        # How the messages of the latest success and the latest failure were sent, by the job's hash.
        self._sent_done: dict[int, Sending] = {}
        self._sent_failed: dict[int, Sending] = {}
        self._skipped: Counter[Sending] = Counter()  # how many submissions were skipped, by how they were sent
        self._sent_skipped: dict[int, Sending] = {}  # the latest one, by the job's hash
        self._sendings: dict[Sending, Sending] = {}  # one object of each, because many jobs have the same
        self.replacements = NO_REPLACEMENTS

    def add_end(self, line: Mapping[str, Any]) -> None:
        """Count an attempt if it was the last one of its submission. `line` is a journal's line or a record.

        A record also lists how the job's other submissions in this run ended.
        """
        others = line.get("other_submissions")
        for other in others if isinstance(others, list) else ():
            if isinstance(other, dict):
                shared = {key: line.get(key) for key in ("job", "group", "message", "output_location")}
                shared["sent"] = other.get("ended")  # of older workers, which did not say when it was sent
                self.add_end({**shared, **other, "final": True, "other_submissions": None})
        job, etag = line.get("job"), line.get("record_etag")
        if not isinstance(job, str):
            return
        if isinstance(etag, str):
            self._records.add(compute_hash((job, etag)))
        self._add_earlier_attempts(job, line)
        end = compute_hash((job, line.get("message_id")))
        if not _is_final(line):
            self._add_attempt(job, line)
            self._add_failing_job(end, line)
            self._add_replaced_job(end, line)
            return
        self._failing.pop(end, None)
        if end not in self._ends:
            self._ends.add(end)
            self._add_final_end(job, line)

    def is_last_end(self, line: Mapping[str, Any]) -> bool:
        """Return whether none of the ends that were added is a later end of the same job, and it was not replaced.

        `line` may also be an end that was not counted, because its submission had ended before.
        """
        key, ended = compute_hash(line.get("job")), parse_time(line.get("ended"))
        if line.get("state") == "failed":
            return key in self._failures and ended >= self._failures[key] and self._is_failed(key)
        is_superseded = key in self._failures and self._is_failed(key)
        is_superseded = is_superseded or self.replacements.is_replaced(*read_sending(line), is_done=True)
        return not is_superseded and max(ended, 1e-3) >= abs(self._successes.get(key, 0.0))

    def forget_submissions(self) -> None:
        """Free most of the memory, once everything has been added. `is_last_end` and the counts remain available."""
        self._ends, self._records, self._attempts = set(), set(), set()

    def has_record(self, job: str, etag: str) -> bool:
        """Return whether a line has been added for this version of the job's record."""
        return compute_hash((job, etag)) in self._records

    def count_jobs(self) -> JobCounts:
        done = [key for key, time in self._successes.items() if time > 0]
        failed = [key for key in self._failures if self._is_latest_failure(key)]
        is_replaced = cache(partial(self.replacements.is_replaced, is_done=True))
        superseded = [key for key in done if is_replaced(*self._sent_done[key])]
        # These were sent again unchanged, so that they count as already there.
        found = sum(key in self._sent_skipped and not is_replaced(*self._sent_skipped[key]) for key in superseded)
        replaced_done = len(superseded) - found
        replaced_skipped = sum(count for sending, count in self._skipped.items() if is_replaced(*sending))
        replaced_failures = sum(self.replacements.is_replaced(*self._sent_failed[key]) for key in failed)
        return JobCounts(
            len(done) - len(superseded), self._counts["skipped"] - replaced_skipped, len(failed) - replaced_failures,
            self._counts["done"] - len(done) + found, self._counts["failed"] - len(failed),
            self._counts["replaced"] + replaced_done + replaced_skipped + replaced_failures,
            replaced_done, replaced_skipped, replaced_failures,
        )  # fmt: skip

    def list_failed_jobs(self) -> list[FailedJob]:
        """Return the failed jobs, at most MAX_FAILURES_KEPT, in the order in which they failed."""
        failed = (
            replace(details, seconds=self._seconds.get(key, 0.0))
            for key, details in self._details.items()
            if self._is_failed(key)
        )
        return sorted(failed, key=lambda job: (job.ended, job.job))

    def list_failing_jobs(self, since: float = 0.0) -> list[FailedJob]:
        """Return the jobs that have not ended and whose latest attempt failed, at most MAX_FAILURES_KEPT.

        They are in the order in which they failed. `since`: attempts that ended earlier (seconds since 1970) are left
        out, because their messages were replaced.
        """
        latest = {failed.job: failed for failed in sorted(self._failing.values(), key=lambda failed: failed.ended)}
        failing = (
            replace(failed, seconds=self._seconds.get(compute_hash(job), 0.0))
            for job, failed in latest.items()
            if failed.ended >= max(since, self._find_last_end(compute_hash(job)))
        )
        return sorted(failing, key=lambda job: (job.ended, job.job))

    def find_overwritten_files(self) -> OverwrittenFiles:
        return OverwrittenFiles(len(self._overwritten), tuple(sorted(self._overwritten_names)))

    def find_result_times(self) -> tuple[float, float] | None:
        """Return the times of the oldest and the newest results that were already there, in seconds since 1970.

        Return None if there are no such results, or if no time is known.
        """
        return (self._result_times[0], self._result_times[-1]) if self._result_times else None

    def _add_final_end(self, job: str, line: Mapping[str, Any]) -> None:
        key, state, ended = compute_hash(job), str(line.get("state")), parse_time(line.get("ended"))
        self._counts[state] += 1
        self._add_overwritten_files(line)
        self._add_seconds(job, line)
        if state == "skipped":
            self._add_result_time(line)
            sending = self._keep_sending(line)
            self._skipped[sending] += 1
            self._sent_skipped[key] = max(sending, self._sent_skipped.get(key, sending), key=itemgetter(0))
        if key not in self._failures and key not in self._successes:
            self.group_values.add_job(read_group_values(line))
        if state == "failed":
            self._add_failure(key, ended, line)
        else:
            self._add_success(key, ended, is_done=state == "done")
            if state == "done":
                sending = self._keep_sending(line)
                self._sent_done[key] = max(sending, self._sent_done.get(key, sending), key=itemgetter(0))
        self._on_end(line)

    def _add_failure(self, key: int, ended: float, line: Mapping[str, Any]) -> None:
        if ended >= self._failures.get(key, 0.0):
            self._failures[key] = ended
            self._sent_failed[key] = self._keep_sending(line)
            if key in self._details or len(self._details) < MAX_FAILURES_KEPT:
                self._details[key] = build_failed_job(line)

    def _add_success(self, key: int, ended: float, *, is_done: bool) -> None:
        known = self._successes.get(key)
        is_done = is_done or (known is not None and known > 0)
        latest = max(ended, abs(known or 0.0), 1e-3)  # not 0, which has no sign
        self._successes[key] = latest if is_done else -latest

    def _add_earlier_attempts(self, job: str, line: Mapping[str, Any]) -> None:
        """Add the attempts that a record lists in short form. A container that was killed did not write their lines."""
        entries = line.get("earlier_attempts")
        for entry in entries if isinstance(entries, list) else ():
            if isinstance(entry, dict):
                attempt = {"message_id": line.get("message_id"), "attempts": entry.get("attempt")}
                self._add_attempt(job, entry | attempt)

    def _add_attempt(self, job: str, line: Mapping[str, Any]) -> None:
        """Add the time of an attempt that was not the last one of its submission."""
        attempt = compute_hash((job, line.get("message_id"), line.get("attempts"), str(line.get("started"))))
        if attempt not in self._attempts:
            self._attempts.add(attempt)
            self._add_seconds(job, line)

    def _add_failing_job(self, end: int, line: Mapping[str, Any]) -> None:
        if line.get("state") != "failed" or end in self._ends:
            return
        known = self._failing.get(end)
        if known.ended < parse_time(line.get("ended")) if known else len(self._failing) < MAX_FAILURES_KEPT:
            self._failing[end] = build_failed_job(line)

    def _add_replaced_job(self, end: int, line: Mapping[str, Any]) -> None:
        if line.get("replaced") and end not in self._ends:
            self._ends.add(end)
            self._counts["replaced"] += 1
            self._failing.pop(end, None)

    def _add_seconds(self, job: str, line: Mapping[str, Any]) -> None:
        seconds = compute_line_seconds(line) or 0.0
        self.total_seconds += seconds
        if seconds and line.get("state") not in ("done", "skipped"):
            self._seconds[compute_hash(job)] = self._seconds.get(compute_hash(job), 0.0) + seconds

    def _add_result_time(self, line: Mapping[str, Any]) -> None:
        results_of = line.get("results_of")  # in a record; a journal's line has only the time
        modified = results_of.get("modified") if isinstance(results_of, dict) else line.get("results_modified")
        if time := parse_time(modified):
            times = [*self._result_times, time]
            self._result_times = [min(times), max(times)]

    def _add_overwritten_files(self, line: Mapping[str, Any]) -> None:
        entries = line.get("overwritten")
        for entry in entries if isinstance(entries, list) else ():
            key = entry.get("key") if isinstance(entry, dict) else entry  # a record also names the other job
            if not isinstance(key, str) or compute_hash(key) in self._overwritten:
                continue
            self._overwritten.add(compute_hash(key))
            if len(self._overwritten_names) < MAX_FILE_NAMES_KEPT:
                self._overwritten_names.append(key)

    def _find_last_end(self, key: int) -> float:
        return max(self._failures.get(key, 0.0), abs(self._successes.get(key, 0.0)))

    def _is_failed(self, key: int) -> bool:
        return self._is_latest_failure(key) and not self.replacements.is_replaced(*self._sent_failed[key])

    def _is_latest_failure(self, key: int) -> bool:
        return self._failures[key] >= abs(self._successes.get(key, 0.0))

    def _keep_sending(self, line: Mapping[str, Any]) -> Sending:
        sending = read_sending(line)
        return self._sendings.setdefault(sending, sending)


def compute_hash(value: object) -> int:
    """Return a hash of 60 bits. Python's own one usually has 61, and an integer of that size takes 48 bytes, not 32."""
    return hash(value) & _HASH_BITS


def _is_final(line: Mapping[str, Any]) -> bool:
    """Return whether the attempt was the last one. Records from older workers do not say so."""
    state = line.get("state")
    return state in ("done", "skipped", "failed") and bool(line.get("final", True))


def build_failed_job(line: Mapping[str, Any]) -> FailedJob:
    """Return the job that failed in the attempt of a journal's line or a record, with MASK for secrets.

    `seconds` is not set.
    """
    last_lines = line.get("last_lines")
    if not isinstance(last_lines, list):
        last_lines = [line["last_line"]] if line.get("last_line") else []
    telling_line = str(line.get("telling_line") or (last_lines[-1] if last_lines else ""))
    return FailedJob(
        str(line.get("job")), parse_time(line.get("ended")),
        reason=mask_text(str(line.get("reason") or NO_REASON)),
        reason_class=str(line.get("reason_class") or ""),
        attempts=read_integer(line.get("attempts")),
        exit_code=read_integer(line.get("exit_code")),
        last_lines=mask_lines(last_lines),
        log=str(line.get("log") or ""),
        telling_line=mask_text(telling_line),
        group=read_group_values(line),
        time_limit_seconds=read_number(line.get("time_limit_seconds")),
        peak_memory_bytes=read_integer(line.get("peak_memory_bytes")),
        memory_limit_bytes=read_integer(line.get("memory_limit_bytes")),
        start_error=read_start_error(line),
        sent=read_sent_time(line),
        submission=read_submission(line),
        missing_input=read_missing_input(line),
        input_endpoint=str(line.get("input_endpoint") or ""),
    )  # fmt: skip
