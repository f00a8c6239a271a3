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

from control import dockerfile, example, hooks, image, jobs, machinery, parts, patterns, settings, starter
from control.errors import InputError, Problem, shown
from control.files import read_text, write_file
from control.image import ImageName

LONGEST_APP_NAME = 64  # characters: queues' names are made of it, and SQS takes 80
_OWN = (".gitignore", ".gitattributes", "config.py", "files/exampleFleet.json", "worker/generic-worker.py",
        "worker/requirements-own.txt", "worker/scripts")  # fmt: skip


@dataclass(frozen=True)
class Wanted:
    """What a new project is told. `base` and `program` are None where an example says them."""

    app_name: str
    image: ImageName
    base: str | None = "debian:bookworm-slim"
    program: str | None = starter.PROGRAM
    example: str | None = None


def default_app_name(folder: Path) -> str:
    """An APP_NAME from the folder's name."""
    plain = re.sub(r"[^A-Za-z0-9_-]+", "-", folder.resolve().name).strip("-_")
    return plain[:LONGEST_APP_NAME] or "MyProject"


def default_image(app_name: str) -> str:
    """A name to fill in: `user` is nobody's, and run.py asks for another before it calls AWS."""
    return f"user/{app_name.lower().strip('-_') or 'program'}:latest"


def app_name_of(text: str) -> str:
    """`text` as an APP_NAME; raises InputError."""
    if not patterns.NAME.fits(text) or len(text) > LONGEST_APP_NAME:
        right = f"write at most {LONGEST_APP_NAME} letters, digits, -, _, the first no sign"
        raise InputError("--app-name", "", f"{shown(text)} cannot name things in AWS", right)
    return text


def image_of(text: str) -> ImageName:
    """`text` as the image's name; raises InputError."""
    found = image.parse(text)
    if found is None:
        raise InputError("--image", "", f"{shown(text)} is no image's name", image.RIGHT)
    return found


def base_of(text: str) -> str:
    """`text` as the name of the image that has the program; raises InputError."""
    if not re.fullmatch(r"[a-z0-9][a-zA-Z0-9._/:@-]{0,254}", text):
        right = "write one such as 'biocontainers/bwa:0.7.17'"
        raise InputError("--base", "", f"{shown(text)} is no image's name", right)
    return text


def program_of(text: str) -> str:
    """`text` as a job's command; raises InputError."""
    try:
        starter.needs_shell(text)
    except ValueError as error:
        raise InputError("--program", "", f"{shown(text)} is no command ({error})", "close the quote") from None
    if not text.strip():
        raise InputError("--program", "", "it is empty", f"write a command such as {starter.PROGRAM!r}")
    return text


def examples(template: Path) -> list[str]:
    """The names of the template's examples."""
    return sorted(path.parent.name for path in (template / "examples").glob("*/config.py"))


def check_place(template: Path, folder: Path, name: str | None) -> None:
    """Raises InputError where no new project can be made of `template` at `folder`."""
    if (template / machinery.NOTE).exists():
        raise InputError(template, "", "this is an implementation itself", "type newProject in the template")
    if name is not None and name not in examples(template):
        right = f"there are: {', '.join(examples(template))}"
        raise InputError("--from", "", f"there is no example {shown(name)}", right)
    if folder.resolve().is_relative_to(template.resolve()):
        right = f"give one outside, such as ../{folder.name or 'my-project'}"
        raise InputError(folder, "", "it would lie in the template's own folder", right)
    if folder.is_symlink() or (folder.exists() and (not folder.is_dir() or any(folder.iterdir()))):
        raise InputError(folder, "", "there is something already", "give a folder that does not exist, or is empty")


def make(template: Path, folder: Path, wanted: Wanted) -> None:
    """Makes the project; raises InputError, and Problem where the disk refuses."""
    check_place(template, folder, wanted.example)
    try:
        with _whole_or_nothing(folder) as draft:
            _lay(template, draft, wanted)
            _check(draft, wanted)
    except OSError as error:
        raise Problem(f"while making {folder}: {error.strerror or error} — nothing was made") from None


@contextmanager
def _whole_or_nothing(folder: Path) -> Iterator[Path]:
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


