"""Fiji worker, whose jobs run one script with different parameters.

It accepts Job files and configs for Distributed-Fiji. A job fetches the script (SCRIPT_DOWNLOAD_URL in config.py) and
its `inputs`, and runs the script without a window. The parameters, from `shared_metadata` and the group, are passed to
the command as a single argument, which SciJava parses.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from distributed_something.worker import (
    EXIT_CODE_ACCEPTED,
    MOUNT_FOLDER,
    BadMessage,
    Folders,
    Job,
    Result,
    Settings,
    as_text,
    fill_key,
    job_from_message,
    job_id,
    missing_files,
    remove_mount_folder,
    serve,
)

FIJI_COMMAND = ["ImageJ-linux64", "--ij2", "--headless", "--console", "--run"]
SCRIPTS_FOLDER = Path(__file__).resolve().parent / "scripts"


def make_job(message: dict[str, Any], folders: Folders, settings: Settings) -> Job:
    """Return the job that runs the script with the parameters in the message.

    Other keys of a Job file, such as `inputs` and `timeout_minutes`, work as usual. Raise BadMessage if a key is
    invalid.
    """
    shared, group, location = message.get("shared_metadata", {}), message["group"], message.get("output_file_location")
    if isinstance(group, dict) and group.keys() == {"Metadata"} and isinstance(group["Metadata"], dict):
        group = group["Metadata"]  # as in messages of the published implementation
    if not isinstance(shared, dict) or not isinstance(group, dict):
        raise BadMessage('`shared_metadata` or `group` is not an object; write parameters, such as {"well": "A01"}')
    if not isinstance(location, str):
        raise BadMessage(f"`output_file_location`: {location!r} is not a string; write a key, such as 'project/output'")
    location = fill_key(message, "output_file_location") if location else ""
    parameters = {name: _fill_folders(name, value, folders, settings) for name, value in {**shared, **group}.items()}
    script = os.environ.get("SCRIPT_DOWNLOAD_URL", "")
    argument = ", ".join(map(_quote_parameter, parameters, parameters.values()))
    job = job_from_message(
        message, folders, settings,
        command=[*FIJI_COMMAND, _locate_script(script, folders), argument],
        output_location=f"{remove_mount_folder(location).strip('/')}/{job_id(message)}".lstrip("/"),
        own={"min_bytes": settings.min_file_size_bytes},
    )  # fmt: skip
    job.expected_files = job.expected_files or settings.expected_number_files
    if not _is_shipped(script):
        own = job.inputs if isinstance(job.inputs, dict) else dict.fromkeys(job.inputs, "/")
        job.inputs = {**own, script: "script/"}
    return job


def failure(job: Job, folders: Folders, result: Result) -> str | None:
    """Return why the job failed, based on its result files alone, because Fiji's exit code says nothing."""
    too_few = missing_files(folders.output_dir, job.expected_files, min_bytes=job.own["min_bytes"])
    return too_few or EXIT_CODE_ACCEPTED


def _is_shipped(script: str) -> bool:
    """Return whether the script is in the image, in worker/scripts/."""
    return "/" not in script and (SCRIPTS_FOLDER / script).is_file()


def _locate_script(script: str, folders: Folders) -> str:
    """Return the script's path in the container.

    `script` is a name in worker/scripts/, a key in the bucket, an s3:// address, or a URL.
    """
    name = PurePosixPath(urlsplit(script).path).name
    if not name:
        raise BadMessage(f"config.py: SCRIPT_DOWNLOAD_URL: {script!r} does not name a script; write its URL or key")
    return str(SCRIPTS_FOLDER / script if _is_shipped(script) else folders.input_dir / "script" / name)


def _fill_folders(name: str, value: object, folders: Folders, settings: Settings) -> str:
    """Return the value as text, with {input_dir} and {output_dir} replaced by the job's folders.

    Raise BadMessage if the value is a path in the mounted bucket and the bucket is not mounted.
    """
    text = as_text(value)
    if text.startswith(MOUNT_FOLDER) and not settings.mount_s3:
        raise BadMessage(
            f"{name}: {text!r} is in the bucket, which is not mounted; set MOUNT_S3 = 'True' in config.py,"
            " or list the files in `inputs` and write '{input_dir}' here"
        )
    return text.replace("{input_dir}", str(folders.input_dir)).replace("{output_dir}", str(folders.output_dir))


def _quote_parameter(name: str, value: str) -> str:
    """Return `name=value`, quoted for SciJava's parser: single quotes without escapes, double quotes with escapes."""
    if not re.fullmatch(r"[A-Za-z_]\w*", name, flags=re.ASCII):
        raise BadMessage(f"{name!r} is not a parameter name; use letters, digits, and _, as SciJava requires")
    if "'" not in value:
        return f"{name}='{value}'"
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'{name}="{escaped}"'


if __name__ == "__main__":
    sys.exit(serve(make_job=make_job, failure=failure))
