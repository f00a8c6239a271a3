"""Reads the journals that a run's containers write to the bucket.

Each journal begins with its container's totals, so the counts of a whole run take one listing and one small request for
each container whose journal has changed. The lines, one per finished attempt, are read only at the end of a run.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from distributed_something.aws.s3 import iter_bucket_objects
from distributed_something.core.errors import get_error_code, is_missing_object
from distributed_something.observe.documents.parallel import read_in_parallel
from distributed_something.worker import RunKeys

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

FIRST_LINE_BYTES = 4096  # a first line has about 500 bytes
FACT_KEYS = (
    "machine",
    "container",
    "slots",
    "worker_version",
    "memory_limit_bytes",
)  # keys of the first line that `iter_lines` adds to the others
_NAME_FORMAT = re.compile(r"(?P<container>.+)-(?P<number>[1-9]\d*)\.jsonl")


@dataclass(frozen=True)
class RunTotals:
    """The totals of a run's containers.

    `done`, `failed`, and `already_there` count jobs that have a final record, and `replaced` those that failed after
    `submitJob --replace` had replaced them; `running` counts programs, and `lost_running` those of containers that
    disappeared without a last journal, as far as that is known. `attempts` counts attempts that have ended.
    `unended` counts containers whose journal does not say that they have ended.
    """

    done: int = 0
    failed: int = 0
    already_there: int = 0
    attempts: int = 0
    running: int = 0
    slots: int = 0
    containers: int = 0
    machines: int = 0
    unended: int = 0
    replaced: int = 0
    lost_running: int = 0

    @property
    def ended(self) -> int:
        """Number of jobs that have a final record or were replaced."""
        return self.done + self.failed + self.already_there + self.replaced


@dataclass(frozen=True)
class JournalObject:
    """One object of a container's journal; the one with the highest `number` has the current totals."""

    key: str
    etag: str
    container: str
    number: int


