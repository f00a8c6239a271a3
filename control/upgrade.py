"""`run.py upgrade`: brings this template's machinery into an implementation, and touches nothing of the developer's.

Each file is replaced at once and the note of what was put there is written last: interrupted anywhere, the same command
completes it. A file that is neither as it was noted nor as it shall be was edited, and stops all before it begins.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from control import dockerfile, hooks, machinery, newproject, parts
from control.errors import InputError, Problem
from control.files import read_text
from control.machinery import Note, Piece

EDITED_SHOWN = 10  # files that one line names


@dataclass(frozen=True)
class Plan:
    """What an upgrade will do. `edited`: what would be lost with it."""

    new: Mapping[str, Piece]
    added: list[str]
    replaced: list[str]
    removed: list[str]
    edited: list[str]
    note: Note
    before: Note | None

    @property
    def changed(self) -> list[str]:
        return [*self.added, *self.replaced, *self.removed]


def plan(template: Path, project: Path) -> Plan:
    """Compares the two; raises InputError where `project` is no implementation that can be upgraded from `template`."""
    _check(template, project)
    everything = machinery.read(template)
    note = newproject.note_of(template, everything)
    # Of a file of two parts only the developer can make the upper one: where it was deleted it stays so.
    new = {name: one for name, one in everything.items() if name not in parts.FILES or (project / name).exists()}
    before = machinery.read_note(project)
    known = before.files if before else {}
    there = {name: machinery.piece(project, name) for name in (*new, *known) if (project / name).is_file()}
    replaced = [name for name, one in new.items() if name in there and there[name] != one]
    removed = [name for name in known if name in there and name not in new]
    edited = [
        name
        for name in (*replaced, *removed)
        if there[name].digest != known.get(name) and (name not in new or there[name].digest != new[name].digest)
    ]
    return Plan(new, [name for name in new if name not in there], replaced, removed, edited, note, before)


def require_unedited(planned: Plan, project: Path) -> None:
    """Raises InputError where an edit would be lost."""
    if not planned.edited:
        return
    shown = ", ".join(planned.edited[:EDITED_SHOWN])
    more = f" and {len(planned.edited) - EDITED_SHOWN} more" if len(planned.edited) > EDITED_SHOWN else ""
    if planned.before is None:
        wrong = f"nothing notes which machinery it has, and these files are others than this template's: {shown}{more}"
        raise InputError(project, "", wrong, "commit what is yours in them, then add --force")
    wrong = f"the machinery was edited here, and that would be lost: {shown}{more}"
    raise InputError(project, "", wrong, "move it to files of your own (docs/your-own.md), or add --force")


def apply(planned: Plan, project: Path) -> None:
    """Does it; raises Problem where the disk refuses, and then the same command goes on."""
    try:
        for name in (*planned.added, *planned.replaced):
            machinery.write(project, name, planned.new[name])
        for name in planned.removed:
            (project / name).unlink(missing_ok=True)
        machinery.write_note(project, planned.note)
    except OSError as error:
        wrong = f"while upgrading {project}: {error.strerror or error}"
        raise Problem(f"{wrong} — type the same command again to complete it") from None


def to_look_at(planned: Plan, template: Path, project: Path) -> Iterator[str]:
    """What is new for the developer: keys of the config, hooks, and what is to be done next; a line each."""
    yield from _config_lines(planned, template, project)
    before = planned.before.hooks if planned.before else _signatures(project, planned.note.hooks)
    for change in hooks.changes(before, planned.note.hooks):
        yield f"hook            {change}: see worker/generic-worker.py of the template"
    if any(name.startswith("files/requirements") for name in planned.changed):
        yield "next: make venv, since run.py needs other packages"
    if any(name.startswith("worker/") for name in planned.changed):
        yield "next: make build push, so that machines get the new worker"


def _config_lines(planned: Plan, template: Path, project: Path) -> Iterator[str]:
    now, config = planned.note.config_keys, read_text(template / "config.py", "a config file")
    before = planned.before.config_keys if planned.before else now
    own = hooks.constants(project / "config.py")
    for key in now:
        if key not in before:
            there = "; your config has it already: hold it against this" if key in own else ""
            yield f"config          new: {hooks.explained(config, key)}{there}"
    for key in before:
        if key not in now:
            there = "; in your config it is now a constant of your own, for the program" if key in own else ""
            yield f"config          gone: {key}{there}"


def _signatures(project: Path, now: hooks.Hooks) -> hooks.Hooks:
    """The implementation's own, where nothing notes the template's: docstrings are the developer's there."""
    path = project / "worker" / "generic-worker.py"
    own = hooks.read(path) if path.exists() else {}
    return {name: one | {"docstring": now.get(name, one)["docstring"]} for name, one in own.items() if name in now}


def _check(template: Path, project: Path) -> None:
    if (template / machinery.NOTE).exists() or project.resolve() == template.resolve():
        right = "type it in the newer template: python run.py --project IMPLEMENTATION upgrade"
        raise InputError("upgrade", "", "a newer machinery comes from a newer template", right)
    if not (project / "control").is_dir() or not (project / "run.py").is_file():
        right = "give the folder of what newProject made"
        raise InputError(project, "", "it has no run.py and control/ of its own", right)
    path = project / "worker" / "Dockerfile"
    if path.exists():
        own = parts.split(read_text(path, "a Dockerfile"), path).own
        if "program" not in [stage.name for stage in dockerfile.stages(own)]:
            right = "end it with the line: FROM your/image AS program"
            raise InputError(path, "FROM", "the part above the marker line has no stage `program`", right)
