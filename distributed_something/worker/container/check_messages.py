"""Checks messages with a project's own `make_job`; `submitJob` starts the worker this way before it sends any jobs.

No queue is read, nothing is downloaded, and no program runs. A file in the folder says what `make_job` did with each
message. Run as a module, with the path of a generic-worker.py, this also reports an error outside the hooks, which
would end each container at once.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from distributed_something.worker.hooks.hook_calls import check_destination, confine_job
from distributed_something.worker.job.failures import AWS_ERRORS
from distributed_something.worker.job.job import BadMessage, Folders, Job, parse_message
from distributed_something.worker.job.job_id import job_id
from distributed_something.worker.job.worker_settings import Settings

CHECK_VARIABLE = "CHECK_MESSAGES_FOLDER"  # the worker's environment variable for the folder that contains MESSAGES_FILE
MESSAGES_FILE, VERDICTS_FILE = "messages.jsonl", "verdicts.jsonl"


MakeJob = Callable[[dict[str, Any], Folders, Settings], Job]


def check_messages(folder: Path, settings: Settings, make_job: MakeJob, *, has_deliver: bool = False) -> int:
    """Give each message in `folder` to `make_job`, write one verdict for each, and return the exit code 0."""
    job_folders = Folders(folder / "job")
    job_folders.root.mkdir()
    with (folder / MESSAGES_FILE).open(encoding="utf-8") as messages:
        for line in messages:
            sample = json.loads(line)
            try:
                message = parse_message(sample["body"])
                job = make_job(message, job_folders, settings)
                if not isinstance(job, Job):
                    raise TypeError(f"make_job returned a value of type {type(job).__name__}, not a Job")
                confine_job(job, job_id(message), job_folders)
                check_destination(job, has_deliver=has_deliver)
                verdict: dict[str, Any] = {"state": "accepted"}
            except (Exception, SystemExit) as error:
                verdict = describe_hook_error(error)
            _write_verdict(folder, verdict | {"number": sample["number"]})
    return 0


def run_worker(script: str, folder: Path) -> None:
    """Run a generic-worker.py, which calls `serve`, as a container would. Write a verdict if it fails before that."""
    sys.argv = [script]
    sys.path[0] = str(Path(script).parent)
    try:
        runpy.run_path(script, run_name="__main__")
    except (Exception, SystemExit) as error:
        has_succeeded = isinstance(error, SystemExit) and error.code in (None, 0)
        if not has_succeeded and not (folder / VERDICTS_FILE).exists():
            _write_verdict(folder, describe_hook_error(error) | {"number": None})


def describe_hook_error(error: BaseException) -> dict[str, Any]:
    """Return what is wrong with a message or a hook: the state, the error as text, and where it was raised.

    The states: `refused` (BadMessage); `missing module`, `unset variable`, and `unavailable`, if something is missing
    that the image may contain or AWS may have; and `broken`, for all other errors.
    """
    if isinstance(error, BadMessage):
        return {"state": "refused", "error": str(error)}
    frames = traceback.extract_tb(error.__traceback__)
    places = [(frame.filename, frame.lineno) for frame in frames if _is_own_file(frame.filename)]
    if isinstance(error, SyntaxError):
        places = [(str(error.filename), error.lineno)]
    file, line = places[-1] if places else (sys.argv[0], None)
    state, name = _classify_hook_error(error)
    text = traceback.format_exception_only(error)[-1].strip()
    return {"state": state, "error": text, "name": name, "file": file, "line": line}


def _classify_hook_error(error: BaseException) -> tuple[str, str]:
    """Return the error's state, and the name of what is missing, or ""."""
    if isinstance(error, ImportError):
        name = error.name or ""
        return ("broken", "") if name.startswith("distributed_something") else ("missing module", name)
    if isinstance(error, KeyError) and _is_from_environment(error):
        return "unset variable", str(error.args[0])
    if isinstance(error, (*AWS_ERRORS, OSError)):
        return "unavailable", ""
    return "broken", ""


def _is_from_environment(error: KeyError) -> bool:
    """Return whether the error was raised by `os.environ[name]`."""
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return frame.f_code is type(os.environ).__getitem__.__code__


def _is_own_file(filename: str) -> bool:
    return Path(filename).is_relative_to(Path(sys.argv[0]).parent)


def _write_verdict(folder: Path, verdict: dict[str, Any]) -> None:
    with (folder / VERDICTS_FILE).open("a", encoding="utf-8") as file:
        file.write(json.dumps(verdict) + "\n")


if __name__ == "__main__":
    run_worker(sys.argv[1], Path(os.environ[CHECK_VARIABLE]))
