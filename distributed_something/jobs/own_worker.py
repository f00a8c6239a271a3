"""Gives sample messages to the project's own `make_job`, so that `submitJob` refuses jobs that the worker would refuse.

The worker runs in a process of its own, in a temporary folder, with the environment variables of a task but without
access to AWS. What it needs and does not find there may be in the image, so only the worker can tell: such a check ends
with a reason why it is incomplete, not with an error.
"""

from __future__ import annotations

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
from distributed_something.jobs.job_file import CheckedMessage, JobFile
from distributed_something.jobs.run_job import build_process_environment, find_worker_files
from distributed_something.worker import CHECK_VARIABLE, MESSAGES_FILE, VERDICTS_FILE

CHECK_MODULE = "distributed_something.worker.container.check_messages"
TIME_LIMIT_SECONDS = 20.0  # for all samples; starting Python and importing the worker takes about half a second
# No credentials, and an endpoint where nothing listens for requests that need none.
_NO_AWS = {
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
    "AWS_MAX_ATTEMPTS": "1",
}
# Signals that end a process because of an error in native code; SIGKILL may mean that memory is short here.
_CRASH_SIGNALS = (signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT)
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
    """Why the project's own worker could not check all samples.

    `state`: `missing module`, `unavailable`, `time limit`, `no serve` (its code does not call `serve`), or `ended` (its
    process was killed). `detail`: the name of the module, the error, the limit in seconds, or the exit code.
    """

    state: str
    detail: str


def check_samples(
    worker: OwnWorker, job_file: JobFile, samples: Sequence[CheckedMessage], seconds: float = TIME_LIMIT_SECONDS
) -> IncompleteCheck | None:
    """Raise InputError with every problem that the project's own `make_job` has with the samples.

    Return None if all samples were checked; otherwise, return why not. `seconds`: the time limit.
    """
    if "command" in job_file.shared and _is_shipped_code(worker):
        return None  # it builds jobs with the code that has already checked all of them
    with tempfile.TemporaryDirectory(prefix="submitJob-") as name:
        folder = Path(name).resolve()
        lines = (json.dumps({"number": sample.number, "body": sample.body}) for sample in samples)
        (folder / MESSAGES_FILE).write_text("\n".join(lines), encoding="utf-8")
        exit_code = _run_check(worker, folder, seconds)
        verdicts = _read_verdicts(folder / VERDICTS_FILE)
    problems, seen = InputProblems(), set[tuple[str, str, str]]()
    if exit_code is not None and -exit_code in _CRASH_SIGNALS and len(verdicts) < len(samples):
        place = f"{job_file.groups_key}[{samples[len(verdicts)].number}]"
        problems.add(_build_crash_error(worker, place, signal.Signals(-exit_code)))
    for problem in _iter_problems(worker, job_file, verdicts):
        place = "" if problem.file == job_file.path else problem.key  # the same reason for several jobs is shown once
        if (reason := (str(problem.file), place, problem.remedy + problem.problem)) not in seen:
            seen.add(reason)
            problems.add(problem)
    problems.raise_if_any()
    return _explain_incomplete_check(verdicts, len(samples), exit_code, seconds)


def _is_shipped_code(worker: OwnWorker) -> bool:
    """Return whether the project's containers run the shipped generic-worker.py, without any changes."""
    script, _ = find_worker_files(worker.folder, worker.default_folder)
    shipped = worker.default_folder / "generic-worker.py"
    return script.exists() and (script == shipped or script.read_bytes() == shipped.read_bytes())


def _run_check(worker: OwnWorker, folder: Path, seconds: float) -> int | None:
    """Run the worker's check and return its exit code, or None if it took too long.

    Raise InputError if there is no worker.
    """
    script, scripts = find_worker_files(worker.folder.resolve(), worker.default_folder)
    if not script.exists():
        problem = "this file does not exist, and workers cannot start without it"
        raise InputError(worker.folder / "generic-worker.py", "", problem, "restore it, for example from an older copy")
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
    code = worker.folder / "generic-worker.py"
    for verdict in verdicts:
        job = f"{job_file.groups_key}[{verdict['number']}]"
        if verdict["state"] == "refused":
            remedy = f"correct the job file, or make_job in {code}" if code.exists() else "correct the job file"
            yield InputError(job_file.path, job, f"the worker refuses this job: {verdict['error']}", remedy)
        elif verdict["state"] in ("broken", "unset variable"):
            yield _build_code_error(worker, verdict, "" if verdict["number"] is None else f" with {job}")


def _build_crash_error(worker: OwnWorker, place: str, number: signal.Signals) -> InputError:
    problem = f"make_job crashes Python with {place} ({number.name}: {signal.strsignal(number)})"
    return InputError(worker.folder / "generic-worker.py", "", problem, "correct this file, or a library that it calls")


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
    verdicts: Sequence[Mapping[str, Any]], sample_count: int, exit_code: int | None, seconds: float
) -> IncompleteCheck | None:
    for verdict in verdicts:
        if verdict["state"] in _INCOMPLETE_STATES:
            return IncompleteCheck(verdict["state"], verdict["name"] or verdict["error"])
    if exit_code is None:
        return IncompleteCheck("time limit", f"{seconds:g}")
    if len(verdicts) < sample_count:
        return IncompleteCheck("ended", str(exit_code)) if exit_code else IncompleteCheck("no serve", "")
    return None
