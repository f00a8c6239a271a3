"""Writes docs/constants.md, the reference of the config, from `config.py` and the model that checks it.

`python docs/_site/constants_page.py`, which needs the repository in PYTHONPATH. `make screenshots` runs it, too.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_origin

from commands_page import escape
from pydantic.fields import FieldInfo

from distributed_something.core.config_settings import Settings
from distributed_something.project.config_file import execute_config

DOCS = Path(__file__).resolve().parents[1]
CONFIG, PAGE = DOCS.parent / "config.py", DOCS / "constants.md"
HEADING = re.compile(r"# ([A-Z][A-Z0-9 ]+)(?: \(.*\))?:")
ACRONYMS = ("AWS", "EC2", "ECS", "SQS")
INTRODUCTION = """\
# All constants of the config

This page contains every constant of `config.py`, in the order of the shipped file and with its comments. [The
config](files.md#the-config) explains how a config is written.

The default applies if a config does not set the constant. If the shipped `config.py` sets it to something else, this
value follows the default.
"""


@dataclass(frozen=True)
class Constant:
    """A constant in `config.py`: its section, its value as the file writes it, and what the comments say about it."""

    section: str
    name: str
    source: str
    comment: str


def format_constants_page() -> str:
    """Return the page: a section for each group of constants, with a short section for each constant."""
    shipped, parts, section = execute_config(CONFIG), [INTRODUCTION.rstrip()], ""
    for constant in read_constants(CONFIG.read_text()):
        if constant.section != section:
            section = constant.section
            parts.append(f"## {section}")
        parts += [f"### {constant.name}", format_comment(constant.comment), format_values(constant, shipped)]
    return "\n\n".join(parts) + "\n"


def read_constants(text: str) -> Iterator[Constant]:
    """Yield the constants in a config that has each constant on one line.

    A constant's comment is what is directly above it and what is on its line.
    """
    section, above = "", list[str]()
    for line in text.splitlines():
        if heading := HEADING.fullmatch(line):
            section, above = format_title(heading[1]), []
        elif line.startswith("# "):
            above.append(line[2:])
        elif assignment := re.match(r"([A-Z][A-Z0-9_]*) = ", line):
            code = ast.get_source_segment(line, ast.parse(line).body[0]) or ""
            comments = [*above, line[len(code) :].strip().removeprefix("# ")]
            yield Constant(section, assignment[1], code[assignment.end() :], " ".join(filter(None, comments)))
            above = []
        else:
            above = []


def format_title(capitals: str) -> str:
    words = [word if word in ACRONYMS else word.lower() for word in capitals.split()]
    title = " ".join(words)
    return title[:1].upper() + title[1:]


def format_comment(comment: str) -> str:
    """Return a comment as a sentence in Markdown, with links to the pages that it names."""
    sentence = comment[:1].upper() + comment[1:] + ("" if comment.endswith(".") else ".")
    sentence = re.sub(r"(?<!\w)'[^' ]*'(?!\w)", r"`\g<0>`", sentence)
    return re.sub(r"docs/([\w-]+\.md)", r"[docs/\1](\1)", escape(sentence))


def format_values(constant: Constant, shipped: dict[str, Any]) -> str:
    """Return the default, the shipped value if it is another one, and which values are accepted."""
    field = Settings.model_fields[constant.name]
    if field.is_required():
        sentences = [f"**Required.** The shipped config has `{constant.source}`."]
    else:
        default = field.get_default(call_default_factory=True, validated_data=shipped)
        written = shipped[constant.name]
        is_shipped = default == (written == "True" if isinstance(default, bool) else written)
        value = constant.source if is_shipped else repr(str(default) if isinstance(default, bool) else default)
        sentences = [
            f"**Default:** `{value}`" + ("." if is_shipped else f"; the shipped config has `{constant.source}`.")
        ]
    return " ".join([*sentences, *format_limits(field)])


def format_limits(field: FieldInfo) -> Iterator[str]:
    """Yield a sentence about the accepted values, unless the constant is text."""
    limits = {
        name: getattr(item, name) for item in field.metadata for name in ("ge", "gt", "le") if hasattr(item, name)
    }
    if field.annotation is bool:
        yield "Write `'True'` or `'False'`."
    elif get_origin(field.annotation) is list:
        yield "Write one name, or a list of names."
    elif limits:
        names = {"ge": "at least", "gt": "more than", "le": "at most"}
        kind = "an integer" if field.annotation is int else "a number"
        yield f"Write {kind}: " + ", ".join(f"{names[name]} {limit:,}" for name, limit in limits.items()) + "."


if __name__ == "__main__":
    PAGE.write_text(format_constants_page())
