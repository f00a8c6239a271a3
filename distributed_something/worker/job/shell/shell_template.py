"""Finds the placeholders in a shell command, and what surrounds each of them.

The result decides how a reference to a value is written: `"${X}"` outside quotes, but `${X}` in double quotes. If this
module misjudges a place, the program gets a wrong argument, but no value is executed: `shell_values.py` never inserts a
value that could be code, wherever it is. `executed_text.py` examines the commands that this module finds.
"""

from __future__ import annotations

import re
from enum import Enum
from functools import lru_cache
from typing import NamedTuple

from distributed_something.worker.job.placeholders import PLACEHOLDER_PATTERN, TemplateError
from distributed_something.worker.job.shell.command_list import CommandList, ShellCommand, SimpleCommand, skip_prefixes

_PLACEHOLDER = re.compile(PLACEHOLDER_PATTERN)
_VARIABLE = re.compile(r"\$(\w+|[@*#?$!-])")
_BRACES = re.compile(r"\$\{([#!]?)(\w+|[@*#?$!-])(:?[-+=](?!\}))?")
_REDIRECTION = re.compile(r"&>>?|[<>]+[&|]?")
# Output that no command reads: it is in the job's log or nowhere, or consists of error messages.
_HARMLESS_OUTPUT = re.compile(r">&[12-](?!\w)|&?>>?[ \t]*/dev/(?:null|stderr|stdout)(?![\w/])|(?<=\s2)>")
_DOCUMENT = re.compile(r"<<(-?)[ \t]*((?:'[^'\n]*'|\"[^\"\n]*\"|\\.|[^\s;&|()<>'\"\\`$])+)")
_SUBSCRIPT_START, _SUBSCRIPT_END = re.compile(r"[A-Za-z_]\w*\[[^]]*\Z"), re.compile(r"[^]\s]*\]\+?=")
_NUMERIC_TEST = re.compile(r"\s-(?:eq|ne|lt|le|gt|ge|v|R)\s")


class Place(Enum):
    """What surrounds a placeholder."""

    WORD = "outside quotes"
    DOUBLE = "in double quotes or a here-document"
    SINGLE = "in single quotes"
    NUMBER = "where bash evaluates arithmetic or names of variables"


class Slot(NamedTuple):
    """A placeholder in a command.

    `is_joined`: its neighbors would change the meaning of text in its place. `is_decimal`: `10#` precedes it.
    """

    token: str
    place: Place
    is_joined: bool
    is_decimal: bool


class ShellText(NamedTuple):
    """A command that has been read.

    `pipelines`: which of `commands` they contain. `documents`: here-strings, and here-documents that a shell expands.
    """

    parts: tuple[str | Slot, ...]
    commands: tuple[ShellCommand, ...]
    pipelines: tuple[slice, ...]
    documents: tuple[str, ...]
    backquoted: tuple[str, ...]


def parse_shell_template(command: str) -> tuple[str | Slot, ...]:
    """Return the parts of `command`: its text, and a slot for each placeholder.

    Raise TemplateError for a placeholder whose value cannot be passed safely, such as one in backquotes.
    """
    return read_shell_text(command).parts


@lru_cache(maxsize=1024)
def read_shell_text(command: str) -> ShellText:
    """Return the parts, commands, and here-documents of `command`. Raise TemplateError as parse_shell_template does."""
    return _Parser(command).parse()


