"""The sources of the jobs in a Job file: a list, a table, all combinations of some values, or the objects in a bucket.

A source can be read any number of times. A table with a million rows is never loaded into memory as a whole.
"""

from __future__ import annotations

import fnmatch
import itertools
import json
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import IO, Any, NoReturn

from distributed_something.core.errors import InputError, InputProblems
from distributed_something.core.files import drop_comments, parse_json, read_text_file
from distributed_something.core.text import MAX_SHOWN_CHARACTERS, format_json, shorten_text
from distributed_something.worker import (
    TableError,
    find_undecodable_text,
    is_macos_file,
    iter_table_rows,
    open_table_text,
)

JobGroup = dict[str, Any] | str
ProblemHandler = Callable[[InputError], None]  # is called for each invalid group; the group is then skipped
GroupReader = Callable[[ProblemHandler], Iterator[JobGroup]]
# (bucket, prefix) -> keys; with `requester_pays=True` if the caller pays for the listing
ObjectLister = Callable[..., Iterable[str]]

_GROUPS_ADVICE = (
    "write a list of objects, the path of a .csv, .tsv, .json, or .jsonl file, "
    '{"cross": {"plate": […], "well": […]}}, or {"s3": "s3://bucket/prefix/", "match": "*.tif"}'
)


def raise_problem(error: InputError) -> NoReturn:
    """Raise the error, which stops at the first problem."""
    raise error


def build_problem_collector(problems: InputProblems) -> ProblemHandler:
    """Return a handler that collects problems and raises all of them when the error message is full."""

    def collect_problem(error: InputError) -> None:
        problems.add(error)
        if problems.is_full:
            problems.raise_if_any()

    return collect_problem


@dataclass(frozen=True)
class GroupSource:
    """A stream of groups that starts from the beginning with each call.

    `preview`: yields enough groups to find unfilled placeholders, without calling AWS and without going over all
    combinations. `is_valid`: whether the source has no known problem; False if reading it is certain to report one.
    `locate`: returns where the group with this number (from 1) is in a table, such as "line 3 of wells.csv"; "" for
    other sources. `file`: the table or list that the groups are read from, or None.
    """

    read: GroupReader
    preview: GroupReader
    is_valid: bool = True
    locate: Callable[[int], str] = lambda _: ""
    file: Path | None = None

    def __call__(self, on_problem: ProblemHandler = raise_problem) -> Iterator[JobGroup]:
        return self.read(on_problem)


def build_group_source(groups: object, key: str, job_file: Path, list_objects: ObjectLister) -> GroupSource:
    """Return the source that `groups` describes.

    Raise InputError, which lists all problems, if `groups` does not describe a source. `key`: the key of `groups` in
    the job file (`groups` or `plates`), for messages.
    """
    if isinstance(groups, list):
        return _build_list_source(groups, key, job_file)
    if isinstance(groups, str) and groups.lower().endswith(".json"):
        return _build_listed_source(job_file.parent / groups, key, job_file)
    if isinstance(groups, str):
        return _build_table_source(groups, key, job_file)
    if isinstance(groups, dict) and set(groups) == {"cross"}:
        return _build_cross_source(groups["cross"], key, job_file)
    if isinstance(groups, dict) and "s3" in groups and set(groups) <= {"s3", "match"}:
        return _build_bucket_source(groups, key, job_file, list_objects)
    raise InputError(job_file, key, f"{format_json(groups)} is not a list of jobs", _GROUPS_ADVICE)


# A list


def _format_json(value: object) -> str:
    """Return `value` as it is in a JSON file, such as null, shortened."""
    return shorten_text(json.dumps(value, ensure_ascii=False), MAX_SHOWN_CHARACTERS)


