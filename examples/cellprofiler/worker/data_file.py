"""The data file of a pipeline: which images a group needs, where they are in S3, and where they will lie here.

Published data files name images below the mounted bucket, /home/ubuntu/bucket. Here each image lies at BUCKET/KEY below
the job's own folder, and the data file is changed to say so. All its rows stay: CellProfiler numbers images by them.
"""

from __future__ import annotations

import csv
import os
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from distributed_something.worker import Failed

MOUNT_FOLDER = "/home/ubuntu/bucket"
FILE_NAME_COLUMN = re.compile(r"(Image_)?(Objects)?FileName_")


@dataclass(frozen=True)
class ImageSource:
    """Where images are: in `bucket`, those with a relative path below its prefix `default`. Here: below `folder`."""

    bucket: str
    default: str
    folder: Path

    def collect_group_images(self, data_file: Path, group: dict[str, str]) -> dict[str, str]:
        """The address in S3 and the place below `folder` of each image of the group. Changes `data_file`."""
        try:
            return (
                self._rewrite_table(data_file, group)
                if data_file.suffix.lower() == ".csv"
                else self._rewrite_file_list(data_file)
            )
        except (UnicodeDecodeError, csv.Error) as error:
            raise Failed(f"{data_file.name} cannot be read: {error}", "bad input") from None

    def _rewrite_file_list(self, data_file: Path) -> dict[str, str]:
        """All images: which of them a group has, CellProfiler finds out from their names."""
        lines = [line for line in data_file.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
        sources = [self._locate_image(unquote(line[5:]) if line.startswith("file:") else line) for line in lines]
        data_file.write_text("".join(f"{self.folder / place}\n" for _, place in sources), encoding="utf-8")
        return dict(sources)

    def _rewrite_table(self, data_file: Path, group: dict[str, str]) -> dict[str, str]:
        with data_file.open(encoding="utf-8-sig", newline="") as table:
            reader = csv.DictReader(table, restval="")
            names, rows = list(reader.fieldnames or ()), list(reader)
        keys = {_get_column_name(data_file, names, key): value for key, value in group.items()}
        in_group = [all(_is_same_value(row[key], value) for key, value in keys.items()) for row in rows]
        if not any(in_group):
            raise Failed(f"no row of {data_file.name} has {','.join(map('='.join, group.items()))}", "bad input")
        found: dict[str, str] = {}
        for file in filter(FILE_NAME_COLUMN.match, names):
            path = file.replace("FileName_", "PathName_")
            for row, wanted in zip(rows, in_group, strict=True):
                if row[file]:
                    address, place = self._locate_image(os.path.join(row.get(path, ""), row[file]))
                    found |= {address: place} if wanted else {}
                    row[path], row[file] = os.path.split(self.folder / place)
        with data_file.open("w", encoding="utf-8", newline="") as table:
            writer = csv.DictWriter(table, dict.fromkeys(names + list(rows[0])), extrasaction="ignore", restval="")
            writer.writeheader()
            writer.writerows(rows)
        return found

    def _locate_image(self, path: str) -> tuple[str, str]:
        """The address of an image in S3, and its place: a path below the mount, s3://, relative, or from the bucket's
        root."""
        bucket, key = self.bucket, os.path.normpath(path)
        if path.startswith("s3://"):
            bucket, _, key = path.removeprefix("s3://").partition("/")
        elif not path.startswith("/"):
            key = os.path.normpath(os.path.join(self.default, path))
        key = key.removeprefix(MOUNT_FOLDER).lstrip("/")
        return f"s3://{bucket}/{key}", f"{bucket}/{key}"


def _get_column_name(data_file: Path, names: list[str], key: str) -> str:
    """A group may leave out what CellProfiler puts before its own name of a column."""
    for column in (key, f"Metadata_{key}", f"Image_{key}", f"Image_Metadata_{key}"):
        if column in names:
            return column
    raise Failed(f"{data_file.name} has no column {key}", "bad input")


def _is_same_value(cell: str, value: str) -> bool:
    """As CellProfiler compares: a column of whole numbers has no leading zeros for it."""
    return cell == value or (cell.isdecimal() and value.isdecimal() and int(cell) == int(value))
