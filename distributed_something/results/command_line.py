"""How a user types this project's commands, so that advice can name the very command to type."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath

from distributed_something.core.text import TERMINAL_COLUMNS

RUN_COMMANDS = ("setup", "submitJob", "startCluster", "monitor")  # in the order in which they are typed
WRAPPED_INDENT = "    "  # of a command's second line and further ones


def wrap_command(command: str, columns: int) -> list[str]:
    """Return a command in lines of at most `columns` columns, which a shell reads as one. A long word may be wider.

    No line ends with an option, because its value may follow.
    """
    if len(command) <= columns:
        return [command]
    lines: list[list[str]] = [[]]
    for word in map(shlex.quote, shlex.split(command)):
        width = len(" ".join([*lines[-1], word, "\\"])) + (len(WRAPPED_INDENT) if lines[1:] else 0)
        if lines[-1] and width > columns:
            is_option = len(lines[-1]) > 1 and lines[-1][-1].startswith("-")
            lines.append([lines[-1].pop()] if is_option else [])
        lines[-1].append(word)
    first, *others = map(" ".join, lines)
    texts = [first, *(f"{WRAPPED_INDENT}{line}" for line in others)]
    return [*(f"{text} \\" for text in texts[:-1]), texts[-1]]


def format_command_lines(command: str, label: str = "", indent: str = "") -> list[str]:
    """Return a command behind a label in lines of at most TERMINAL_COLUMNS columns; `indent` precedes all others."""
    first, *others = wrap_command(command, TERMINAL_COLUMNS - max(len(label), len(indent)))
    return [f"{label}{first}", *(f"{indent}{line}" for line in others)]


def format_next_command(command: str, label: str = "next") -> str:
    """Return the line that says which command to type next, or several lines if the command is long."""
    return "\n".join(format_command_lines(command, f"{label}: ", " " * len(f"{label}: ")))


@dataclass(frozen=True)
class CommandLine:
    """The options and files of a user's commands.

    `options`: the options that every command needs, such as `--local` or `--project examples/fiji`. `monitor_file`,
    `fleet_file`, and `job_file`: paths as the user would type them; a word in capitals if the path is unknown.
    `monitor_file` belongs to the run that the advice is about, and may also be that run's name. `next_monitor_file`:
    the file that `startCluster` writes for the next run; "" if it is the same. `job_files`: all Job files in the
    project's `files/` folder. `has_image`: whether workers run in containers, so that a corrected image must be built;
    `is_pushed`: whether it must also be pushed, because it is not used from here.
    """

    options: tuple[str, ...] = ()
    monitor_file: str = "MONITORFILE"
    next_monitor_file: str = ""
    fleet_file: str = "FLEETFILE"
    job_file: str = "JOBFILE"
    job_files: tuple[str, ...] = ()
    has_image: bool = True
    is_pushed: bool = True

    def format_command(self, *arguments: str) -> str:
        """Return the command as a user would type it."""
        return shlex.join(("python", "run.py", *self.options, *arguments))

    def list_run_commands(self, names: Sequence[str]) -> list[str]:
        """Return these commands, which are among RUN_COMMANDS, with the project's files."""
        monitor_file = self.next_monitor_file or self.monitor_file
        files = {"submitJob": self.job_file, "startCluster": self.fleet_file, "monitor": monitor_file}
        return [self.format_command(name, *((files[name],) if name in files else ())) for name in names]

    def format_run_commands(self, names: Sequence[str]) -> str:
        """Return these commands as one line: which to type first, and which then."""
        return "; then: ".join(self.list_run_commands(names))

    def format_build_command(self) -> str:
        """Return the command that builds the project's image and, if machines pull it, pushes it."""
        words = tuple(word for word in self.options if word not in ("--local", "--containers"))
        return shlex.join(("python", "run.py", *words, "buildImage", *(("--push",) if self.is_pushed else ())))

    def select_job_file(self, name: str) -> CommandLine:
        """Return this command line with the project's Job file of this name, if there is one."""
        path = next((path for path in self.job_files if PurePath(path).name == name), None)
        return self if path is None else replace(self, job_file=path)
