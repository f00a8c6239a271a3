"""`run.py makeJobs`: creates a Job file from a plate layout, a table, or the names of files or objects.

The job file passes the checks of `submitJob` before any of it is written.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import groupby, islice, product
from pathlib import Path
from typing import Any

from distributed_something.core.errors import InputError, InputProblems
from distributed_something.core.files import write_file_atomically
from distributed_something.core.text import format_value
from distributed_something.jobs.filename_pattern import NamePattern
from distributed_something.jobs.job_file import iter_job_file_lines, parse_job_file
from distributed_something.jobs.plates import BadRange, build_well_name, expand_ranges, expand_wells
from distributed_something.jobs.shared_keys import build_shared_keys
from distributed_something.jobs.sources import (
    JobGroup,
    ObjectLister,
    build_group_source,
    build_problem_collector,
    parse_s3_address,
)
from distributed_something.jobs.submission.plan import plan_submission
from distributed_something.jobs.uploads.upload_files import list_upload_files
from distributed_something.worker import is_macos_file

OBJECTS_KEY = "objects"  # the key in a group that lists the addresses of its objects
_OPTION_SOURCES = {"plates": "plates", "wells": "plates", "rows": "plates", "sites": "plates", "table": "table",
            "objects": "objects", "files": "files"}  # fmt: skip
# Options that apply only to some sources. With any other source they are rejected instead of being ignored.
_APPLICABLE_SOURCES = {
    "exclude": ("plates",),
    "batch": ("plates",),
    "match": ("files", "objects"),
    "by": ("table", "files", "objects"),
}


@dataclass(frozen=True)
class MakeJobsOptions:
    """The options of `makeJobs` as the user typed them."""

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


def build_job_file(options: MakeJobsOptions, output: Path | None, list_objects: ObjectLister) -> tuple[str, int]:
    """Return the text of the job file and the number of jobs.

    Raise InputError, which lists all problems, if any option is invalid. `output`: where the file will be
    written; its `upload` paths are relative to that location.
    """
    problems = InputProblems()
    groups: list[JobGroup] = []
    shared: dict[str, Any] = {}
    shared_problems = InputProblems()  # reported last, although these keys say who pays for listing the groups
    with shared_problems.collect():
        shared = build_shared_keys(options.like, options.put, output)
    if shared.get("requester_pays") is True:
        list_objects = partial(list_objects, requester_pays=True)
    with problems.collect():
        groups = _build_groups(options, list_objects)
    with problems.collect():
        shared_problems.raise_if_any()
    problems.raise_if_any()
    path = output or options.like or Path("the job file")
    count = plan_submission(parse_job_file(path, {**shared, "groups": groups}, list_objects)).count
    text = "".join(iter_job_file_lines(shared, groups))
    try:
        text.encode()
    except UnicodeEncodeError as error:
        problem = f"{text[max(0, error.start - 10) : error.end]!a} has bytes that are not UTF-8"
        raise InputError("makeJobs", "", problem, "rename the file, or correct the value") from None
    return text, count


def save_job_file(text: str, output: Path, *, force: bool) -> None:
    """Write the job file. Raise InputError if it already exists (unless `force`) or cannot be written."""
    if output.exists() and not force:
        remedy = "choose another path, or add --force to overwrite it"
        raise InputError(output, "", "this file already exists", remedy)
    try:
        write_file_atomically(output, text.encode())
    except OSError as error:
        raise InputError(output, "", f"it cannot be written ({error.strerror})", "choose another path") from None


# Which jobs


def _build_groups(options: MakeJobsOptions, list_objects: ObjectLister) -> list[JobGroup]:
    problems = InputProblems()
    source = _choose_source(options)
    for name, sources in _APPLICABLE_SOURCES.items():
        if getattr(options, name) != getattr(MakeJobsOptions, name) and source not in sources:
            problem = f"this option does not apply to jobs from {source}"
            problems.add(InputError(f"--{name}", "", problem, "leave it out"))
    groups: list[JobGroup] = []
    with problems.collect():
        groups = list(_iter_groups(options, source, list_objects))
        groups = _convert_to_metadata(groups) if options.metadata else groups
    problems.raise_if_any()
    return groups


def _choose_source(options: MakeJobsOptions) -> str:
    sources = {source for name, source in _OPTION_SOURCES.items() if getattr(options, name) is not None}
    if not sources:
        remedy = "use --plates, --wells, --sites, --table, --files, or --objects"
        raise InputError("makeJobs", "", "no source of jobs given", remedy)
    if len(sources) > 1:
        problem = f"{' and '.join(sorted(sources))} are different sources of jobs"
        raise InputError("makeJobs", "", problem, "use only one of them")
    return sources.pop()


def _iter_groups(options: MakeJobsOptions, source: str, list_objects: ObjectLister) -> Iterable[JobGroup]:
    if source == "plates":
        return _build_plate_groups(options)
    if source == "table":
        return _read_table_groups(options, list_objects)
    return _build_name_groups(options, list_objects)


# Plates


def _build_plate_groups(options: MakeJobsOptions) -> Iterator[JobGroup]:
    problems = InputProblems()
    axes: dict[str, list[str] | None] = {}
    with problems.collect():
        axes["plate"] = _expand_option("--plates", options.plates)
    with problems.collect():
        axes["well"] = _expand_well_options(options)
    with problems.collect():
        axes["site"] = _expand_option("--sites", options.sites)
    with problems.collect():
        _check_batch_size(options)
    problems.raise_if_any()
    used_axes = {name: values for name, values in axes.items() if values is not None}
    rules = _ExclusionRules(options.exclude, options.pad)
    groups = (dict(zip(used_axes, values, strict=True)) for values in product(*used_axes.values()))
    remaining = [group for group in groups if not rules.is_excluded(group)]
    rules.check_used()
    return _batch_groups(remaining, list(used_axes), options.batch)


def _check_batch_size(options: MakeJobsOptions) -> None:
    if options.batch < 1:
        raise InputError("--batch", "", f"{options.batch} is not a batch size", "write 2 or more")
    if options.batch > 1 and options.metadata:
        problem = "with --metadata each name has only one value"
        raise InputError("--batch", "", problem, "leave out --batch or --metadata")


def _expand_well_options(options: MakeJobsOptions) -> list[str] | None:
    if options.wells is not None and (options.rows is not None or options.columns is not None):
        problem = "it cannot be combined with --rows and --columns"
        raise InputError("--wells", "", problem, "use either --wells, or --rows and --columns")
    if (options.rows is None) != (options.columns is None):
        option, missing = ("--rows", "--columns") if options.columns is None else ("--columns", "--rows")
        raise InputError(option, "", f"it needs {missing}", f"add {missing}, or use --wells instead")
    if options.wells is not None:
        return _expand_option("--wells", options.wells, lambda text: expand_wells(text, options.pad))
    problems = InputProblems()
    rows = columns = None
    with problems.collect():
        rows = _expand_option("--rows", options.rows)
    with problems.collect():
        columns = _expand_option("--columns", options.columns)
        if not all(column.isdecimal() for column in columns or ()):
            problem = f"{format_value(options.columns)} is not a range of numbers"
            raise InputError("--columns", "", problem, "write a range such as 1-12")
    problems.raise_if_any()
    if rows is None or columns is None:
        return None
    return [build_well_name(row, column, options.pad) for row, column in product(rows, columns)]


def _expand_option(
    option: str, text: str | None, expand: Callable[[str], list[str]] = expand_ranges
) -> list[str] | None:
    try:
        return None if text is None else expand(text)
    except BadRange as error:
        remedies = [error.remedy] if error.remedy else []
        remedies.append("write values separated by commas, and ranges such as A-H, 1-12, or 01-12")
        raise InputError(option, "", error.problem, "; ".join(remedies)) from None


class _ExclusionRules:
    """The patterns in `--exclude`: WELL, PLATE/WELL, or PLATE/WELL/SITE. `*` matches anything; A01-A12 is a block."""

    def __init__(self, texts: Iterable[str], digits: int) -> None:
        self._is_used = {pattern: False for text in texts for pattern in _parse_patterns(text, digits)}

    def is_excluded(self, group: Mapping[str, str]) -> bool:
        names = (group.get("well", ""), f"{group.get('plate')}/{group.get('well')}", "/".join(group.values()))
        matches = [pattern for pattern in self._is_used if any(fnmatch.fnmatchcase(name, pattern) for name in names)]
        self._is_used |= dict.fromkeys(matches, True)
        return bool(matches)

    def check_used(self) -> None:
        """Raise InputError if a pattern excluded nothing.

        It is probably a typo, and jobs that run by mistake cost money.
        """
        problems = InputProblems()
        for pattern, is_used in self._is_used.items():
            if not is_used:
                remedy = "write WELL, PLATE/WELL, or PLATE/WELL/SITE, with * for anything"
                problems.add(InputError("--exclude", "", f"{pattern!r} matches no job", remedy))
        problems.raise_if_any()


def _parse_patterns(text: str, digits: int) -> Iterator[str]:
    for item in text.split(","):
        try:
            yield from expand_wells(item.strip(), digits) if not item.strip().isdecimal() else [item.strip()]
        except BadRange:
            yield item.strip()


def _batch_groups(groups: Iterable[dict[str, str]], names: list[str], size: int) -> Iterator[JobGroup]:
    """Yield groups that contain up to `size` values of the last name, such as `"sites": "1,2,3"`.

    Values from different wells or plates are never in the same group.
    """
    *leading, last = names
    for values, same in groupby(groups, key=lambda group: [group[name] for name in leading]):
        last_values = iter([group[last] for group in same])
        while batch := list(islice(last_values, size)):
            own = {last: batch[0]} if size == 1 else {f"{last}s": ",".join(batch)}
            yield dict(zip(leading, values, strict=True)) | own


# Tables


def _read_table_groups(options: MakeJobsOptions, list_objects: ObjectLister) -> Iterator[JobGroup]:
    assert options.table is not None
    problems = InputProblems()
    source = build_group_source(options.table.name, "--table", options.table, list_objects)
    rows = source(build_problem_collector(problems))
    if options.by is None:
        yield from rows
    else:
        yield from _merge_rows(rows, options.by.split(","), options.table)
    problems.raise_if_any()


def _merge_rows(rows: Iterable[JobGroup], columns: list[str], table: Path) -> Iterator[JobGroup]:
    """Yield one group for each set of rows with the same values in `columns`."""
    known_values = set()
    for row in rows:
        available = row if isinstance(row, dict) else {}
        problems = InputProblems()
        for name in columns:
            if name not in available:
                remedy = f"use one of its columns: {', '.join(available)}" if available else "use a table with columns"
                problems.add(InputError(table, name, "the table does not have this column", remedy))
        problems.raise_if_any()
        values = tuple(str(available[name]) for name in columns)
        if values not in known_values:
            known_values.add(values)
            yield {name: available[name] for name in columns}


# Names


def _build_name_groups(options: MakeJobsOptions, list_objects: ObjectLister) -> Iterator[JobGroup]:
    location = options.objects if options.objects is not None else str(options.files)
    pattern = NamePattern(options.match or "{file}")
    names = _choose_part_names(options.by, pattern)
    addresses_by_values: dict[tuple[str, ...], list[str]] = {}
    is_bucket = options.objects is not None
    for name, address in _iter_objects(location, list_objects) if is_bucket else _iter_files(Path(location)):
        parts = pattern.read(name)
        if parts is not None:
            addresses_by_values.setdefault(tuple(parts[part] for part in names), []).append(address)
    if not addresses_by_values:
        problem = f"{options.match or '{file}'!r} matches nothing in {location}"
        raise InputError("--match", "", problem, "correct one of them")
    for values, addresses in sorted(addresses_by_values.items()):
        own = {OBJECTS_KEY: addresses} if is_bucket else {}
        yield dict(zip(names, values, strict=True)) | own


def _choose_part_names(by: str | None, pattern: NamePattern) -> list[str]:
    names = by.split(",") if by is not None else pattern.parts
    problems = InputProblems()
    for name in names:
        if name not in pattern.parts:
            remedy = f"use one of: {', '.join(pattern.parts)}"
            problems.add(InputError("--by", "", f"{format_value(name)} is not a part of --match", remedy))
    problems.raise_if_any()
    return names


def _iter_files(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield the path of each file relative to `folder`, as both name and value. Skip hidden files."""
    if not folder.is_dir():
        raise InputError("--files", "", f"there is no folder {folder}", "give the folder that contains the files")
    for file in list_upload_files(folder, ".").files:
        name = file.path.relative_to(folder)
        if not any(part.startswith(".") for part in name.parts):
            yield name.as_posix(), name.as_posix()