class JournalReader:
    """Reads the journals of one run. The first lines that it has read are kept until they change."""

    def __init__(self, s3: S3Client, bucket: str, keys: RunKeys) -> None:
        self._s3, self._bucket, self._prefix = s3, bucket, keys.journals
        self._first_lines: dict[str, tuple[str, dict[str, Any] | None]] = {}  # by container, with the object's ETag
        self._read_parts: dict[str, tuple[str, int]] = {}  # by key: ETag, and bytes of lines that were read

    def read_totals(self) -> RunTotals:
        """Return the current totals. A journal that is not valid is ignored. AWS errors are not caught."""
        newest = _find_newest_objects(self.list_objects())
        changed = [item for item in newest if self._first_lines.get(item.container, ("",))[0] != item.etag]
        for item, line in read_in_parallel(changed, self._read_first_line):
            self._first_lines[item.container] = (item.etag, line)
        return _add_totals([line for _, line in self._first_lines.values() if line is not None])

    def find_lost_programs(self, totals: RunTotals, machines: Collection[str], tasks_per_machine: int) -> RunTotals:
        """Return the totals with only programs of containers that can still exist as running, the others as lost.

        `totals`: as `read_totals` has just returned them. `machines`: the instances of the fleet. A machine has at most
        `tasks_per_machine` containers; if more of them have not written their last journal, the newest ones exist. A
        container that does not know its machine may exist.
        """
        by_machine: dict[str, list[dict[str, Any]]] = {}
        for _, line in self._first_lines.values():
            if line is not None and not line.get("ended"):
                by_machine.setdefault(str(line.get("machine")), []).append(line)
        lost = 0
        for machine, lines in by_machine.items():
            lines.sort(key=_read_time, reverse=True)
            is_known = machine.startswith("i-")
            first_lost = 0 if is_known and machine not in machines else tasks_per_machine if is_known else len(lines)
            lost += sum(_read_count(line, "running") for line in lines[first_lost:])
        return replace(totals, running=totals.running - lost, lost_running=lost)

    def list_machines(self) -> set[str]:
        """Return the machines whose containers have written a journal, as `read_totals` last read them."""
        return {str(line.get("machine")) for _, line in self._first_lines.values() if line is not None}

    def list_working_machines(self, since: float) -> set[str]:
        """Return the machines with a container that runs a program, or whose journal was written after `since`.

        A container at work writes its journal when an attempt has ended, but not during a long one. `since`: seconds
        since 1970. A journal without a valid time counts as new.
        """
        return {
            str(line.get("machine"))
            for _, line in self._first_lines.values()
            if line is not None and not line.get("ended") and (_read_count(line, "running") or _read_time(line) > since)
        }

    def iter_programs(self) -> Iterator[dict[str, Any]]:
        """Yield the programs that run, as `read_totals` last read them: `slot`, `program_started`, and FACT_KEYS.

        The program of a container that was killed is among them, and the journals of older workers name none.
        """
        for _, line in self._first_lines.values():
            starts = (line or {}).get("program_starts")
            for start in starts if isinstance(starts, list) else ():
                if line is not None and isinstance(start, list) and len(start) == 2:
                    facts = {key: line.get(key) for key in FACT_KEYS}
                    yield facts | {"slot": start[0], "program_started": start[1]}

    def iter_lines(self) -> Iterator[dict[str, Any]]:
        """Yield the lines of all journals, without their first lines, which are kept. AWS errors are not caught.

        Each line also gets FACT_KEYS, which an attempt's record has too, and a journal has in its first line.
        The objects are read in parallel, but only a few of them are in memory at a time.
        """
        objects = self.list_objects()
        newest = set(_find_newest_objects(objects))
        for item, body in read_in_parallel(objects, self._read_object):
            text, newline, others = body.partition(b"\n")
            first = _parse_object(text) if newline else None
            if item in newest:
                self._first_lines[item.container] = (item.etag, first)
            facts = {key: (first or {}).get(key) for key in FACT_KEYS}
            for text in others.splitlines():
                if (line := _parse_object(text)) is not None:
                    yield facts | line

    def iter_new_lines(self) -> Iterator[dict[str, Any]]:
        """Yield the lines that were added to the journals since the last call, without their first lines.

        Takes a listing, and two requests for each object that has changed. AWS errors are not caught.
        """
        changed = [item for item in self.list_objects() if self._read_parts.get(item.key, ("",))[0] != item.etag]
        for item, lines in read_in_parallel(changed, self._read_new_lines):
            _, count = self._read_parts.get(item.key, ("", 0))
            if lines is not None:
                self._read_parts[item.key] = (item.etag, count + len(lines))
                yield from filter(None, map(_parse_object, lines.splitlines()))

    def iter_failures(self) -> Iterator[dict[str, Any]]:
        """Yield the lines about jobs that failed for good, from one object after the other. AWS errors are not caught.

        Only containers with such jobs are read, as `read_totals` last read their totals.
        """
        failing = {name for name, (_, line) in self._first_lines.items() if line and _read_count(line, "failed")}
        for item in self.list_objects():
            if item.container in failing:
                for text in self._get(item.key).splitlines()[1:]:
                    line = _parse_object(text)
                    if line is not None and line.get("state") == "failed" and line.get("final"):
                        yield line

    def list_objects(self) -> list[JournalObject]:
        """Return the objects of all journals. This takes one request per 1,000 objects."""
        objects = []
        for item in iter_bucket_objects(self._s3, self._bucket, self._prefix):
            if match := _NAME_FORMAT.fullmatch(item["Key"].removeprefix(self._prefix)):
                objects.append(JournalObject(item["Key"], item["ETag"], match["container"], int(match["number"])))
        return objects

    def _read_first_line(self, item: JournalObject) -> dict[str, Any] | None:
        text, newline, _ = self._get(item.key, Range=f"bytes=0-{FIRST_LINE_BYTES - 1}").partition(b"\n")
        return _parse_object(text) if newline else None

    def _read_object(self, item: JournalObject) -> bytes:
        return self._get(item.key)

    def _read_new_lines(self, item: JournalObject) -> bytes | None:
        """Return the lines that have not been read; None if the object has just changed again.

        Only the first line of an object changes; the others stay as they are, and new ones follow them.
        """
        _, count = self._read_parts.get(item.key, ("", 0))
        if not count:
            return self._get(item.key).partition(b"\n")[2]
        first, newline, _ = self._get(item.key, Range=f"bytes=0-{FIRST_LINE_BYTES - 1}").partition(b"\n")
        if not newline:
            return None
        try:
            return self._get(item.key, Range=f"bytes={len(first) + 1 + count}-", IfMatch=item.etag)
        except ClientError as error:
            if get_error_code(error) in ("PreconditionFailed", "412"):
                return None
            raise

    def _get(self, key: str, **options: Any) -> bytes:
        try:
            return self._s3.get_object(Bucket=self._bucket, Key=key, **options)["Body"].read()
        except ClientError as error:
            if is_missing_object(error) or get_error_code(error) == "InvalidRange":  # deleted, or empty
                return b""
            raise


def _find_newest_objects(objects: Iterable[JournalObject]) -> list[JournalObject]:
    """Return the object with the current totals of each container."""
    newest: dict[str, JournalObject] = {}
    for item in objects:
        if item.container not in newest or item.number > newest[item.container].number:
            newest[item.container] = item
    return list(newest.values())


def _parse_object(text: bytes) -> dict[str, Any] | None:
    try:
        line = json.loads(text)
    except ValueError:
        return None
    return line if isinstance(line, dict) else None


def _add_totals(lines: list[dict[str, Any]]) -> RunTotals:
    counted = {field.name for field in fields(RunTotals)} - {"containers", "machines", "unended", "lost_running"}
    sums = {name: sum(_read_count(line, name) for line in lines) for name in counted}
    machines = {str(line.get("machine")) for line in lines}
    unended = sum(not line.get("ended") for line in lines)
    return RunTotals(**sums, containers=len(lines), machines=len(machines), unended=unended)


def _read_count(line: dict[str, Any], name: str) -> int:
    value = line.get(name)
    return value if isinstance(value, int) and value >= 0 else 0


def _read_time(line: dict[str, Any]) -> float:
    """Return when a first line was written, in seconds since 1970."""
    try:
        return datetime.fromisoformat(str(line.get("at"))).timestamp()
    except ValueError:
        return float("inf")