class _Parser:
    """Reads a command once, from left to right. Text that a shell would reject is accepted."""

    def __init__(self, text: str) -> None:
        self._text, self._at, self._copied = text, 0, 0
        self._parts: list[str | Slot] = []
        self._command, self._commands = SimpleCommand(), CommandList()
        self._backquoted: list[str] = []
        self._texts: list[str] = []  # here-strings and the bodies of here-documents
        self._documents: list[tuple[str, bool, bool]] = []  # here-documents whose bodies follow the current line
        self._number_until = 0  # end of a [[ … ]] that evaluates numbers
        self._variable_end = -1  # where the name of the last $variable ended
        self._last_compound: int | None = None  # the number of the first command in the ( … ) that was read last
        self._obstacle = ""  # text after which only a shell could tell what surrounds a placeholder

    def parse(self) -> ShellText:
        self._read_commands("")
        self._copy_text()
        commands, pipelines = tuple(self._commands.commands), tuple(self._commands.pipelines)
        return ShellText(tuple(self._parts), commands, pipelines, tuple(self._texts), tuple(self._backquoted))

    def _read_commands(self, end: str) -> None:
        """Read until `end`, which is `)` in a substitution or a subshell."""
        outer, self._command, cases = self._command, SimpleCommand(), 0
        self._commands.open_compound(is_subshell=True)
        while self._at < len(self._text):
            char = self._text[self._at]
            if char in ";|)\n" or (char == "&" and not self._text.startswith("&>", self._at)):
                is_or = "|" in (self._text[self._at - 1 : self._at], self._text[self._at + 1 : self._at + 2])
                cases += self._end_command(is_piped=char == "|" and not is_or)
                self._at += 1
                if char == "\n":
                    self._read_documents()
                if char == end and cases <= 0:
                    break
            elif char in " \t":
                cases += self._end_word()
                self._at += 1
            else:
                self._read_token(char)
        self._end_command()
        self._last_compound = self._commands.close_compound(is_subshell=True)
        self._command = outer

    def _read_token(self, char: str) -> None:
        if char == "(":
            self._end_command()
            if self._text.startswith("((", self._at):
                self._read_arithmetic("()", 0)
            else:
                is_file = self._text[self._at - 1 : self._at] in ("<", ">")  # the name of a file, as in cat <(command)
                self._at += 1
                self._read_commands(")")
                self._command.first, self._command.has_output_file = self._last_compound, is_file
        elif char in "<>&":
            self._read_redirection()
        elif char == "#" and self._command.word_start < 0:
            self._read_until("\n", Place.WORD)
        elif self._text.startswith("\\\n", self._at):
            self._at += 2
        else:
            if self._command.word_start < 0:
                self._command.word_start = self._at
            self._read_word_part(char)

    def _read_word_part(self, char: str) -> None:
        """Read a part of a word outside quotes: a quoted part, an expansion, a placeholder, or one character."""
        if char == "'":
            self._at += 1
            self._read_until("'", Place.SINGLE)
            self._at += 1
        elif char == '"':
            self._at += 1
            self._read_double_quotes('"', len(self._text))
            self._at += 1
        else:
            self._read_part(char, Place.WORD)

    def _end_word(self) -> int:
        """Note that a word has ended. Return 1 if it opens a `case`, -1 if it closes one, else 0."""
        command = self._command
        if command.word_start < 0:
            return 0
        word = self._text[command.word_start : self._at]
        is_first = not skip_prefixes(command.words)
        command.words.append(word)
        if not command.is_target:
            command.arguments.append(word)
        elif command.is_here_string:
            self._texts.append(word)
        command.word_start, command.is_target, command.is_here_string = -1, False, False
        if is_first:
            self._commands.note_first_word(word, command)
        if word == "[[" and is_first:
            end = self._text.find("]]", self._at)
            if _NUMERIC_TEST.search(self._text, self._at, end if end >= 0 else len(self._text)):
                self._number_until = end if end >= 0 else len(self._text)
        return {"case": 1, "esac": -1}.get(word, 0) if is_first else 0

    def _end_command(self, *, is_piped: bool = False) -> int:
        change = self._end_word()
        self._commands.end_command(self._command, is_piped=is_piped)
        self._command = SimpleCommand()
        return change

    def _read_redirection(self) -> None:
        self._end_word()
        document = _DOCUMENT.match(self._text, self._at)
        if document and not self._text.startswith("<<<", self._at):
            if _PLACEHOLDER.search(document[2]):
                self._reject(_PLACEHOLDER.search(document[2]), "in the name of a here-document")
            is_quoted = re.search(r"['\"\\]", document[2]) is not None
            self._documents.append((re.sub(r"['\"\\]", "", document[2]), is_quoted, bool(document[1])))
            self._at = document.end()
            return
        match = _REDIRECTION.match(self._text, self._at)
        is_harmless = _HARMLESS_OUTPUT.match(self._text, self._at) and self._command.first is None
        if self._text[self._at - 1 : self._at].isdigit() and "".join(self._command.arguments[-1:]).isdigit():
            self._command.arguments.pop()  # the number of a file, as in 2>file
        self._command.has_output_file |= match is not None and ">" in match[0] and not is_harmless
        self._command.is_here_string = self._text.startswith("<<<", self._at)
        self._at = match.end() if match else self._at + 1
        self._command.is_target = True

    def _read_documents(self) -> None:
        documents, self._documents = self._documents, []
        for delimiter, is_quoted, strips_tabs in documents:
            end, following = self._find_document_end(delimiter, strips_tabs)
            if re.search(r"\\\n", self._text[self._at : end]):
                self._obstacle = self._obstacle or "a backslash at the end of a line of a here-document"
            if is_quoted and (match := _PLACEHOLDER.search(self._text, self._at, end)) and match[2]:
                self._reject(match, f"in a here-document with quotes around its name ({delimiter})")
            if not is_quoted:
                self._texts.append(self._text[self._at : end])
                self._read_double_quotes("", end)
            self._at = max(self._at, following)

    def _find_document_end(self, delimiter: str, strips_tabs: bool) -> tuple[int, int]:
        """Return where the body of a here-document ends, and where the line with its delimiter ends."""
        start = self._at
        while start < len(self._text):
            end = self._text.find("\n", start)
            end = len(self._text) if end < 0 else end
            line = self._text[start:end]
            if (line.lstrip("\t") if strips_tabs else line) == delimiter:
                return start, end
            start = end + 1
        return len(self._text), len(self._text)

    def _read_double_quotes(self, end: str, limit: int) -> None:
        """Read until `end` or `limit`: the inside of double quotes, or the body of a here-document."""
        while self._at < limit and (not end or self._text[self._at] != end):
            if self._documents and self._text[self._at] == "\n":
                self._obstacle = self._obstacle or "<<"
            self._read_part(self._text[self._at], Place.DOUBLE)

    def _read_until(self, end: str, place: Place) -> None:
        """Read a comment or the inside of single quotes, where only placeholders matter."""
        while self._at < len(self._text) and self._text[self._at] != end:
            self._read_placeholder_or_character(place)

    def _read_part(self, char: str, place: Place) -> None:
        """Read an escaped character, an expansion, a placeholder, or one character."""
        if char == "\\":
            self._at += 2
        elif char == "$":
            self._read_expansion(place)
        elif char == "`":
            self._read_backquotes()
        else:
            self._read_placeholder_or_character(place)

    def _read_expansion(self, place: Place) -> None:
        following = self._text[self._at + 1 : self._at + 3]
        if following == "((":
            self._at += 1
            self._read_arithmetic("()", 0)
        elif following[:1] == "(":
            self._at += 2
            self._read_commands(")")
        elif following[:1] == "[":
            self._at += 1
            self._read_arithmetic("[]", 0)
        elif following[:1] == "{" and (match := _BRACES.match(self._text, self._at)):
            self._at = match.end()
            self._read_braces(place, has_word=bool(match[3]) and not match[1])
        elif following[:1] == "'" and place is Place.WORD:
            self._read_ansi_quotes()
        elif match := _VARIABLE.match(self._text, self._at):
            self._at = self._variable_end = match.end()
        else:
            self._at += 1

    def _read_arithmetic(self, brackets: str, depth: int) -> None:
        while self._at < len(self._text):
            char = self._text[self._at]
            depth += {brackets[0]: 1, brackets[1]: -1}.get(char, 0)
            self._read_part(char, Place.NUMBER)
            if not depth:
                return

    def _read_braces(self, place: Place, *, has_word: bool) -> None:
        """Read `${name…}` after the name and the operator. `has_word`: the rest is a word, as in `${name:-word}`."""
        start = self._at
        while self._at < len(self._text) and self._text[self._at] != "}":
            char, match = self._text[self._at], _PLACEHOLDER.match(self._text, self._at)
            if match and match[2] and not has_word:
                self._reject(match, "in ${…}")
            if char in "'\"" and place is Place.WORD:
                self._read_word_part(char)
                continue
            if char == '"' or (char == "'" and not has_word):
                self._obstacle = self._obstacle or f"{self._text[start - 2 : self._at + 1]}"
            self._read_part(char, place)
        self._at += 1

    def _read_ansi_quotes(self) -> None:
        """Read `$'…'`, which some shells read as `$` and single quotes."""
        match = re.compile(r"\$'((?:\\.|[^'\\])*)'?", re.S).match(self._text, self._at)
        self._read_unclear_text(match, "$'")

    def _read_backquotes(self) -> None:
        match = re.compile(r"`((?:\\.|[^`\\])*)`?", re.S).match(self._text, self._at)
        self._read_unclear_text(match, "`")
        self._backquoted += [match[1]] if match else []

    def _read_unclear_text(self, match: re.Match[str] | None, token: str) -> None:
        assert match is not None  # both patterns match their first character
        for placeholder in _PLACEHOLDER.finditer(match[1]):
            if placeholder[2]:
                self._reject(placeholder, f"after {token}")
        if re.search(r"['\"\\#]", match[1]):
            self._obstacle = self._obstacle or token
        self._at = match.end()

    def _read_placeholder_or_character(self, place: Place) -> None:
        match = _PLACEHOLDER.match(self._text, self._at) if self._text[self._at] == "{" else None
        if not match:
            self._at += 1
            return
        self._copy_text()
        if match[1]:  # {{name}} is the text {name}
            self._parts.append("{" + match[1] + "}")
        else:
            if self._obstacle:
                self._reject(match, f"after {self._obstacle}")
            place = Place.NUMBER if self._needs_number(match.end()) else place
            is_joined = self._variable_end == self._at or self._text[match.end() : match.end() + 1] in ("<", ">")
            self._parts.append(Slot(match[0], place, is_joined, self._text.endswith("10#", 0, self._at)))
        self._at = self._copied = match.end()

    def _needs_number(self, end: int) -> bool:
        """Return whether bash would evaluate a value at the current position. `end`: where its placeholder ends."""
        word_start = self._command.word_start
        prefix = self._text[word_start : self._at] if word_start >= 0 else ""
        is_subscript = _SUBSCRIPT_START.match(prefix) and _SUBSCRIPT_END.match(self._text, end)
        return self._at < self._number_until or bool(is_subscript) or self._command.needs_number(prefix)

    def _copy_text(self) -> None:
        if self._copied < self._at:
            self._parts.append(self._text[self._copied : self._at])
            self._copied = self._at

    def _reject(self, placeholder: re.Match[str] | None, where: str) -> None:
        token = placeholder[0] if placeholder else "a placeholder"
        remedy = f"assign {token} to a shell variable before that"
        raise TemplateError(f"{token} is used {where}, where values cannot be quoted; {remedy}")
