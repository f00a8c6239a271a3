"""CellProfiler: one group of images a job. Job files and configs of Distributed-CellProfiler work as they are.

A job fetches the pipeline, the data file and `input`, then of the images those that its group needs (data_file.py), and
runs CellProfiler on them. With MOUNT_S3, and without DOWNLOAD_FILES, it reads all of it in the mounted bucket instead.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

from data_file import MOUNT_FOLDER, ImageSource
from images import find_image_damage

from distributed_something.worker import (
    BadMessage,
    Failed,
    Folders,
    Job,
    Result,
    Settings,
    job_from_message,
    serve,
    upload_arguments,
    wrong_text,
)

DONE_FILE = "cp.is.done"
PLUGINS_FOLDER = "/home/ubuntu/CellProfiler-plugins"
DATA_OPTIONS = {".csv": "--data-file={}", ".txt": "--file-list={}", ".h5": ""}


def make_job(message: dict[str, Any], folders: Folders, settings: Settings) -> Job:
    """Paths are those of the mount, or of the job's folder, where a key lies below the name of its bucket."""
    pipeline, data_file, output = (_get_key(message, name) for name in ("pipeline", "data_file", "output"))
    default_input = f"{_get_key(message, 'input')}/" if message.get("input") else ""
    metadata, suffix = _parse_metadata(message["group"]), Path(data_file).suffix.lower()
    source, workspace, destination = (
        os.environ.get(f"{name}_BUCKET") or settings.aws_bucket for name in ("SOURCE", "WORKSPACE", "DESTINATION")
    )
    mounted = settings.mount_s3 and not _is_true("DOWNLOAD_FILES") and {source, workspace} == {settings.aws_bucket}
    root, out = MOUNT_FOLDER if mounted else f"{folders.input_dir}/{workspace}", folders.output_dir
    if suffix not in DATA_OPTIONS:
        raise BadMessage(f"`data_file` is {data_file!r}; it must be a .csv, .txt or .h5")
    if suffix == ".h5" and not mounted:
        raise BadMessage(f"{data_file} names its images below {MOUNT_FOLDER}: a batch file needs MOUNT_S3 = 'True'")

    where_input_is = f"{root}/{message['input']}" if default_input else f"{folders.input_dir}"
    command = ["cellprofiler", "-c", "-r", "-p", f"{root}/{pipeline}", "-i", where_input_is]
    command += ["-o", f"{out}", "-d", f"{out}/{DONE_FILE}"]
    command += [DATA_OPTIONS[suffix].format(f"{root}/{data_file}")] if DATA_OPTIONS[suffix] else []
    command += ["-g", ",".join(map("=".join, metadata.items())), *_build_plugin_options()]
    command += ["--always-continue"] if _is_true("ALWAYS_CONTINUE") else []
    keys = [pipeline, data_file, *([default_input] if default_input else [])]
    return job_from_message(
        message, folders, settings,
        command=command,
        inputs={} if mounted else {f"s3://{workspace}/{key}": f"{workspace}/{key}" for key in keys},
        input_bucket=workspace,
        output_bucket=destination,
        output_location=f"{output}/{_build_output_folder(message.get('output_structure') or '', metadata)}",
        leave_out=[DONE_FILE],
        upload_arguments=upload_arguments(os.environ.get("UPLOAD_FLAGS", "")),
        own={
            "data_file": Path(root, data_file), "metadata": metadata,
            "images": None if mounted else ImageSource(source, default_input, folders.input_dir),
        },
    )  # fmt: skip


def prepare(job: Job, folders: Folders) -> None:
    """Fetches the group's images. One that is cut off is a failure: CellProfiler would measure what is left of it."""
    if job.own["images"] is None:
        return
    wanted = job.own["images"].collect_group_images(job.own["data_file"], job.own["metadata"])
    folders.fetch({address: place for address, place in wanted.items() if not (folders.input_dir / place).exists()})
    for address, place in wanted.items():
        if reason := find_image_damage(folders.input_dir / place):
            raise Failed(f"the image {address} {reason}", "bad input")


def failure(job: Job, folders: Folders, result: Result) -> str | None:
    """CellProfiler's own word counts."""
    return wrong_text(folders.output_dir / DONE_FILE, "Complete")


def _parse_metadata(group: dict[str, Any] | str) -> dict[str, str]:
    """`{"Metadata": "K=V,K=V"}`, `{"Metadata": {…}}` and plain `{"K": "V"}`, as --print-groups writes them."""
    found = group.get("Metadata", group) if isinstance(group, dict) else group
    pairs = [pair.partition("=")[::2] for pair in found.split(",")] if isinstance(found, str) else list(found.items())
    metadata = {key: value if isinstance(value, str) else str(value) for key, value in pairs}
    if not metadata or not all(key and value and not re.search("[,=]", key + value) for key, value in metadata.items()):
        raise BadMessage(f"the group is {found!r}; it must be K=V,K=V, without a comma or an equals sign in a value")
    return metadata


def _build_output_folder(structure: str, metadata: dict[str, str]) -> str:
    """Where below `output` results go: as `output_structure` says, and apart from jobs that differ in other keys."""
    if not structure:
        return "-".join(metadata.values())
    longest_first = sorted(metadata, key=len, reverse=True)
    named = re.sub("|".join(map(re.escape, longest_first)), lambda found: metadata[found[0]], structure)
    others = "-".join(value for key, value in metadata.items() if key not in structure)
    return f"{named.strip('/')}/{others}" if others else named.strip("/")


def _build_plugin_options() -> list[str]:
    """Newer plugins have a folder for those that work."""
    if not _is_true("USE_PLUGINS"):
        return []
    if _is_true("UPDATE_PLUGINS"):
        raise BadMessage("UPDATE_PLUGINS is 'True', but plugins are put into the image: see worker/Dockerfile")
    folder = os.environ.get("PLUGINS_PATH") or PLUGINS_FOLDER
    active = Path(folder, "active_plugins")
    return [f"--plugins-directory={active if active.is_dir() else folder}"]


def _get_key(message: dict[str, Any], name: str) -> str:
    key = message.get(name)
    if not isinstance(key, str) or not key.strip("/"):
        raise BadMessage(f"`{name}` is no key in the bucket")
    return key.strip("/")


def _is_true(name: str) -> bool:
    return os.environ.get(name, "").lower() == "true"


if __name__ == "__main__":
    sys.exit(serve(make_job=make_job, prepare=prepare, failure=failure))
