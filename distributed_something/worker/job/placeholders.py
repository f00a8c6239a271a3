"""Placeholders in a job file: `{name}` stands for a value from the message.

Only braces around a plain name make a placeholder, so `awk '{print $1}'` and JSON remain unchanged; `{{name}}` stands
for a literal `{name}`. Once a value has replaced its placeholder, it is never split into words, searched for
placeholders, or run.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Mapping
from functools import lru_cache

PLACEHOLDER_PATTERN = r"\{\{([A-Za-z_][\w.-]*)\}\}|\{([A-Za-z_][\w.-]*)\}"
_COMPILED_PLACEHOLDER = re.compile(PLACEHOLDER_PATTERN)


class TemplateError(ValueError):
    """A placeholder without a value, or a command that cannot be split into words."""


@lru_cache(maxsize=1024)
def list_placeholders(template: str) -> frozenset[str]:
    """Return the names of the placeholders in `template`."""
    return frozenset(match[2] for match in _COMPILED_PLACEHOLDER.finditer(template) if match[2])


@lru_cache(maxsize=1024)
def split_command(command: str) -> tuple[str, ...]:
    """Return the words of `command`, split as a shell would, with the placeholders still in them.

    Raise TemplateError if a quote is not closed.
    """
    try:
        return tuple(shlex.split(command))
    except ValueError as error:
        raise TemplateError(f"the command cannot be split into words ({error})") from None


def fill_placeholders(template: str, values: Mapping[str, object], quote: Callable[[str], str] = str) -> str:
    """Return `template` with each placeholder replaced by its value, after `quote` is applied to the value.

    Raise TemplateError if a placeholder has no value.
    """
    if "{" not in template:
        return template  # a fast path for most words, because submitJob checks up to a million jobs

    def replace_placeholder(match: re.Match[str]) -> str:
        literal, name = match.groups()
        if literal:
            return "{" + literal + "}"
        if name not in values:
            raise TemplateError(f"the placeholder {{{name}}} has no value; available: {', '.join(sorted(values))}")
        return quote(as_text(values[name]))

    return _COMPILED_PLACEHOLDER.sub(replace_placeholder, template)


def find_blank_part(template: str, values: Mapping[str, object]) -> str | None:
    """Return the first part of a path, between slashes, that only placeholders without text fill; None if none is.

    A placeholder that has no value is not this function's problem. White space and slashes are not text.
    """
    names = list_placeholders(template)
    if not any(name in values and _is_blank(as_text(values[name])) for name in names):
        return None
    parts = (part for part in template.split("/") if list_placeholders(part))
    return next((part for part in parts if _is_blank(fill_placeholders(part, values))), None)


def _is_blank(text: str) -> bool:
    return not text.replace("/", "").strip()


def as_text(value: object) -> str:
    """Return a message value as text: a string unchanged, null as an empty string, everything else as JSON."""
    if isinstance(value, str):
        return value
    return "" if value is None else json.dumps(value)
