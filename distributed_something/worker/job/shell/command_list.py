"""Collects the simple commands of a shell command, and notes where the output of each of them is written."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_ASSIGNMENT = re.compile(r"""["']?[A-Za-z_]\w*\+?=""")
RESERVED_WORDS = frozenset(
    {"case", "coproc", "do", "done", "elif", "else", "esac", "fi", "for", "function", "if", "in", "select", "then"}
    | {"time", "until", "while"}
)
# Words that may precede the name of a command.
_PREFIXES = RESERVED_WORDS - {"case", "for", "in", "select"} | {
    "!", "{", "builtin", "command", "env", "exec", "nice", "nohup",
}  # fmt: skip
_DECLARATIONS = frozenset(["declare", "typeset", "local", "export", "readonly"])
# bash evaluates the arguments of these commands as arithmetic or as names of variables, which may contain code.
_NAME_COMMANDS = _DECLARATIONS | set(["let", "unset", "read", "mapfile", "readarray", "getopts"])
_COMPOUNDS = {"{": "}", "if": "fi", "case": "esac", "for": "done", "select": "done", "while": "done", "until": "done"}


@dataclass
class ShellCommand:
    """A simple command: its words as they are written, without redirections."""

    words: list[str]
    has_output_file: bool = False  # its output, or that of a compound command that contains it, is written to a file


@dataclass
class SimpleCommand:
    """The simple command that is being read. `word_start`: where its current word begins, or -1 between words."""

    words: list[str] = field(default_factory=list)
    word_start: int = -1
    is_target: bool = False  # the next or current word is the target of a redirection
    is_here_string: bool = False  # this target is the text after <<<
    arguments: list[str] = field(default_factory=list)  # the words without the targets of redirections
    has_output_file: bool = False
    first: int | None = None  # if a compound command ends here: the number of its first command

    def needs_number(self, prefix: str) -> bool:
        """Return whether bash would evaluate a word that begins with `prefix` and continues with a value."""
        if self.is_target:
            return False
        name, *arguments = [*skip_prefixes(self.words), ""]
        arguments = arguments[:-1]
        if name in ("[", "test", "printf", "wait"):
            return bool(arguments) and arguments[-1] in ("-v", "-R", "-p")
        options = "".join(argument[1:] for argument in arguments if argument.startswith("-"))
        is_plain = name in _DECLARATIONS and _ASSIGNMENT.match(prefix) is not None and set(options) <= set("grx")
        return name in _NAME_COMMANDS and not is_plain


def skip_prefixes(words: list[str]) -> list[str]:
    """Return the words of a command from its name on."""
    for position, word in enumerate(words):
        is_option = word.startswith("-") and position > 0
        if word not in _PREFIXES and not is_option and not _ASSIGNMENT.match(word):
            return words[position:]
    return []


class CommandList:
    """The simple commands that have been read, and the pipelines, as parts of that list."""

    def __init__(self) -> None:
        self.commands: list[ShellCommand] = []
        self.pipelines: list[slice] = []
        self._pipeline_first: int | None = None  # the number of the first command of the current pipeline
        # The open ones: the number of the first command, the outer pipeline, and whether it is in parentheses.
        self._compounds: list[tuple[int, int | None, bool]] = []

    def open_compound(self, *, is_subshell: bool) -> None:
        self._compounds.append((len(self.commands), self._pipeline_first, is_subshell))
        self._pipeline_first = None

    def close_compound(self, *, is_subshell: bool) -> int | None:
        """Return the number of the first command in the compound command that ends, or None if nothing ends here."""
        while self._compounds and (is_subshell or not self._compounds[-1][2]):
            first, self._pipeline_first, is_outermost = self._compounds.pop()
            if is_outermost or not is_subshell:
                return first
        return None

    def note_first_word(self, word: str, command: SimpleCommand) -> None:
        """Note a word that may begin or end a compound command. `command`: the command that it is in."""
        if word in _COMPOUNDS:
            self.open_compound(is_subshell=False)
        elif word in _COMPOUNDS.values():
            command.first = self.close_compound(is_subshell=False)

    def end_command(self, command: SimpleCommand, *, is_piped: bool) -> None:
        """Add a command. `is_piped`: another command reads its output."""
        if not (command.arguments or command.has_output_file or is_piped or command.first is not None):
            return  # such as the end of a line after a pipe
        first = len(self.commands) if command.first is None else command.first
        if command.arguments:
            self.commands.append(ShellCommand(command.arguments))
        if command.has_output_file:
            for written in self.commands[first:]:
                written.has_output_file = True
        if is_piped:
            self._pipeline_first = first if self._pipeline_first is None else self._pipeline_first
        elif self._pipeline_first is not None:
            self.pipelines.append(slice(self._pipeline_first, len(self.commands)))
            self._pipeline_first = None
