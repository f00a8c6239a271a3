"""`run.py makeJobs`: the long list of jobs of a job file, from a plate's layout, a table, or names of files or objects.

What it writes has passed the checks of `submitJob` before a byte of it is written.
"""

from __future__ import annotations

import fnmatch
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby, islice, product
from pathlib import Path
from typing import Any

from distributed_something.core.errors import InputError
from distributed_something.core.files import read_json_object, write_file_atomically
from distributed_something.core.text import format_value
from distributed_something.jobs.filename_pattern import NamePattern
from distributed_something.jobs.job_file import iter_job_file_lines, parse_job_file
from distributed_something.jobs.plates import BadRange, build_well_name, expand_ranges, expand_wells
from distributed_something.jobs.sources import JobGroup, ObjectLister, build_group_source, parse_s3_address
from distributed_something.jobs.submission_plan import plan_submission

OBJECTS_KEY = "objects"  # the key of a group that holds its objects' addresses
_OPTION_SOURCES = {"plates": "plates", "wells": "plates", "rows": "plates", "sites": "plates", "table": "table",
            "objects": "objects", "files": "files"}  # fmt: skip
_NO_SOURCE_MESSAGE = "nothing says which jobs"
_SOURCE_ADVICE = "give --plates, --wells or --sites, --table, --files or --objects"


@dataclass(frozen=True)
class MakeJobsOptions:
    """The options of `makeJobs`, as they were typed."""

    plates: str | None = None
    wells: str | None = None
    rows: str | None = None
    columns: str | None = None
    sites: str | None = None
    exclude: tuple[str, ...] = ()
    pad: int = 2
    batch: int = 1
    table: Path | None = None
    files: Path | None = None
    objects: str | None = None
    match: str | None = None
    by: str | None = None
    metadata: bool = False
    like: Path | None = None
    put: tuple[str, ...] = ()


def build_job_file(asked: MakeJobsOptions, output: Path | None, list_objects: ObjectLister) -> tuple[str, int]:
    """The job file's text and its number of jobs; raises InputError for whatever is wrong.

    `output`: where it will lie, so that the paths of `upload` lead from there.
    """
    found = list(_build_groups(asked, list_objects))
    if asked.metadata:
        found = [{"Metadata": _build_metadata(group)} for group in found]
    shared = _build_shared_keys(asked, output)
    path = output or asked.like or Path("the job file")
    count = plan_submission(parse_job_file(path, {**shared, "groups": found}, list_objects)).count
    text = "".join(iter_job_file_lines(shared, found))
    try:
        text.encode()
    except UnicodeEncodeError as error:
        wrong = f"{text[max(0, error.start - 10) : error.end]!a} has bytes that are no UTF-8"
        raise InputError("makeJobs", "", wrong, "rename the file, or correct the value") from None
    return text, count


def save_job_file(text: str, output: Path, *, force: bool) -> None:
    """Writes the job file; raises InputError where there is one already, or none can be written."""
    if output.exists() and not force:
        raise InputError(output, "", "there is a file already", "add --force to overwrite it, or give another name")
    try:
        write_file_atomically(output, text.encode())
    except OSError as error:
        raise InputError(output, "", f"it cannot be written ({error.strerror})", "give another name") from None


# Which jobs


def _build_groups(asked: MakeJobsOptions, list_objects: ObjectLister) -> Iterable[JobGroup]:
    sources = {kind for name, kind in _OPTION_SOURCES.items() if getattr(asked, name) is not None}
    if len(sources) != 1:
        wrong = f"{' and '.join(sorted(sources))} are two lists of jobs" if sources else _NO_SOURCE_MESSAGE
        raise InputError("makeJobs", "", wrong, "give one of them" if sources else _SOURCE_ADVICE)
    source = sources.pop()
    _check_options(asked, source)
    if source == "plates":
        return _build_plate_groups(asked)
    if source == "table":
        return _read_table_groups(asked, list_objects)
    return _build_name_groups(asked, list_objects)


def _check_options(asked: MakeJobsOptions, source: str) -> None:
    """Raises InputError for an option that this kind of list does not know: it would be ignored."""
    kinds = {"exclude": "plates", "batch": "plates", "match": "files objects", "by": "table files objects"}
    for name, known in kinds.items():
        if getattr(asked, name) != getattr(MakeJobsOptions, name) and source not in known.split():
            raise InputError(f"--{name}", "", f"it says nothing about a list from {source}", "leave it out")


