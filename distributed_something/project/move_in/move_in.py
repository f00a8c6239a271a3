"""Moves an old config and old files into the draft of a new project, and reports what became of everything."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from distributed_something.core.errors import InputError
from distributed_something.core.files import read_text_file, write_file_atomically
from distributed_something.core.image_name import find_published_base
from distributed_something.core.text import format_count, format_row
from distributed_something.jobs.job_keys import collect_own_names
from distributed_something.project.hook_signatures import read_config_constants
from distributed_something.project.move_in.old_config import ConvertedConfig, OldConfig, convert_config
from distributed_something.project.move_in.old_files import CopiedFiles, copy_old_files
from distributed_something.project.move_in.plugins import MovedPlugins, move_plugins
from distributed_something.project.starter import EXAMPLE_JOB
from distributed_something.worker import show_name

# Parts of the published repositories, and what replaces them.
_REPLACED_PARTS = {
    "run.py": "run.py in the project replaces it",
    "fabfile.py": "run.py in the project replaces it",
    "lambda_function.py": "setupAWS creates the auto-monitor",
    "setup_AWS.py": "run.py setupAWS replaces it",
    "worker": "the example's worker replaces it; if you changed it, docs/moving-in.md says what goes where",
    "python2worker": "the example's worker replaces it",
    "documentation": "docs/ in the template replaces it",
}
_OTHER_PART = "not copied; copy it yourself if you need it"


@dataclass(frozen=True)
class OldProject:
    """What is moved into a new project: a config and a folder `files`, each may be None."""

    config: OldConfig | None = None
    files: Path | None = None

    @property
    def is_given(self) -> bool:
        return self.config is not None or self.files is not None


@dataclass(frozen=True)
class MoveReport:
    """What became of the old project.

    `base`: the image that worker/Dockerfile starts from now, because the old image did; "" if that did not change.
    `other_parts`: what else was beside the old config, and why it was not copied.
    """

    config: ConvertedConfig | None
    old_image: str
    base: str
    plugins: MovedPlugins
    files: CopiedFiles | None
    other_parts: dict[str, str]


def check_old_files(files: Path) -> None:
    """Raise InputError if there is no such folder."""
    if not files.is_dir():
        raise InputError("--files", "", f"there is no folder {files}", "give the old project's folder `files`")


def move_in(draft: Path, old: OldProject, app_name: str, image: str) -> MoveReport:
    """Replace the draft's config and add the old files. Raise InputError if the config cannot be converted."""
    config, plugins, files = None, MovedPlugins(), None
    if old.config is not None:
        names = read_config_constants(draft / "config.py") | collect_own_names(draft / "worker").strings
        config = convert_config(old.config, {"APP_NAME": app_name, "DOCKERHUB_TAG": image}, names)
        write_file_atomically(draft / "config.py", config.text.encode())
        plugins = move_plugins(draft / "worker", old.config.values)
    if old.files is not None:
        skipped = [draft, *([old.config.path] if old.config else [])]
        files = copy_old_files(old.files, draft / "files", draft / "worker", skipped)
        _remove_example_data(draft, files)
    old_image = str(old.config.values.get("DOCKERHUB_TAG", "")) if old.config else ""
    base = _keep_program_version(draft / "worker" / "Dockerfile", old_image)
    return MoveReport(config, old_image, base, plugins, files, _list_other_parts(old))


def _keep_program_version(dockerfile: Path, old_image: str) -> str:
    """Let the Dockerfile start from the program's version in the old image, and return it; "" if nothing changed."""
    base = find_published_base(old_image) or ""
    text = read_text_file(dockerfile, "a Dockerfile")
    first = re.match(r"FROM (\S+)", text)
    if first is None or first[1] == base or first[1].partition(":")[0] != base.partition(":")[0]:
        return ""
    write_file_atomically(dockerfile, text.replace(first[0], f"FROM {base}", 1).encode())
    return base


