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

from control import groups, jobs, jobtext, submit
from control.errors import InputError, shown
from control.files import read_json_object, write_file
from control.groups import Group, ListObjects
from control.namepattern import NamePattern
from control.ranges import BadRange, expand, well, wells

OBJECTS = "objects"  # the key of a group that holds its objects' addresses
_SOURCES = {"plates": "plates", "wells": "plates", "rows": "plates", "sites": "plates", "table": "table",
            "objects": "objects", "files": "files"}  # fmt: skip
_NOBODY = "nothing says which jobs"
_RIGHT = "give --plates, --wells or --sites, --table, --files or --objects"


@dataclass(frozen=True)
class Asked:
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


def make(asked: Asked, output: Path | None, list_objects: ListObjects) -> tuple[str, int]:
    """The job file's text and its number of jobs; raises InputError for whatever is wrong.

    `output`: where it will lie, so that the paths of `upload` lead from there.
    """
    found = list(_groups(asked, list_objects))
    if asked.metadata:
        found = [{"Metadata": _metadata(group)} for group in found]
    shared = _shared(asked, output)
    path = output or asked.like or Path("the job file")
    count = submit.plan(jobs.of(path, {**shared, "groups": found}, list_objects)).count
    text = "".join(jobtext.lines(shared, found))
    try:
        text.encode()
    except UnicodeEncodeError as error:
        wrong = f"{text[max(0, error.start - 10) : error.end]!a} has bytes that are no UTF-8"
        raise InputError("makeJobs", "", wrong, "rename the file, or correct the value") from None
    return text, count


def save(text: str, output: Path, *, force: bool) -> None:
    """Writes the job file; raises InputError where there is one already, or none can be written."""
    if output.exists() and not force:
        raise InputError(output, "", "there is a file already", "add --force to overwrite it, or give another name")
    try:
        write_file(output, text.encode())
    except OSError as error:
        raise InputError(output, "", f"it cannot be written ({error.strerror})", "give another name") from None


# Which jobs


def _groups(asked: Asked, list_objects: ListObjects) -> Iterable[Group]:
    sources = {kind for name, kind in _SOURCES.items() if getattr(asked, name) is not None}
    if len(sources) != 1:
        wrong = f"{' and '.join(sorted(sources))} are two lists of jobs" if sources else _NOBODY
        raise InputError("makeJobs", "", wrong, "give one of them" if sources else _RIGHT)
    source = sources.pop()
    _refuse_strangers(asked, source)
    if source == "plates":
        return _of_plates(asked)
    if source == "table":
        return _of_table(asked, list_objects)
    return _of_names(asked, list_objects)


def _refuse_strangers(asked: Asked, source: str) -> None:
    """Raises InputError for an option that this kind of list does not know: it would be ignored."""
    kinds = {"exclude": "plates", "batch": "plates", "match": "files objects", "by": "table files objects"}
    for name, known in kinds.items():
        if getattr(asked, name) != getattr(Asked, name) and source not in known.split():
            raise InputError(f"--{name}", "", f"it says nothing about a list from {source}", "leave it out")


# Plates


def _of_plates(asked: Asked) -> Iterator[Group]:
    axes = {"plate": _expand("--plates", asked.plates), "well": _wells(asked), "site": _expand("--sites", asked.sites)}
    there = {name: values for name, values in axes.items() if values is not None}
    excluded = _Excluded(asked.exclude, asked.pad)
    every = (dict(zip(there, values, strict=True)) for values in product(*there.values()))
    kept = [group for group in every if not excluded.has(group)]
    excluded.check_used()
    if asked.batch < 1 or (asked.batch > 1 and asked.metadata):
        wrong = "CellProfiler's metadata have one value a name" if asked.metadata else f"{asked.batch} is no batch"
        raise InputError("--batch", "", wrong, "leave it out" if asked.metadata else "write 2 or more")
    return _batches(kept, list(there), asked.batch)


def _wells(asked: Asked) -> list[str] | None:
    if asked.wells is not None and (asked.rows is not None or asked.columns is not None):
        raise InputError("--wells", "", "rows and columns say the same", "give either, not both")
    if (asked.rows is None) != (asked.columns is None):
        raise InputError("--rows", "", "rows and columns belong together", "give --columns too, or --wells")
    if asked.wells is not None:
        return _expand("--wells", asked.wells, lambda text: wells(text, asked.pad))
    rows, columns = _expand("--rows", asked.rows), _expand("--columns", asked.columns)
    if rows is None or columns is None:
        return None
    if not all(column.isdecimal() for column in columns):
        raise InputError("--columns", "", f"{shown(asked.columns)} are no numbers", "write such as 1-12")
    return [well(row, column, asked.pad) for row, column in product(rows, columns)]


def _expand(option: str, text: str | None, how: Callable[[str], list[str]] = expand) -> list[str] | None:
    try:
        return None if text is None else how(text)
    except BadRange as error:
        right = "write values with commas between, and ranges such as A-H, 1-12 or 01-12"
        raise InputError(option, "", str(error), right) from None


