"""The container's journal: its totals and a line for each finished attempt, in an S3 object that is rewritten often.

Everything that users see about a run comes from journals. Reading one object per container is much faster than reading
one record per job, and the record is always written first, so that a journal never claims too much.
"""

from __future__ import annotations

import json
import logging
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from distributed_something.worker.job.failures import AWS_ERRORS
from distributed_something.worker.machine.times import build_utc_timestamp

MAX_JOURNAL_BYTES = 1024 * 1024  # a larger object is complete, and the next line begins another object
MAX_REASON_CHARACTERS = 300
MAX_LAST_LINE_CHARACTERS = 200
MAX_TELLING_CHARACTERS = 300
MAX_PROGRAM_STARTS = 64  # readers read only the first 4,096 bytes of a journal to see its first line
MAX_GROUP_BYTES = 1024  # as JSON; a larger group is only in the record
LINE_KEYS = (  # the keys that a line copies from the attempt's record
    "job", "state", "final", "attempts", "message_id", "slot", "started", "fetch_started", "program_started",
    "program_ended", "ended", "seconds", "time_limit_seconds", "exit_code", "start_error", "reason_class",
    "peak_memory_bytes",
    "cpu_seconds", "bytes_in", "bytes_out", "other_submissions", "record_etag", "output_location", "replaced",
    "sent", "submission",
)  # fmt: skip
TOTAL_KEYS = {"done": "done", "failed": "failed", "skipped": "already_there"}  # keyed by the state of a final record
log = logging.getLogger("worker")


class Journal:
    """The journal of one container.

    `write(number, body)` stores object `number`, counted from 1. `facts` are constant keys of the first line, such as
    the container's name. `list_program_starts` returns when the running programs started (seconds since 1970), by slot.
    """

    def __init__(
        self, write: Callable[[int, bytes], object], facts: Mapping[str, Any],
        list_program_starts: Callable[[], Mapping[int, float]],
    ) -> None:  # fmt: skip
        self._write, self._facts, self._list_program_starts = write, dict(facts), list_program_starts
        self._lock = threading.Lock()
        self._totals: Counter[str] = Counter()
        self._lines: list[bytes] = []
        self._number = 1
        self._written_totals: dict[str, Any] | None = None

    def add_attempt(self, record: Mapping[str, Any]) -> None:
        """Add a line for an attempt whose record has been written."""
        line = json.dumps(build_journal_line(record)).encode()
        with self._lock:
            self._lines.append(line)
            self._totals["attempts"] += 1
            if record["final"]:
                self._totals[TOTAL_KEYS[record["state"]]] += 1
            self._totals["replaced"] += bool(record.get("replaced"))

    def run(self, ended: threading.Event, seconds: float, now: Callable[[], float]) -> None:
        """Write the journal at once, then every `seconds` if it has changed, and once more when `ended` is set."""
        self._try_write(now())
        while not ended.wait(seconds):
            self._try_write(now())
        self._try_write(now(), is_end=True)

    def write_changes(self, now: float, *, is_end: bool = False) -> None:
        """Write the journal if it has changed. AWS errors are not caught; the next call then writes the same lines."""
        with self._lock:
            totals = self._build_totals(is_end=is_end)
            lines, number = list(self._lines), self._number
        if totals == self._written_totals:
            return
        header = json.dumps({**self._facts, "at": build_utc_timestamp(now), **totals}).encode()
        body = b"".join(line + b"\n" for line in (header, *lines))
        self._write(number, body)
        with self._lock:
            self._written_totals = totals
            if len(body) >= MAX_JOURNAL_BYTES:
                del self._lines[: len(lines)]
                self._number += 1

    def _build_totals(self, *, is_end: bool) -> dict[str, Any]:
        """Return the totals of the whole container, not only of the current object."""
        counts = {name: self._totals[name] for name in (*TOTAL_KEYS.values(), "attempts", "replaced")}
        starts = {} if is_end else self._list_program_starts()
        listed = [[slot, build_utc_timestamp(start)] for slot, start in sorted(starts.items())[:MAX_PROGRAM_STARTS]]
        return {**counts, "running": len(starts), "program_starts": listed, "ended": is_end}

    def _try_write(self, now: float, *, is_end: bool = False) -> None:
        try:
            self.write_changes(now, is_end=is_end)
        except AWS_ERRORS as error:
            log.warning("the journal could not be written; this will be retried: %s", error)
        except Exception:  # otherwise this thread would end unnoticed
            log.exception("the worker's own code failed")


def build_journal_line(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the journal's line for a record: the keys that counts, costs, and reports need, with short texts."""
    line = {key: record.get(key) for key in LINE_KEYS}
    line["reason"] = record["reason"][:MAX_REASON_CHARACTERS] if record.get("reason") else None
    line["overwritten"] = [entry["key"] for entry in record.get("overwritten", ())]
    line["results_modified"] = (record.get("results_of") or {}).get("modified")
    line["last_line"] = record["last_lines"][-1][:MAX_LAST_LINE_CHARACTERS] if record.get("last_lines") else None
    line["telling_line"] = record["telling_line"][:MAX_TELLING_CHARACTERS] if record.get("telling_line") else None
    line["group"] = _find_short_group(record.get("message"))
    if record.get("missing_input"):
        line |= {key: record.get(key) for key in ("missing_input", "input_endpoint")}
    if record.get("machine", "") is None:  # it ran on another machine, which was lost; not on that of the first line
        line |= {"machine": None, "container": None}
    return line


def _find_short_group(message: object) -> Any:
    """Return the group of a job's message; None if the message cannot be read or if the group is too large."""
    group = message.get("group") if isinstance(message, dict) else None
    return group if len(json.dumps(group)) <= MAX_GROUP_BYTES else None
