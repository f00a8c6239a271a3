"""`run.py runJob`: runs one job from a Job file on this computer, exactly as a worker would, to find out why it fails.

The worker's own code (`worker/container/single_job.py`) runs the job, as a process or in its Docker image, with the
environment variables from the task definition. The job's folder is kept. No results are uploaded, no queue is read, and
no record is written.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distributed_something.aws.sqs import QueueUrls
from distributed_something.aws.task_definition import build_task_definition
from distributed_something.core.errors import InputError, UserFacingError
from distributed_something.core.text import (
    LABEL_COLUMNS,
    TERMINAL_COLUMNS,
    format_count,
    format_row,
    format_wrapped_lines,
    format_wrapped_row,
    measure_columns,
)
from distributed_something.jobs.docker import Docker, build_docker_options
from distributed_something.jobs.job_file import JobFile
from distributed_something.worker import convert_exit_code, make_visible, split_lines

if TYPE_CHECKING:
    from distributed_something.core.config_settings import Settings


ONE_JOB_VARIABLE = "ONE_JOB_FOLDER"  # the same four names as in worker/container/single_job.py
MESSAGE_FILE_NAME, VERDICT_FILE_NAME, LOG_FILE_NAME = "message.json", "verdict.json", "log.txt"
RUN_JOB_FOLDER = "local/runJob"  # in the project's folder local/; no bucket in the local cloud can have this name
CONTAINER_FOLDER = "/one-job"
PLACEHOLDER_QUEUES = QueueUrls("no-queue", "")
WORKER_STOP_SECONDS = 15  # how long the worker has after Ctrl-C to end its program
LOG_TAIL_LINES = 20
_SHELL_WORD = re.compile(r"""(?:[^\s'"\\#]|'[^']*'|"(?:[^"\\]|\\.)*"|\\\S)+""")  # quotes may contain spaces
SCRIPTS_VARIABLE = "WORKER_SCRIPTS_DIR"  # only for workers that do not run in the project's image


@dataclass(frozen=True)
class OneJob:
    """A job from a job file: its number (from 1), its ID, and the body of its message."""

    number: int
    identity: str
    body: str


def select_job(job_file: JobFile, number: int | None, wanted_id: str | None) -> OneJob:
    """Return the job with this number (from 1) or this ID.

    Raise InputError if there is no such job, or if any job before it is invalid. Later jobs are not checked.
    """
    count, first_identity = 0, ""
    for message in job_file.iter_checked_messages():
        count, first_identity = message.number, first_identity or message.id
        if number == count or wanted_id == message.id:
            return OneJob(count, message.id, message.body)
    if not count:
        raise InputError(job_file.path, job_file.groups_key, "it contains no jobs", "list at least one")
    if wanted_id is not None:
        remedy = f"write an ID such as {first_identity}, or use --index with a number from 1 to {count:,}"
        raise InputError(job_file.path, "--id", f"no job has the ID {wanted_id!r}", remedy)
    raise InputError(job_file.path, "--index", f"there is no job {number}", f"write a number from 1 to {count:,}")


def prepare_job_folder(project: Path, job: OneJob) -> Path:
    """Return a new folder for the job, with only the job's message in it. Any user in a container may write to it."""
    folder = (project / RUN_JOB_FOLDER / job.identity).resolve()
    try:
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
        folder.chmod(0o777)
        (folder / MESSAGE_FILE_NAME).write_text(job.body, encoding="utf-8")
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserFacingError(reason, "delete this folder and try again", action=f"creating {folder}") from None
    return folder


def build_one_job_container(settings: Settings) -> dict[str, Any]:
    """Return the container definition that `startCluster` would register, but without the queues."""
    container: dict[str, Any] = build_task_definition(settings, PLACEHOLDER_QUEUES, None)["containerDefinitions"][0]
    return container


def get_container_environment(container: Mapping[str, Any]) -> dict[str, str]:
    return {variable["name"]: variable["value"] for variable in container["environment"]}


def read_endpoint_variables() -> dict[str, str]:
    """Return the environment variables that set the endpoints of AWS services. Usually there are none."""
    return {name: value for name, value in os.environ.items() if name.startswith("AWS_ENDPOINT_URL")}


