"""Fills a shell command in such a way that no value becomes part of the command's text.

Each value is assigned to a shell variable in front of the command, always in the same form (`NAME='value'`), and each
placeholder becomes a reference to its variable. A shell does not look for commands in what a variable contains,
wherever the reference is. Only values that consist of harmless characters are inserted as they are, because commands
are then easier to read.

There are exceptions. A shell does evaluate what a variable contains in arithmetic and in `eval`, and the command may
hand values to another shell, as in `echo "echo {name}" | sh` (`executed_text.py` finds these). There, values are
checked, so that none can contain code.
"""

from __future__ import annotations

import re
import reprlib
import shlex
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

from distributed_something.worker.job.placeholders import (
    PLACEHOLDER_PATTERN,
    TemplateError,
    ValueTexts,
    parse_template,
)
from distributed_something.worker.job.shell.command_list import RESERVED_WORDS
from distributed_something.worker.job.shell.executed_text import ANY, find_executed_values, find_executed_words
from distributed_something.worker.job.shell.shell_template import Place, Slot, parse_shell_template

VARIABLE_PREFIX = "DS_VALUE_"
_HARMLESS = re.compile(r"[A-Za-z0-9_./,:+@%-]+")
_HARMLESS_IN_QUOTES = re.compile(r"[A-Za-z0-9_./,:+@% -]*")
_WHOLE_NUMBER = re.compile(r"[+-]?(?:0|[1-9][0-9]{0,17})")  # 010 would be the octal number 8, and 08 an error
_DIGITS = re.compile(r"[0-9]{1,18}")
# With none of these, it is certain where quotes begin and end.
_DIFFICULT_SYNTAX = re.compile(r"[\\`#]|\$[({'\"\[]|<<|\(\(")
# Syntax with which bash evaluates what a variable contains: as arithmetic, or as a name such as a[$(command)].
_ARITHMETIC = re.compile(
    r"\(\(|\[\[|\$\[|\w\[|\$\{!|\$\{#?\w+[^}\w:+=?%#-]|\$\{\w+:[^-+=?]|\s-[vRp]\b"
    r"|(?<![\w./${-])(?:let|declare|typeset|local|readonly|export|unset|read|mapfile|readarray|getopts|PS4)(?![\w-])"
)
_SUBSTITUTION = re.compile(r"[$`]|[<>]\(")
# Text that no shell changes or executes, wherever it is. The worker's own folders may also contain spaces, because a
# project of the local cloud may be in such a folder.
_PLAIN, _PLAIN_FOLDER = re.compile(r"[\w./,:+@%-]*"), re.compile(r"[\w./,:+@% -]*")
_FOLDERS = frozenset({"{input_dir}", "{output_dir}", "{scripts_dir}", "{shared_dir}"})


def fill_shell(command: str, values: Mapping[str, object]) -> str:
    """Return `command` with each placeholder replaced by a reference to a variable, which is assigned in front.

    Raise TemplateError if a placeholder has no value, or if its value cannot be passed safely.
    """
    texts = values if isinstance(values, ValueTexts) else ValueTexts(values)
    parts, variables = parse_shell_template(command), dict[str, str]()
    filled = [part if isinstance(part, str) else _fill_slot(part, command, texts, variables) for part in parts]
    assignments = "".join(f"{variable}={shlex.quote(text)}; " for text, variable in variables.items())
    return assignments + "".join(filled)


def _fill_slot(slot: Slot, command: str, texts: ValueTexts, variables: dict[str, str]) -> str:
    text = parse_template(slot.token).fill(texts)
    _check_value(slot, text, command)
    if not slot.is_joined and _is_harmless(slot, text, command):
        return text
    variable = variables.setdefault(text, f"{VARIABLE_PREFIX}{len(variables) + 1}")
    return {Place.WORD: f'"${{{variable}}}"', Place.SINGLE: f"'\"${{{variable}}}\"'"}.get(
        slot.place, f"${{{variable}}}"
    )


def _is_harmless(slot: Slot, text: str, command: str) -> bool:
    """Return whether `text` has the same meaning as a reference to a variable that contains it."""
    if slot.place in (Place.DOUBLE, Place.SINGLE) and not _DIFFICULT_SYNTAX.search(command):
        return _HARMLESS_IN_QUOTES.fullmatch(text) is not None
    return _HARMLESS.fullmatch(text) is not None and text not in RESERVED_WORDS


def parse_words(words: Sequence[str]) -> Callable[[ValueTexts], list[str]]:
    """Return a function that returns the words of a command that no shell reads, with their placeholders replaced.

    It raises TemplateError if a placeholder has no value, or if a shell that the command starts could execute it.
    """
    templates = [parse_template(word) for word in words]
    executed = [
        (executed, executor)
        for token, executor in find_executed_words(tuple(words)).items()
        for executed in (_list_tokens(" ".join(words)) if token == ANY else [token])
    ]

    def fill_words(texts: ValueTexts) -> list[str]:
        for token, executor in executed:
            _check_plain(token, parse_template(token).fill(texts), executor)
        return [template.form % texts if template.names else template.form for template in templates]

    return fill_words


def _list_tokens(text: str) -> list[str]:
    return [match[0] for match in re.finditer(PLACEHOLDER_PATTERN, text) if match[2]]


def _check_value(slot: Slot, text: str, command: str) -> None:
    """Raise TemplateError if a shell could execute `text`, although it is in a variable."""
    executors = find_executed_values(command)
    if executor := executors.get(ANY) or executors.get(slot.token):
        _check_plain(slot.token, text, executor)
    arithmetic = _find_arithmetic(command)
    number = _DIGITS if slot.is_decimal else _WHOLE_NUMBER
    if slot.place is Place.NUMBER and (slot.is_joined or not number.fullmatch(text)):
        problem = "is used in arithmetic, or as the name of a variable, where only whole numbers are safe"
        if _DIGITS.fullmatch(text):
            problem += ", without zeros in front"
    elif arithmetic and _SUBSTITUTION.search(text):
        problem = f"is used in a command with `{arithmetic}`, where $ and ` could be executed"
    else:
        return
    raise TemplateError(f"{slot.token} {problem}, but its value is {reprlib.repr(text)}")


def _check_plain(token: str, text: str, executor: str) -> None:
    plain = _PLAIN_FOLDER if token in _FOLDERS else _PLAIN
    if not plain.fullmatch(text):
        raise TemplateError(
            f"{token} becomes text that `{executor}` may execute, where only letters, digits, and ./,:+@%_- are safe, "
            f"but its value is {reprlib.repr(text)}; pass it as an argument: bash {{scripts_dir}}/run.sh {token}"
        )


@lru_cache(maxsize=1024)
def _find_arithmetic(command: str) -> str:
    """Return the syntax in `command` that evaluates variables as arithmetic, or an empty string."""
    match = _ARITHMETIC.search(re.sub(PLACEHOLDER_PATTERN, "\0", command))
    return match[0].strip() if match else ""
