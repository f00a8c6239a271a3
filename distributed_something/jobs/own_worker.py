"""Gives messages to the project's own `make_job`, so that `submitJob` refuses jobs that the worker would refuse.

The worker runs in a process of its own, in a temporary folder, with the environment variables of a task but without
access to AWS. What it needs and does not find there may be in the image, so only the worker can tell: such a check ends
with a reason why it is incomplete, not with an error.

The first job shows whether the worker can start, and whether its `make_job` is its own. If not, the others need no
check: `submitJob` has already checked them with the same code.

If the worker has the hook `check`, it gets all jobs, and the files that it asks for, such as the table and the pipeline
that a job names.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from distributed_something.core.errors import InputError, InputProblems
from distributed_something.jobs.job_file import JobFile
from distributed_something.jobs.run_job import SCRIPTS_VARIABLE, build_process_environment, find_worker_files
from distributed_something.jobs.submission.plan import SubmissionPlan, build_space_error
from distributed_something.worker import CHECK_VARIABLE, FILES_FILE, MESSAGES_FILE, NUMBER_FILE, VERDICTS_FILE

CHECK_MODULE = "distributed_something.worker.container.check_messages"
MAX_CHECKED_JOBS = 100_000  # of one Job file; make_job takes about 0.06 ms for each, and `check` 0.2 ms
MAX_CHECKED_BYTES = 256 * 1024 * 1024  # of messages, which are written to a temporary file
TIME_LIMIT_SECONDS = 20.0  # starting Python and importing the worker takes about half a second
TIME_LIMIT_SECONDS_PER_JOB = 0.001
# No credentials, and an endpoint where nothing listens for requests that need none.
_NO_AWS = {
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
    "AWS_MAX_ATTEMPTS": "1",
}
# Signals that end a process because of an error in native code; SIGKILL may mean that memory is short here.
_CRASH_SIGNALS = (signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT)
_MAX_ROUNDS = 4  # in each, the hook may ask for more files
FileFetcher = Callable[[str, str, Path], bool]  # (endpoint, address, path) -> whether the file was stored there
_INCOMPLETE_STATES = ("missing module", "unavailable")


@dataclass(frozen=True)
class OwnWorker:
    """The code that a project's containers run, and the container definition with their environment variables.

    `folder`: the project's folder `worker`. What is missing there is taken from `default_folder`. `has_image`: whether
    the jobs will run in the project's image, which may contain what this computer does not.
    """

    folder: Path
    default_folder: Path
    container: Mapping[str, Any]
    has_image: bool = True


@dataclass(frozen=True)
class IncompleteCheck:
    """Why the project's own worker could not check all jobs.

    `state`: `missing module`, `unavailable`, `time limit`, `no serve` (its code does not call `serve`), `ended` (its
    process was killed), `many jobs` (not all were given to it), or `no file`. `detail`: the name of the module, the
    error, the limit in seconds, the exit code, the number of jobs that it checked, or the address of a file that the
    hook `check` needs.
    """

    state: str
    detail: str


class OwnWorkerCheck:
    """A check of a Job file's jobs with the project's own `make_job` and its hook `check`, if any.

    Inside `with`, the worker's process starts with the first job, which takes about half a second. Meanwhile, the
    caller can check the jobs in its own way. `seconds`: how long `complete` waits in each round, which is longer for
    very many jobs. `fetch`: gets the files that `check` needs. `on_note`: gets each warning of `check`, which is not a
    reason to refuse the jobs.
    """

    def __init__(
        self, worker: OwnWorker, job_file: JobFile, seconds: float = TIME_LIMIT_SECONDS,
        fetch: FileFetcher = lambda endpoint, address, path: False,
        on_note: Callable[[str], None] = lambda text: None,
    ) -> None:  # fmt: skip
        self._worker, self._job_file, self._seconds = worker, job_file, seconds
        self._fetch, self._on_note = fetch, on_note
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            self._temporary = tempfile.TemporaryDirectory(prefix="submitJob-")
        except OSError as error:
            raise build_space_error(error) from None
        self._folder = Path(self._temporary.name).resolve()
        try:
            with suppress(InputError):  # the caller's own check may find more; otherwise, it is raised in `complete`
                self._begin_round((message.body for message in self._job_file.iter_checked_messages()), 1)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._kill_process()
        self._temporary.cleanup()

    def complete(self, plan: SubmissionPlan) -> IncompleteCheck | None:
        """Raise InputError with every problem that the project's worker has with the jobs of a valid Job file.

        Return None if all jobs were checked; otherwise, return why not.
        """
        files, wanted, given = _FetchedFiles(self._folder, self._fetch), 1, 1
        if self._process is None:
            self._begin_round(plan.bodies, 1)
        exit_code, verdicts = self._end_round()
        if plan.count > 1 and any(verdict["state"] == "checked" and not verdict["is_usual"] for verdict in verdicts):
            wanted, given = plan.count, self._begin_round(plan.bodies, plan.count)
            self._seconds = max(self._seconds, given * TIME_LIMIT_SECONDS_PER_JOB)
            exit_code, verdicts = self._end_round()
        for _ in range(_MAX_ROUNDS):
            if not files.fetch_needed(verdicts):
                break
            self._start_process()
            exit_code, verdicts = self._end_round()
        for text in (verdict["text"] for verdict in verdicts if verdict["state"] == "note"):
            self._on_note(text)
        self._raise_problems(exit_code, verdicts)
        incomplete = _explain_incomplete_check(verdicts, exit_code, self._seconds)
        if incomplete is None and files.missing_address:
            return IncompleteCheck("no file", files.missing_address)
        return IncompleteCheck("many jobs", f"{given:,}") if incomplete is None and given < wanted else incomplete

    def _begin_round(self, bodies: Iterable[str], count: int) -> int:
        """Start the worker with the first `count` messages, and return how many of them it gets.

        Raise InputError if there is no worker.
        """
        given = _write_messages(self._folder / MESSAGES_FILE, bodies, count)
        self._start_process()
        return given

    def _end_round(self) -> tuple[int | None, list[dict[str, Any]]]:
        """Wait for the worker; return its exit code, or None if it took too long, and its verdicts."""
        assert self._process is not None  # _start_process() was called first
        try:
            exit_code = self._process.wait(self._seconds)
        except subprocess.TimeoutExpired:
            exit_code = None
        finally:
            self._kill_process()
        return exit_code, _read_verdicts(self._folder / VERDICTS_FILE)

    def _start_process(self) -> None:
        (self._folder / VERDICTS_FILE).unlink(missing_ok=True)
        self._process = _start_worker(self._worker, self._folder)

    def _kill_process(self) -> None:
        """End the worker and whatever its hooks have started, also after Ctrl-C."""
        process, self._process = self._process, None
        if process is not None:
            with suppress(ProcessLookupError, PermissionError):  # everything has ended
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _raise_problems(self, exit_code: int | None, verdicts: Sequence[Mapping[str, Any]]) -> None:
        problems, number = InputProblems(), _read_last_number(self._folder)
        is_complete = any(verdict["state"] == "checked" for verdict in verdicts)
        if exit_code is not None and -exit_code in _CRASH_SIGNALS and number and not is_complete:
            place = self._job_file.format_place(int(number))
            problems.add(_build_crash_error(self._worker, place, signal.Signals(-exit_code)))
        for problem in _iter_problems(self._worker, self._job_file, verdicts):
            problems.add(problem)
        problems.raise_if_any()


class _FetchedFiles:
    """The files that the hook `check` needs. `missing_address`: one that could not be fetched; "" if there is none."""

    def __init__(self, folder: Path, fetch: FileFetcher) -> None:
        self._folder, self._fetch = folder, fetch
        self._paths: dict[tuple[str, str], str | None] = {}
        self.missing_address = ""

    def fetch_needed(self, verdicts: Sequence[Mapping[str, Any]]) -> bool:
        """Fetch the files that the verdicts name, and return whether there were any."""
        needed = dict.fromkeys(
            (verdict["endpoint"], address) for verdict in verdicts for address in verdict.get("files", ())
        )
        for endpoint, address in needed:
            path = self._folder / f"file-{len(self._paths)}"
            is_there = self._fetch(endpoint, address, path)
            self._paths[endpoint, address] = str(path) if is_there else None
            if not is_there and not self.missing_address:
                self.missing_address = f"{address} on {endpoint}" if endpoint else address
        files = [[*place, path] for place, path in self._paths.items()]
        (self._folder / FILES_FILE).write_text(json.dumps(files), encoding="utf-8")
        return bool(needed)


def _write_messages(path: Path, bodies: Iterable[str], count: int) -> int:
    """Write the first `count` messages or, if these are too many, every second, third, … of them; return how many."""
    step, size, written = -(-count // MAX_CHECKED_JOBS), 0, 0
    try:
        with path.open("w", encoding="utf-8") as file:
            for index, body in enumerate(itertools.islice(bodies, count)):
                if index % step == 0 and size < MAX_CHECKED_BYTES:
                    written += 1
                    size += file.write(json.dumps({"number": index + 1, "body": body}) + "\n")
    except OSError as error:
        raise build_space_error(error) from None
    return written


def _read_last_number(folder: Path) -> str:
    """Return the number of the last job that the worker began to check, or "" if there is none."""
    path = folder / NUMBER_FILE
    return path.read_text(encoding="utf-8").strip() if path.exists() else ""


def _start_worker(worker: OwnWorker, folder: Path) -> subprocess.Popen[bytes]:
    """Start the worker's check of the messages in `folder`. Raise InputError if there is no worker."""
    script, scripts = find_worker_files(worker.folder.resolve(), worker.default_folder)
    if not script.exists():
        problem = "this file does not exist, and workers cannot start without it"
        raise InputError(worker.folder / "generic-worker.py", "", problem, "restore it, for example from an older copy")
    env = build_process_environment(worker.container, scripts) | _NO_AWS | {
        "HOME": str(folder), "PYTHONDONTWRITEBYTECODE": "1", CHECK_VARIABLE: str(folder),
    }  # fmt: skip
    if worker.has_image:
        del env[SCRIPTS_VARIABLE]  # which only workers without an image have
    return subprocess.Popen(
        [sys.executable, "-m", CHECK_MODULE, str(script)], cwd=folder, env=env, stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip


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
        number = verdict["number"]
        job = "" if number is None else job_file.format_place(number)
        if verdict["state"] == "refused":
            remedy = "correct the job file or the config" + (f", or make_job in {code}" if code.exists() else "")
            # A file is then the likely cause, not these. Which one, and what to do, only the hook can say.
            remedy = "" if verdict.get("has_read") else remedy
            yield InputError(job_file.path, job, f"the worker refuses this job: {verdict['error']}", remedy)
        elif verdict["state"] in ("broken", "unset variable"):
            yield _build_code_error(worker, verdict, f" with {job}" if job else "")


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