# Plates


def _build_plate_groups(asked: MakeJobsOptions) -> Iterator[JobGroup]:
    axes = {
        "plate": _expand_option("--plates", asked.plates),
        "well": _expand_well_options(asked),
        "site": _expand_option("--sites", asked.sites),
    }
    there = {name: values for name, values in axes.items() if values is not None}
    excluded = _ExclusionRules(asked.exclude, asked.pad)
    every = (dict(zip(there, values, strict=True)) for values in product(*there.values()))
    kept = [group for group in every if not excluded.is_excluded(group)]
    excluded.check_used()
    if asked.batch < 1 or (asked.batch > 1 and asked.metadata):
        wrong = "CellProfiler's metadata have one value a name" if asked.metadata else f"{asked.batch} is no batch"
        raise InputError("--batch", "", wrong, "leave it out" if asked.metadata else "write 2 or more")
    return _batch_groups(kept, list(there), asked.batch)


def _expand_well_options(asked: MakeJobsOptions) -> list[str] | None:
    if asked.wells is not None and (asked.rows is not None or asked.columns is not None):
        raise InputError("--wells", "", "rows and columns say the same", "give either, not both")
    if (asked.rows is None) != (asked.columns is None):
        raise InputError("--rows", "", "rows and columns belong together", "give --columns too, or --wells")
    if asked.wells is not None:
        return _expand_option("--wells", asked.wells, lambda text: expand_wells(text, asked.pad))
    rows, columns = _expand_option("--rows", asked.rows), _expand_option("--columns", asked.columns)
    if rows is None or columns is None:
        return None
    if not all(column.isdecimal() for column in columns):
        raise InputError("--columns", "", f"{format_value(asked.columns)} are no numbers", "write such as 1-12")
    return [build_well_name(row, column, asked.pad) for row, column in product(rows, columns)]


def _expand_option(option: str, text: str | None, how: Callable[[str], list[str]] = expand_ranges) -> list[str] | None:
    try:
        return None if text is None else how(text)
    except BadRange as error:
        remedies = [error.remedy] if error.remedy else []
        remedies.append("write values with commas between, and ranges such as A-H, 1-12 or 01-12")
        raise InputError(option, "", error.problem, "; ".join(remedies)) from None


class _ExclusionRules:
    """What `--exclude` says: WELL, PLATE/WELL or PLATE/WELL/SITE, with `*` for anything, wells also as A01-A12."""

    def __init__(self, texts: Iterable[str], digits: int) -> None:
        self._patterns = {pattern: False for text in texts for pattern in _parse_patterns(text, digits)}

    def is_excluded(self, group: Mapping[str, str]) -> bool:
        names = (group.get("well", ""), f"{group.get('plate')}/{group.get('well')}", "/".join(group.values()))
        hit = [pattern for pattern in self._patterns if any(fnmatch.fnmatchcase(name, pattern) for name in names)]
        self._patterns |= dict.fromkeys(hit, True)
        return bool(hit)

    def check_used(self) -> None:
        """Raises InputError for one that excluded nothing: a slip, and paid for."""
        for pattern, used in self._patterns.items():
            if not used:
                right = "write WELL, PLATE/WELL or PLATE/WELL/SITE, with * for anything"
                raise InputError("--exclude", "", f"{pattern!r} is no job of these", right)


def _parse_patterns(text: str, digits: int) -> Iterator[str]:
    for item in text.split(","):
        try:
            yield from expand_wells(item.strip(), digits) if not item.strip().isdecimal() else [item.strip()]
        except BadRange:
            yield item.strip()


def _batch_groups(found: Iterable[dict[str, str]], names: list[str], size: int) -> Iterator[JobGroup]:
    """So many values of the last name in one job, as `"sites": "1,2,3"`; never of two wells or plates."""
    *leading, last = names
    for values, same in groupby(found, key=lambda group: [group[name] for name in leading]):
        several = iter([group[last] for group in same])
        while batch := list(islice(several, size)):
            one = {last: batch[0]} if size == 1 else {f"{last}s": ",".join(batch)}
            yield dict(zip(leading, values, strict=True)) | one


# Tables


