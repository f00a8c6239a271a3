"""Handles a pipeline's data file, which lists images.

Finds the images that a group needs, their addresses in S3, and their paths in the container. Published data files
contain paths in the mounted bucket, /home/ubuntu/bucket. If the bucket is not mounted, each image is fetched to
BUCKET/KEY in the job's folder, and the data file must contain that path. All rows in the file must be kept, because
CellProfiler numbers the images by row.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from urllib.parse import unquote

from distributed_something.worker import (
    BadMessage,
    Failed,
    TableError,
    find_undecodable_text,
    iter_table_rows,
    open_table_text,
    read_table_names,
    remove_mount_folder,
)

FILE_NAME_COLUMN = re.compile(r"(Image_)?(Objects)?FileName_")


@dataclass(frozen=True)
class DataFile:
    """A data file at `path`. Errors name its `key` in the bucket, because many plates have a load_data.csv."""

    path: Path
    key: str


@dataclass(frozen=True)
class ImageSource:
    """The location of the images.

    `bucket`: the bucket for paths without one. `default`: the prefix for relative paths. `folder`: the folder in the
    container.
    """

    bucket: str
    default: str
    folder: Path

    def collect_group_images(self, data_file: DataFile, group: dict[str, str]) -> dict[str, str]:
        """Return the path below `folder` for each of the group's images, keyed by S3 address, and write the paths into
        `data_file`.

        Raise Failed if the file cannot be read, has no column for one of the group's keys, or has no row for the group.
        """
        if data_file.path.suffix.lower() == ".csv":
            return self._rewrite_table(data_file, group)
        return self._rewrite_file_list(data_file)

    def _rewrite_file_list(self, data_file: DataFile) -> dict[str, str]:
        """Return all images, because only CellProfiler can tell by their names which images belong to the group."""
        try:
            with open_table_text(data_file.path) as text:
                lines = [line for line in text.read().splitlines() if line.strip()]
        except UnicodeDecodeError:
            raise Failed(f"{data_file.key}: {find_undecodable_text(data_file.path)}", "bad input") from None
        sources = [self._locate_image(unquote(line[5:]) if line.startswith("file:") else line) for line in lines]
        data_file.path.write_text("".join(f"{self.folder / path}\n" for _, path in sources), encoding="utf-8")
        return dict(sources)

    def _rewrite_table(self, data_file: DataFile, group: dict[str, str]) -> dict[str, str]:
        names, rows = _read_table(data_file)
        columns = _choose_columns(data_file, names, group)
        wanted = tuple(map(_build_comparable, group.values()))
        row_in_group = [_build_row_key(row, columns) == wanted for row in rows]
        if not any(row_in_group):
            raise _build_missing_error(data_file, group)
        images: dict[str, str] = {}
        for file_column in filter(FILE_NAME_COLUMN.match, names):
            path_column = file_column.replace("FileName_", "PathName_")
            for row, is_in_group in zip(rows, row_in_group, strict=True):
                if row[file_column]:
                    address, path = self._locate_image(os.path.join(row.get(path_column, ""), row[file_column]))
                    images |= {address: path} if is_in_group else {}
                    row[path_column], row[file_column] = os.path.split(self.folder / path)
        with data_file.path.open("w", encoding="utf-8", newline="") as table:
            writer = csv.DictWriter(table, dict.fromkeys(names + list(rows[0])), restval="")
            writer.writeheader()
            writer.writerows(rows)
        return images

    def _locate_image(self, path: str) -> tuple[str, str]:
        """Return an image's S3 address and its path below `folder`.

        `path` is a path in the mounted bucket, an s3:// address, a relative path, or a path from the bucket's root.
        """
        if not path.startswith(("s3://", "/")):
            path = os.path.join(self.default, path)
        if path.startswith("s3://"):
            bucket, _, key = path.removeprefix("s3://").partition("/")
        else:
            bucket, key = self.bucket, remove_mount_folder(os.path.normpath(path)).lstrip("/")
        return f"s3://{bucket}/{key}", f"{bucket}/{key}"


def check_group(data_file: DataFile, group: Mapping[str, str]) -> None:
    """Raise Failed if `collect_group_images` would: the table cannot be read, or has no rows for the group.

    A table is read only once for all groups, because `submitJob` checks many of them.
    """
    columns = _choose_columns(data_file, _read_names(data_file), group)
    if tuple(map(_build_comparable, group.values())) not in _index_rows(data_file, columns):
        raise _build_missing_error(data_file, group)


def find_create_batch_files(pipeline: Path, key: str) -> None:
    """Raise BadMessage if the pipeline still contains CreateBatchFiles, with which CellProfiler analyzes nothing.

    `key`: the pipeline's key in the bucket.
    """
    for module in re.findall(rb"(?m)\bCreateBatchFiles:\[(.*)$", pipeline.read_bytes()):
        if (re.findall(rb"\|enabled:(True|False)", module) or [b"True"])[-1] == b"True":
            raise BadMessage(
                f"the pipeline {key} contains the module CreateBatchFiles, which writes Batch_data.h5"
                " and ends the analysis; remove the module, or turn it off, and save the pipeline again"
            )


def _build_missing_error(data_file: DataFile, group: Mapping[str, str]) -> Failed:
    text = ",".join(map("=".join, group.items()))
    return Failed(
        f"{data_file.key} has no row with {text}; add its images to the table, or correct the group", "bad input"
    )


@lru_cache(maxsize=64)
def _index_rows(data_file: DataFile, columns: tuple[str, ...]) -> frozenset[tuple[str, ...]]:
    return frozenset(_build_row_key(row, columns) for row in _read_table(data_file)[1])


@lru_cache(maxsize=64)
def _read_names(data_file: DataFile) -> tuple[str, ...]:
    try:
        return tuple(read_table_names(data_file.path))
    except TableError as error:
        raise Failed(f"{data_file.key}: {error}", "bad input") from None


def _read_table(data_file: DataFile) -> tuple[list[str], list[dict[str, str]]]:
    try:
        return read_table_names(data_file.path), [row.cells for row in iter_table_rows(data_file.path)]
    except TableError as error:
        raise Failed(f"{data_file.key}: {error}", "bad input") from None


def _choose_columns(data_file: DataFile, names: Sequence[str], group: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(_get_column_name(data_file, names, key) for key in group)


def _build_row_key(row: Mapping[str, str], columns: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(_build_comparable(row[column]) for column in columns)


def _build_comparable(value: str) -> str:
    """Return what CellProfiler compares: it ignores leading zeros in whole numbers."""
    return str(int(value)) if value.isdecimal() else value


def _get_column_name(data_file: DataFile, names: Sequence[str], key: str) -> str:
    """Return the column for one of the group's keys, which may lack the prefixes that CellProfiler adds to column
    names.
    """
    for column in (key, f"Metadata_{key}", f"Image_{key}", f"Image_Metadata_{key}"):
        if column in names:
            return column
    raise Failed(f"{data_file.key} has no column {key}; add it to the table, or correct the group", "bad input")
