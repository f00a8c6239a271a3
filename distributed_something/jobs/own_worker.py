"""Gives messages to the project's own `make_job`, so that `submitJob` refuses jobs that the worker would refuse.

The worker runs in a process of its own, in a temporary folder, with the environment variables of a task but without
access to AWS. What it needs and does not find there may be in the image, so only the worker can tell: such a check ends
with a reason why it is incomplete, not with an error.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distributed_something.core.errors import InputError, InputProblems
from distributed_something.jobs.job_file import JobFile
from distributed_something.jobs.run_job import build_process_environment, find_worker_files
from distributed_something.worker import CHECK_VARIABLE, MESSAGES_FILE, VERDICTS_FILE

CHECK_MODULE = "distributed_something.worker.container.check_messages"
MAX_CHECKED_JOBS = 100_000  # of one Job file; make_job takes about 0.06 ms for each
MAX_CHECKED_BYTES = 256 * 1024 * 1024  # of messages, which are written to a temporary file
TIME_LIMIT_SECONDS = 20.0  # starting Python and importing the worker takes about half a second
TIME_LIMIT_SECONDS_PER_JOB = 0.001
# No credentials, and an endpoint where nothing listens for requests that need none.
_NO_AWS = {
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
    "AWS_MAX_ATTEMPTS": "1",
}
_INCOMPLETE_STATES = ("missing module", "unavailable")


@dataclass(frozen=True)
class OwnWorker:
    """The code that a project's containers run, and the container definition with their environment variables.

    `folder`: the project's folder `worker`. What is missing there is taken from `default_folder`.
    """

    folder: Path
    default_folder: Path
    container: Mapping[str, Any]


@dataclass(frozen=True)
class IncompleteCheck:
    """Why the project's own worker could not check all jobs.

    `state`: `missing module`, `unavailable`, `time limit`, `no serve` (its code does not call `serve`), `ended` (its
    process was killed), or `many jobs` (not all were given to it). `detail`: the name of the module, the error, the
    limit in seconds, the exit code, or the number of jobs that it checked.
    """

    state: str
    detail: str


def check_jobs(
    worker: OwnWorker, job_file: JobFile, count: int, seconds: float = TIME_LIMIT_SECONDS
) -> IncompleteCheck | None:
    """Raise InputError with every problem that the project's own `make_job` has with the jobs of a valid Job file.

    Return None if all jobs were checked; otherwise, return why not. `count`: the number of jobs. `seconds`: the time
    limit, which is longer for very many jobs. The template's own make_job gets only the first job, because
    reading the Job file has already checked the others in the same way.
    """
    with tempfile.TemporaryDirectory(prefix="submitJob-") as name:
        folder = Path(name).resolve()
        given = _write_messages(folder / MESSAGES_FILE, job_file, count if _has_own_code(worker) else 1)
        seconds = max(seconds, given * TIME_LIMIT_SECONDS_PER_JOB)
        exit_code = _run_check(worker, folder, seconds)
        verdicts = _read_verdicts(folder / VERDICTS_FILE)
    problems = InputProblems()
    for problem in _iter_problems(worker, job_file, verdicts):
        problems.add(problem)
    problems.raise_if_any()
    incomplete = _explain_incomplete_check(verdicts, exit_code, seconds)
    is_partial = incomplete is None and given < count and _has_own_code(worker)
    return IncompleteCheck("many jobs", f"{given:,}") if is_partial else incomplete


def _has_own_code(worker: OwnWorker) -> bool:
    """Return whether the project's generic-worker.py differs from the template's."""
    own, default = worker.folder / "generic-worker.py", worker.default_folder / "generic-worker.py"
    return own.exists() and own.read_bytes() != default.read_bytes()


def _write_messages(path: Path, job_file: JobFile, count: int) -> int:
    """Write the first `count` messages or, if these are too many, every second, third, … of them; return how many."""
    step, size, written = -(-count // MAX_CHECKED_JOBS), 0, 0
    with path.open("w", encoding="utf-8") as file:
        for index, body in enumerate(itertools.islice(job_file.iter_bodies(), count)):
            if index % step == 0 and size < MAX_CHECKED_BYTES:
                written += 1
                size += file.write(json.dumps({"number": index + 1, "body": body}) + "\n")
    return written


def _run_check(worker: OwnWorker, folder: Path, seconds: float) -> int | None:
    """Run the worker's check and return its exit code, or None if it took too long."""
    script, scripts = find_worker_files(worker.folder.resolve(), worker.default_folder)
    env = build_process_environment(worker.container, scripts) | _NO_AWS | {
        "HOME": str(folder), "PYTHONDONTWRITEBYTECODE": "1", CHECK_VARIABLE: str(folder),
    }  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-m", CHECK_MODULE, str(script)], cwd=folder, env=env, stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        return None
    finally:
        _kill_group(process)


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """End the check and whatever its hooks have started, also after Ctrl-C."""
    with suppress(ProcessLookupError, PermissionError):  # everything has ended
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _read_verdicts(path: Path) -> list[dict[str, Any]]:
    """Return the complete lines of the file; none if the check did not begin."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def _iter_problems(worker: OwnWorker, job_file: JobFile, verdicts: Sequence[Mapping[str, Any]]) -> Iterator[InputError]:
    """Yield an error for each reason. The same reason for several jobs is shown once, with the first of them."""
    code, seen = worker.folder / "generic-worker.py", set[tuple[object, ...]]()
    for verdict in verdicts:
        reason = tuple(verdict.get(name) for name in ("state", "error", "name", "file", "line"))
        if reason in seen:
            continue
        seen.add(reason)
        job = f"{job_file.groups_key}[{verdict['number']}]"
        if verdict["state"] == "refused":
            remedy = f"correct the job file, or make_job in {code}" if code.exists() else "correct the job file"
            yield InputError(job_file.path, job, f"the worker refuses this job: {verdict['error']}", remedy)
        elif verdict["state"] in ("broken", "unset variable"):
            yield _build_code_error(worker, verdict, "" if verdict["number"] is None else f" with {job}")


def _build_code_error(worker: OwnWorker, verdict: Mapping[str, Any], place: str) -> InputError:
    """Return the error for a mistake in the project's code. `place`: " with" the job that showed it, or ""."""
    file = Path(verdict["file"])
    folder = worker.folder.resolve()
    file = worker.folder / file.relative_to(folder) if file.is_relative_to(folder) else file
    line = f"line {verdict['line']}" if verdict["line"] else ""
    if verdict["state"] == "unset variable":
        problem = f"the environment variable {verdict['name']} is not set{place and ', but make_job needs it'}"
        return InputError(file, line, problem, f"add {verdict['name']} to the config, as one of your own constants")
    start = f"make_job fails{place}" if place else "the worker cannot start"
    return InputError(file, line, f"{start}: {verdict['error']}", "correct this file")


def _explain_incomplete_check(
    verdicts: Sequence[Mapping[str, Any]], exit_code: int | None, seconds: float
) -> IncompleteCheck | None:
    for verdict in verdicts:
        if verdict["state"] in _INCOMPLETE_STATES:
            return IncompleteCheck(verdict["state"], verdict["name"] or verdict["error"])
    if exit_code is None:
        return IncompleteCheck("time limit", f"{seconds:g}")
    if not any(verdict["state"] == "checked" for verdict in verdicts):
        return IncompleteCheck("ended", str(exit_code)) if exit_code else IncompleteCheck("no serve", "")
    return None
