"""Finds the values that a command hands to something that executes text, such as another shell.

The shell that reads a command executes no value, because values are in variables. But the command may pass a value on
as text: `sh -c "echo {name}"`, or `echo "echo {name}" > run.sh; sh run.sh`. The rule is strict rather than exact:

1. A value must be plain if it is in text that is executed: the code of `sh -c` and the like, the arguments of `make`,
   or a variable such as BASH_ENV.
2. A value must be plain if the command writes it as text (a here-document, or `echo` and the like with a file, or with
   a pipe to a shell) and also runs something that executes text. Which file is written or executed does not matter.

An argument of a script (`bash run.sh {name}`) is neither, so it can be any value.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache

from distributed_something.worker.job.placeholders import PLACEHOLDER_PATTERN
from distributed_something.worker.job.shell.command_list import ShellCommand
from distributed_something.worker.job.shell.command_words import (
    find_code_words,
    find_runner,
    get_name,
    has_code_arguments,
    is_bare_exec,
    is_builtin_for_code,
    is_printer,
    is_writer,
    may_hold_value,
    unquote,
    writes_input,
)
from distributed_something.worker.job.shell.shell_template import read_shell_text

ANY = ""  # stands for all placeholders of a command
_PLACEHOLDER = re.compile(PLACEHOLDER_PATTERN)
_EXPANSION = re.compile(r"\$(?:[\w@*]|\{)")
# Commands that execute their arguments, and the forms of them that cannot contain a value. In these patterns, a null
# byte stands for any placeholder. They also find code that shell_template.py does not see, such as that in backquotes.
_CODE = re.compile(
    r"(?<![\w./-])(?:eval|trap|alias|parallel|ssh)(?![\w-])"
    r"|(?<![\w.-])(?:(?:ba|da|a|z|k|mk)?sh|su)(?:\s+[\w+-]+)*?\s+-\w*c(?!\w)"
)
_FIXED_TEXT = r"(?:'[^'\0]*'|\"[^\"$`\0]*\"|(\"?)\$\([^$`()\0]*\)\1)"
_FIXED_CODE = re.compile(rf"(?:{_CODE.pattern})\s*(?:{_FIXED_TEXT}|-)(?=\s|[;|&)]|\Z)")
_FIXED_WORD = re.compile(rf"{_FIXED_TEXT}|[\w./:=,+@%-]+")
# Variables that a shell or another program executes, or that say what it loads.
_CODE_VARIABLE = re.compile(
    r"(?:ENV|BASH_ENV|PS[0-4]|PROMPT_COMMAND|LD_PRELOAD|LD_AUDIT|PYTHONSTARTUP|PERL5OPT|PERL5DB|RUBYOPT|NODE_OPTIONS"
    r"|JAVA_TOOL_OPTIONS|_JAVA_OPTIONS|EDITOR|VISUAL|FCEDIT|PAGER|MANPAGER|LESSOPEN|LESSCLOSE|GIT_\w+|RSYNC_RSH"
    r"|MAKEFLAGS|MFLAGS|GNUMAKEFLAGS|SHELL|SHELLOPTS|BASHOPTS|BASH_FUNC_\w+(?:%%|\(\))?|MAILPATH)\+?="
)
_FUNCTION = re.compile(r"[\w-]\s*\(\s*\)|(?<!\S)function\s")


@lru_cache(maxsize=1024)
def find_executed_values(command: str) -> Mapping[str, str]:
    """Return what may execute values of a shell command, by placeholder, such as {"{name}": "sh -c"}.

    The key ANY stands for all placeholders. Raise TemplateError as parse_shell_template does.
    """
    return dict(_Search().search_text(command))


@lru_cache(maxsize=1024)
def find_executed_words(words: tuple[str, ...]) -> Mapping[str, str]:
    """Return the same for the words of a command that no shell reads."""
    return dict(_Search().search_words(words))


class _Search:
    """A search through a command and the code in it, such as 'run "$1"' in sh -c 'run "$1"' sh {name}."""

    def __init__(self) -> None:
        self._written: list[str] = []  # text that is written, with placeholders and variables
        self._runner: str | None = None  # something that executes text from its input or a file
        self._has_values = False  # variables may contain values

    def search_text(self, text: str) -> Iterator[tuple[str, str]]:
        """Yield each placeholder whose value may be executed, with what may execute it."""
        commands, unread = list[ShellCommand](), [(text, False)]
        while unread:
            text, is_written = unread.pop()
            if code := _CODE.search(_FIXED_CODE.sub(" ", _PLACEHOLDER.sub("\0", text))):
                yield ANY, code[0]
            for command, is_one_written in self._read_text(text, is_written=is_written):
                commands.append(command)
                codes = [_unquote_code(code) for _, code in find_code_words(command.words)]
                unread += [(code, is_one_written) for code in codes]
                self._has_values = self._has_values or bool(codes) or may_hold_value(command.words)
            unread += [(code, is_written) for code in read_shell_text(text).backquoted]
            self._has_values = self._has_values or _FUNCTION.search(text) is not None
        for command in commands:
            yield from self._search_command(command.words)
        for written in self._written if self._runner else ():
            yield from ((token, self._runner or "") for token in self._list_values(written))

    def search_words(self, words: Sequence[str]) -> Iterator[tuple[str, str]]:
        command = [_quote(word) for word in words]
        yield from self._search_command(command)
        for _, code in find_code_words(command):
            self._has_values = True
            yield from ((ANY, found) for _, found in self.search_text(_unquote_code(code)))

    def _read_text(self, text: str, *, is_written: bool) -> Iterator[tuple[ShellCommand, bool]]:
        """Yield the commands in `text`, and whether their output is written; note the text, and what may execute it.

        `is_written`: the output of the whole text is written to a file, or to something that executes it.
        """
        _, commands, pipelines, documents, _ = read_shell_text(text)
        runners = [find_runner(command.words, text, is_fixed=_is_fixed) for command in commands]
        self._runner = next(filter(None, [self._runner, *runners]), None)
        are_written = [is_written or command.has_output_file for command in commands]
        for pipeline in pipelines:
            if any(are_written[pipeline]) or any(_reads_text(command.words, text) for command in commands[pipeline]):
                are_written[pipeline] = [True] * len(commands[pipeline])
        is_redirected = any(command.has_output_file and is_bare_exec(command.words) for command in commands)
        if is_redirected or (_FUNCTION.search(text) and any(are_written)):
            are_written = [True] * len(commands)
        self._written += documents
        for command, is_one_written in zip(commands, are_written, strict=True):
            if is_writer(command.words) or (is_one_written and is_printer(command.words)):
                self._written.append(" ".join(command.words))
            yield command, is_one_written

    def _search_command(self, words: Sequence[str]) -> Iterator[tuple[str, str]]:
        if is_builtin_for_code(words):
            yield ANY, get_name(words)
        if has_code_arguments(words):
            yield from ((token, get_name(words)) for token in self._list_values(" ".join(words[1:])))
        for word in words:
            if match := _CODE_VARIABLE.match(unquote(word)):
                yield from ((token, match[0]) for token in self._list_values(word))
        for name, code in find_code_words(words):
            if not _is_fixed(code, words):
                is_fixed_otherwise = _is_fixed(_PLACEHOLDER.sub("x", code), words)
                yield from ((t, f"{name} -c") for t in (self._list_values(code) if is_fixed_otherwise else [ANY]))

    def _list_values(self, text: str) -> list[str]:
        """Return the placeholders in `text`, or ANY if it may contain each value."""
        unquoted = text if '"' in text else re.sub(r"'[^']*'", "", text)
        if self._has_values and _EXPANSION.search(unquoted):
            return [ANY]
        return [match[0] for match in _PLACEHOLDER.finditer(text) if match[2]]


def _reads_text(words: Sequence[str], text: str) -> bool:
    """Return whether a command in a pipeline may execute what it reads, or write it to a file."""
    return writes_input(words) or find_runner(words, text) is not None


def _is_fixed(code: str, words: Sequence[str]) -> bool:
    """Return whether no value can be in `code`. xargs -I and find put what they read in the place of text in it."""
    inserts = "{}" in code or any(
        re.match(r"-\w*[Ii]|--replace|-J", unquote(word)) for word in words if "xargs" in words
    )
    return bool(_FIXED_WORD.fullmatch(_PLACEHOLDER.sub("\0", code))) and not inserts


def _quote(word: str) -> str:
    return word if re.fullmatch(r"[\w./:=,+@%{}-]+", word) else "'" + word.replace("'", "") + "'"


def _unquote_code(code: str) -> str:
    return code[1:-1] if code[:1] in ("'", '"') else code
