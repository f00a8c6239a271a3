"""Fills a shell command in such a way that no value becomes part of the command's text.

Each value is assigned to a shell variable in front of the command, always in the same form (`NAME='value'`), and each
placeholder becomes a reference to its variable. A shell does not look for commands in what a variable contains,
wherever the reference is. Only values that consist of harmless characters are inserted as they are, because commands
are then easier to read.

There are exceptions, where a shell does evaluate what a variable contains: arithmetic and `eval`. Values for commands
that contain these are checked, so that none can contain code.
"""

from __future__ import annotations

import re
import reprlib
import shlex
from collections.abc import Mapping
from functools import lru_cache

from distributed_something.worker.job.placeholders import (
    PLACEHOLDER_PATTERN,
    TemplateError,
    ValueTexts,
    parse_template,
)
from distributed_something.worker.job.shell.shell_template import RESERVED_WORDS, Place, Slot, parse_shell_template

VARIABLE_PREFIX = "DS_VALUE_"
_HARMLESS = re.compile(r"[A-Za-z0-9_./,:+@%-]+")
_HARMLESS_IN_QUOTES = re.compile(r"[A-Za-z0-9_./,:+@% -]*")
_WHOLE_NUMBER = re.compile(r"[+-]?[0-9]{1,18}")
# With none of these, it is certain where quotes begin and end.
_DIFFICULT_SYNTAX = re.compile(r"[\\`#]|\$[({'\"\[]|<<|\(\(")
# Syntax with which bash evaluates what a variable contains: as arithmetic, or as a name such as a[$(command)].
_ARITHMETIC = re.compile(
    r"\(\(|\[\[|\$\[|\w\[|\$\{!|\$\{#?\w+[^}\w:+=?%#-]|\$\{\w+:[^-+=?]|\s-[vRp]\b"
    r"|(?<![\w./${-])(?:let|declare|typeset|local|readonly|export|unset|read|mapfile|readarray|getopts|PS4)(?![\w-])"
)
_SUBSTITUTION = re.compile(r"[$`]|[<>]\(")
# Commands that execute their arguments, and the forms of them that cannot contain a value. In these patterns, a null
# byte stands for any placeholder.
_CODE = re.compile(
    r"(?<![\w./-])(?:eval|trap|alias|parallel|ssh)(?![\w-])"
    r"|(?<![\w.-])(?:(?:ba|da|a|z|k|mk)?sh|su)(?:\s+[\w+-]+)*?\s+-\w*c(?!\w)"
)
_FIXED_CODE = re.compile(
    rf"(?:{_CODE.pattern})\s*(?:'[^'\0]*'|\"[^\"$`\0]*\"|(\"?)\$\([^$`()\0]*\)\1|-)(?=\s|[;|&)]|\Z)"
)
_PLAIN = re.compile(r"[\w./,:+@%-]*")


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


def _check_value(slot: Slot, text: str, command: str) -> None:
    """Raise TemplateError if a shell could execute `text`, although it is in a variable."""
    allows_arithmetic, allows_code = _find_dangers(command)
    if slot.place is Place.NUMBER and (slot.is_joined or not _WHOLE_NUMBER.fullmatch(text)):
        problem = "is used in arithmetic, or as the name of a variable, where only whole numbers are safe"
    elif allows_code and not _PLAIN.fullmatch(text):
        problem = f"is used in a command with `{allows_code}`, where only letters, digits, and ./,:+@%_- are safe"
    elif allows_arithmetic and _SUBSTITUTION.search(text):
        problem = f"is used in a command with `{allows_arithmetic}`, where $ and ` could be executed"
    else:
        return
    raise TemplateError(f"{slot.token} {problem}, but its value is {reprlib.repr(text)}")


@lru_cache(maxsize=1024)
def _find_dangers(command: str) -> tuple[str, str]:
    """Return the syntax in `command` that evaluates variables as arithmetic, and the one that executes them, or ""."""
    masked = re.sub(PLACEHOLDER_PATTERN, "\0", command)
    arithmetic, code = _ARITHMETIC.search(masked), _CODE.search(_FIXED_CODE.sub(" ", masked))
    return (arithmetic[0].strip() if arithmetic else ""), (code[0] if code else "")
