"""The table of a run's jobs, `jobs.tsv`: one row per job that has ended, for spreadsheets and scripts.

A run may have a million jobs, so no row stays in memory: while the run's ends are counted, they are written to a
temporary file. The columns for group values and each job's last end are known only afterwards, when the rows are copied
to the table.
"""

from __future__ import annotations

import gzip
import json
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, suppress
from typing import IO, TYPE_CHECKING, Any

from distributed_something.core.text import format_one_line
from distributed_something.results.causes import find_cause
from distributed_something.results.group_values import read_group_values
from distributed_something.results.job_counter import (
    FailedJob,
    build_failed_job,
)
from distributed_something.results.status.attempt_lines import compute_line_seconds, is_lost_attempt, read_integer
from distributed_something.worker import convert_exit_code

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from distributed_something.core.monitor_file import MonitorFile

GROUP_PREFIX = "group."
MAX_GROUP_COLUMNS = 100  # the values of further keys are left out
LINE_KEYS = (  # keys of a line that a row copies
    "job", "state", "attempts", "started", "ended", "exit_code", "machine", "peak_memory_bytes", "output_location",
    "sent",
)  # fmt: skip
COLUMNS_BEFORE_GROUP = ("job",)
COLUMNS_AFTER_GROUP = (
    "state", "attempts", "started", "seconds", "exit_code", "cause", "machine", "peak_memory_bytes", "output_location",
    "reason",
)  # fmt: skip
CONTENT_TYPE = "text/tab-separated-values; charset=utf-8"
_ESCAPES = str.maketrans(
    {chr(code): f"\\x{code:02x}" for code in (*range(32), 127)} | {"\t": "\\t", "\n": "\\n", "\r": "\\r", "\\": "\\\\"}
)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)


class JobTable:
    """Collects the ends of a run's jobs, writes them to a table, and uploads it once.

    The temporary files have no names and disappear with this object. If the disk is full, there is no table, because
    the outcome of the run matters more. `problem` then says why.
    """

    def __init__(self) -> None:
        self._group_keys: dict[str, None] = {}  # in the order in which they were found
        self._rows: gzip.GzipFile | None = None
        self._row_file: IO[bytes] | None = None
        self._table: IO[bytes] | None = None
        self._files = ExitStack()
        self.problem = ""

    def add_end(self, line: Mapping[str, Any]) -> None:
        """Add a final end of a job. `line` is a journal's line or a record."""
        group = read_group_values(line)
        for key in group:
            if len(self._group_keys) < MAX_GROUP_COLUMNS:
                self._group_keys[key] = None
        row = {key: line.get(key) for key in LINE_KEYS}
        row |= {"group": group, "seconds": compute_line_seconds(line)}
        if is_lost_attempt(line):
            row["started"] = None
        row["exit_code"] = convert_exit_code(read_integer(line.get("exit_code")))
        if line.get("state") == "failed":
            failed = build_failed_job(line)
            row["cause"], row["reason"] = find_cause(failed).id, _format_reason(failed)
        self._try(lambda: self._write_row(row))

    def finish(self, is_last_end: Callable[[Mapping[str, Any]], bool]) -> None:
        """Write the table with the rows of those ends that `is_last_end`."""
        self._try(lambda: self._write_table(is_last_end))

    def save(self, s3: S3Client, file: MonitorFile) -> None:
        """Upload the table, and remove the temporary files. AWS errors are not caught."""
        with self._files:
            if self._table is not None and not self.problem:
                self._table.seek(0)
                bucket, key = file.MONITOR_BUCKET_NAME, file.keys.job_table
                s3.put_object(Bucket=bucket, Key=key, Body=self._table, ContentType=CONTENT_TYPE)

    def _write_row(self, row: Mapping[str, Any]) -> None:
        if self._rows is None:
            # Compressed, because a Lambda function has only 512 MB of disk space.
            self._row_file = self._open_file()
            self._rows = gzip.GzipFile(fileobj=self._row_file, mode="wb", compresslevel=1)
        self._rows.write(json.dumps(row).encode() + b"\n")

    def _write_table(self, is_last_end: Callable[[Mapping[str, Any]], bool]) -> None:
        table = self._open_file()
        names = [*COLUMNS_BEFORE_GROUP, *(f"{GROUP_PREFIX}{key}" for key in self._group_keys), *COLUMNS_AFTER_GROUP]
        table.write(_format_row(names))
        for row in self._iter_rows():
            if is_last_end(row):
                values = [row["group"].get(key) for key in self._group_keys]
                cells = (
                    [row[key] for key in COLUMNS_BEFORE_GROUP] + values + [row.get(key) for key in COLUMNS_AFTER_GROUP]
                )
                table.write(_format_row(cells))
        self._table = table

    def _open_file(self) -> IO[bytes]:
        return self._files.enter_context(tempfile.TemporaryFile())

    def _iter_rows(self) -> Iterator[dict[str, Any]]:
        if self._rows is None or self._row_file is None:
            return
        self._rows.close()
        self._row_file.seek(0)
        with gzip.GzipFile(fileobj=self._row_file, mode="rb") as rows:
            yield from map(json.loads, rows)

    def _try(self, step: Callable[[], None]) -> None:
        try:
            if not self.problem:
                step()
        except OSError as error:
            self.problem = f"a temporary file: {error}"
            with suppress(OSError):
                if self._rows is not None:
                    self._rows.close()


def _format_reason(failed: FailedJob) -> str:
    """Return why the job failed, and the log's telling line if it says more, in one line."""
    lines = [format_one_line(failed.reason), format_one_line(failed.telling_line)]
    return "; ".join(filter(None, dict.fromkeys(lines)))


def _format_row(cells: Iterable[object]) -> bytes:
    return ("\t".join(map(_format_cell, cells)) + "\n").encode(errors="backslashreplace")


def _format_cell(value: object) -> str:
    """Return the value as a cell. Control characters are escaped, and no cell is a formula.

    A spreadsheet takes a text that begins with =, +, -, or @ for a formula, which could even send data elsewhere. Such
    a text gets an apostrophe.
    """
    if value is None:
        return ""
    text = str(value)
    if "\\" in text or not text.isprintable():  # translating each of millions of cells would take much longer
        text = text.translate(_ESCAPES)
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) and not _NUMBER.fullmatch(text) else text