def _build_list_source(entries: list[Any], key: str, job_file: Path) -> GroupSource:
    groups = [_drop_group_comments(entry[0] if _is_printed_group(entry) else entry) for entry in entries]

    def read_checked(on_problem: ProblemHandler) -> Iterator[JobGroup]:
        for number, group in enumerate(groups, 1):
            if _is_group(group):
                yield group
            else:
                remedy = 'write an object such as {"well": "A01"}, or a string'
                on_problem(InputError(job_file, f"{key}[{number}]", f"{_format_json(group)} is not a job", remedy))

    if all(map(_is_group, groups)):
        return GroupSource(lambda _: iter(groups), lambda _: iter(groups))
    return GroupSource(read_checked, read_checked, is_valid=False)


def _is_printed_group(value: object) -> bool:
    """Return whether this is a group as `cellprofiler --print-groups` prints it: its keys, and its image numbers."""
    return (
        isinstance(value, list)
        and len(value) == 2
        and isinstance(value[0], dict)
        and isinstance(value[1], list)
        and all(type(number) is int for number in value[1])
    )


def _is_group(value: object) -> bool:
    return isinstance(value, (dict, str)) and bool(value)


def _drop_group_comments(value: Any) -> Any:
    return drop_comments(value) if isinstance(value, dict) else value


def _build_listed_source(path: Path, key: str, job_file: Path) -> GroupSource:
    """Return the source for a JSON file with a list of groups, such as the output of `cellprofiler --print-groups`."""
    entries = parse_json(read_text_file(path, "a list of jobs"), path)
    if not isinstance(entries, list):
        raise InputError(job_file, key, f"{path.name} does not contain a list of jobs", _GROUPS_ADVICE)
    return replace(_build_list_source(entries, key, path), file=path)


# All combinations


def _build_cross_source(axes: object, key: str, job_file: Path) -> GroupSource:
    if not isinstance(axes, dict) or not axes:
        raise InputError(job_file, f"{key}.cross", f"{format_json(axes)} has no lists of values", _GROUPS_ADVICE)
    problems = InputProblems()
    for name, values in axes.items():
        if not isinstance(values, list) or not values:
            problem = f"{format_json(values)} is not a list of values"
            problems.add(InputError(job_file, f"{key}.cross.{name}", problem, "write at least one value: [ … ]"))
    problems.raise_if_any()

    def read(_: ProblemHandler) -> Iterator[JobGroup]:
        return (dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values()))

    return GroupSource(read, lambda on_problem: itertools.islice(read(on_problem), 1))


# A table


def _build_table_source(name: str, key: str, job_file: Path) -> GroupSource:
    path = job_file.parent / name
    row_readers: dict[str, Callable[[Path, ProblemHandler], Iterator[JobGroup]]] = {
        ".csv": _read_rows,
        ".tsv": _read_rows,
        ".jsonl": _read_json_lines,
        ".ndjson": _read_json_lines,
    }
    row_reader = row_readers.get(path.suffix.lower())
    if row_reader is None:
        remedy = "name a .csv, .tsv, .json, or .jsonl file next to the job file"
        raise InputError(job_file, key, f"{name!r} is not a table", remedy)
    try:
        is_file = path.is_file()
    except (OSError, ValueError):
        is_file = False
    if not is_file:
        remedy = "correct the path, which is relative to the job file"
        raise InputError(job_file, key, f"there is no table {path}", remedy)

    def read(on_problem: ProblemHandler) -> Iterator[JobGroup]:
        try:
            yield from row_reader(path, on_problem)
        except UnicodeDecodeError:
            on_problem(_build_table_error(path, find_undecodable_text(path)))
        except OSError as error:
            on_problem(InputError(path, "", f"it cannot be read ({error.strerror})", "check the file"))

    return GroupSource(read, read, locate=lambda number: _locate_row(path, number), file=path)


def _locate_row(path: Path, number: int) -> str:
    """Return the place of a table's group. Only tables with a problem are read again for this."""
    lines: list[int] = []
    if path.suffix.lower() in (".csv", ".tsv"):
        for row in iter_table_rows(path, lambda error: lines.append(error.place.line)):
            lines.append(row.line)
            if len(lines) >= number:
                break
    else:
        with open_table_text(path) as text:
            lines = [line_number for line_number, line in enumerate(text, 1) if line.strip()]
    return f"line {lines[number - 1]} of {path.name}"


