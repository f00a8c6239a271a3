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
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from distributed_something.worker import Failed

MOUNT_FOLDER = "/home/ubuntu/bucket"
FILE_NAME_COLUMN = re.compile(r"(Image_)?(Objects)?FileName_")


@dataclass(frozen=True)
class ImageSource:
    """The location of the images.

    `bucket`: the bucket for paths without one. `default`: the prefix for relative paths. `folder`: the folder in the
    container.
    """

    bucket: str
    default: str
    folder: Path

    def collect_group_images(self, data_file: Path, group: dict[str, str]) -> dict[str, str]:
        """Return the path below `folder` for each of the group's images, keyed by S3 address, and write the paths into
        `data_file`.

        Raise Failed if the file cannot be read, has no column for one of the group's keys, or has no row for the group.
        """
        try:
            return (
                self._rewrite_table(data_file, group)
                if data_file.suffix.lower() == ".csv"
                else self._rewrite_file_list(data_file)
            )
        except (UnicodeDecodeError, csv.Error) as error:
            raise Failed(f"{data_file.name} cannot be read: {error}", "bad input") from None

    def _rewrite_file_list(self, data_file: Path) -> dict[str, str]:
        """Return all images, because only CellProfiler can tell by their names which images belong to the group."""
        lines = [line for line in data_file.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
        sources = [self._locate_image(unquote(line[5:]) if line.startswith("file:") else line) for line in lines]
        data_file.write_text("".join(f"{self.folder / path}\n" for _, path in sources), encoding="utf-8")
        return dict(sources)

    def _rewrite_table(self, data_file: Path, group: dict[str, str]) -> dict[str, str]:
        with data_file.open(encoding="utf-8-sig", newline="") as table:
            reader = csv.DictReader(table, restval="")
            names, rows = list(reader.fieldnames or ()), list(reader)
        keys = {_get_column_name(data_file, names, key): value for key, value in group.items()}
        row_in_group = [all(_is_same_value(row[key], value) for key, value in keys.items()) for row in rows]
        if not any(row_in_group):
            raise Failed(f"{data_file.name} has no row with {','.join(map('='.join, group.items()))}", "bad input")
        images: dict[str, str] = {}
        for file_column in filter(FILE_NAME_COLUMN.match, names):
            path_column = file_column.replace("FileName_", "PathName_")
            for row, is_in_group in zip(rows, row_in_group, strict=True):
                if row[file_column]:
                    address, path = self._locate_image(os.path.join(row.get(path_column, ""), row[file_column]))
                    images |= {address: path} if is_in_group else {}
                    row[path_column], row[file_column] = os.path.split(self.folder / path)
        with data_file.open("w", encoding="utf-8", newline="") as table:
            writer = csv.DictWriter(table, dict.fromkeys(names + list(rows[0])), extrasaction="ignore", restval="")
            writer.writeheader()
            writer.writerows(rows)
        return images

    def _locate_image(self, path: str) -> tuple[str, str]:
        """Return an image's S3 address and its path below `folder`.

        `path` is a path in the mounted bucket, an s3:// address, a relative path, or a path from the bucket's root.
        """
        bucket, key = self.bucket, os.path.normpath(path)
        if path.startswith("s3://"):
            bucket, _, key = path.removeprefix("s3://").partition("/")
        elif not path.startswith("/"):
            key = os.path.normpath(os.path.join(self.default, path))
        key = key.removeprefix(MOUNT_FOLDER).lstrip("/")
        return f"s3://{bucket}/{key}", f"{bucket}/{key}"


def _get_column_name(data_file: Path, names: list[str], key: str) -> str:
    """Return the column for one of the group's keys, which may lack the prefixes that CellProfiler adds to column
    names.
    """
    for column in (key, f"Metadata_{key}", f"Image_{key}", f"Image_Metadata_{key}"):
        if column in names:
            return column
    raise Failed(f"{data_file.name} has no column {key}", "bad input")


def _is_same_value(cell: str, value: str) -> bool:
    """Return whether CellProfiler treats the two values as equal. It ignores leading zeros in whole numbers."""
    return cell == value or (cell.isdecimal() and value.isdecimal() and int(cell) == int(value))
