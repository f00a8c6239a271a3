"""`run.py upgrade`: replaces the shipped files of a project with those of this template, but not the user's files.

Each file is replaced atomically and `.machinery.json` is written last, so the same command completes an interrupted
upgrade. A file that differs from both the recorded and the new version was edited; then nothing is upgraded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from distributed_something.core.errors import InputError, UserFacingError
from distributed_something.core.files import read_text_file
from distributed_something.core.text import format_names, format_row
from distributed_something.project.dockerfile import parse_stages
from distributed_something.project.hook_signatures import (
    HookSignatures,
    format_hook_changes,
    get_config_line,
    read_config_constants,
    read_hooks,
)
from distributed_something.project.new import build_template_note
from distributed_something.project.older_version import check_project_version, is_older_project
from distributed_something.project.shipped_files import (
    NOTE_FILE_NAME,
    TWO_PART_FILES,
    MachineryFile,
    MachineryNote,
    read_machinery,
    read_machinery_file,
    read_machinery_note,
    split_parts,
    write_machinery_file,
    write_machinery_note,
)

EDITED_FILES_SHOWN = 10  # files that one line names


@dataclass(frozen=True)
class UpgradePlan:
    """Files that an upgrade adds, replaces, and removes; edits in the `edited` ones would be lost."""

    new: Mapping[str, MachineryFile]
    added: list[str]
    replaced: list[str]
    removed: list[str]
    edited: list[str]
    note: MachineryNote
    before: MachineryNote | None

    @property
    def changed(self) -> list[str]:
        return [*self.added, *self.replaced, *self.removed]


def plan_upgrade(template: Path, project: Path) -> UpgradePlan:
    """Return the changes to be made; raise InputError if `project` cannot be upgraded from `template`."""
    _check_folders(template, project)
    template_files = read_machinery(template)
    note = build_template_note(template, template_files)
    # The developer's part of a file in two parts cannot be recreated, so a deleted file stays deleted.
    new = {
        name: file for name, file in template_files.items() if name not in TWO_PART_FILES or (project / name).exists()
    }
    before = read_machinery_note(project)
    recorded = before.files if before else {}
    existing = {name: read_machinery_file(project, name) for name in (*new, *recorded) if (project / name).is_file()}
    replaced = [name for name, file in new.items() if name in existing and existing[name] != file]
    removed = [name for name in recorded if name in existing and name not in new]
    edited = [
        name
        for name in (*replaced, *removed)
        if existing[name].digest != recorded.get(name)
        and (name not in new or existing[name].digest != new[name].digest)
    ]
    return UpgradePlan(new, [name for name in new if name not in existing], replaced, removed, edited, note, before)


def check_no_edits(planned: UpgradePlan, project: Path) -> None:
    """Raise InputError if an upgrade would overwrite edits."""
    if not planned.edited:
        return
    names = format_names(planned.edited, EDITED_FILES_SHOWN)
    if planned.before is None:
        problem = f"{NOTE_FILE_NAME} is missing, and these files differ from the template's: {names}"
        raise InputError(project, "", problem, "commit your edits in them, then add --force")
    problem = f"upgrade would overwrite your edits in: {names}"
    raise InputError(project, "", problem, "move them to files of your own (docs/your-own.md), or add --force")


def apply_upgrade(planned: UpgradePlan, project: Path) -> None:
    """Change the files; raise UserFacingError if writing fails, after which the same command completes the upgrade."""
    try:
        for name in (*planned.added, *planned.replaced):
            write_machinery_file(project, name, planned.new[name])
        for name in planned.removed:
            (project / name).unlink(missing_ok=True)
        write_machinery_note(project, planned.note)
    except OSError as error:
        remedy = "type the same command again to complete the upgrade"
        raise UserFacingError(error.strerror or str(error), remedy, action=f"upgrading {project}") from None


def format_upgrade_plan(planned: UpgradePlan) -> Iterator[str]:
    """Yield a line for each file that an upgrade adds, replaces, or removes, and for each that was edited."""
    kinds = {"add": planned.added, "replace": planned.replaced, "remove": planned.removed, "EDITED": planned.edited}
    for kind, names in kinds.items():
        for name in names:
            yield format_row(kind, name)


def format_upgrade_counts(planned: UpgradePlan) -> str:
    """Return one line with the number of files that were replaced, added, and removed."""
    if not planned.changed:
        return "the project already has the files of this template"
    counts = f"{len(planned.replaced)} files replaced, {len(planned.added)} added, {len(planned.removed)} removed"
    return format_row("upgraded", counts)


def format_upgrade_notes(planned: UpgradePlan, template: Path, project: Path) -> Iterator[str]:
    """Yield one line for each changed config key, each changed hook, and each next step of the developer."""
    yield from _format_config_changes(planned, template, project)
    before = planned.before.hooks if planned.before else _read_own_hooks(project, planned.note.hooks)
    for change in format_hook_changes(before, planned.note.hooks):
        yield format_row("hook", f"{change}: see worker/generic-worker.py in the template")
    if any(name.startswith("files/requirements") for name in planned.changed):
        yield "next: make venv, to install the packages that run.py now needs"
    if any(name.startswith(("worker/", "distributed_something/worker/")) for name in planned.changed):
        yield "next: make build push, so that machines run the new worker"


def _format_config_changes(planned: UpgradePlan, template: Path, project: Path) -> Iterator[str]:
    after, config = planned.note.config_keys, read_text_file(template / "config.py", "a config file")
    before = planned.before.config_keys if planned.before else after
    own = read_config_constants(project / "config.py")
    for key in after:
        if key not in before:
            note = "; your config already sets it, check its value" if key in own else ""
            yield format_row("config", f"new: {get_config_line(config, key)}{note}")
    for key in before:
        if key not in after:
            note = "; in your config, it is now one of your own constants for the program" if key in own else ""
            yield format_row("config", f"removed: {key}{note}")


def _read_own_hooks(project: Path, template_hooks: HookSignatures) -> HookSignatures:
    """Return the project's hooks with the template's docstrings, because the developer may have edited theirs."""
    path = project / "worker" / "generic-worker.py"
    own = read_hooks(path) if path.exists() else {}
    return {
        name: hook | {"docstring": template_hooks[name]["docstring"]}
        for name, hook in own.items()
        if name in template_hooks
    }


def _check_folders(template: Path, project: Path) -> None:
    if (template / NOTE_FILE_NAME).exists() or project.resolve() == template.resolve():
        remedy = "type this in a newer clone of the template: python run.py --project YOUR_PROJECT upgrade"
        raise InputError("upgrade", "", "a project is upgraded from the template, not from a project", remedy)
    if is_older_project(project):
        problem = "an older version created this project, and this version cannot upgrade it"
        raise InputError(project, "", problem, "use the project's own run.py")
    check_project_version(project)
    if not (project / "distributed_something").is_dir() or not (project / "run.py").is_file():
        remedy = "name a folder that newProject created"
        raise InputError(project, "", "run.py or distributed_something/ is missing in this folder", remedy)
    path = project / "worker" / "Dockerfile"
    if path.exists():
        own = split_parts(read_text_file(path, "a Dockerfile"), path).own
        if "program" not in [stage.name for stage in parse_stages(own)]:
            remedy = "name its last stage: FROM your/image AS program"
            raise InputError(path, "FROM", "the part above the marker line has no stage `program`", remedy)
