"""Checks of the files that a command was given: whether they exist, and whether they are the right kind of file.

Whoever types commands in the wrong order, or with the wrong file, reads the very command to type instead.
"""

from __future__ import annotations

from pathlib import Path

from distributed_something.core.errors import InputError
from distributed_something.core.files import find_file_kind, read_json_object
from distributed_something.core.text import format_names
from distributed_something.results.command_line import CommandLine

MAX_PROJECTS_NAMED = 5


def check_given_file(path: Path, kind: str, command: str, line: CommandLine, project: Path) -> None:
    """Raise InputError if there is no such file, or if it is another kind of file.

    `kind`: "Job file", "Fleet file", or "monitor file". `command`: the command that the file was given to. What is
    wrong inside a file of the right kind is not reported here.
    """
    if not path.exists():
        problem = "there is no such file"
        in_project = project / path
        if not path.is_absolute() and in_project.is_file():
            remedy = f"give its path from the current folder: {line.format_command(command, str(in_project))}"
        else:
            noun = {"Job file": "job file", "Fleet file": "fleet file"}.get(kind, kind)
            remedy = f"give the path of a {noun}: {_suggest_command(path, kind, command, None, line)}"
        raise InputError(path, "", problem, remedy)
    given_kind = _find_given_kind(path)
    if given_kind not in (None, kind):
        remedy = f"give the {kind}: {_suggest_command(path, kind, command, given_kind, line)}"
        raise InputError(path, "", f"this is a {given_kind}, not a {kind}", remedy)


def _find_given_kind(path: Path) -> str | None:
    """Return what kind of file this is; None if that is unknown."""
    if path.suffix == ".py":
        return "Python file"
    try:
        return find_file_kind(read_json_object(path, "a file"))
    except InputError:
        return None


def _suggest_command(path: Path, kind: str, command: str, given_kind: str | None, line: CommandLine) -> str:
    """Return the command to type instead. A run has no monitor file before `startCluster`, which therefore comes first.

    `given_kind`: the kind of file at `path`; None if it does not exist.
    """
    if kind == "monitor file":
        if Path(line.monitor_file).is_file():
            return line.format_command(command, line.monitor_file)
        fleet_file = str(path) if given_kind == "Fleet file" else line.fleet_file
        return f"startCluster writes {line.monitor_file}; type: {line.format_command('startCluster', fleet_file)}"
    if kind == "Fleet file":
        if not Path(line.fleet_file).is_file():
            return f"fleetFile writes one; type: {line.format_command('fleetFile')}"
        return line.format_command(command, line.fleet_file)
    if len(line.job_files) > 1:
        return f"{line.format_command(command, 'JOBFILE')}, where JOBFILE is one of {format_names(line.job_files)}"
    return line.format_command(command, line.job_file)


def check_project(project: Path, config_file: Path, others: tuple[Path, ...]) -> None:
    """Raise InputError if the folder `project` has no config, and name folders that have one.

    `others`: folders in which the user may have meant to work.
    """
    if config_file.exists():
        return
    found = [folder for folder in (*others, *sorted(project.glob("*/"))) if (folder / "config.py").is_file()]
    remedy = "give the path of a config file"
    if found:
        names = format_names([str(folder) for folder in dict.fromkeys(found)], MAX_PROJECTS_NAMED)
        remedy = f"give the folder of a project with --project; these are projects: {names}"
    raise InputError(config_file, "", "there is no such file", remedy)
