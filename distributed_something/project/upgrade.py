"""`run.py upgrade`: brings this template's machinery into an implementation, and touches nothing of the developer's.

Each file is replaced at once and the note of what was put there is written last: interrupted anywhere, the same command
completes it. A file that is neither as it was noted nor as it shall be was edited, and stops all before it begins.
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
    """What an upgrade will do. `edited`: what would be lost with it."""

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
    """Compares the two; raises InputError where `project` is no implementation that can be upgraded from `template`."""
    _check_folders(template, project)
    everything = read_machinery(template)
    note = build_template_note(template, everything)
    # Of a file of two parts only the developer can make the upper one: where it was deleted it stays so.
    new = {name: one for name, one in everything.items() if name not in TWO_PART_FILES or (project / name).exists()}
    before = read_machinery_note(project)
    known = before.files if before else {}
    there = {name: read_machinery_file(project, name) for name in (*new, *known) if (project / name).is_file()}
    replaced = [name for name, one in new.items() if name in there and there[name] != one]
    removed = [name for name in known if name in there and name not in new]
    edited = [
        name
        for name in (*replaced, *removed)
        if there[name].digest != known.get(name) and (name not in new or there[name].digest != new[name].digest)
    ]
    return UpgradePlan(new, [name for name in new if name not in there], replaced, removed, edited, note, before)


def check_no_edits(planned: UpgradePlan, project: Path) -> None:
    """Raises InputError where an edit would be lost."""
    if not planned.edited:
        return
    shown = format_names(planned.edited, EDITED_FILES_SHOWN)
    if planned.before is None:
        wrong = f"nothing notes which machinery it has, and these files are others than this template's: {shown}"
        raise InputError(project, "", wrong, "commit what is yours in them, then add --force")
    wrong = f"the machinery was edited here, and that would be lost: {shown}"
    raise InputError(project, "", wrong, "move it to files of your own (docs/your-own.md), or add --force")


def apply_upgrade(planned: UpgradePlan, project: Path) -> None:
    """Does it; raises UserFacingError where the disk refuses, and then the same command goes on."""
    try:
        for name in (*planned.added, *planned.replaced):
            write_machinery_file(project, name, planned.new[name])
        for name in planned.removed:
            (project / name).unlink(missing_ok=True)
        write_machinery_note(project, planned.note)
    except OSError as error:
        wrong, right = error.strerror or str(error), "type the same command again to complete it"
        raise UserFacingError(wrong, right, action=f"upgrading {project}") from None


def format_upgrade_plan(planned: UpgradePlan) -> Iterator[str]:
    """Yield a line for each file that an upgrade adds, replaces, or removes, and for each that was edited."""
    kinds = {"add": planned.added, "replace": planned.replaced, "remove": planned.removed, "EDITED": planned.edited}
    for kind, names in kinds.items():
        for name in names:
            yield format_row(kind, name)


def format_upgrade_counts(planned: UpgradePlan) -> str:
    """Return what an upgrade did, in one line."""
    if not planned.changed:
        return "its machinery is this template's already"
    counts = f"{len(planned.replaced)} files replaced, {len(planned.added)} added, {len(planned.removed)} removed"
    return format_row("upgraded", counts)


def format_upgrade_notes(planned: UpgradePlan, template: Path, project: Path) -> Iterator[str]:
    """What is new for the developer: keys of the config, hooks, and what is to be done next; a line each."""
    yield from _format_config_changes(planned, template, project)
    before = planned.before.hooks if planned.before else _read_own_hooks(project, planned.note.hooks)
    for change in format_hook_changes(before, planned.note.hooks):
        yield format_row("hook", f"{change}: see worker/generic-worker.py of the template")
    if any(name.startswith("files/requirements") for name in planned.changed):
        yield "next: make venv, since run.py needs other packages"
    if any(name.startswith(("worker/", "distributed_something/worker/")) for name in planned.changed):
        yield "next: make build push, so that machines get the new worker"


def _format_config_changes(planned: UpgradePlan, template: Path, project: Path) -> Iterator[str]:
    now, config = planned.note.config_keys, read_text_file(template / "config.py", "a config file")
    before = planned.before.config_keys if planned.before else now
    own = read_config_constants(project / "config.py")
    for key in now:
        if key not in before:
            there = "; your config has it already: hold it against this" if key in own else ""
            yield format_row("config", f"new: {get_config_line(config, key)}{there}")
    for key in before:
        if key not in now:
            there = "; in your config it is now a constant of your own, for the program" if key in own else ""
            yield format_row("config", f"gone: {key}{there}")


def _read_own_hooks(project: Path, now: HookSignatures) -> HookSignatures:
    """The implementation's own, where nothing notes the template's: docstrings are the developer's there."""
    path = project / "worker" / "generic-worker.py"
    own = read_hooks(path) if path.exists() else {}
    return {name: one | {"docstring": now.get(name, one)["docstring"]} for name, one in own.items() if name in now}


def _check_folders(template: Path, project: Path) -> None:
    if (template / NOTE_FILE_NAME).exists() or project.resolve() == template.resolve():
        right = "type it in the newer template: python run.py --project IMPLEMENTATION upgrade"
        raise InputError("upgrade", "", "a newer machinery comes from a newer template", right)
    if is_older_project(project):
        wrong, right = (
            "an older version made this project",
            "this version cannot upgrade it; use the project's own run.py",
        )
        raise InputError(project, "", wrong, right)
    check_project_version(project)
    if not (project / "distributed_something").is_dir() or not (project / "run.py").is_file():
        right = "give the folder of what newProject made"
        raise InputError(project, "", "it has no run.py and distributed_something/ of its own", right)
    path = project / "worker" / "Dockerfile"
    if path.exists():
        own = split_parts(read_text_file(path, "a Dockerfile"), path).own
        if "program" not in [stage.name for stage in parse_stages(own)]:
            right = "end it with the line: FROM your/image AS program"
            raise InputError(path, "FROM", "the part above the marker line has no stage `program`", right)
