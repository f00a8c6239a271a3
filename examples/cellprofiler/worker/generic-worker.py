"""CellProfiler worker, which processes one group of images per job.

It accepts Job files and configs for Distributed-CellProfiler. A job fetches the pipeline, the data file, only the
images that its group needs (see data_file.py), and its `inputs`, and then runs CellProfiler. With MOUNT_S3 and without
DOWNLOAD_FILES, it reads these files from the mounted bucket instead.

`input` is CellProfiler's default input folder. It is never fetched, because published Job files often name a folder
with all images, or one that does not exist. What a pipeline reads from this folder must be listed in `inputs`.
"""

from __future__ import annotations

import json
import re
import sys
import warnings
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from constants import is_true, read_constant
from data_file import DataFile, ImageSource, check_group, find_create_batch_files
from plugins import build_plugin_options, check_plugins, has_image

from distributed_something.worker import (
    EXIT_CODE_ACCEPTED,
    MOUNT_FOLDER,
    BadMessage,
    Failed,
    Folders,
    Job,
    Result,
    Settings,
    as_text,
    fill_key,
    find_image_damage,
    job_from_message,
    list_placeholders,
    remove_mount_folder,
    serve,
    upload_arguments,
    wrong_text,
)

DONE_FILE = "cp.is.done"
DEFAULT_INPUT = "default_input"  # bucket names have no underscore, so no bucket's folder has this name
DATA_OPTIONS = {".csv": "--data-file={}", ".txt": "--file-list={}", ".h5": ""}


def make_job(message: dict[str, Any], folders: Folders, settings: Settings) -> Job:
    """Return the job for one image group.

    The paths in its command are in the mounted bucket, or at BUCKET/KEY in the job's folder. Raise BadMessage if a key
    in the message is missing or invalid. Placeholders such as {Metadata_Plate} stand for the group's values.
    """
    metadata = _parse_metadata(message["group"])
    pipeline, data_file = _get_key(message, "pipeline", metadata), _get_key(message, "data_file", metadata)
    source = read_constant("SOURCE_BUCKET") or settings.aws_bucket
    workspace = read_constant("WORKSPACE_BUCKET") or source
    mounted = settings.mount_s3 and not is_true("DOWNLOAD_FILES") and {source, workspace} == {settings.aws_bucket}
    root, out = MOUNT_FOLDER if mounted else f"{folders.input_dir}/{workspace}", folders.output_dir
    default_input = remove_mount_folder(_get_text(message, "input", metadata)).lstrip("/")
    local_input = folders.input_dir / DEFAULT_INPUT
    input_folder = f"{root}/{default_input}" if mounted and _is_key(default_input) else f"{local_input}"
    command = ["cellprofiler", "-c", "-r", "-p", f"{root}/{pipeline}", "-i", input_folder]
    command += ["-o", f"{out}", "-d", f"{out}/{DONE_FILE}"]
    command += _build_data_options(data_file, root, is_mounted=mounted) + _build_group_options(metadata)
    files = {f"s3://{workspace}/{key}": f"{workspace}/{key}" for key in (pipeline, data_file)}
    structure = _get_text(message, "output_structure", {key: key for key in metadata})  # {Metadata_Well} without braces
    output_folder, is_shared = _build_output_folder(message, structure, metadata)
    job = job_from_message(
        message, folders, settings,
        command=command,
        input_bucket=workspace,
        output_bucket=read_constant("DESTINATION_BUCKET") or settings.aws_bucket,
        output_location=f"{_get_key(message, 'output', metadata)}/{output_folder}".rstrip("/"),
        shared_location=is_shared,
        may_replace=is_shared,  # as in the published implementation; the summary names such files
        leave_out=[DONE_FILE],
        upload_arguments=upload_arguments(read_constant("UPLOAD_FLAGS"), "config.py: UPLOAD_FLAGS"),
        own={
            "data_file": DataFile(Path(root, data_file), data_file), "pipeline": pipeline,
            "metadata": metadata, "output_structure": structure, "default_input": local_input, "checked": files,
            "images": None if mounted else ImageSource(source, default_input, folders.input_dir),
        },
    )  # fmt: skip
    job.inputs = _build_inputs(job.inputs, files, is_mounted=mounted)
    return job


