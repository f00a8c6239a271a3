"""`run.py buildImage`: builds a project's image in two steps.

First, the program's image is built from worker/Dockerfile, which is the developer's alone. Then the worker is added to
it with the Dockerfile in this package, so that the program's image needs nothing for the worker.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from distributed_something.aws.instance_types import find_docker_platform
from distributed_something.core.config_settings import Settings
from distributed_something.core.errors import InputError, UserFacingError
from distributed_something.core.text import format_value
from distributed_something.project.template import PACKAGE_PARENT, find_template_file
from distributed_something.worker import VERSION

BUILD_COMMAND_VARIABLE = "DOCKER_BUILD"  # replaces `docker build`, for options such as --network host
VERSION_LABEL = "distributed-something.version"  # org.opencontainers.image.version is the program's own
_PACKAGE = "distributed_something"


def build_image(settings: Settings, project: Path, base: str | None = None, platform: str = "") -> None:
    """Build the image DOCKERHUB_TAG of the project.

    Raise InputError if files in the project's `worker` are missing or cannot be copied, before docker is called, and
    UserFacingError if docker fails.

    `base`: an image that contains the program; worker/Dockerfile is not built then. `platform`: such as `linux/amd64`,
    or "" for this computer's; a --platform in BUILD_COMMAND_VARIABLE replaces it.
    """
    image = settings.DOCKERHUB_TAG
    build = _read_build_command()
    if platform and not _has_platform(build):
        build += ["--platform", platform]
    signal.signal(signal.SIGTERM, _raise_exit)  # so that the temporary folder is deleted
    steps = []
    if base is None:
        base, dockerfile = f"{image}-program", project / "worker" / "Dockerfile"
        if not dockerfile.is_file():
            remedy = "write FROM and the image that contains your program in it, or add --base IMAGE"
            raise InputError(dockerfile, "", "there is no such file", remedy)
        steps.append([*build, "--tag", base, str(project / "worker")])
    with TemporaryDirectory() as context:
        fill_build_context(Path(context), project / "worker")  # first: a build of the program may take an hour
        arguments = {"BASE_IMAGE": base, "MOUNT_S3": str(settings.MOUNT_S3)}
        options = [word for pair in arguments.items() for word in ("--build-arg", "=".join(pair))]
        steps.append([*build, *options, "--tag", image, "--label", f"{VERSION_LABEL}={VERSION}", context])
        for command in steps:
            _run(command)


def choose_platform(settings: Settings, config: Path) -> str:
    """Return the platform that all machine types have, or "" if BUILD_COMMAND_VARIABLE contains one.

    Without it, an image that is built on a laptop with an Arm processor would run on no x86 machine. Raise InputError
    for the file `config` if the machine types have different platforms.
    """
    if _has_platform(_read_build_command()):
        return ""
    platforms = {name: find_docker_platform(name) for name in settings.MACHINE_TYPE}
    if len(set(platforms.values())) > 1:
        by_type = ", ".join(f"{name} is {platform}" for name, platform in platforms.items())
        problem = f"these machine types have different processors ({by_type}), but an image is built for one of them"
        remedy = "use only x86 types or only Arm types"
        raise InputError(config, "MACHINE_TYPE", problem, remedy)
    return next(iter(platforms.values()))


def push_image(settings: Settings) -> None:
    """Push the image DOCKERHUB_TAG. Raise UserFacingError if docker fails."""
    _run(["docker", "push", settings.DOCKERHUB_TAG])


def fill_build_context(context: Path, worker: Path) -> None:
    """Put everything into the empty folder `context` that the second step copies into the image.

    `worker`: the project's folder of that name. What it does not have comes from the template. Raise InputError for
    what cannot be copied from it, and UserFacingError if the disk is full.
    """
    package = PACKAGE_PARENT / _PACKAGE
    try:
        for folder in (find_template_file("worker"), worker):
            if folder.is_dir():
                shutil.copytree(
                    folder, context, dirs_exist_ok=True, ignore=_list_ignored_names, copy_function=_copy_file
                )
        shutil.copytree(package / "worker", context / _PACKAGE / "worker", ignore=_list_ignored_names)
        shutil.copy(package / "__init__.py", context / _PACKAGE)
        shutil.copy(package / "worker" / "image" / "Dockerfile", context)
    except OSError as error:
        reason = error.args[0][0][-1] if isinstance(error, shutil.Error) else error.strerror or str(error)
        raise UserFacingError(reason, action=f"copying {worker} for the image") from None


def _list_ignored_names(folder: str, names: list[str]) -> set[str]:
    """Return the names that are not copied. Raise InputError for a link that would be followed again and again.

    Dangling links are among them: editors mark open files with them. shutil's own option for dangling links would also
    leave out relative links that lead somewhere, because it looks for their targets in the current folder.
    """
    ignored = {name for name in names if name == "__pycache__"}
    for path in (Path(folder, name) for name in names):
        if not path.is_symlink():
            continue
        if not path.exists():
            ignored.add(path.name)
        elif Path(folder).resolve().is_relative_to(path.resolve()):
            raise InputError(path, "", "this link leads to a folder that contains it", "remove it")
    return ignored


def _copy_file(source: str, target: str) -> None:
    if not (os.path.isfile(source) and os.access(source, os.R_OK)):
        problem = "this is not a file or folder that can be read"
        raise InputError(source, "", problem, "remove it, or make it readable")
    shutil.copy2(source, target)


def _read_build_command() -> list[str]:
    text = os.environ.get(BUILD_COMMAND_VARIABLE, "")
    try:
        return shlex.split(text) or ["docker", "build"]
    except ValueError as error:
        problem = f"{format_value(text)} is not a command ({error})"
        raise InputError(BUILD_COMMAND_VARIABLE, "", problem, "close the quote") from None


def _has_platform(command: Sequence[str]) -> bool:
    return any(word.split("=")[0] == "--platform" for word in command)


def _run(command: Sequence[str]) -> None:
    """Run a command that prints to the terminal. Raise UserFacingError if it fails."""
    action = f"running {shlex.join(command[:2])}"
    try:
        code = subprocess.run(command, check=False).returncode
    except OSError as error:
        raise UserFacingError(error.strerror or str(error), "install Docker", action=action) from None
    if code:
        raise UserFacingError(f"exit code {code}", "see the messages above", action=action)


def _raise_exit(signal_number: int, _frame: object) -> None:
    raise SystemExit(128 + signal_number)
