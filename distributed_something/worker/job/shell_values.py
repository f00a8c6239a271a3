"""Quotes values in shell commands, so that the shell treats each value as plain text.

How a value is quoted depends on the position of its placeholder: outside quotes, in 'single quotes', or in "double
quotes". A placeholder is rejected where only a shell could tell which quoting applies: in here-documents, in
backquotes, and in `$(` inside double quotes.
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

# The tokens to look for outside quotes and inside each kind. The first alternatives match text to leave unchanged.
_PLAIN_PATTERN = r"\\.|\$\{[^{}]*\}|`[^`{}'\"]*`|\$\([^(){}`'\"]*\)"
_TOKEN_PATTERNS = {
    "": re.compile(rf"{_PLAIN_PATTERN}|(?<!\S)#[^\n]*|\$'|['\"`]|<<|{PLACEHOLDER_PATTERN}", re.S),
    '"': re.compile(rf"{_PLAIN_PATTERN}|\"|`|\$\(|{PLACEHOLDER_PATTERN}", re.S),
    "'": re.compile(rf"'|{PLACEHOLDER_PATTERN}"),
}
_SPECIAL_PATTERNS = {
    '"': re.compile(r'[$`"\\]'),
    "'": re.compile("'"),
}  # characters with a special meaning inside these quotes
_OPEN_VARIABLE_PATTERN = re.compile(r"\$\w*\Z")  # a variable name, which the next characters would extend
_UNQUOTABLE_TOKENS = ("$'", "`", "<<", "$(")


def fill_shell(command: str, values: Mapping[str, object]) -> str:
    """Return `command` with its placeholders replaced by quoted values.

    Raise TemplateError if a placeholder has no value or its value cannot be quoted.
    """
    filled, quotes, unquotable, position = [], "", "", 0
    while match := _TOKEN_PATTERNS[quotes].search(command, position):
        token = match[0]
        filled.append(command[position : match.start()])
        position = match.end()
        if token in _UNQUOTABLE_TOKENS:
            unquotable = unquotable or token
        if token in ("'", '"'):
            quotes = "" if quotes else token
        placeholder = re.fullmatch(PLACEHOLDER_PATTERN, token)
        if placeholder:
            follows_variable = _OPEN_VARIABLE_PATTERN.search(command[: match.start()]) is not None
            token = _fill_placeholder(token, values, quotes, unquotable, follows_variable)
        filled.append(token)
    return "".join(filled) + command[position:]


def _fill_placeholder(
    token: str, values: Mapping[str, object], quotes: str, unquotable: str, follows_variable: bool
) -> str:
    if unquotable and list_placeholders(token):
        raise TemplateError(
            f"{token} is used after {unquotable}, where values cannot be quoted; "
            f"assign {token} to a shell variable before that"
        )
    return fill_placeholders(token, values, quote=lambda text: _quote_value(text, quotes, follows_variable))


def _quote_value(text: str, quotes: str, follows_variable: bool) -> str:
    """Return `text` unchanged if the surrounding quotes protect it. Otherwise close the quotes before the quoted text
    and reopen them after it."""
    if quotes and not follows_variable and not _SPECIAL_PATTERNS[quotes].search(text):
        return text
    separator = "''" if follows_variable else ""
    return quotes + separator + shlex.quote(text) + quotes