# As a process


def find_worker_files(own: Path, default_worker: Path) -> tuple[Path, Path]:
    """Return the paths of generic-worker.py and of the folder `scripts`.

    `own`: the project's folder `worker`. What is missing there is taken from `default_worker`.
    """
    script, scripts = (
        own / name if (own / name).exists() else default_worker / name for name in ("generic-worker.py", "scripts")
    )
    return script, scripts


def build_process_environment(container: Mapping[str, Any], scripts: Path) -> dict[str, str]:
    """Return a container's environment variables for a worker process, without HOME and without access to AWS."""
    return {
        "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath))),
        "LANG": os.environ.get("LANG", "C.UTF-8"),
        "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
        "PYTHONUNBUFFERED": "1",
        **get_container_environment(container),
        SCRIPTS_VARIABLE: str(scripts),
    }


def run_worker_process(
    own: Path, default_worker: Path, folder: Path, container: Mapping[str, Any], aws: Mapping[str, str]
) -> int:
    """Run the job in `folder` with a worker process, and return the worker's exit code.

    `own`: the project's folder `worker`. What is missing there is taken from `default_worker`. `aws`: the environment
    variables with which the worker reaches AWS.
    """
    script, scripts = find_worker_files(own, default_worker)
    proxies = {name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")}
    env = {
        **proxies,
        **build_process_environment(container, scripts),
        "HOME": os.environ.get("HOME", str(folder)),
        **aws,
        ONE_JOB_VARIABLE: str(folder),
    }
    return _wait_for_worker(
        subprocess.Popen([sys.executable, str(script)], cwd=folder, env=env, stdin=subprocess.DEVNULL)
    )


def _wait_for_worker(worker: subprocess.Popen[bytes]) -> int:
    """Wait for the worker and return its exit code.

    After Ctrl-C, stop the worker and give it time to end its program.
    """
    try:
        return worker.wait()
    except KeyboardInterrupt:
        worker.terminate()
        try:
            worker.wait(WORKER_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            worker.kill()
        raise


# In a container


def run_worker_container(folder: Path, container: Mapping[str, Any], aws: Mapping[str, str], docker: Docker) -> int:
    """Run the job in `folder` in its Docker image, as ECS would, and return the worker's exit code.

    Files are copied in and out, because the container engine may be on another computer and the image may run as a
    different user.
    """
    env = get_container_environment(container) | dict(aws) | {ONE_JOB_VARIABLE: CONTAINER_FOLDER}
    docker.require_image(container["image"])
    name = docker.run("create", *build_docker_options(container, env), container["image"], env=env).strip()
    try:
        docker.run("cp", f"{folder}/.", f"{name}:{CONTAINER_FOLDER}")
        code = _wait_for_worker(subprocess.Popen(["docker", "start", "--attach", name], stdin=subprocess.DEVNULL))
        docker.run("cp", f"{name}:{CONTAINER_FOLDER}/.", str(folder))
        return code
    finally:
        docker.run("rm", "--force", "--volumes", name)


# The outcome


@dataclass(frozen=True)
class JobOutcome:
    """The outcome of the job in `folder`.

    `verdict`: what the worker wrote about the job, or None if it wrote nothing. `uploads`: whether the job file has
    `upload` folders that were not uploaded this time. `container`: whether the job ran in its Docker image.
    """

    folder: Path
    worker_code: int
    verdict: Mapping[str, Any] | None
    uploads: bool
    container: bool

    @property
    def exit_code(self) -> int:
        """The exit code of `run.py runJob`."""
        return 1 if self.verdict is None else {"done": 0, "bad message": 2}.get(self.verdict["state"], 1)


def load_job_outcome(folder: Path, worker_code: int, *, uploads: bool, container: bool) -> JobOutcome:
    """Read what the worker wrote about the job in `folder`."""
    try:
        verdict = json.loads((folder / VERDICT_FILE_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        verdict = None
    return JobOutcome(folder, worker_code, verdict, uploads, container)


def format_job_outcome(outcome: JobOutcome) -> str:
    """Return the outcome as labeled lines for standard output."""
    folder, verdict = outcome.folder, outcome.verdict
    if verdict is None:
        code = outcome.worker_code
        problem = f"the worker ended before the job did, with exit code {code}; see its messages above"
        return "\n".join([format_wrapped_row("verdict", problem), *_format_folder(folder)])
    container_note = f", {CONTAINER_FOLDER} in the container" if outcome.container else ""
    lines = [
        format_row("job", verdict["job"]),
        *(row for command in _format_commands(verdict["command"]) for row in _format_command_rows(command)),
        format_row("exit code", _format_exit_code(verdict["exit_code"])),
        *_format_usage(verdict),
        *_format_folder(folder),
        format_row("", f"(job/input, job/output, {LOG_FILE_NAME}{container_note})"),
        format_wrapped_row("verdict", _format_verdict(verdict)),
        *_format_last_lines(folder / LOG_FILE_NAME, verdict["state"]),
    ]
    if verdict["reason_class"] == "missing input" and outcome.uploads:
        lines.append(
            format_wrapped_row(
                "hint", "--upload first uploads the job file's `upload` folders to the bucket, as submitJob does"
            )
        )
    return "\n".join(lines)


def _format_verdict(verdict: Mapping[str, Any]) -> str:
    if verdict["state"] == "done":
        return "success"
    kind = "" if verdict["reason_class"] in (verdict["state"], "") else f" ({verdict['reason_class']})"
    return f"{verdict['state']}{kind}: {verdict['reason']}"


def _format_commands(command: Any) -> list[str]:
    """Return each command in a form that can be pasted into a shell. A list of lists contains several commands."""
    if command is None:
        return ["none"]
    is_single = isinstance(command, str) or not any(isinstance(part, list) for part in command)
    commands = [command] if is_single else command
    return [part if isinstance(part, str) else shlex.join(map(str, part)) for part in commands]


def _format_command_rows(command: str) -> list[str]:
    """Return the command in lines that fit a terminal and end with backslashes, so that it can still be pasted.

    It is not broken if it has a comment or more than spaces between its words.
    """
    words = _SHELL_WORD.findall(command)
    lines = [format_row("command", command)]
    if measure_columns(lines[0]) <= TERMINAL_COLUMNS or " ".join(words) != command:
        return lines
    lines = [format_row("command", words[0])]
    for word in words[1:]:
        free = TERMINAL_COLUMNS - measure_columns(f"{word} \\")
        if measure_columns(lines[-1]) + 1 <= free:
            lines[-1] += f" {word}"
        else:
            lines[-1] += " \\"
            lines.append(" " * min(LABEL_COLUMNS, max(0, free)) + word)
    return lines


def _format_folder(folder: Path) -> list[str]:
    """Return the folder's row; a path that does not fit beside the label is on a line of its own, unbroken."""
    columns = measure_columns(str(folder))
    if LABEL_COLUMNS + columns <= TERMINAL_COLUMNS:
        return [format_row("folder", folder)]
    return ["folder", " " * max(0, TERMINAL_COLUMNS - columns) + str(folder)]


def _format_exit_code(value: int | None) -> str | int | None:
    return "none: no program ran" if value is None else convert_exit_code(value)


def _format_usage(verdict: Mapping[str, Any]) -> list[str]:
    if verdict["exit_code"] is None:
        return []
    size = f"{format_count(verdict['output_files'], 'file')}, {format_count(verdict['output_bytes'], 'byte')}"
    server = f" on {verdict['endpoint']}" if verdict.get("endpoint") else ""
    goal = f"upload them to {verdict['place']}{server}" if verdict["place"] else "give them to the hook deliver()"
    return [
        format_row("used", f"{verdict['seconds']:,} s, {verdict['peak_memory_bytes'] / 1024**2:,.0f} MiB of memory"),
        *format_wrapped_lines(
            f"{size}; a run would {goal}", format_row("output", ""), " " * LABEL_COLUMNS, TERMINAL_COLUMNS
        ),
    ]


def _format_last_lines(log: Path, state: str) -> list[str]:
    if state == "done" or not log.exists():
        return []
    text = log.read_bytes()[-8192:].decode("utf-8", "replace")
    return [format_row("", f"| {make_visible(line)}") for line in split_lines(text)[-LOG_TAIL_LINES:]]