def _remove_example_data(draft: Path, files: CopiedFiles) -> None:
    """Delete the example's own job and data, if there are jobs of the user's instead."""
    if not files.job_files:
        return
    if EXAMPLE_JOB not in files.job_files:
        (draft / "files" / EXAMPLE_JOB).unlink(missing_ok=True)
    script = draft / "get-data.sh"
    if not script.is_file():
        return
    text = script.read_text(encoding="utf-8")
    script.unlink()
    others = "".join(path.read_text(encoding="utf-8") for path in draft.glob("*.sh"))
    for path in draft.glob("*.py"):
        if path.name in text and path.name not in others and path.name not in ("config.py", "run.py"):
            path.unlink()


def _list_other_parts(old: OldProject) -> dict[str, str]:
    if old.config is None:
        return {}
    folder = old.config.path.resolve().parent
    taken = [old.config.path.resolve(), *([old.files.resolve()] if old.files else [])]
    parts = [
        path
        for path in sorted(folder.iterdir())
        if path.name[0] != "." and not any(path.is_relative_to(place) for place in taken)
    ]
    return {path.name: _REPLACED_PARTS.get(path.name, _OTHER_PART) for path in parts}


def format_report(report: MoveReport, image: str, placeholders: Iterable[InputError]) -> Iterator[str]:
    """Yield a line for each thing that was kept, left out, or must be edited.

    `placeholders`: those in the project's config and Fleet files, with paths relative to the project.
    """
    edits = []
    if report.config is not None:
        yield format_row("config", f"{report.config.kept} constants kept")
        for name in report.config.own:
            yield format_row(
                "your own", f"{name}: nothing here uses it; your program gets it as an environment variable"
            )
        for name, replacement in report.config.left_out.items():
            yield format_row("left out", f"{name}: {replacement or 'it was off'}")
        if report.old_image and report.old_image != image:
            yield format_row("replaced", f"DOCKERHUB_TAG: {report.old_image} contains the old worker")
            edits.append(f"config.py: DOCKERHUB_TAG is {image}; make build builds this image")
        if report.base:
            yield format_row("base", f"worker/Dockerfile starts from {report.base}, the version in the old image")
    for line in report.plugins.lines:
        yield format_row("plugins", f"worker/Dockerfile, as a comment: {line}")
    edits += _list_plugin_edits(report.plugins)
    if report.files is not None:
        yield from _format_files(report.files)
        edits += map(str, report.files.problems)
    edits += [
        f"{error.file}: {error.key}: {error.problem}"
        for error in placeholders
        if not (error.key == "DOCKERHUB_TAG" and report.config is not None)
    ]
    for name, reason in report.other_parts.items():
        yield format_row("left out", f"{show_name(name)}: {reason}")
    for edit in edits:
        yield format_row("EDIT", edit)


def _list_plugin_edits(plugins: MovedPlugins) -> list[str]:
    if not plugins.are_used:
        return []
    commit = "" if plugins.has_commit else ", and write the commit that you tested instead of COMMIT"
    return [
        f"worker/Dockerfile: remove the # before these lines, because USE_PLUGINS is 'True'{commit}",
        "config.py: with --local, no image is used: set PLUGINS_PATH to a folder with the plugins on this computer, or "
        "USE_PLUGINS = 'False' while you try jobs without them",
    ]


def _format_files(files: CopiedFiles) -> Iterator[str]:
    for name, count in sorted(files.job_files.items()):
        jobs = f": {format_count(count, 'job')}" if count else ""
        yield format_row("Job file", f"files/{name}{jobs}")
    for name in sorted(files.fleet_files):
        yield format_row("Fleet file", f"files/{name}")
    if files.others:
        yield format_row("data", format_count(len(files.others), "other file"))
    for name, reason in sorted(files.left_out.items()):
        yield format_row("left out", f"files/{show_name(name)}: {reason}")
