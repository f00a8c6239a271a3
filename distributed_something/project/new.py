"""`run.py newProject`: a whole repository for a new implementation, from the template or from one of its examples.

It is made beside the place where it shall be and moved there when it is whole: an error leaves nothing.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from distributed_something.core.config_settings import Settings, load_settings
from distributed_something.core.errors import InputError, UserFacingError, format_input_problems
from distributed_something.core.files import read_text_file, write_file_atomically
from distributed_something.core.image_name import IMAGE_NAME_FORMAT, ProjectImageName, parse_project_image
from distributed_something.core.names import RESOURCE_NAME_FORMAT
from distributed_something.core.text import format_value
from distributed_something.jobs.job_file import load_job_file
from distributed_something.project.dockerfile import (
    convert_to_program_stage,
    find_base_image,
    replace_base_image,
    replace_makefile_values,
)
from distributed_something.project.hook_signatures import read_hooks
from distributed_something.project.shipped_files import (
    NOTE_FILE_NAME,
    TWO_PART_FILES,
    MachineryFile,
    MachineryNote,
    build_machinery_note,
    join_parts,
    read_machinery,
    split_parts,
    write_machinery_note,
)
from distributed_something.project.starter import (
    DEFAULT_PROGRAM,
    EXAMPLE_DATA,
    build_example_job,
    build_readme,
    copy_example,
    has_shell_syntax,
    iter_preparation_commands,
)

MAX_APP_NAME_CHARACTERS = 64  # characters: queues' names are made of it, and SQS takes 80
_DEVELOPER_FILES = (".gitignore", ".gitattributes", "config.py", "files/exampleFleet.json", "worker/generic-worker.py",
        "worker/requirements-own.txt", "worker/scripts")  # fmt: skip


class DraftError(InputError):
    """A file that the project would have is wrong. Nothing was made."""

    def __str__(self) -> str:
        return "\n".join(f"newProject: {line}; nothing was created" for line in format_input_problems(self))


@dataclass(frozen=True)
class ProjectSpec:
    """What a new project is told. `base` and `program` are None where an example says them."""

    app_name: str
    image: ProjectImageName
    base: str | None = "debian:bookworm-slim"
    program: str | None = DEFAULT_PROGRAM
    example: str | None = None


def build_default_app_name(folder: Path) -> str:
    """An APP_NAME from the folder's name."""
    plain = re.sub(r"[^A-Za-z0-9_-]+", "-", folder.resolve().name).strip("-_")
    return plain[:MAX_APP_NAME_CHARACTERS] or "MyProject"


def build_default_image(app_name: str) -> str:
    """A name to fill in: `user` is nobody's, and run.py asks for another before it calls AWS."""
    name = re.sub(r"[-_]*(-_|_-|___)[-_]*", "-", app_name.lower().strip("-_"))  # Docker takes no such mixture
    return f"user/{name or 'program'}:latest"


def check_app_name_option(text: str) -> str:
    """`text` as an APP_NAME; raises InputError."""
    if not RESOURCE_NAME_FORMAT.fits(text) or len(text) > MAX_APP_NAME_CHARACTERS:
        right = f"write at most {MAX_APP_NAME_CHARACTERS} letters, digits, -, _, the first no sign"
        raise InputError("--app-name", "", f"{format_value(text)} cannot name things in AWS", right)
    return text


def parse_image_option(text: str) -> ProjectImageName:
    """`text` as the image's name; raises InputError."""
    found = parse_project_image(text)
    if found is None:
        right = "write user/project:tag, in lower case, such as 'ada/seqtk:1.4'"
        raise InputError("--image", "", f"{format_value(text)} is no image's name", right)
    return found


def check_base_option(text: str) -> str:
    """`text` as the name of the image that has the program; raises InputError."""
    if not IMAGE_NAME_FORMAT.fits(text):
        right = "write one such as 'biocontainers/bwa:0.7.17'"
        raise InputError("--base", "", f"{format_value(text)} is no image's name", right)
    return text


def check_program_option(text: str) -> str:
    """`text` as a job's command; raises InputError."""
    try:
        has_shell_syntax(text)
    except ValueError as error:
        raise InputError("--program", "", f"{format_value(text)} is no command ({error})", "close the quote") from None
    if not text.strip():
        raise InputError("--program", "", "it is empty", f"write a command such as {DEFAULT_PROGRAM!r}")
    return text


def list_examples(template: Path) -> list[str]:
    """The names of the template's examples."""
    return sorted(path.parent.name for path in (template / "examples").glob("*/config.py"))


def check_project_folder(template: Path, folder: Path, name: str | None) -> None:
    """Raises InputError where no new project can be made of `template` at `folder`."""
    if (template / NOTE_FILE_NAME).exists():
        raise InputError(template, "", "this is an implementation itself", "type newProject in the template")
    if name is not None and name not in list_examples(template):
        right = f"there are: {', '.join(list_examples(template))}"
        raise InputError("--from", "", f"there is no example {format_value(name)}", right)
    if folder.resolve().is_relative_to(template.resolve()):
        right = f"give one outside, such as ../{folder.name or 'my-project'}"
        raise InputError(folder, "", "it would lie in the template's own folder", right)
    if folder.is_symlink() or (folder.exists() and (not folder.is_dir() or any(folder.iterdir()))):
        raise InputError(folder, "", "there is something already", "give a folder that does not exist, or is empty")


