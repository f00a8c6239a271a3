"""Placeholders in a job file: `{name}` stands for a value of the message.

Only braces around a plain name count, so that `awk '{print $1}'` or JSON stay as they are; `{{name}}` is a literal
`{name}`. A value goes where its placeholder stands and is never read again: not split, not expanded, not run.
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
    """A placeholder that nothing fills, or a command that cannot be split into words."""


@lru_cache(maxsize=1024)
def list_placeholders(template: str) -> frozenset[str]:
    """The placeholders in `template`."""
    return frozenset(match[2] for match in _COMPILED_PLACEHOLDER.finditer(template) if match[2])


@lru_cache(maxsize=1024)
def split_command(command: str) -> tuple[str, ...]:
    """`command` split as a shell splits it, placeholders still in it; raises TemplateError for an open quote."""
    try:
        return tuple(shlex.split(command))
    except ValueError as error:
        raise TemplateError(f"this cannot be split into words ({error})") from None


def fill_placeholders(template: str, values: Mapping[str, object], quote: Callable[[str], str] = str) -> str:
    """`template` with its placeholders replaced; each value passes through `quote`. Raises TemplateError."""
    if "{" not in template:
        return template  # most words of a command: a million jobs are checked before the first is sent

    def value(match: re.Match[str]) -> str:
        literal, name = match.groups()
        if literal:
            return "{" + literal + "}"
        if name not in values:
            raise TemplateError(f"nothing fills {{{name}}}; there are: {', '.join(sorted(values))}")
        return quote(as_text(values[name]))

    return _COMPILED_PLACEHOLDER.sub(value, template)


def as_text(value: object) -> str:
    """A value of a message as a program reads it: text as it is, nothing for null, the rest as JSON."""
    if isinstance(value, str):
        return value
    return "" if value is None else json.dumps(value)
