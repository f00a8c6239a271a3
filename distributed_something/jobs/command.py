"""The `command` of a Job file, and whether it needs a shell."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

from distributed_something.core.errors import InputError
from distributed_something.worker import TemplateError, parse_shell_template, split_command

_QUOTED = re.compile(r"""\\.|'[^']*'|"(?:\\.|[^"\\])*\"""", re.S)
# Operators, backquotes, and variables such as $HOME, ${{HOME}}, and ${HOME:-/}. Not $1, because a shell would expand it
# to nothing, and not ${file}, which is a placeholder after a dollar sign.
_SHELL_SYNTAX = re.compile(r"[|&;<>`]|(?<!\S)[()](?!\S)|\$(?:[A-Za-z_(]|\{(?![A-Za-z_][\w.-]*\}))")
# Words that hardly any program takes as arguments. A semicolon is not among them, because `find` takes one.
_SHELL_WORD = re.compile(r"(?<!\S)(?:(?:\|\|?|&&|<|>>?)(?!\S)|[\d&]>\S*)")


def has_shell_syntax(command: str) -> bool:
    """Return whether the command has a pipe, a redirection, a variable, or other syntax that only a shell understands.

    Quoted text does not count, even in double quotes: `$NF` there is more often meant for a program such as awk,
    because users who put the whole command into single quotes cannot use them inside. Raise ValueError if a quote is
    not closed.
    """
    shlex.split(command)
    return _SHELL_SYNTAX.search(_QUOTED.sub("-", command)) is not None


def check_command(path: Path, shared: dict[str, Any]) -> None:
    """Raise InputError if the `command` of the Job file at `path`, whose shared keys are `shared`, is not valid.

    A word such as `&&` needs a shell or quotes: without both, it would become an argument of the program.
    """
    command, shell = shared.get("command"), shared.get("shell")
    if shell and not isinstance(command, str):
        remedy = "write `command` as a single string, or remove `shell`"
        raise InputError(path, "shell", "with `shell`, the command must be a single string", remedy)
    if not isinstance(command, str):
        return
    try:
        parse_shell_template(command) if shell else split_command(command)
    except TemplateError as error:
        remedy = (
            "see `Values in shell commands` in docs/jobs.md" if shell else "close the quote, or write a list of words"
        )
        raise InputError(path, "command", str(error), remedy) from None
    if not shell and (found := _SHELL_WORD.search(_QUOTED.sub("-", command))):
        remedy = f"add \"shell\": true, or write '{found[0]}' in quotes if it is an argument"
        raise InputError(path, "command", f"only a shell understands {found[0]}", remedy)