def make_project(template: Path, folder: Path, wanted: ProjectSpec) -> None:
    """Makes the project; raises InputError, and UserFacingError where the disk refuses."""
    check_project_folder(template, folder, wanted.example)
    try:
        with _open_draft_folder(folder) as draft:
            _fill_draft(template, draft, wanted)
            _check_project(draft, wanted)
    except OSError as error:
        raise UserFacingError(error.strerror or str(error), "nothing was made", action=f"making {folder}") from None


@contextmanager
def _open_draft_folder(folder: Path) -> Iterator[Path]:
    """A folder beside `folder` that becomes it at the end, or is removed."""
    folder = folder.absolute()
    home = next(parent for parent in folder.parents if parent.exists())
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=home))
    try:
        draft.chmod(0o755)
        yield draft
        folder.mkdir(parents=True, exist_ok=True)  # an empty one stays the one that somebody may stand in
        for path in draft.iterdir():
            os.replace(path, folder / path.name)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _fill_draft(template: Path, draft: Path, wanted: ProjectSpec) -> None:
    source = template / "examples" / wanted.example if wanted.example else None
    for name in _DEVELOPER_FILES:
        _copy_path(template / name, draft / name)
    if source:
        copy_example(source, draft)
    pieces = read_machinery(template)
    own = _build_dockerfile(template, source, wanted)
    for name, one in pieces.items():  # after the example: nothing of it stands in place of the machinery
        if name in TWO_PART_FILES:
            text = own if name == "worker/Dockerfile" else _build_makefile(template, wanted, find_base_image(own))
            write_file_atomically(draft / name, join_parts(text, one.content.decode()).encode())
        else:
            write_file_atomically(draft / name, one.content, executable=one.executable)
    _set_config_names(draft / "config.py", wanted)
    shows = (draft / "show-results.sh").is_file()
    readme = build_readme(wanted.app_name, wanted.example, list(iter_preparation_commands(draft)), shows=shows)
    write_file_atomically(draft / "README.md", readme.encode())
    if source is None:
        _write_example_job(draft, wanted)
    write_machinery_note(draft, build_template_note(template, pieces))


def build_template_note(template: Path, pieces: dict[str, MachineryFile]) -> MachineryNote:
    """What an implementation notes of the version that it has."""
    keys = [key for key in Settings.model_fields if key.isupper()]
    return build_machinery_note(pieces, keys, read_hooks(template / "worker" / "generic-worker.py"))


def _copy_path(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(source, target)


def _build_dockerfile(template: Path, source: Path | None, wanted: ProjectSpec) -> str:
    path = template / "worker" / "Dockerfile"
    if source and (source / "worker" / "Dockerfile").is_file():
        path = source / "worker" / "Dockerfile"
        return convert_to_program_stage(read_text_file(path, "a Dockerfile"), path)
    own = split_parts(read_text_file(path, "a Dockerfile"), path).own
    return replace_base_image(own, wanted.base) if wanted.base else own


def _build_makefile(template: Path, wanted: ProjectSpec, base: str | None) -> str:
    path = template / "Makefile"
    values = {**wanted.image._asdict(), **({"base": base} if base else {})}
    return replace_makefile_values(split_parts(read_text_file(path, "the Makefile"), path).own, values)


def _set_config_names(config: Path, wanted: ProjectSpec) -> None:
    """Puts APP_NAME and DOCKERHUB_TAG where the config has them; what the line says behind them stays."""
    text = read_text_file(config, "a config file")
    for name, value in (("APP_NAME", wanted.app_name), ("DOCKERHUB_TAG", str(wanted.image))):
        line = rf"^{name} *= *(?:'[^'\n]*'|\"[^\"\n]*\")"
        text, count = re.subn(line, f"{name} = {value!r}", text, count=1, flags=re.M)  # no backslash in either
        if not count:
            raise InputError(config.name, name, "the example does not set it to a text", f"write {name} = '…' there")
    if wanted.example is None:
        text = re.sub(r'\A""".*?"""\n', f'"""{_CONFIG_DOCSTRING.format(wanted.app_name)}"""\n', text, flags=re.S)
        text = re.sub(r"^EXPECTED_NUMBER_FILES = \d+", "EXPECTED_NUMBER_FILES = 1", text, flags=re.M)
    write_file_atomically(config, text.encode())


_CONFIG_DOCSTRING = """What you edit for a run of {}; `--local` runs it without an AWS account.

Truth values are the texts 'True' and 'False'. What is wrong in this file, run.py says before it makes anything in AWS.
"""


def _write_example_job(draft: Path, wanted: ProjectSpec) -> None:
    job = build_example_job(wanted.app_name, wanted.program or DEFAULT_PROGRAM)
    write_file_atomically(draft / "files" / "exampleJob.json", job.encode())
    for name, text in EXAMPLE_DATA.items():
        write_file_atomically(draft / "files" / "data" / name, text.encode())


def _check_project(draft: Path, wanted: ProjectSpec) -> None:
    """The project's own files, read as its commands will."""
    try:
        loaded = load_settings(draft / "config.py")
        if (wanted.app_name, str(wanted.image)) != (loaded.APP_NAME, loaded.DOCKERHUB_TAG):
            wrong = "APP_NAME or DOCKERHUB_TAG is set a second time in it"
            raise InputError("config.py", "", wrong, "keep one line of each in the example")
        if wanted.example is None:
            job_file = load_job_file(draft / "files" / "exampleJob.json", lambda bucket, prefix: [])
            for _ in job_file.iter_checked_messages():
                pass
    except InputError as error:
        file = Path(error.file)
        name = file.relative_to(draft) if file.is_relative_to(draft) else file
        raise DraftError(name, error.key, error.problem, error.remedy, others=error.others) from None