def check(job: Job, folders: Folders) -> None:
    """Raise BadMessage or Failed if the pipeline would end early, if the data file has no rows for the group, or if
    this computer, on which the jobs will run, lacks the plugins.

    `submitJob` calls this before it sends the jobs.
    """
    if not has_image():
        check_plugins()
    _warn_of_unknown_keys(job.own["output_structure"], job.own["metadata"])
    pipeline, path = (Path(folders.input_dir, name) for name in job.own["checked"].values())
    data_file = DataFile(path, job.own["data_file"].key)
    if path.suffix.lower() == ".h5":
        return
    folders.fetch(job.own["checked"])
    find_create_batch_files(pipeline, job.own["pipeline"])
    if path.suffix.lower() == ".csv":
        check_group(data_file, job.own["metadata"])


def prepare(job: Job, folders: Folders) -> None:
    """Fetch the group's images. Raise Failed if an image is truncated, because CellProfiler would measure it anyway."""
    check_plugins()
    job.own["default_input"].mkdir(parents=True, exist_ok=True)
    if job.own["images"] is None:
        return
    images = job.own["images"].collect_group_images(job.own["data_file"], job.own["metadata"])
    folders.fetch({address: path for address, path in images.items() if not (folders.input_dir / path).exists()})
    for address, path in images.items():
        if damage := find_image_damage(folders.input_dir / path):
            raise Failed(f"the image {address} {damage}", "bad input")


def failure(job: Job, folders: Folders, result: Result) -> str | None:
    """Return why the job failed. It succeeded if CellProfiler wrote "Complete" to its done file.

    CellProfiler writes this file last, so an error while it exits does not matter.
    """
    return wrong_text(folders.output_dir / DONE_FILE, "Complete") or EXIT_CODE_ACCEPTED


def _parse_metadata(group: dict[str, Any] | str) -> dict[str, str]:
    """Return the group's metadata from `{"Metadata": "K=V,K=V"}`, `{"Metadata": {…}}`, or `{"K": "V"}`."""
    text = group.get("Metadata", group) if isinstance(group, dict) else group
    pairs = [pair.partition("=")[::2] for pair in text.split(",")] if isinstance(text, str) else list(text.items())
    metadata = {key: as_text(value) for key, value in pairs}
    if not metadata or not all(map(_is_plain, (*metadata, *metadata.values()))):
        problem = "write keys and values without commas and equals signs, and without spaces around them"
        shown = text if isinstance(text, str) else json.dumps(text, ensure_ascii=False)
        if similar := [key for key in metadata if key.lower() == "metadata"]:
            problem = f"the key is `Metadata`, not `{similar[0]}`"
        raise BadMessage(f"`group`: {shown!r} is not K=V,K=V; {problem}")
    return metadata


def _is_plain(text: str) -> bool:
    return bool(text) and text == text.strip() and not re.search("[,=]", text)


def _build_inputs(inputs: list[str] | dict[str, str], files: dict[str, str], *, is_mounted: bool) -> dict[str, str]:
    """Return the job's inputs, which are stored in the default input folder, and `files`, unless the bucket is mounted.

    Raise BadMessage if it is mounted and the job has inputs.
    """
    if is_mounted and inputs:
        raise BadMessage("`inputs`: the bucket is mounted; put these files into the folder `input` of the bucket")
    own_inputs = inputs if isinstance(inputs, dict) else dict.fromkeys(inputs, "")
    moved_inputs = {address: f"{DEFAULT_INPUT}/{path}" for address, path in own_inputs.items()}
    return moved_inputs if is_mounted else files | moved_inputs


