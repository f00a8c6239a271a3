"""Fiji: one script, with other parameters in each job. Job files and configs of Distributed-Fiji work as they are.

A job fetches the script (SCRIPT_DOWNLOAD_URL in config.py) and its `inputs`, and runs the script without a window. The
parameters are `shared_metadata` and the group, all in one word of the command, which SciJava's parser takes apart.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from distributed_something.worker import (
    BadMessage,
    Folders,
    Job,
    Result,
    Settings,
    as_text,
    job_from_message,
    job_id,
    missing_files,
    serve,
)

FIJI_COMMAND = ["ImageJ-linux64", "--ij2", "--headless", "--console", "--run"]
MOUNT_FOLDER = "/home/ubuntu/bucket"
SCRIPTS_FOLDER = Path(__file__).resolve().parent / "scripts"


def make_job(message: dict[str, Any], folders: Folders, settings: Settings) -> Job:
    """Further keys are those of every job file, such as `inputs` and `timeout_minutes`."""
    shared, group, location = message.get("shared_metadata", {}), message["group"], message.get("output_file_location")
    if not isinstance(shared, dict) or not isinstance(group, dict):
        raise BadMessage("`shared_metadata` and a group must be objects of parameters")
    if not isinstance(location, str):
        raise BadMessage("`output_file_location` is no text")
    parameters = {name: _fill_folders(name, value, folders, settings) for name, value in {**shared, **group}.items()}
    script = os.environ.get("SCRIPT_DOWNLOAD_URL", "")
    words = ", ".join(map(_quote_parameter, parameters, parameters.values()))
    job = job_from_message(
        message, folders, settings,
        command=[*FIJI_COMMAND, _locate_script(script, folders), words],
        output_location=f"{location.strip('/')}/{job_id(message)}".lstrip("/"),
        own={"min_bytes": settings.min_file_size_bytes},
    )  # fmt: skip
    job.expected_files = job.expected_files or settings.expected_number_files
    if not _is_shipped(script):
        own = job.inputs if isinstance(job.inputs, dict) else dict.fromkeys(job.inputs, "/")
        job.inputs = {**own, script: "script/"}
    return job


def failure(job: Job, folders: Folders, result: Result) -> str | None:
    """Fiji's exit code says nothing: files do, and the time limit."""
    return missing_files(folders.output_dir, job.expected_files, min_bytes=job.own["min_bytes"])


def _is_shipped(script: str) -> bool:
    """Whether the script came with the image, in worker/scripts/."""
    return "/" not in script and (SCRIPTS_FOLDER / script).is_file()


def _locate_script(script: str, folders: Folders) -> str:
    """Where the script lies; it is a name in worker/scripts/, a key in the bucket, an s3:// or a web address."""
    name = PurePosixPath(urlsplit(script).path).name
    if not name:
        raise BadMessage("SCRIPT_DOWNLOAD_URL in config.py names no script")
    return str(SCRIPTS_FOLDER / script if _is_shipped(script) else folders.input_dir / "script" / name)


def _fill_folders(name: str, value: object, folders: Folders, settings: Settings) -> str:
    """The value as a text, with the job's folders put in where it names them."""
    text = as_text(value)
    if text.startswith(MOUNT_FOLDER) and not settings.mount_s3:
        raise BadMessage(
            f"the parameter {name} is {text!r}, but the bucket is not mounted: set MOUNT_S3 = 'True' in config.py, or"
            " name what a job needs in `inputs`, and write '{input_dir}'"
        )
    return text.replace("{input_dir}", str(folders.input_dir)).replace("{output_dir}", str(folders.output_dir))


def _quote_parameter(name: str, value: str) -> str:
    """As SciJava's parser reads it: single quotes around a text as it is, or double ones around one with escapes."""
    if not re.fullmatch(r"[A-Za-z_]\w*", name, flags=re.ASCII):
        raise BadMessage(f"{name!r} is no name of a parameter: SciJava takes letters, digits and _")
    if "'" not in value:
        return f"{name}='{value}'"
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'{name}="{escaped}"'


if __name__ == "__main__":
    sys.exit(serve(make_job=make_job, failure=failure))
