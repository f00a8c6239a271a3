"""OME-Zarr worker, which converts one plate per job with bioformats2raw.

It accepts Job files for Distributed-OMEZARRCreator.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from pathlib import Path
from typing import Any

from distributed_something.worker import (
    MOUNT_FOLDER,
    BadMessage,
    Folders,
    Job,
    Result,
    Settings,
    fill_key,
    job_from_message,
    missing_key,
    remove_mount_folder,
    serve,
    usual_failure,
)

FLAG_KEYS = ("resolutions", "tile_width", "tile_height", "target-min-size")
SIZE_KEYS = ("tile_width", "tile_height")
SIZE_FLAGS = r"-[whz]|--(?:tile|chunk|shard)[-_](?:width|height|depth)"  # with 0, bioformats2raw never ends
ENTRY_POINT = "/usr/local/bin/_entrypoint.sh"  # in the program's container image: sets up the program
DOWNSAMPLE_SCRIPT = Path(__file__).resolve().parent / "scripts" / "add_downsampling.py"


def make_job(message: dict[str, Any], folders: Folders, settings: Settings) -> Job:
    """Return the job that converts a plate.

    With `downsample_only`, the job only adds a resolution level to a converted plate. Raise BadMessage if a key in the
    message is missing or invalid. Placeholders such as {plate} stand for the plate's name or a shared key.
    """
    plate = _get_plate_name(message["group"])
    source, results = _get_location(message, "input_location", plate), _get_location(message, "output_location", plate)
    zarr = folders.root / f"{plate}.ome.zarr"
    only = _is_set(message, "downsample_only")
    convert = [*([ENTRY_POINT] if os.path.exists(ENTRY_POINT) else []), "bioformats2raw"]
    convert += [f"{folders.input_dir / plate}/{'' if only else _get_metadata_path(message, plate)}", str(zarr)]
    convert += _build_flags(message)
    steps = [] if only else [convert]
    if only or _is_set(message, "downsample_after"):
        factor = _get_number(message, "downsample_scale", at_least=2)
        steps.append(["python3", str(DOWNSAMPLE_SCRIPT), str(zarr), factor])
    fetched = zarr.name if only else plate
    return job_from_message(
        message, folders, settings,
        command=steps,
        inputs={f"{source}/{fetched}/": fetched},
        output_location=f"{results}/{zarr.name}",
        output_dir=zarr,
        # bioformats2raw exits with code 0 if its command line is wrong or there is no plate.
        command_checks=[lambda: missing_key(zarr / ".zattrs", "plate")],
        has_done_document=True,  # the number of chunks does not show whether a plate is complete
    )  # fmt: skip


def prepare(job: Job, folders: Folders) -> None:
    """Move a plate that was converted earlier to the output folder.

    For other plates, bioformats2raw creates this folder.
    """
    assert job.output_dir is not None
    converted_plate = folders.input_dir / job.output_dir.name
    if converted_plate.is_dir():
        converted_plate.rename(job.output_dir)


def failure(job: Job, folders: Folders, result: Result) -> str | None:
    """Return why the job failed, or None if the output folder contains a plate's metadata."""
    assert job.output_dir is not None
    return usual_failure(job, folders, result) or missing_key(job.output_dir / ".zattrs", "plate")


def _get_plate_name(group: object) -> str:
    plate = group.get("plate") if isinstance(group, dict) else group
    if not isinstance(plate, str) or "/" in plate or plate in ("", ".", ".."):
        raise BadMessage(f"`group`: {plate!r} is not a plate name; write the name of its folder, such as 'PLATE_A'")
    return plate


def _is_set(message: dict[str, Any], key: str) -> bool:
    """Return whether the key is set in the message: it is present, and is not null, "", false, or the text "false"."""
    return message.get(key) not in (None, False, "", "false", "False")


def _build_flags(message: dict[str, Any]) -> list[str]:
    """Return the flags for bioformats2raw. `additional_flags` is split as in a shell, but no shell interprets it."""
    flags = []
    for key in FLAG_KEYS:
        is_size = key in SIZE_KEYS
        is_zero = is_size and type(message.get(key)) in (int, float)  # a plain 0 also means that the key is not set
        if _is_set(message, key) or is_zero:
            flags += [f"--{key}", _get_number(message, key, at_least=1 if is_size else 0)]
    if not _is_set(message, "additional_flags"):
        return flags
    text = message["additional_flags"]
    try:
        words = shlex.split(text if isinstance(text, str) else "'")
    except ValueError as error:
        raise BadMessage(f"`additional_flags`: {text!r} cannot be split into words ({error})") from None
    _check_sizes(words)
    return flags + words


def _check_sizes(words: list[str]) -> None:
    """Raise BadMessage if `additional_flags` contains a tile, chunk, or shard size below 1."""
    for flag, size in re.findall(rf"^({SIZE_FLAGS})[= \n]?(-?\d+)$", "\n".join(words), flags=re.MULTILINE):
        if int(size) < 1:
            raise BadMessage(f"`additional_flags`: {flag} {size} is less than 1, so bioformats2raw would never end")


def _get_number(message: dict[str, Any], key: str, at_least: int) -> str:
    """Return a whole number as text."""
    number = str(message.get(key))
    if not re.fullmatch("[0-9]{1,9}", number) or int(number) < at_least:
        remedy = (
            "write a number such as 512, or false to omit the flag" if key in FLAG_KEYS else "write a number such as 4"
        )
        raise BadMessage(f"`{key}`: {message.get(key)!r} is not a whole number of at least {at_least}; {remedy}")
    return number


def _get_text(message: dict[str, Any], key: str, plate: str) -> str:
    """Return the text of a key, with its placeholders filled."""
    value = message.get(key)
    if not isinstance(value, str) or not value:
        raise BadMessage(f"`{key}`: {value!r} is not a string; write text in quotes")
    return fill_key(message, key, {"plate": plate})


def _get_location(message: dict[str, Any], key: str, plate: str) -> str:
    """Return the prefix in the bucket that a key names, without slashes around it."""
    return remove_mount_folder(_get_text(message, key, plate)).strip("/")


def _get_metadata_path(message: dict[str, Any], plate: str) -> str:
    """Return the path of the metadata file in the plate's folder."""
    path = _get_text(message, "path_to_metadata", plate)
    if path.startswith(MOUNT_FOLDER):
        remedy = "write the path from the plate's folder, such as 'Images/Index.idx.xml'"
        raise BadMessage(f"`path_to_metadata`: {path!r} is a path in the bucket; {remedy}")
    return path


if __name__ == "__main__":
    sys.exit(serve(make_job=make_job, prepare=prepare, failure=failure))
