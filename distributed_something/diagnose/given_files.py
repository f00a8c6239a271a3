"""Checks of the files that a command was given: whether they exist, and whether they are the right kind of file.

Whoever types commands in the wrong order, or with the wrong file, reads the very command to type instead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from distributed_something.core.errors import InputError
from distributed_something.core.files import find_file_kind, read_json_object
from distributed_something.core.text import format_names
from distributed_something.results.command_line import RUN_COMMANDS, CommandLine

MAX_PROJECTS_NAMED = 5


def check_given_file(
    path: Path, kind: str, command: str, line: CommandLine, project: Path, find_remaining: Callable[[], Sequence[str]]
) -> None:
    """Raise InputError if there is no such file, or if it is another kind of file.

    `kind`: "Job file", "Fleet file", or "monitor file". `command`: the command that the file was given to. What is
    wrong inside a file of the right kind is not reported here. `find_remaining`: called if the app has no monitor file;
    returns which of RUN_COMMANDS must still be typed, or nothing if that is unknown.
    """
    if not path.exists():
        problem = "there is no such file"
        in_project = project / path
        if not path.is_absolute() and in_project.is_file():
            remedy, commands = "give its path from the current folder", [line.format_command(command, str(in_project))]
        else:
            noun = {"Job file": "job file", "Fleet file": "fleet file"}.get(kind, kind)
            hint, commands = _suggest_commands(kind, command, line, find_remaining)
            remedy = f"give the path of a {noun}{hint}"
        raise InputError(path, "", problem, remedy, commands=commands)
    given_kind = _find_given_kind(path)
    if given_kind not in (None, kind):
        line = replace(line, fleet_file=str(path)) if given_kind == "Fleet file" else line
        hint, commands = _suggest_commands(kind, command, line, find_remaining)
        problem = f"this is a {given_kind}, not a {kind}"
        raise InputError(path, "", problem, f"give the {kind}{hint}", commands=commands)


def _find_given_kind(path: Path) -> str | None:
    """Return what kind of file this is; None if that is unknown."""
    if path.suffix == ".py":
        return "Python file"
    try:
        return find_file_kind(read_json_object(path, "a file"))
    except InputError:
        return None


def _suggest_commands(
    kind: str, command: str, line: CommandLine, find_remaining: Callable[[], Sequence[str]]
) -> tuple[str, list[str]]:
    """Return the end of a remedy and what to type: the command instead of this one, or the commands that come first."""
    if kind == "monitor file" and not Path(line.monitor_file).is_file():
        return _suggest_commands_of_run(command, line, find_remaining)
    if kind == "monitor file":
        return "", [line.format_command(command, line.monitor_file)]
    if kind == "Fleet file":
        if not Path(line.fleet_file).is_file():
            return ": fleetFile writes one; type", [line.format_command("fleetFile")]
        return "", [line.format_command(command, line.fleet_file)]
    if len(line.job_files) > 1:
        return f", where JOBFILE is one of {format_names(line.job_files)}", [line.format_command(command, "JOBFILE")]
    return "", [line.format_command(command, line.job_file)]


def _suggest_commands_of_run(
    command: str, line: CommandLine, find_remaining: Callable[[], Sequence[str]]
) -> tuple[str, list[str]]:
    """Return what to type if the app has no monitor file: a run has none before `startCluster`."""
    if command == "cleanup":
        return ", or leave it out to clean up the whole app", [line.format_command(command)]
    names = find_remaining()
    written = f": startCluster writes {line.monitor_file}"
    if not names:
        return f"{written}; type, as far as you have not", line.list_run_commands(RUN_COMMANDS)
    if names == RUN_COMMANDS[3:]:  # a run is active, so the bucket has a copy of its file
        return "", [line.format_command(command, line.monitor_file)]
    return f"{written}; type", line.list_run_commands(names)


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