def _lay(template: Path, draft: Path, wanted: Wanted) -> None:
    source = template / "examples" / wanted.example if wanted.example else None
    for name in _OWN:
        _copy(template / name, draft / name)
    if source:
        example.lay(source, draft)
    pieces = machinery.read(template)
    own = _own_dockerfile(template, source, wanted)
    for name, one in pieces.items():  # after the example: nothing of it stands in place of the machinery
        if name in parts.FILES:
            text = own if name == "worker/Dockerfile" else _own_makefile(template, wanted, dockerfile.base_of(own))
            write_file(draft / name, parts.join(text, one.content.decode()).encode())
        else:
            write_file(draft / name, one.content, executable=one.executable)
    _set_names(draft / "config.py", wanted)
    shows = (draft / "show-results.sh").is_file()
    readme = starter.readme(wanted.app_name, wanted.example, list(example.preparations(draft)), shows=shows)
    write_file(draft / "README.md", readme.encode())
    if source is None:
        _lay_example_job(draft, wanted)
    machinery.write_note(draft, note_of(template, pieces))


def note_of(template: Path, pieces: dict[str, machinery.Piece]) -> machinery.Note:
    """What an implementation notes of the version that it has."""
    keys = [key for key in settings.Settings.model_fields if key.isupper()]
    return machinery.note(pieces, keys, hooks.read(template / "worker" / "generic-worker.py"))


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(source, target)


def _own_dockerfile(template: Path, source: Path | None, wanted: Wanted) -> str:
    path = template / "worker" / "Dockerfile"
    if source and (source / "worker" / "Dockerfile").is_file():
        path = source / "worker" / "Dockerfile"
        return dockerfile.as_program(read_text(path, "a Dockerfile"), path)
    own = parts.split(read_text(path, "a Dockerfile"), path).own
    return dockerfile.with_base(own, wanted.base) if wanted.base else own


def _own_makefile(template: Path, wanted: Wanted, base: str | None) -> str:
    path = template / "Makefile"
    values = {**wanted.image._asdict(), **({"base": base} if base else {})}
    return image.in_makefile(parts.split(read_text(path, "the Makefile"), path).own, values)


def _set_names(config: Path, wanted: Wanted) -> None:
    """Puts APP_NAME and DOCKERHUB_TAG where the config has them; what the line says behind them stays."""
    text = read_text(config, "a config file")
    for name, value in (("APP_NAME", wanted.app_name), ("DOCKERHUB_TAG", str(wanted.image))):
        line = rf"^{name} *= *(?:'[^'\n]*'|\"[^\"\n]*\")"
        text, count = re.subn(line, f"{name} = {value!r}", text, count=1, flags=re.M)  # no backslash in either
        if not count:
            raise InputError(config.name, name, "the example does not set it to a text", f"write {name} = '…' there")
    if wanted.example is None:
        text = re.sub(r'\A""".*?"""\n', f'"""{_ABOUT.format(wanted.app_name)}"""\n', text, flags=re.S)
        text = re.sub(r"^EXPECTED_NUMBER_FILES = \d+", "EXPECTED_NUMBER_FILES = 1", text, flags=re.M)
    write_file(config, text.encode())


_ABOUT = """What you edit for a run of {}; `--local` runs it without an AWS account.

Truth values are the texts 'True' and 'False'. What is wrong in this file, run.py says before it makes anything in AWS.
"""


def _lay_example_job(draft: Path, wanted: Wanted) -> None:
    job = starter.job_file(wanted.app_name, wanted.program or starter.PROGRAM)
    write_file(draft / "files" / "exampleJob.json", job.encode())
    for name, text in starter.DATA.items():
        write_file(draft / "files" / "data" / name, text.encode())


def _check(draft: Path, wanted: Wanted) -> None:
    """The project's own files, read as its commands will."""
    try:
        loaded = settings.load(draft / "config.py")
        if (wanted.app_name, str(wanted.image)) != (loaded.APP_NAME, loaded.DOCKERHUB_TAG):
            wrong = "APP_NAME or DOCKERHUB_TAG is set a second time in it"
            raise InputError("config.py", "", wrong, "keep one line of each in the example")
        if wanted.example is None:
            job_file = jobs.load(draft / "files" / "exampleJob.json", lambda bucket, prefix: [])
            for _ in job_file.checked():
                pass
    except InputError as error:
        raise InputError("newProject", "", str(error).replace(f"{draft}/", ""), "nothing was made") from None
