"""HTML elements whose text is escaped by default.

Names of jobs, logs, and messages come from programs, so they may contain anything: HTML, codes for terminals,
characters that change the direction of text, or halves of surrogate pairs, which cannot be encoded.
"""

from __future__ import annotations

import html
import re
import unicodedata

_VOID_TAGS = {"meta", "link", "input"}
_TERMINAL_CODES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # CSI: colors and the cursor
    r"|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)"  # OSC: titles and links
    r"|\x1b[@-_]"
)
# Control characters, invisible format characters (such as those of bidirectional text), surrogates, line separators
_HIDDEN_CATEGORIES = {"Cc", "Cf", "Cs", "Zl", "Zp"}
_KEPT_CHARACTERS = "\n\t"


class Html(str):
    """Text that already is HTML."""

    __slots__ = ()


def clean_text(text: str) -> str:
    """Return `text` without codes for terminals; other hidden characters, except newlines and tabs, are escaped."""
    text = _TERMINAL_CODES.sub("", text).replace("\r\n", "\n")
    if text.isprintable():
        return text
    return "".join(map(_escape_hidden_character, text))


def escape_text(content: object) -> Html:
    """Return `content` as HTML: unchanged if it is Html, else as cleaned and escaped text."""
    return content if isinstance(content, Html) else Html(html.escape(clean_text(str(content))))


def make_tag(tag: str, /, *children: object, **attributes: object) -> Html:
    """Return an HTML or SVG element.

    `attributes`: `class_` stands for class, and `_` inside a name for `-`. None and False leave an attribute out; True
    writes its name alone.
    """
    given = {key: value for key, value in attributes.items() if value is not None and value is not False}
    words = [tag, *(_format_attribute(key, value) for key, value in given.items())]
    end = "" if tag in _VOID_TAGS else f"</{tag}>"
    return Html(f"<{' '.join(words)}>{join_html(*children)}{end}")


def join_html(*children: object) -> Html:
    """Return all children as HTML, one after the other."""
    return Html("".join(map(escape_text, children)))


def make_section(name: str, title: object, *children: object) -> Html:
    """Return a section of the page with its heading. `name`: its ID."""
    heading = make_tag("h2", title, id=f"{name}-title")
    return make_tag("section", heading, *children, id=name, aria_labelledby=f"{name}-title")


def _format_attribute(key: str, value: object) -> str:
    name = key.rstrip("_").replace("_", "-")
    return name if value is True else f'{name}="{escape_text(str(value))}"'


def _escape_hidden_character(character: str) -> str:
    if character in _KEPT_CHARACTERS or unicodedata.category(character) not in _HIDDEN_CATEGORIES:
        return character
    return ascii(character)[1:-1]
