"""The reference of all commands in Markdown, from the code that reads the command line."""

from __future__ import annotations

from inspect import cleandoc

import click

from distributed_something.cli.group import COMMAND_GROUPS, Command
from distributed_something.cli.main import cli

SHARED_NAMES = {name for parameter in cli.params for name in parameter.opts} | {"--help"}


def format_commands_page() -> str:
    """Return a section for each command, in the order of `run.py --help`, below a section for the shared options."""
    sections = ["## Options of every command", format_options(cli)]
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
        f"### {name}", f"    {usage}", format_help(command), format_options(command),
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


def format_options(command: click.Command) -> str:
    """Return a table of the options that only this command has, or of those that every command has."""
    context = click.Context(command)
    options = [parameter for parameter in command.params if isinstance(parameter, click.Option)]
    if command is not cli:
        options = [option for option in options if not SHARED_NAMES.intersection(option.opts)]
    rows = [record for option in options if (record := option.get_help_record(context))]
    if not rows:
        return ""
    lines = [f"| `{names}` | {escape(text)} |".replace("\n", " ") for names, text in rows]
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
