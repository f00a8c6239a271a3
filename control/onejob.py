"""`run.py runJob`: one job of a job file, run here in the worker's own way and kept, to see why it fails.

The worker does it (`worker/machinery/onejob.py`), as a process or in its image, with the environment that its task
definition would have. Nothing is published, no queue is asked, no record is written.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from control import cluster
from control.errors import InputError, Problem
from control.jobs import JobFile
from control.queue import Queues

if TYPE_CHECKING:
    from control.settings import Settings

VARIABLE = "ONE_JOB_FOLDER"  # as worker/machinery/onejob.py has these four
MESSAGE, VERDICT, LOG = "message.json", "verdict.json", "log.txt"
FOLDER = "local/runJob"  # of the project; no bucket of the local cloud can have this name
IN_CONTAINER = "/one-job"
NO_QUEUE = Queues("no-queue", "")
ENDING_SECONDS = 15  # after Ctrl-C: the worker ends its program within these
LINES_SHOWN = 20


@dataclass(frozen=True)
class OneJob:
    """A job of a job file: its number there from 1, its id, and the body of its message."""

    number: int
    identity: str
    body: str


def find(job_file: JobFile, number: int | None, identity: str | None) -> OneJob:
    """The job of this number (from 1) or id; raises InputError where there is none, or a job before it is wrong."""
    count, first = 0, ""
    for count, (body, found) in enumerate(job_file.checked(), 1):
        first = first or found
        if number == count or identity == found:
            return OneJob(count, found, body)
    if not count:
        raise InputError(job_file.path, job_file.groups_key, "there is no job in it", "list at least one")
    if identity is not None:
        right = f"ids are such as {first}; --index takes a number from 1 to {count:,}"
        raise InputError(job_file.path, "--id", f"no job has the id {identity!r}", right)
    raise InputError(job_file.path, "--index", f"there is no job {number}", f"give a number from 1 to {count:,}")


def make_folder(project: Path, job: OneJob) -> Path:
    """The job's folder, fresh, with its message in it. Whatever user the image has may write there."""
    folder = (project / FOLDER / job.identity).resolve()
    try:
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
        folder.chmod(0o777)
        (folder / MESSAGE).write_text(job.body, encoding="utf-8")
    except OSError as error:
        raise Problem(f"while making {folder}: {error.strerror or error} — remove it, and try again") from None
    return folder


def container_of(settings: Settings) -> dict[str, Any]:
    """The container that `startCluster` would register, but for the queues."""
    container: dict[str, Any] = cluster.task_definition(settings, NO_QUEUE, None)["containerDefinitions"][0]
    return container


def environment_of(container: Mapping[str, Any]) -> dict[str, str]:
    return {one["name"]: one["value"] for one in container["environment"]}


def addresses() -> dict[str, str]:
    """Where this command was told that AWS is; nothing, as a rule."""
    return {name: value for name, value in os.environ.items() if name.startswith("AWS_ENDPOINT_URL")}


# As a process


