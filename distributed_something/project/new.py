"""`run.py newProject`: creates a repository for a new project from the template or from one of its examples.

A project contains only what people edit, and this package as a wheel in `vendor/`. It is created in a temporary folder
and then moved, so that an error leaves nothing behind.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from distributed_something.core.errors import InputError, InputProblems, UserFacingError, format_input_problems
from distributed_something.core.files import read_text_file, write_file_atomically
from distributed_something.core.image_name import IMAGE_NAME_FORMAT, ProjectImageName, parse_project_image
from distributed_something.core.names import RESOURCE_NAME_FORMAT
from distributed_something.core.text import find_similar_name, format_value
from distributed_something.jobs.command import has_shell_syntax
from distributed_something.jobs.job_file import load_job_file
from distributed_something.project.config_file import load_settings
from distributed_something.project.move_in.move_in import MoveReport, OldProject, move_in
from distributed_something.project.starter import (
    DEFAULT_PROGRAM,
    EXAMPLE_DATA,
    EXPECTED_FOLDER,
    EXPECTED_RESULTS,
    PROGRAM_PLACEHOLDERS,
    build_example_job,
    build_readme,
    copy_example,
    iter_preparation_commands,
)
from distributed_something.project.template import PACKAGE_PARENT, SKELETON, find_template_file, is_repository
from distributed_something.project.wheel import build_wheel
from distributed_something.worker import list_placeholders

MAX_APP_NAME_CHARACTERS = 64  # queue names contain APP_NAME, and SQS allows 80 characters
_TEMPLATE_FILES = ("run.py", "LICENSE", "config.py", "files/exampleFleet.json", "worker/generic-worker.py",
        "worker/requirements-own.txt", "worker/scripts", ".github/workflows/image.yml")  # fmt: skip
VENDOR_FOLDER = "vendor"
_COMMIT_IDENTITY = ("Distributed-Something", "distributed-something@localhost")  # if git does not know the user


class DraftError(InputError):
    """Error in a file of the project that was to be created; nothing was created."""

    def __str__(self) -> str:
        return "\n".join(f"newProject: {line}; nothing was created" for line in format_input_problems(self))


@dataclass(frozen=True)
class ProjectSpec:
    """Options of a new project. `base` and `program` are None if an example defines them.

    `old`: the config and files of a published implementation, which replace those of the example.
    """

    app_name: str
    image: ProjectImageName
    base: str | None = "debian:bookworm-slim"
    program: str | None = DEFAULT_PROGRAM
    example: str | None = None
    old: OldProject = field(default_factory=OldProject)


def build_default_app_name(folder: Path) -> str:
    """Return an APP_NAME that is derived from the folder's name."""
    plain = re.sub(r"[^A-Za-z0-9_-]+", "-", folder.resolve().name).strip("-_")
    return plain[:MAX_APP_NAME_CHARACTERS] or "MyProject"


def build_default_image(app_name: str) -> str:
    """Return a placeholder name of an image; run.py asks for a real name before it calls AWS."""
    name = re.sub(r"[-_]*(-_|_-|___)[-_]*", "-", app_name.lower().strip("-_"))  # Docker rejects these sequences
    return f"user/{name or 'program'}:latest"


def check_app_name_option(text: str) -> str:
    """Return `text` if it is a valid APP_NAME; raise InputError if not."""
    if not RESOURCE_NAME_FORMAT.fits(text) or len(text) > MAX_APP_NAME_CHARACTERS:
        remedy = f"write at most {MAX_APP_NAME_CHARACTERS} letters, digits, -, or _; start with a letter or digit"
        raise InputError("--app-name", "", f"{format_value(text)} is not a valid name for AWS resources", remedy)
    return text


def parse_image_option(text: str) -> ProjectImageName:
    """Return the parts of an image name; raise InputError if it is invalid."""
    image = parse_project_image(text)
    if image is None:
        remedy = "write user/project:tag in lowercase, such as 'ada/seqtk:1.4'"
        raise InputError("--image", "", f"{format_value(text)} is not an image name", remedy)
    return image


def check_base_option(text: str) -> str:
    """Return `text` if it is a valid image name; raise InputError if not."""
    if not IMAGE_NAME_FORMAT.fits(text):
        remedy = "write a name such as 'biocontainers/bwa:0.7.17'"
        raise InputError("--base", "", f"{format_value(text)} is not an image name", remedy)
    return text


