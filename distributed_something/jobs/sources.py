"""Where the jobs of a job file come from: a list, a table, every combination of some values, or a bucket's objects.

A source is a function that starts the same stream of groups anew at each call: one reading checks, the next sends,
and a table of a million rows never lies in memory.
"""

from __future__ import annotations

import csv
import fnmatch
import itertools
import json
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any

from distributed_something.core.errors import InputError
from distributed_something.core.files import parse_json
from distributed_something.core.text import format_value

JobGroup = dict[str, Any] | str
GroupSource = Callable[[], Iterator[JobGroup]]
ObjectLister = Callable[[str, str], Iterable[str]]  # (bucket, prefix) -> keys

_GROUPS_ADVICE = (
    "give a list of objects, the path of a .csv, .tsv or .jsonl table, "
    '{"cross": {"plate": […], "well": […]}} or {"s3": "s3://bucket/prefix/", "match": "*.tif"}'
)


def build_group_source(groups: object, key: str, job_file: Path, list_objects: ObjectLister) -> GroupSource:
    """The stream of groups that `groups` stands for; raises InputError where it stands for none.

    `key`: the name that `groups` has in the job file (`groups` or `plates`), for messages.
    """
    if isinstance(groups, list):
        return _build_list_source(groups, key, job_file)
    if isinstance(groups, str):
        return _build_table_source(groups, key, job_file)
    if isinstance(groups, dict) and set(groups) == {"cross"}:
        return _build_cross_source(groups["cross"], key, job_file)
    if isinstance(groups, dict) and "s3" in groups and set(groups) <= {"s3", "match"}:
        return _build_bucket_source(groups, key, job_file, list_objects)
    raise InputError(job_file, key, f"{format_value(groups)} is no list of jobs", _GROUPS_ADVICE)


def _build_list_source(groups: list[Any], key: str, job_file: Path) -> GroupSource:
    for number, group in enumerate(groups, 1):
        if not isinstance(group, (dict, str)) or not group:
            right = 'write an object such as {"well": "A01"}, or a text'
            raise InputError(job_file, f"{key}[{number}]", f"{format_value(group)} is no job", right)
    return lambda: iter(groups)


def _build_cross_source(axes: object, key: str, job_file: Path) -> GroupSource:
    if not isinstance(axes, dict) or not axes:
        raise InputError(job_file, f"{key}.cross", f"{format_value(axes)} has no lists", _GROUPS_ADVICE)
    for name, values in axes.items():
        if not isinstance(values, list) or not values:
            raise InputError(
                job_file, f"{key}.cross.{name}", f"{format_value(values)} is no list", "give a list of values"
            )
    names = list(axes)
    return lambda: (dict(zip(names, values, strict=True)) for values in itertools.product(*axes.values()))


def _build_table_source(name: str, key: str, job_file: Path) -> GroupSource:
    path = job_file.parent / name
    readers: dict[str, Callable[[IO[str], Path], Iterator[JobGroup]]] = {
        ".csv": lambda lines, path: _read_rows(lines, path, ","),
        ".tsv": lambda lines, path: _read_rows(lines, path, "\t"),
        ".jsonl": _read_json_lines,
        ".ndjson": _read_json_lines,
    }
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise InputError(job_file, key, f"{name!r} is no table", "name a .csv, .tsv or .jsonl file beside the job file")
    try:
        is_file = path.is_file()
    except (OSError, ValueError):
        is_file = False
    if not is_file:
        raise InputError(job_file, key, f"there is no table {path}", "paths are relative to the job file")
    return lambda: _read_table(path, reader)


def _read_table(path: Path, reader: Callable[[IO[str], Path], Iterator[JobGroup]]) -> Iterator[JobGroup]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            yield from reader(lines, path)
    except UnicodeDecodeError as error:
        raise InputError(path, "", f"this is not UTF-8 text ({error.reason})", "save the table as UTF-8") from None
    except csv.Error as error:
        raise InputError(path, "", f"this is no table ({error})", "check quotes and line ends") from None
    except OSError as error:
        raise InputError(path, "", f"it cannot be read ({error.strerror})", "check the file") from None


def _read_rows(lines: IO[str], path: Path, delimiter: str) -> Iterator[JobGroup]:
    rows = csv.reader(lines, delimiter=delimiter, strict=True)
    header = next(rows, [])
    if not header or any(not name.strip() for name in header) or len(set(header)) < len(header):
        raise InputError(path, "line 1", f"{header} is no header", "name every column once in the first line")
    width = len(header)
    for row in rows:
        if len(row) != width:
            if not row:
                continue  # an empty line, as editors leave at the end
            raise InputError(path, f"line {rows.line_num}", f"{len(row)} cells under {width} names", "make them equal")
        yield dict(zip(header, row, strict=True))


def _read_json_lines(lines: IO[str], path: Path) -> Iterator[JobGroup]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{path} line {number}"
        group = parse_json(line, where)
        if not isinstance(group, (dict, str)) or not group:
            raise InputError(where, "", f"{format_value(group)} is no job", 'write an object such as {"well": "A01"}')
        yield group


def _build_bucket_source(groups: dict[str, Any], key: str, job_file: Path, list_objects: ObjectLister) -> GroupSource:
    match = groups.get("match", "*")
    bucket, prefix = parse_s3_address(groups["s3"], job_file, f"{key}.s3")
    if not isinstance(match, str) or not match:
        raise InputError(job_file, f"{key}.match", f"{format_value(match)} is no pattern", "write one such as '*.tif'")
    listed: list[IO[str]] = []

    def read() -> Iterator[JobGroup]:
        # Listed once and kept in a file: both readings must see the same jobs, and a bucket may change between them.
        if not listed:
            listed.append(_spool_groups(_iter_matching_groups(list_objects(bucket, prefix), prefix, match)))
        listed[0].seek(0)
        for line in listed[0]:
            yield json.loads(line)

    return read


def parse_s3_address(address: object, file: Path | str, key: str = "") -> tuple[str, str]:
    """The two in `s3://bucket/prefix`; raises InputError, which names `file` and `key`."""
    bucket, _, prefix = str(address).removeprefix("s3://").partition("/")
    if not str(address).startswith("s3://") or not re.fullmatch(r"[A-Za-z0-9._-]{3,255}", bucket):
        raise InputError(file, key, f"{format_value(address)} is no address", "write 's3://bucket/prefix/'")
    return bucket, prefix


def _iter_matching_groups(keys: Iterable[str], prefix: str, match: str) -> Iterator[JobGroup]:
    for key in keys:
        name = PurePosixPath(key).name
        relative = key[len(prefix) :]
        if key.endswith("/") or not (fnmatch.fnmatchcase(name, match) or fnmatch.fnmatchcase(relative, match)):
            continue
        yield {"key": key, "name": name, "stem": PurePosixPath(key).stem}


def _spool_groups(groups: Iterable[JobGroup]) -> IO[str]:
    spool = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 - lives as long as the source
    for group in groups:
        spool.write(json.dumps(group) + "\n")
    return spool
