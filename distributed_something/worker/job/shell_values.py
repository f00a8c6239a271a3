"""Values in a command that a shell reads: each stays one piece of text, whatever it holds and wherever it stands.

A value is quoted for the place of its placeholder: bare, in 'single' or in "double" quotes. Where that cannot be told
without being a shell (here-documents, backquotes, a `$(` in double quotes), a placeholder is refused instead.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping

from distributed_something.worker.job.placeholders import (
    PLACEHOLDER_PATTERN,
    TemplateError,
    fill_placeholders,
    list_placeholders,
)

# What matters in each kind of quotes; the first alternatives are whole pieces without a placeholder, kept as they are.
_PLAIN_PATTERN = r"\\.|\$\{[^{}]*\}|`[^`{}'\"]*`|\$\([^(){}`'\"]*\)"
_TOKEN_PATTERNS = {
    "": re.compile(rf"{_PLAIN_PATTERN}|(?<!\S)#[^\n]*|\$'|['\"`]|<<|{PLACEHOLDER_PATTERN}", re.S),
    '"': re.compile(rf"{_PLAIN_PATTERN}|\"|`|\$\(|{PLACEHOLDER_PATTERN}", re.S),
    "'": re.compile(rf"'|{PLACEHOLDER_PATTERN}"),
}
_SPECIAL_PATTERNS = {'"': re.compile(r'[$`"\\]'), "'": re.compile("'")}  # what is not itself within such quotes
_OPEN_VARIABLE_PATTERN = re.compile(r"\$\w*\Z")  # of a variable: what follows at once would become part of it
_UNQUOTABLE_TOKENS = ("$'", "`", "<<", "$(")


def fill_shell(command: str, values: Mapping[str, object]) -> str:
    """`command` with its placeholders replaced by quoted values. Raises TemplateError."""
    filled, quotes, untold, at = [], "", "", 0
    while match := _TOKEN_PATTERNS[quotes].search(command, at):
        token = match[0]
        filled.append(command[at : match.start()])
        at = match.end()
        if token in _UNQUOTABLE_TOKENS:
            untold = untold or token
        if token in ("'", '"'):
            quotes = "" if quotes else token
        placeholder = re.fullmatch(PLACEHOLDER_PATTERN, token)
        joined = _OPEN_VARIABLE_PATTERN.search(command[: match.start()])
        filled.append(_fill_placeholder(token, values, quotes, untold, plain=not joined) if placeholder else token)
    return "".join(filled) + command[at:]


def _fill_placeholder(token: str, values: Mapping[str, object], quotes: str, untold: str, *, plain: bool) -> str:
    if untold and list_placeholders(token):
        raise TemplateError(
            f"{token} stands behind {untold}, where no value can be quoted; put it into a variable first"
        )
    return fill_placeholders(token, values, quote=lambda text: _quote_value(text, quotes, plain))


def _quote_value(text: str, quotes: str, plain: bool) -> str:
    """As a person would write it where that can be; else the quotes end before it and begin anew after it."""
    if plain and quotes and not _SPECIAL_PATTERNS[quotes].search(text):
        return text
    apart = "" if plain else "''"
    return quotes + apart + shlex.quote(text) + quotes