def run_process(own: Path, shipped: Path, folder: Path, container: Mapping[str, Any], aws: Mapping[str, str]) -> int:
    """Runs the generic-worker.py of the project's folder `worker` (`own`), or the shipped one; `aws`: how it reaches
    AWS. The worker's exit code."""
    script, scripts = (
        own / name if (own / name).exists() else shipped / name for name in ("generic-worker.py", "scripts")
    )
    mine = {name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")}
    env = mine | {
        "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath))),
        "HOME": os.environ.get("HOME", str(folder)),
        "LANG": os.environ.get("LANG", "C.UTF-8"),
        "PYTHONPATH": str(shipped),
        "PYTHONUNBUFFERED": "1",
        **environment_of(container),
        **aws,
        "WORKER_SCRIPTS_DIR": str(scripts),
        VARIABLE: str(folder),
    }
    return _wait(subprocess.Popen([sys.executable, str(script)], cwd=folder, env=env, stdin=subprocess.DEVNULL))


def _wait(worker: subprocess.Popen[bytes]) -> int:
    """Interrupted, it tells the worker, which ends its program and gets the time for that."""
    try:
        return worker.wait()
    except KeyboardInterrupt:
        worker.terminate()
        try:
            worker.wait(ENDING_SECONDS)
        except subprocess.TimeoutExpired:
            worker.kill()
        raise


# In its image


def run_container(folder: Path, container: Mapping[str, Any], aws: Mapping[str, str], docker: Docker) -> int:
    """Runs the image as ECS would. Files are copied in and out: the engine may be elsewhere, and the image's user
    another."""
    env = environment_of(container) | dict(aws) | {VARIABLE: IN_CONTAINER}
    docker.require_image(container["image"])
    name = docker.ask("create", *options(container, env), container["image"], env=env).strip()
    try:
        docker.ask("cp", f"{folder}/.", f"{name}:{IN_CONTAINER}")
        code = _wait(subprocess.Popen(["docker", "start", "--attach", name], stdin=subprocess.DEVNULL))
        docker.ask("cp", f"{name}:{IN_CONTAINER}/.", str(folder))
        return code
    finally:
        docker.ask("rm", "--force", "--volumes", name)


def options(container: Mapping[str, Any], env: Mapping[str, str]) -> list[str]:
    """Of `docker create`. Values travel in the client's environment: no process list shows them."""
    rights = container.get("linuxParameters", {})
    devices = [one["hostPath"] for one in rights.get("devices", [])]
    words = ["--pull", "never", "--network", "host", "--cpu-shares", str(container["cpu"])]
    words += ["--memory", f"{container['memory']}m"]
    words += [word for name in rights.get("capabilities", {}).get("add", []) for word in ("--cap-add", name)]
    words += [word for path in devices for word in ("--device", path)]
    return words + [word for name in env for word in ("--env", name)]


class Docker:
    """The container engine's own command line."""

    def __init__(self, run: Callable[..., subprocess.CompletedProcess[str]] = subprocess.run) -> None:
        self._run = run

    def ask(self, *words: str, env: Mapping[str, str] | None = None) -> str:
        """What it answers; raises Problem where it refuses, or is not there."""
        done = self._done(*words, env=env)
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise Problem(f"while asking docker to {words[0]}: {reason} — is the container engine running?")
        return done.stdout

    def require_image(self, image: str) -> None:
        """Raises Problem where the image is not on this computer: what it would pull may be a stranger's."""
        if self._done("image", "inspect", image).returncode:
            self.ask("version")
            right = "make build, or docker pull it, or leave --containers out"
            raise Problem(f"while running a job in {image}: this image is not on this computer — {right}")

    def _done(self, *words: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        given = {**os.environ, **(env or {})}
        try:
            return self._run(["docker", *words], env=given, capture_output=True, text=True, check=False)
        except OSError as error:
            raise Problem(
                f"while asking docker to {words[0]}: {error.strerror} — install it, or leave --containers out"
            ) from None


# How it ended


@dataclass(frozen=True)
class Shown:
    """What a user reads, and the exit code that stands for it."""

    text: str
    exit_code: int


def verdict(folder: Path, worker_code: int, *, uploads: bool, container: bool) -> Shown:
    """How the job of `folder` ended. `uploads`: the job file has `upload` folders that were not brought up now."""
    called = f", {IN_CONTAINER} in the container" if container else ""
    try:
        told = json.loads((folder / VERDICT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        lines = [f"verdict         the worker ended before its job, with exit code {worker_code}; it said why above"]
        return Shown("\n".join([*lines, f"folder          {folder}"]), 1)
    lines = [
        f"job             {told['job']}",
        *(f"command         {line}" for line in _commands(told["command"])),
        f"exit code       {_or_none(told['exit_code'])}",
        *_outputs(told),
        f"folder          {folder} (job/input, job/output, {LOG}{called})",
        f"verdict         {_verdict(told)}",
        *_last_lines(folder / LOG, told["state"]),
    ]
    if told["reason_class"] == "missing input" and uploads:
        lines.append(
            "hint            --upload brings the job file's `upload` folders to the bucket first, as submitJob does"
        )
    return Shown("\n".join(lines), {"done": 0, "bad message": 2}.get(told["state"], 1))


def _verdict(told: Mapping[str, Any]) -> str:
    if told["state"] == "done":
        return "success"
    kind = "" if told["reason_class"] in (told["state"], "") else f" ({told['reason_class']})"
    return f"{told['state']}{kind}: {told['reason']}"


def _commands(command: Any) -> list[str]:
    """As a shell would take it; a list of lists is one command after the other."""
    if command is None:
        return ["none"]
    several = [command] if isinstance(command, str) or not any(isinstance(one, list) for one in command) else command
    return [one if isinstance(one, str) else shlex.join(map(str, one)) for one in several]


def _or_none(value: object) -> object:
    return "none: no program ran" if value is None else value


def _outputs(told: Mapping[str, Any]) -> list[str]:
    if told["exit_code"] is None:
        return []
    size = f"{told['output_files']:,} files, {told['output_bytes']:,} bytes; a run would bring them to {told['place']}"
    return [
        f"used            {told['seconds']:,} s, {told['peak_memory_bytes'] / 1024**2:,.0f} MiB of memory",
        f"output          {size}",
    ]


def _last_lines(log: Path, state: str) -> list[str]:
    if state == "done" or not log.exists():
        return []
    text = log.read_bytes()[-8192:].decode("utf-8", "replace")
    return [f"                | {line}" for line in text.splitlines()[-LINES_SHOWN:]]