def _build_table_error(path: Path, error: TableError) -> InputError:
    return InputError(path, str(error.place), error.problem, error.remedy)


def _read_rows(path: Path, on_problem: ProblemHandler) -> Iterator[JobGroup]:
    for row in iter_table_rows(path, lambda error: on_problem(_build_table_error(path, error))):
        yield row.cells


def _read_json_lines(path: Path, on_problem: ProblemHandler) -> Iterator[JobGroup]:
    with open_table_text(path) as lines:
        yield from _parse_json_lines(lines, path, on_problem)


def _parse_json_lines(lines: IO[str], path: Path, on_problem: ProblemHandler) -> Iterator[JobGroup]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        place = f"line {number}"
        try:
            group = _drop_group_comments(parse_json(line, path))
        except InputError as error:
            detail = error.key.removeprefix("line 1, ")  # the parser receives only this line
            key = f"{place}, {detail}" if detail else place
            on_problem(InputError(path, key, error.problem, error.remedy))
            continue
        if isinstance(group, (dict, str)) and group:
            yield group
        else:
            remedy = 'write an object such as {"well": "A01"}'
            on_problem(InputError(path, place, f"{format_json(group)} is not a job", remedy))


# The objects in a bucket


def _build_bucket_source(groups: dict[str, Any], key: str, job_file: Path, list_objects: ObjectLister) -> GroupSource:
    problems = InputProblems()
    bucket = prefix = ""
    with problems.collect():
        bucket, prefix = parse_s3_address(groups["s3"], job_file, f"{key}.s3")
    match = groups.get("match", "*")
    if not isinstance(match, str) or not match:
        problem = f"{format_json(match)} is not a pattern"
        problems.add(InputError(job_file, f"{key}.match", problem, "write a pattern such as '*.tif'"))
    problems.raise_if_any()
    spools: list[IO[str]] = []

    def read(_: ProblemHandler) -> Iterator[JobGroup]:
        # List the bucket once and save the list in a file, because the bucket may change before it is read again.
        if not spools:
            spools.append(_spool_groups(_iter_matching_groups(list_objects(bucket, prefix), prefix, match)))
        spools[0].seek(0)
        for line in spools[0]:
            yield json.loads(line)

    return GroupSource(read, lambda _: iter([_build_object_group(f"{prefix}object")]))


def parse_s3_address(address: object, file: Path | str, key: str = "") -> tuple[str, str]:
    """Return the bucket and the prefix in `s3://bucket/prefix`.

    Raise InputError with `file` and `key` if the address has any other form.
    """
    bucket, _, prefix = str(address).removeprefix("s3://").partition("/")
    if not str(address).startswith("s3://") or not re.fullmatch(r"[A-Za-z0-9._-]{3,255}", bucket):
        problem = f"{format_json(address)} is not the address of a bucket"
        raise InputError(file, key, problem, "write an address such as 's3://bucket/prefix/'")
    return bucket, prefix


def _iter_matching_groups(keys: Iterable[str], prefix: str, match: str) -> Iterator[JobGroup]:
    for key in keys:
        name, relative = PurePosixPath(key).name, key[len(prefix) :]
        if is_macos_file(relative) or key.endswith("/"):
            continue
        if fnmatch.fnmatchcase(name, match) or fnmatch.fnmatchcase(relative, match):
            yield _build_object_group(key)


def _build_object_group(key: str) -> JobGroup:
    return {"key": key, "name": PurePosixPath(key).name, "stem": PurePosixPath(key).stem}


def _spool_groups(groups: Iterable[JobGroup]) -> IO[str]:
    spool = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 - needed as long as the source
    for group in groups:
        spool.write(json.dumps(group) + "\n")
    return spool
