"""`run.py runJob`: one job of a job file, run here in the worker's own way and kept, to see why it fails.

The worker does it (`worker/container/single_job.py`), as a process or in its image, with the environment that its task
definition would have. Nothing is published, no queue is asked, no record is written.
"""

from __future__ import annotations

import json
import os
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
from distributed_something.core.text import format_row
from distributed_something.jobs.docker import Docker, build_docker_options
from distributed_something.jobs.job_file import JobFile

if TYPE_CHECKING:
    from distributed_something.core.config_settings import Settings


ONE_JOB_VARIABLE = "ONE_JOB_FOLDER"  # as worker/container/single_job.py has these four
MESSAGE_FILE_NAME, VERDICT_FILE_NAME, LOG_FILE_NAME = "message.json", "verdict.json", "log.txt"
RUN_JOB_FOLDER = "local/runJob"  # of the project; no bucket of the local cloud can have this name
CONTAINER_FOLDER = "/one-job"
PLACEHOLDER_QUEUES = QueueUrls("no-queue", "")
WORKER_STOP_SECONDS = 15  # after Ctrl-C: the worker ends its program within these
LOG_TAIL_LINES = 20


@dataclass(frozen=True)
class OneJob:
    """A job of a job file: its number there from 1, its id, and the body of its message."""

    number: int
    identity: str
    body: str


def select_job(job_file: JobFile, number: int | None, identity: str | None) -> OneJob:
    """The job of this number (from 1) or id; raises InputError where there is none, or a job before it is wrong."""
    count, first = 0, ""
    for count, (body, found) in enumerate(job_file.iter_checked_messages(), 1):
        first = first or found
        if number == count or identity == found:
            return OneJob(count, found, body)
    if not count:
        raise InputError(job_file.path, job_file.groups_key, "there is no job in it", "list at least one")
    if identity is not None:
        right = f"ids are such as {first}; --index takes a number from 1 to {count:,}"
        raise InputError(job_file.path, "--id", f"no job has the id {identity!r}", right)
    raise InputError(job_file.path, "--index", f"there is no job {number}", f"give a number from 1 to {count:,}")


def prepare_job_folder(project: Path, job: OneJob) -> Path:
    """The job's folder, fresh, with its message in it. Whatever user the image has may write there."""
    folder = (project / RUN_JOB_FOLDER / job.identity).resolve()
    try:
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
        folder.chmod(0o777)
        (folder / MESSAGE_FILE_NAME).write_text(job.body, encoding="utf-8")
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserFacingError(reason, "remove it, and try again", action=f"making {folder}") from None
    return folder


def build_one_job_container(settings: Settings) -> dict[str, Any]:
    """The container that `startCluster` would register, but for the queues."""
    container: dict[str, Any] = build_task_definition(settings, PLACEHOLDER_QUEUES, None)["containerDefinitions"][0]
    return container


def get_container_environment(container: Mapping[str, Any]) -> dict[str, str]:
    return {one["name"]: one["value"] for one in container["environment"]}


def read_endpoint_variables() -> dict[str, str]:
    """Where this command was told that AWS is; nothing, as a rule."""
    return {name: value for name, value in os.environ.items() if name.startswith("AWS_ENDPOINT_URL")}


# As a process