class _Excluded:
    """What `--exclude` says: WELL, PLATE/WELL or PLATE/WELL/SITE, with `*` for anything, wells also as A01-A12."""

    def __init__(self, texts: Iterable[str], digits: int) -> None:
        self._patterns = {pattern: False for text in texts for pattern in _patterns(text, digits)}

    def has(self, group: Mapping[str, str]) -> bool:
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


def _patterns(text: str, digits: int) -> Iterator[str]:
    for item in text.split(","):
        try:
            yield from wells(item.strip(), digits) if not item.strip().isdecimal() else [item.strip()]
        except BadRange:
            yield item.strip()


def _batches(found: Iterable[dict[str, str]], names: list[str], size: int) -> Iterator[Group]:
    """So many values of the last name in one job, as `"sites": "1,2,3"`; never of two wells or plates."""
    *leading, last = names
    for values, same in groupby(found, key=lambda group: [group[name] for name in leading]):
        several = iter([group[last] for group in same])
        while batch := list(islice(several, size)):
            one = {last: batch[0]} if size == 1 else {f"{last}s": ",".join(batch)}
            yield dict(zip(leading, values, strict=True)) | one


# Tables


def _of_table(asked: Asked, list_objects: ListObjects) -> Iterator[Group]:
    assert asked.table is not None
    rows = groups.source(asked.table.name, "--table", asked.table, list_objects)()
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


def _of_names(asked: Asked, list_objects: ListObjects) -> Iterator[Group]:
    where = asked.objects if asked.objects is not None else str(asked.files)
    pattern = NamePattern(asked.match or "{file}")
    names = _names_of_parts(asked.by, pattern)
    found: dict[tuple[str, ...], list[str]] = {}
    for name, address in _objects(where, list_objects) if asked.objects is not None else _files(Path(where)):
        parts = pattern.read(name)
        if parts is not None:
            found.setdefault(tuple(parts[one] for one in names), []).append(address)
    if not found:
        raise InputError("--match", "", f"{asked.match or '{file}'!r} fits nothing in {where}", "correct one of them")
    for values, addresses in sorted(found.items()):
        own = {OBJECTS: addresses} if asked.objects is not None else {}
        yield dict(zip(names, values, strict=True)) | own


def _names_of_parts(by: str | None, pattern: NamePattern) -> list[str]:
    names = by.split(",") if by is not None else pattern.parts
    for name in names:
        if name not in pattern.parts:
            right = f"--match has: {', '.join(pattern.parts)}"
            raise InputError("--by", "", f"{shown(name)} is no part of a name", right)
    return names


def _files(folder: Path) -> Iterator[tuple[str, str]]:
    """Each file's path below `folder`, hidden ones left out."""
    if not folder.is_dir():
        raise InputError("--files", "", f"there is no folder {folder}", "give the folder that has the files")
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.is_file() and not any(part.startswith(".") for part in name.parts):
            yield name.as_posix(), name.as_posix()


def _objects(address: str, list_objects: ListObjects) -> Iterator[tuple[str, str]]:
    """Each object's key below the prefix, and its address."""
    bucket, prefix = groups.bucket_and_prefix(address, "--objects")
    for key in list_objects(bucket, prefix):
        if not key.endswith("/"):
            yield key[len(prefix) :], f"s3://{bucket}/{key}"


# What all jobs share


def _shared(asked: Asked, output: Path | None) -> dict[str, Any]:
    content = read_json_object(asked.like, "a job file") if asked.like else {}
    shared = {key: value for key, value in content.items() if key not in ("groups", "plates")}
    for text in asked.put:
        key, equals, value = text.partition("=")
        if not key or not equals:
            raise InputError("--set", "", f"{shown(text)} sets no key", "write KEY=VALUE")
        shared[key] = _value(value)
    uploads = shared.get("upload")
    if asked.like and output and isinstance(uploads, dict):
        shared["upload"] = {_moved(folder, asked.like, output): prefix for folder, prefix in uploads.items()}
    return shared


def _value(text: str) -> Any:
    """A number, truth value, list or object as JSON writes it; all else is a text."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _moved(folder: str, like: Path, output: Path) -> str:
    """The path of an upload folder, seen from the new file."""
    if os.path.isabs(folder) or like.parent.resolve() == output.parent.resolve():
        return folder
    return Path(os.path.relpath(like.parent.resolve() / folder, output.parent.resolve())).as_posix()


def _metadata(group: Group) -> str:
    """The published form: `Metadata_Plate=P1,Metadata_Well=A01`."""
    assert isinstance(group, dict)
    pairs = {_metadata_name(name): str(value) for name, value in group.items() if name != OBJECTS}
    for name, value in pairs.items():
        if not value or set(value) & set(",="):
            right = "CellProfiler's metadata have values without comma and ="
            raise InputError("--metadata", "", f"{name} would be {shown(value)}", right)
    return ",".join(f"{name}={value}" for name, value in pairs.items())


def _metadata_name(name: str) -> str:
    return name if name.startswith("Metadata_") else f"Metadata_{name[:1].upper()}{name[1:]}"