def _build_data_options(data_file: str, root: str, *, is_mounted: bool) -> list[str]:
    """Return CellProfiler's option for the data file, which is below `root`. Raise BadMessage for other formats."""
    suffix = Path(data_file).suffix.lower()
    if suffix not in DATA_OPTIONS:
        raise BadMessage(f"`data_file`: {data_file!r} is not a .csv, .txt, or .h5 file; use one of these formats")
    if suffix == ".h5" and not is_mounted:
        raise BadMessage(f"`data_file`: {data_file!r} refers to images in {MOUNT_FOLDER}; set MOUNT_S3 = 'True'")
    return [option.format(f"{root}/{data_file}")] if (option := DATA_OPTIONS[suffix]) else []


def _warn_of_unknown_keys(structure: str, metadata: dict[str, str]) -> None:
    """Warn if a name in `output_structure` is probably a misspelled key of the group. It stays in the folder's name."""
    names = {key.lower().removeprefix("metadata_"): key for key in metadata}
    for word in re.findall(r"\w+", structure):
        name = word.lower().removeprefix("metadata_")
        similar = [] if any(key in word for key in metadata) else get_close_matches(name, names, n=1, cutoff=0.7)
        if similar:
            problem = f"{word!r} is not a key of the group, so it stays in the names of the folders"
            warnings.warn(f"`output_structure`: {problem}; did you mean {names[similar[0]]!r}?", stacklevel=2)


def _build_group_options(metadata: dict[str, str]) -> list[str]:
    """Return CellProfiler's options for the group, and those that the config adds."""
    always_continue = ["--always-continue"] if is_true("ALWAYS_CONTINUE") else []
    return ["-g", ",".join(map("=".join, metadata.items())), *build_plugin_options(), *always_continue]


def _build_output_folder(message: dict[str, Any], structure: str, metadata: dict[str, str]) -> tuple[str, bool]:
    """Return the folder for the job's results below `output`, and whether several jobs share this folder.

    The folder is named according to `output_structure`, in which the values replace the keys one after the other, in
    the group's order, as in the published implementation. Jobs share the folder if a key of the group is neither
    replaced nor a placeholder in `output`.
    """
    if not structure:
        return "-".join(metadata.values()), False
    folder, is_shared, used_in_output = structure, False, list_placeholders(message["output"])
    for key, value in metadata.items():
        is_shared = is_shared or (key not in folder and key not in used_in_output)
        folder = folder.replace(key, value)
    return folder.strip("/"), is_shared


def _get_text(message: dict[str, Any], name: str, values: dict[str, str]) -> str:
    """Return the text of a key with its placeholders filled; "" without the key."""
    return fill_key(message, name, values) if message.get(name) else ""


def _get_key(message: dict[str, Any], name: str, metadata: dict[str, str]) -> str:
    """Return a key in the bucket, with its placeholders filled. A path in the mounted bucket is a key, too."""
    if name not in message:
        raise BadMessage(f"`{name}` is missing; write a path in the bucket, such as 'projects/{name}'")
    value = message[name]
    key = fill_key(message, name, metadata) if isinstance(value, str) and value else ""
    if key and not _is_key(key):
        setting = "DESTINATION_BUCKET" if name == "output" else "WORKSPACE_BUCKET"
        remedy = f"write only the key, without the bucket, which is {setting} in the config"
        raise BadMessage(f"`{name}`: {key!r} is an address; {remedy}")
    key = remove_mount_folder(key).strip("/")
    if not key:
        raise BadMessage(f"`{name}`: {value!r} is not a key in the bucket; write a path such as 'projects/{name}'")
    return key


def _is_key(text: str) -> bool:
    return bool(text) and "://" not in text


if __name__ == "__main__":
    sys.exit(serve(make_job=make_job, prepare=prepare, failure=failure, check=check))
