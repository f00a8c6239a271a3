"""Writes docs/options.md, the reference of all commands, from the code that reads the command line.

`python docs/_site/commands_page.py`, which needs the repository in PYTHONPATH. `make screenshots` runs it, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from inspect import cleandoc
from pathlib import Path

import click

from distributed_something.cli.group import COMMAND_GROUPS, Command, build_shared_options
from distributed_something.cli.main import cli

PAGE = Path(__file__).resolve().parents[1] / "options.md"
SHARED_OPTIONS = build_shared_options()
SHARED_NAMES = {name for option in SHARED_OPTIONS for name in option.opts} | {"--help"}
INTRODUCTION = """\
# All options

This page contains what `python run.py COMMAND --help` prints. [The commands](commands.md) explains when and why to use
each command. `python run.py --version` prints the version.
"""


def format_commands_page() -> str:
    """Return the page: a section for each command, in the order of `run.py --help`, below the shared options."""
    sections = [INTRODUCTION + "\n## Options of every command", format_options(SHARED_OPTIONS)]
    for title, names in COMMAND_GROUPS.items():
        sections.append(f"## {title}")
        sections += [format_command(name) for name in names]
    return "\n\n".join(sections) + "\n"


def format_command(name: str) -> str:
    command = cli.commands[name]
    assert isinstance(command, Command)
    usage = " ".join(["python run.py", name, *command.collect_usage_pieces(click.Context(command))])
    examples = "\n".join(f"    python run.py {example}" for example in command.examples)
    parts = [
        f"### {name}", f"    {usage}", format_help(command),
        format_options([option for option in command.params if not SHARED_NAMES.intersection(option.opts)]),
        f"**Needs:** {escape(command.needs)}", "Examples:", examples, f"**Next:** {escape(command.next_step)}",
    ]  # fmt: skip
    return "\n\n".join(part for part in parts if part)


def format_help(command: click.Command) -> str:
    """Return the help text, with paragraphs that click prints as they are (after `\\b`) as blocks."""
    paragraphs = cleandoc(command.help or "").replace("{program}", "python run.py").split("\n\n")
    return "\n\n".join(
        "\n".join(f"    {line}" for line in paragraph.splitlines()[1:]) if paragraph.startswith("\b")
        else escape(paragraph)
        for paragraph in paragraphs
    )  # fmt: skip


def format_options(parameters: Sequence[click.Parameter]) -> str:
    """Return a table of the options among the parameters of a command."""
    context = click.Context(cli)
    options = [parameter for parameter in parameters if isinstance(parameter, click.Option)]
    rows = [record for option in options if (record := option.get_help_record(context))]
    if not rows:
        return ""
    lines = ["| `{}` | {} |".format(names.replace("|", "\\|"), escape(text)).replace("\n", " ") for names, text in rows]
    return "\n".join(["| option | meaning |", "| --- | --- |", *lines])


def escape(text: str) -> str:
    """Return plain text for Markdown. Words that look like code, such as `--local` and `AUTO_MONITOR`, become code."""
    pieces = text.split("`")
    for index in range(0, len(pieces), 2):
        pieces[index] = " ".join(escape_word(word) for word in pieces[index].split(" "))
    return "`".join(pieces)


def escape_word(word: str) -> str:
    core = word.strip("().,:;'\"")
    if core and (core.startswith("--") or "_" in core or "*" in core or "{" in core):
        return word.replace(core, f"`{core}`", 1)
    return word.replace("<", "&lt;").replace("|", "\\|").replace("[", "\\[")


if __name__ == "__main__":
    PAGE.write_text(format_commands_page())
