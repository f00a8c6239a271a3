"""Placeholders in a job file: `{name}` stands for a value from the message.

Only braces around a plain name make a placeholder, so `awk '{print $1}'` and JSON remain unchanged; `{{name}}` stands
for a literal `{name}`. Once a value has replaced its placeholder, it is never split into words, searched for
placeholders, or run.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import NamedTuple

PLACEHOLDER_PATTERN = r"\{\{([A-Za-z_][\w.-]*)\}\}|\{([A-Za-z_][\w.-]*)\}"
_COMPILED_PLACEHOLDER = re.compile(PLACEHOLDER_PATTERN)


class TemplateError(ValueError):
    """A placeholder without a value, or a command that cannot be split into words."""


class ValueTexts(dict[str, str]):
    """The texts of a message's values, keyed by placeholder. Each is made when a template first needs it.

    `values_by_name`: the values. `known`: texts that exist already and are not blank. `blank_names`: the placeholders,
    among those used so far, whose text is blank: white space and slashes are not text.
    """

    __slots__ = ("blank_names", "values_by_name")  # submitJob makes one for each of up to a million jobs

    def __init__(self, values: Mapping[str, object], known: Mapping[str, str] = MappingProxyType({})) -> None:
        super().__init__(known)
        self.values_by_name, self.blank_names = values, set[str]()

    def __missing__(self, name: str) -> str:
        if name not in self.values_by_name:
            available = ", ".join(sorted(self.values_by_name))
            raise TemplateError(f"the placeholder {{{name}}} has no value; available: {available}")
        text = self[name] = as_text(self.values_by_name[name])
        if _is_blank(text):
            self.blank_names.add(name)
        return text


class Template(NamedTuple):
    """A text with placeholders, parsed once, because submitJob fills the same templates for up to a million jobs.

    `names`: of the placeholders. `form`: the text for Python's operator `%`, which replaces `%(name)s`; the filled text
    itself if there are no names.
    """

    text: str
    names: frozenset[str]
    form: str

    def fill(self, texts: ValueTexts) -> str:
        """Return the text with each placeholder replaced. Raise TemplateError if one has no value."""
        return self.form % texts if self.names else self.form

    def describe_blank_parts(self, texts: ValueTexts) -> str | None:
        """Return which parts of a path, between slashes, only placeholders without text fill, such as "{plate} is
        blank"; None if none is.

        Call this after `fill`.
        """
        if self.names.isdisjoint(texts.blank_names):  # almost always
            return None
        parts = dict.fromkeys(part for part in self.text.split("/") if parse_template(part).names)
        blank = [part for part in parts if _is_blank(parse_template(part).fill(texts))]
        return f"{' and '.join(blank)} {'is' if len(blank) == 1 else 'are'} blank" if blank else None


@lru_cache(maxsize=1024)
def parse_template(text: str) -> Template:
    """Return the template with this text."""
    names: set[str] = set()
    form, end = "", 0
    for match in _COMPILED_PLACEHOLDER.finditer(text):
        literal, name = match.groups()
        form += text[end : match.start()].replace("%", "%%") + (f"{{{literal}}}" if literal else f"%({name})s")
        names.update([name] if name else [])
        end = match.end()
    form += text[end:].replace("%", "%%")
    return Template(text, frozenset(names), form if names else form % ())


def list_placeholders(template: str) -> frozenset[str]:
    """Return the names of the placeholders in `template`."""
    return parse_template(template).names


@lru_cache(maxsize=1024)
def split_command(command: str) -> tuple[str, ...]:
    """Return the words of `command`, split as a shell would, with the placeholders still in them.

    Raise TemplateError if a quote is not closed.
    """
    try:
        return tuple(shlex.split(command))
    except ValueError as error:
        raise TemplateError(f"the command cannot be split into words ({error})") from None


def fill_placeholders(template: str, values: Mapping[str, object]) -> str:
    """Return `template` with each placeholder replaced by its value. Raise TemplateError if one has no value."""
    return parse_template(template).fill(ValueTexts(values))


def merge_values(shared: Mapping[str, object], group: object) -> dict[str, object]:
    """Return the placeholder values: the shared keys, overridden by the group's values.

    A group that is a string is the value of {group}, and of {plate} unless there is a shared key of this name: it may
    come from `plates`, or from `plate` in a message of the published system.
    """
    if isinstance(group, dict):
        return {**shared, "group": group, **group}
    return {"plate": group, **shared, "group": group}


def _is_blank(text: str) -> bool:
    return not text.replace("/", "").strip()


def as_text(value: object) -> str:
    """Return a message value as text: a string unchanged, null as an empty string, everything else as JSON."""
    if isinstance(value, str):
        return value
    return "" if value is None else json.dumps(value)
