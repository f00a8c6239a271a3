"""Checks messages with a project's own `make_job`; `submitJob` starts the worker this way before it sends any jobs.

No queue is read, nothing is downloaded, and no program runs. A file in the folder says which messages `make_job` did
not accept. The hook `check` can read files of a job, such as its table: it calls `folders.fetch`, a verdict names the
files, and `submitJob` fetches them and starts the check again. Run as a module, with the path of a generic-worker.py,
this also reports an error outside the hooks, which would end each container at once.
"""

from __future__ import annotations

import json
import os
import runpy
import shutil
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from distributed_something.worker.hooks.hook_calls import check_destination, confine_job
from distributed_something.worker.job.addresses import is_url, parse_input_address
from distributed_something.worker.job.failures import AWS_ERRORS, Failed
from distributed_something.worker.job.job import BadMessage, Folders, Inputs, Job
from distributed_something.worker.job.job_id import job_id
from distributed_something.worker.job.message.job_template import job_from_message, parse_message
from distributed_something.worker.job.worker_settings import Settings

CHECK_VARIABLE = "CHECK_MESSAGES_FOLDER"  # the worker's environment variable for the folder that contains MESSAGES_FILE
MESSAGES_FILE, VERDICTS_FILE = "messages.jsonl", "verdicts.jsonl"
FILES_FILE = "files.json"  # [endpoint, address, path] of each file that `submitJob` needed; the path is null without it
NUMBER_FILE = "number.txt"  # the number of the last message that was given to `make_job`, for one that crashes Python
PARENT_CHECK_SECONDS = 0.5  # how often to check whether `submitJob` was killed
MAX_VERDICTS = 100  # after that many messages that were not accepted, the others are not checked

MakeJob = Callable[[dict[str, Any], Folders, Settings], Job]
CheckJob = Callable[[Job, Folders], None]
CheckFiles = Mapping[tuple[str, str], str | None]  # (endpoint, address) -> path, or None if it is not available


class FilesNeeded(Exception):
    """Raised in the hook `check` for files that `submitJob` has not fetched yet: `addresses` on the S3 server
    `endpoint`, or in AWS if that is empty."""

    def __init__(self, endpoint: str, addresses: list[str]) -> None:
        super().__init__(", ".join(addresses))
        self.endpoint, self.addresses = endpoint, addresses


class RefusedByCheck(BadMessage):
    """Raised for a job that the hook `check` refuses after it has read files, which are then the likely cause."""


class FileUnavailable(Exception):
    """Raised in the hook `check` for a file that `submitJob` cannot fetch, so that the job cannot be checked."""


def check_messages(
    folder: Path, settings: Settings, make_job: MakeJob, check: CheckJob | None = None, *, has_deliver: bool = False
) -> int:
    """Give each message in `folder` to `make_job`, and its job to `check`. Return the exit code 0.

    Write a verdict for each message that is not accepted, up to MAX_VERDICTS, one for each list of files that `check`
    needs, one for each of its warnings, and one with the state `checked` at the end. It says `is_usual` if nothing here
    depends on the project: all messages that `submitJob` itself has checked would then be accepted.
    """
    job_folders, files = Folders(folder / "job", lambda inputs: None), _read_files(folder)
    job_folders.root.mkdir(exist_ok=True)
    needed, verdict_count, notes = set[tuple[str, str]](), 0, _Notes(folder)
    with (folder / MESSAGES_FILE).open(encoding="utf-8") as messages, (folder / NUMBER_FILE).open("wb") as number_file:
        for line in messages:
            given = json.loads(line)
            os.pwrite(number_file.fileno(), f"{given['number']:<20}".encode(), 0)
            try:
                job = _make_checked_job(given["body"], job_folders, settings, make_job)
                check_destination(job, has_deliver=has_deliver)
                with notes.collect():
                    _check_job(job, job_folders, files, check)
            except FilesNeeded as error:
                if new := [address for address in error.addresses if (error.endpoint, address) not in needed]:
                    needed.update((error.endpoint, address) for address in new)
                    verdict = {"state": "files needed", "endpoint": error.endpoint, "files": new}
                    _write_verdict(folder, verdict | {"number": given["number"]})
            except FileUnavailable:  # `submitJob` knows
                continue
            except (Exception, SystemExit) as error:
                _write_verdict(folder, describe_hook_error(error) | {"number": given["number"]})
                verdict_count += 1
                if verdict_count == MAX_VERDICTS:
                    break
    is_usual = check is None and _is_usual(make_job)
    _write_verdict(folder, {"state": "checked", "number": None, "is_usual": is_usual})
    return 0


