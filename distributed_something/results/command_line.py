"""How a user types this project's commands, so that advice can name the very command to type."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from distributed_something.core.monitor_file import build_monitor_file_path

if TYPE_CHECKING:
    from distributed_something.core.monitor_file import MonitorFile

from distributed_something.core.text import DEFAULT_PROGRAM, ROW_INDENT, TERMINAL_COLUMNS

RUN_COMMANDS = ("setup", "submitJob", "startCluster", "monitor")  # in the order in which they are typed
EXAMPLE_JOB_FILE = "exampleJob.json"  # shipped with each project
JOB_FILE_WORD = "JOBFILE"  # if it is not known which one
FLEET_FILE_WORD = "FLEETFILE"
WRAPPED_INDENT = "    "  # of a command's second line and further ones


def choose_job_file(paths: Sequence[str], app: str) -> str:
    """Return the Job file that the user probably means: the app's own, or the only one that is not the shipped example.

    JOB_FILE_WORD if there is none, or if there are several. `paths`: all Job files in the project's `files/` folder.
    """
    own = [path for path in paths if Path(path).name == f"{app}Job.json"]
    others = [path for path in paths if Path(path).name != EXAMPLE_JOB_FILE]
    return next((found[0] for found in (own, paths, others) if len(found) == 1), JOB_FILE_WORD)


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


def format_command_rows(command: str) -> list[str]:
    """Return a command in indented lines, to print below a text that introduces it."""
    return format_command_lines(command, ROW_INDENT, ROW_INDENT)


def format_next_command(command: str, label: str = "next") -> str:
    """Return the line that says which command to type next, or several lines if the command is long."""
    return "\n".join(format_command_lines(command, f"{label}: ", " " * len(f"{label}: ")))


@dataclass(frozen=True)
class CommandLine:
    """The options and files of a user's commands.

    `program`: how the user starts run.py. `options`: the options that every command needs, such as `--local` or
    `--project examples/fiji`. `monitor_file`, `fleet_file`, and `job_file`: paths as the user would type them; a word
    in capitals if the path is unknown. `monitor_file` belongs to the run that the advice is about, and may also be that
    run's name. `next_monitor_file`: the file that `startCluster` writes for the next run; "" if it is the same.
    `job_files`: all Job files in the project's `files/` folder. `has_image`: whether workers run in containers, so that
    a corrected image must be built; `is_pushed`: whether it must also be pushed, because it is not used from here.
    `profile`: the AWS profile that the AWS CLI needs; "" if that is its default.
    `slots`: how many programs a container runs at once (DOCKER_CORES); 0 if unknown.
    """

    options: tuple[str, ...] = ()
    program: tuple[str, ...] = DEFAULT_PROGRAM
    monitor_file: str = "MONITORFILE"
    next_monitor_file: str = ""
    fleet_file: str = FLEET_FILE_WORD
    job_file: str = JOB_FILE_WORD
    job_files: tuple[str, ...] = ()
    has_image: bool = True
    is_pushed: bool = True
    slots: int = 0
    profile: str = ""

    @property
    def is_local(self) -> bool:
        return "--local" in (*self.program, *self.options)

    @property
    def memory_remedy(self) -> str:
        """What to change in the config if programs run out of memory. A single program cannot get fewer neighbors."""
        return "raise MEMORY" if self.slots == 1 else "raise MEMORY or lower DOCKER_CORES"

    @property
    def path_remedy(self) -> str:
        """What to do if a program on this computer is not found although it is there; "" for programs in an image."""
        if self.has_image:
            return ""
        return f"if PATH has changed since the local cloud started, first type {self.format_command('stop')}"

    def format_command(self, *arguments: str) -> str:
        """Return the command as a user would type it."""
        return shlex.join((*self.program, *self.options, *arguments))

    def list_retry_words(self, *, has_waiting: bool) -> tuple[str, ...]:
        """Return the words of the command that runs all failed jobs again; `retry` needs --yes if others wait."""
        return ("retry", self.monitor_file, *(("--yes",) if has_waiting else ()))

    def format_retry(self, *options: str, has_waiting: bool) -> str:
        """Return the command that runs all failed jobs again, or those that `options` select, as a user types it."""
        return self.format_command(*self.list_retry_words(has_waiting=has_waiting), *options)

    def list_run_commands(self, names: Sequence[str]) -> list[str]:
        """Return these commands, which are among RUN_COMMANDS, with the project's files."""
        monitor_file = self.next_monitor_file or self.monitor_file
        files = {"submitJob": self.job_file, "startCluster": self.fleet_file, "monitor": monitor_file}
        return [self.format_command(name, *((files[name],) if name in files else ())) for name in names]

    def format_build_command(self) -> str:
        """Return the command that builds the project's image and, if machines pull it, pushes it."""
        all_words = (*self.program, *self.options)
        words = [word for word in all_words if word not in ("--local", "--containers")]
        return shlex.join((*words, "buildImage", *(("--push",) if self.is_pushed else ())))

    def select_run(self, file: MonitorFile) -> CommandLine:
        """Return this command line for a run: with its Fleet file if none is known, and its kind of workers."""
        line = self
        if file.MONITOR_FLEET_FILE and line.fleet_file == FLEET_FILE_WORD:
            line = replace(line, fleet_file=file.MONITOR_FLEET_FILE)
        if not file.MONITOR_COMMAND:  # the file of an older version
            return line
        return replace(line, has_image=file.MONITOR_HAS_IMAGE, slots=line.slots or file.MONITOR_JOBS_PER_TASK)

    def select_job_file(self, used: str) -> CommandLine:
        """Return this command line with the Job file that was used, as it was typed then; "" if unknown.

        One of the project's is named as `job_files` has it. Of another one, the name alone is not enough.
        """
        path = next((path for path in self.job_files if _ends_alike(path, used)), None)
        if path is None and (PurePath(used).name != used or self.job_file == JOB_FILE_WORD):
            path = used
        return replace(self, job_file=path) if path else self


def describe_command_line(line: CommandLine, fleet_file: Path) -> dict[str, Any]:
    """Return the keys of the monitor file that say how the user types commands."""
    return {
        "MONITOR_COMMAND": line.format_command(),
        "MONITOR_FILE_PATH": line.monitor_file,
        "MONITOR_FLEET_FILE": str(fleet_file),
        "MONITOR_HAS_IMAGE": line.has_image,
    }


def build_run_line(file: MonitorFile) -> CommandLine:
    """Return how the user typed commands when the run started, as far as its monitor file says so."""
    program = tuple(shlex.split(file.MONITOR_COMMAND)) or DEFAULT_PROGRAM
    path = file.MONITOR_FILE_PATH or str(build_monitor_file_path(Path(), file.MONITOR_APP_NAME))
    line = CommandLine(program=program, monitor_file=path, is_pushed="--local" not in program)
    return line.select_run(file)


def _ends_alike(path: str, used: str) -> bool:
    """Return whether both may be the same file, typed in different folders: the name and its folder, if it is given."""
    parts = PurePath(used).parts[-2:]
    return bool(parts) and PurePath(path).parts[-len(parts) :] == parts