def _iter_objects(address: str, list_objects: ObjectLister) -> Iterator[tuple[str, str]]:
    """Yield each object's key, relative to the prefix, and the object's address."""
    bucket, prefix = parse_s3_address(address, "--objects")
    for key in list_objects(bucket, prefix):
        if not key.endswith("/") and not is_macos_file(key[len(prefix) :]):
            yield key[len(prefix) :], f"s3://{bucket}/{key}"


def _convert_to_metadata(groups: Iterable[JobGroup]) -> list[JobGroup]:
    """Return each group in the published form: `{"Metadata": "Metadata_Plate=P1,Metadata_Well=A01"}`."""
    problems = InputProblems()
    on_problem = build_problem_collector(problems)
    texts: list[JobGroup] = []
    for group in groups:
        assert isinstance(group, dict)
        pairs = {_build_metadata_name(name): str(value) for name, value in group.items() if name != OBJECTS_KEY}
        for name, value in pairs.items():
            if not value or set(value) & set(",="):
                problem = f"{format_value(value)} cannot be the value of {name}"
                remedy = "use values that are not empty and have no comma or equals sign"
                on_problem(InputError("--metadata", "", problem, remedy))
        texts.append({"Metadata": ",".join(f"{name}={value}" for name, value in pairs.items())})
    problems.raise_if_any()
    return texts


def _build_metadata_name(name: str) -> str:
    return name if name.startswith("Metadata_") else f"Metadata_{name[:1].upper()}{name[1:]}"