class _Notes:
    """What the hook `check` says with `warnings.warn`: each text becomes a verdict with the state `note`, once."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._texts = folder, set[str]()

    @contextmanager
    def collect(self) -> Iterator[None]:
        """Write a verdict for each new text, even if the block raises an exception."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("ignore")
            warnings.simplefilter("always", UserWarning)
            try:
                yield
            finally:
                for text in dict.fromkeys(str(warning.message) for warning in caught):
                    if text not in self._texts:
                        self._texts.add(text)
                        _write_verdict(self._folder, {"state": "note", "text": text, "number": None})


def _is_usual(make_job: MakeJob) -> bool:
    """Return whether a project's `make_job` is like the shipped one, which only calls `job_from_message`.

    The code is compared, not the file: in a clone of the repository, the shipped file is the one that users edit.
    """
    code, usual = getattr(make_job, "__code__", None), _make_usual_job.__code__
    return (
        code is not None
        and (code.co_code, code.co_names, code.co_varnames) == (usual.co_code, usual.co_names, usual.co_varnames)
        and make_job.__globals__.get("job_from_message") is job_from_message
    )


def _make_usual_job(message: dict[str, Any], folders: Folders, settings: Settings) -> Job:
    return job_from_message(message, folders, settings)


def _make_checked_job(body: str, folders: Folders, settings: Settings, make_job: MakeJob) -> Job:
    message = parse_message(body)
    job = make_job(message, folders, settings)
    if not isinstance(job, Job):
        raise TypeError(f"make_job returned a value of type {type(job).__name__}, not a Job")
    confine_job(job, job_id(message), folders)
    return job


def _check_job(job: Job, folders: Folders, files: CheckFiles, check: CheckJob | None) -> None:
    """Call the hook `check`. Raise BadMessage if it refuses the job, and RefusedByCheck if it has read files."""
    if check is None:
        return
    has_read = False

    def fetch(inputs: Inputs) -> None:
        nonlocal has_read
        _fetch_files(job, folders, files, inputs)
        has_read = True

    try:
        check(job, replace(folders, fetch=fetch))
    except (BadMessage, Failed) as error:
        raise (RefusedByCheck if has_read else BadMessage)(str(error)) from None


def _read_files(folder: Path) -> CheckFiles:
    path = folder / FILES_FILE
    files = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    return {(endpoint, address): file for endpoint, address, file in files}


def _fetch_files(job: Job, folders: Folders, files: CheckFiles, inputs: Inputs) -> None:
    """Give the hook `check` the files that `submitJob` has fetched. A key without `s3://` is in the job's bucket."""
    targets = inputs if isinstance(inputs, dict) else {address: address.rsplit("/", 1)[-1] for address in inputs}
    addresses = {_complete_address(text, job.input_bucket): target for text, target in targets.items()}
    if needed := [address for address in addresses if (job.input_endpoint, address) not in files]:
        raise FilesNeeded(job.input_endpoint, needed)
    for address, name in addresses.items():
        file, target = files[job.input_endpoint, address], folders.input_dir / name
        if file is None:
            raise FileUnavailable(address)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)  # an earlier job's file may have had the same name
        target.symlink_to(file)


def _complete_address(text: str, bucket: str) -> str:
    return text if is_url(text) else "s3://" + "/".join(parse_input_address(text, bucket))


def run_worker(script: str, folder: Path) -> None:
    """Run a generic-worker.py, which calls `serve`, as a container would. Write a verdict if it fails before that."""
    threading.Thread(target=_end_with_parent, args=(folder, os.getppid()), daemon=True).start()
    sys.argv = [script]
    sys.path[0] = str(Path(script).parent)
    try:
        runpy.run_path(script, run_name="__main__")
    except (Exception, SystemExit) as error:
        has_succeeded = isinstance(error, SystemExit) and error.code in (None, 0)
        if not has_succeeded and not (folder / VERDICTS_FILE).exists():
            _write_verdict(folder, describe_hook_error(error) | {"number": None})


def _end_with_parent(folder: Path, parent: int) -> None:
    """If `submitJob` is killed, remove the folder, and end this process and whatever the hooks have started."""
    while os.getppid() == parent:
        time.sleep(PARENT_CHECK_SECONDS)
    shutil.rmtree(folder, ignore_errors=True)
    os.killpg(0, signal.SIGKILL)  # this process began a session of its own


def describe_hook_error(error: BaseException) -> dict[str, Any]:
    """Return what is wrong with a message or a hook: the state, the error as text, and where it was raised.

    The states: `refused` (BadMessage), with `has_read`, whether files were read before; `missing module`,
    `unset variable`, and `unavailable`, if something is missing that the image may contain or AWS may have; and
    `broken`, for all other errors.
    """
    if isinstance(error, BadMessage):
        return {"state": "refused", "error": str(error), "has_read": isinstance(error, RefusedByCheck)}
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