def run_worker_process(
    own: Path, root: Path, folder: Path, container: Mapping[str, Any], aws: Mapping[str, str]
) -> int:
    """Runs the generic-worker.py of the project's folder `worker` (`own`), or the one in `root`/worker; `aws`: how it
    reaches AWS. The worker's exit code."""
    script, scripts = (
        own / name if (own / name).exists() else root / "worker" / name for name in ("generic-worker.py", "scripts")
    )
    mine = {name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")}
    env = mine | {
        "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath))),
        "HOME": os.environ.get("HOME", str(folder)),
        "LANG": os.environ.get("LANG", "C.UTF-8"),
        "PYTHONPATH": str(root),
        "PYTHONUNBUFFERED": "1",
        **get_container_environment(container),
        **aws,
        "WORKER_SCRIPTS_DIR": str(scripts),
        ONE_JOB_VARIABLE: str(folder),
    }
    return _wait_for_worker(
        subprocess.Popen([sys.executable, str(script)], cwd=folder, env=env, stdin=subprocess.DEVNULL)
    )


def _wait_for_worker(worker: subprocess.Popen[bytes]) -> int:
    """Interrupted, it tells the worker, which ends its program and gets the time for that."""
    try:
        return worker.wait()
    except KeyboardInterrupt:
        worker.terminate()
        try:
            worker.wait(WORKER_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            worker.kill()
        raise


# In its image


def run_worker_container(folder: Path, container: Mapping[str, Any], aws: Mapping[str, str], docker: Docker) -> int:
    """Runs the image as ECS would. Files are copied in and out: the engine may be elsewhere, and the image's user
    another."""
    env = get_container_environment(container) | dict(aws) | {ONE_JOB_VARIABLE: CONTAINER_FOLDER}
    docker.require_image(container["image"])
    name = docker.ask("create", *build_docker_options(container, env), container["image"], env=env).strip()
    try:
        docker.ask("cp", f"{folder}/.", f"{name}:{CONTAINER_FOLDER}")
        code = _wait_for_worker(subprocess.Popen(["docker", "start", "--attach", name], stdin=subprocess.DEVNULL))
        docker.ask("cp", f"{name}:{CONTAINER_FOLDER}/.", str(folder))
        return code
    finally:
        docker.ask("rm", "--force", "--volumes", name)


# How it ended


@dataclass(frozen=True)
class JobOutcome:
    """How the job of `folder` ended. `verdict` is what the worker wrote about it; None where it wrote nothing.

    `uploads`: the job file has `upload` folders that were not brought up now. `container`: it ran in its image.
    """

    folder: Path
    worker_code: int
    verdict: Mapping[str, Any] | None
    uploads: bool
    container: bool

    @property
    def exit_code(self) -> int:
        """What `run.py runJob` ends with."""
        return 1 if self.verdict is None else {"done": 0, "bad message": 2}.get(self.verdict["state"], 1)


def load_job_outcome(folder: Path, worker_code: int, *, uploads: bool, container: bool) -> JobOutcome:
    """Read what the worker wrote about the job in `folder`."""
    try:
        verdict = json.loads((folder / VERDICT_FILE_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        verdict = None
    return JobOutcome(folder, worker_code, verdict, uploads, container)


def format_job_outcome(outcome: JobOutcome) -> str:
    """Return the outcome as it goes to standard output."""
    folder, told = outcome.folder, outcome.verdict
    if told is None:
        code = outcome.worker_code
        lines = [format_row("verdict", f"the worker ended before its job, with exit code {code}; it said why above")]
        return "\n".join([*lines, format_row("folder", folder)])
    called = f", {CONTAINER_FOLDER} in the container" if outcome.container else ""
    lines = [
        format_row("job", told["job"]),
        *(format_row("command", line) for line in _format_commands(told["command"])),
        format_row("exit code", _format_exit_code(told["exit_code"])),
        *_format_usage(told),
        format_row("folder", f"{folder} (job/input, job/output, {LOG_FILE_NAME}{called})"),
        format_row("verdict", _format_verdict(told)),
        *_format_last_lines(folder / LOG_FILE_NAME, told["state"]),
    ]
    if told["reason_class"] == "missing input" and outcome.uploads:
        lines.append(
            format_row("hint", "--upload brings the job file's `upload` folders to the bucket first, as submitJob does")
        )
    return "\n".join(lines)


def _format_verdict(told: Mapping[str, Any]) -> str:
    if told["state"] == "done":
        return "success"
    kind = "" if told["reason_class"] in (told["state"], "") else f" ({told['reason_class']})"
    return f"{told['state']}{kind}: {told['reason']}"


def _format_commands(command: Any) -> list[str]:
    """As a shell would take it; a list of lists is one command after the other."""
    if command is None:
        return ["none"]
    several = [command] if isinstance(command, str) or not any(isinstance(one, list) for one in command) else command
    return [one if isinstance(one, str) else shlex.join(map(str, one)) for one in several]


def _format_exit_code(value: object) -> object:
    return "none: no program ran" if value is None else value


def _format_usage(told: Mapping[str, Any]) -> list[str]:
    if told["exit_code"] is None:
        return []
    size = f"{told['output_files']:,} files, {told['output_bytes']:,} bytes; a run would bring them to {told['place']}"
    return [
        format_row("used", f"{told['seconds']:,} s, {told['peak_memory_bytes'] / 1024**2:,.0f} MiB of memory"),
        format_row("output", size),
    ]


def _format_last_lines(log: Path, state: str) -> list[str]:
    if state == "done" or not log.exists():
        return []
    text = log.read_bytes()[-8192:].decode("utf-8", "replace")
    return [format_row("", f"| {line}") for line in text.splitlines()[-LOG_TAIL_LINES:]]