def check_program_option(text: str) -> str:
    """Return `text` if it can be a job's command; raise InputError if not."""
    try:
        has_shell_syntax(text)
    except ValueError as error:
        remedy = "close the quote, or remove the backslash at its end"
        raise InputError("--program", "", f"{format_value(text)} is not a command ({error})", remedy) from None
    if not text.strip():
        raise InputError("--program", "", "it is empty", f"write a command such as {DEFAULT_PROGRAM!r}")
    problems = InputProblems()
    for name in sorted(list_placeholders(text) - set(PROGRAM_PLACEHOLDERS)):
        similar = find_similar_name(name, PROGRAM_PLACEHOLDERS)
        known = ", ".join(f"{{{word}}}" for word in ([similar] if similar else PROGRAM_PLACEHOLDERS))
        remedy = f"write {known}, or {{{{{name}}}}} for braces that the program needs"
        problems.add(InputError("--program", "", f"{{{name}}} is not a placeholder", remedy))
    problems.raise_if_any()
    return text


def list_examples() -> list[str]:
    """Return the names of the examples, sorted; there are none outside a clone of the repository."""
    if not is_repository():
        return []
    return sorted(path.parent.name for path in (PACKAGE_PARENT / "examples").glob("*/config.py"))


def check_project_folder(folder: Path, example: str | None) -> None:
    """Raise InputError if a project cannot be created in `folder` from the template or the example."""
    if example is not None and example not in list_examples():
        remedy = f"use one of these: {', '.join(list_examples())}"
        if not is_repository():
            remedy = "clone the Distributed-Something repository, which has the examples, and run newProject there"
        raise InputError("--from", "", f"there is no example {format_value(example)}", remedy)
    if is_repository() and Path(os.path.realpath(folder)).is_relative_to(PACKAGE_PARENT):
        remedy = f"name a folder outside, such as ../{folder.name or 'my-project'}"
        raise InputError(folder, "", "this folder is inside the template", remedy)
    if folder.is_symlink() or (folder.exists() and (not folder.is_dir() or any(folder.iterdir()))):
        raise InputError(folder, "", "already exists and is not an empty folder", "name a new or an empty folder")


def create_project(folder: Path, spec: ProjectSpec) -> MoveReport | None:
    """Create the project, and return what became of the old one, if there is one.

    Raise InputError for invalid input, and UserFacingError if the files cannot be written.
    """
    check_project_folder(folder, spec.example)
    try:
        with _open_draft_folder(folder) as draft:
            report = _fill_draft(draft, spec)
            _check_project(draft, spec)
            return report
    except OSError as error:
        raise UserFacingError(
            error.strerror or str(error), "nothing was created", action=f"creating {folder}"
        ) from None


def commit_project(folder: Path) -> bool:
    """Make the project a git repository with one commit; return False if git is missing or the folder is in another."""
    try:
        if _run_git(folder, "rev-parse", "--is-inside-work-tree").returncode == 0:
            return False
        is_user_known = _run_git(folder, "config", "user.email").returncode == 0
        name, email = _COMMIT_IDENTITY
        identity = () if is_user_known else ("-c", f"user.name={name}", "-c", f"user.email={email}")
        commit = (
            "commit",
            "--quiet",
            "--no-verify",
            "--no-gpg-sign",
            "--message",
            "Create a Distributed-Something project",
        )
        for words in (("init", "--quiet"), ("add", "--all"), (*identity, *commit)):
            _run_git(folder, *words).check_returncode()
    except (OSError, subprocess.CalledProcessError):
        return False
    return True


def _run_git(folder: Path, *words: str) -> subprocess.CompletedProcess[bytes]:
    command = ["git", "-C", str(folder), *words]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)