def _read_table_groups(asked: MakeJobsOptions, list_objects: ObjectLister) -> Iterator[JobGroup]:
    assert asked.table is not None
    rows = build_group_source(asked.table.name, "--table", asked.table, list_objects)()
    if asked.by is None:
        yield from rows
        return
    columns, seen = asked.by.split(","), set()
    for row in rows:
        missing = [name for name in columns if not isinstance(row, dict) or name not in row]
        if missing:
            there = ", ".join(row) if isinstance(row, dict) else "none"
            raise InputError(asked.table, missing[0], "it has no such column", f"its columns are: {there}")
        assert isinstance(row, dict)
        values = tuple(str(row[name]) for name in columns)
        if values not in seen:
            seen.add(values)
            yield {name: row[name] for name in columns}


# Names


def _build_name_groups(asked: MakeJobsOptions, list_objects: ObjectLister) -> Iterator[JobGroup]:
    where = asked.objects if asked.objects is not None else str(asked.files)
    pattern = NamePattern(asked.match or "{file}")
    names = _choose_part_names(asked.by, pattern)
    found: dict[tuple[str, ...], list[str]] = {}
    for name, address in _iter_objects(where, list_objects) if asked.objects is not None else _iter_files(Path(where)):
        parts = pattern.read(name)
        if parts is not None:
            found.setdefault(tuple(parts[one] for one in names), []).append(address)
    if not found:
        raise InputError("--match", "", f"{asked.match or '{file}'!r} fits nothing in {where}", "correct one of them")
    for values, addresses in sorted(found.items()):
        own = {OBJECTS_KEY: addresses} if asked.objects is not None else {}
        yield dict(zip(names, values, strict=True)) | own


def _choose_part_names(by: str | None, pattern: NamePattern) -> list[str]:
    names = by.split(",") if by is not None else pattern.parts
    for name in names:
        if name not in pattern.parts:
            right = f"--match has: {', '.join(pattern.parts)}"
            raise InputError("--by", "", f"{format_value(name)} is no part of a name", right)
    return names


def _iter_files(folder: Path) -> Iterator[tuple[str, str]]:
    """Each file's path below `folder`, hidden ones left out."""
    if not folder.is_dir():
        raise InputError("--files", "", f"there is no folder {folder}", "give the folder that has the files")
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.is_file() and not any(part.startswith(".") for part in name.parts):
            yield name.as_posix(), name.as_posix()


def _iter_objects(address: str, list_objects: ObjectLister) -> Iterator[tuple[str, str]]:
    """Each object's key below the prefix, and its address."""
    bucket, prefix = parse_s3_address(address, "--objects")
    for key in list_objects(bucket, prefix):
        if not key.endswith("/"):
            yield key[len(prefix) :], f"s3://{bucket}/{key}"


# What all jobs share


def _build_shared_keys(asked: MakeJobsOptions, output: Path | None) -> dict[str, Any]:
    content = read_json_object(asked.like, "a job file") if asked.like else {}
    shared = {key: value for key, value in content.items() if key not in ("groups", "plates")}
    for text in asked.put:
        key, equals, value = text.partition("=")
        if not key or not equals:
            raise InputError("--set", "", f"{format_value(text)} sets no key", "write KEY=VALUE")
        shared[key] = _parse_value(value)
    uploads = shared.get("upload")
    if asked.like and output and isinstance(uploads, dict):
        shared["upload"] = {_rebase_folder(folder, asked.like, output): prefix for folder, prefix in uploads.items()}
    return shared


def _parse_value(text: str) -> Any:
    """A number, truth value, list or object as JSON writes it; all else is a text."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _rebase_folder(folder: str, like: Path, output: Path) -> str:
    """The path of an upload folder, seen from the new file."""
    if os.path.isabs(folder) or like.parent.resolve() == output.parent.resolve():
        return folder
    return Path(os.path.relpath(like.parent.resolve() / folder, output.parent.resolve())).as_posix()


def _build_metadata(group: JobGroup) -> str:
    """The published form: `Metadata_Plate=P1,Metadata_Well=A01`."""
    assert isinstance(group, dict)
    pairs = {_build_metadata_name(name): str(value) for name, value in group.items() if name != OBJECTS_KEY}
    for name, value in pairs.items():
        if not value or set(value) & set(",="):
            right = "CellProfiler's metadata have values without comma and ="
            raise InputError("--metadata", "", f"{name} would be {format_value(value)}", right)
    return ",".join(f"{name}={value}" for name, value in pairs.items())


def _build_metadata_name(name: str) -> str:
    return name if name.startswith("Metadata_") else f"Metadata_{name[:1].upper()}{name[1:]}"