@contextmanager
def _open_draft_folder(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder; at the end, move its content to `folder`, or delete it after an error."""
    folder = folder.absolute()
    home = next(parent for parent in folder.parents if parent.exists())
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=home))
    try:
        draft.chmod(0o755)
        yield draft
        folder.mkdir(parents=True, exist_ok=True)  # keep an empty folder, which may be a shell's working directory
        for path in draft.iterdir():
            os.replace(path, folder / path.name)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _fill_draft(draft: Path, spec: ProjectSpec) -> MoveReport | None:
    for name in _TEMPLATE_FILES:
        _copy_path(find_template_file(name), draft / name)
    for source, name in (("Makefile", "Makefile"), ("gitignore", ".gitignore")):
        shutil.copy(SKELETON / source, draft / name)
    if spec.example:
        copy_example(PACKAGE_PARENT / "examples" / spec.example, draft)
    else:
        dockerfile = (SKELETON / "Dockerfile").read_text().format(base=spec.base)
        write_file_atomically(draft / "worker" / "Dockerfile", dockerfile.encode())
        _write_example_job(draft, spec)
    write_requirements(draft, add_wheel(draft))
    report = move_in(draft, spec.old, spec.app_name, str(spec.image)) if spec.old.is_given else None
    if spec.old.config is None:
        _set_config_names(draft / "config.py", spec)
    files = report.files if report else None
    readme = build_readme(
        spec.app_name,
        spec.example,
        spec.program,
        list(iter_preparation_commands(draft)),
        has_results_script=(draft / "show-results.sh").is_file(),
        job_files=sorted(files.job_files) if files else (),
        fleet_files=sorted(files.fleet_files) if files else (),
    )
    write_file_atomically(draft / "README.md", readme.encode())
    return report


def add_wheel(project: Path) -> Path:
    """Build the wheel of this package in the project's folder `vendor`; return its path."""
    folder = project / VENDOR_FOLDER
    folder.mkdir(exist_ok=True)
    return build_wheel(folder)


def write_requirements(project: Path, wheel: Path) -> None:
    """Write a requirements.txt that installs the wheel."""
    text = (SKELETON / "requirements.txt").read_text() + f"./{VENDOR_FOLDER}/{wheel.name}\n"
    write_file_atomically(project / "requirements.txt", text.encode())


def _copy_path(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(source, target)


def _set_config_names(config: Path, spec: ProjectSpec) -> None:
    """Set APP_NAME and DOCKERHUB_TAG in the config, and keep the comments on their lines."""
    text = read_text_file(config, "a config file")
    for name, value in (("APP_NAME", spec.app_name), ("DOCKERHUB_TAG", str(spec.image))):
        line = rf"^{name} *= *(?:'[^'\n]*'|\"[^\"\n]*\")"
        text, count = re.subn(line, f"{name} = {value!r}", text, count=1, flags=re.M)  # no backslash in either
        if not count:
            raise InputError(config.name, name, "the example does not set it to a string", f"add a line {name} = '…'")
    if spec.example is None:
        text = re.sub(r'\A""".*?"""\n', f'"""{_CONFIG_DOCSTRING.format(spec.app_name)}"""\n', text, flags=re.S)
        text = re.sub(r"^EXPECTED_NUMBER_FILES = \d+", "EXPECTED_NUMBER_FILES = 1", text, flags=re.M)
    write_file_atomically(config, text.encode())


_CONFIG_DOCSTRING = """Settings for runs of {}; with `--local`, they run without an AWS account.

Boolean values are the strings 'True' and 'False'. run.py reports mistakes in this file before it calls AWS.
"""


def _write_example_job(draft: Path, spec: ProjectSpec) -> None:
    job = build_example_job(spec.app_name, spec.program or DEFAULT_PROGRAM)
    write_file_atomically(draft / "files" / "exampleJob.json", job.encode())
    for name, text in EXAMPLE_DATA.items():
        write_file_atomically(draft / "files" / "data" / name, text.encode())
    if spec.program in (None, DEFAULT_PROGRAM):  # another program's results are not known
        for name, text in EXPECTED_RESULTS.items():
            write_file_atomically(draft / EXPECTED_FOLDER / name, text.encode())


def _check_project(draft: Path, spec: ProjectSpec) -> None:
    """Raise DraftError if the commands could not read the project's config.py or Job file."""
    try:
        loaded = load_settings(draft / "config.py")
        if (spec.app_name, str(spec.image)) != (loaded.APP_NAME, loaded.DOCKERHUB_TAG):
            problem = "APP_NAME or DOCKERHUB_TAG is set more than once"
            raise InputError("config.py", "", problem, "keep only one line of each in the example")
        if spec.example is None:
            job_file = load_job_file(draft / "files" / "exampleJob.json", lambda bucket, prefix: [])
            for _ in job_file.iter_checked_messages():
                pass
    except InputError as error:
        first, *others = [_name_project_file(problem, draft, spec) for problem in error.problems]
        raise DraftError(first.file, first.key, first.problem, first.remedy, others=others) from None


def _name_project_file(error: InputError, draft: Path, spec: ProjectSpec) -> InputError:
    """Return the error with the path of the file that the user can correct; the draft is about to be deleted."""
    path = Path(error.file)
    if spec.old.config and path == draft / "config.py":
        path = spec.old.config.path
    elif path.is_relative_to(draft):
        path = path.relative_to(draft)
    return InputError(path, error.key, error.problem, error.remedy)
