"""The help pages, the groups in which commands are listed, and the options that every command takes."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from inspect import cleandoc
from pathlib import Path
from typing import Any

import click

from distributed_something.cli.context import Context

PROGRAM_WORD = "{program}"
COMMAND_GROUPS = {
    "The four commands of a run, in this order": ("setup", "submitJob", "startCluster", "monitor"),
    "Before the first run": ("setupAWS", "fleetFile", "check", "testRun"),
    "Look at a run": ("status", "report", "why", "verify"),
    "If something goes wrong": ("retry", "cleanup"),
    "Your own program": ("newProject", "buildImage", "makeJobs", "runJob", "upgrade"),
    "The local cloud (with --local)": ("runScript", "interrupt", "stop"),
    "Your shell": ("completion",),
}


class Number(click.FloatRange):
    """A number within limits. Unlike click's own type, this one does not accept nan."""

    name = "number"

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> float:
        number: float = super().convert(value, parameter, context)
        return number if number == number else self.fail(f"{value!r} is not a valid number", parameter, context)


class Command(click.Command):
    """A command that takes the shared options and has a detailed help page.

    In addition to the docstring and the options, its help page shows `needs` (what the command requires), `examples`
    (arguments for run.py, to copy and paste), and `next_step` (the usual next command). `runs_workers`: see `Context`.
    """

    def __init__(
        self,
        name: str | None,
        *,
        needs: str,
        examples: Sequence[str],
        next_step: str,
        runs_workers: bool = True,
        params: list[click.Parameter] | None = None,
        **attributes: Any,
    ) -> None:
        super().__init__(name, params=[*(params or ()), *build_shared_options()], **attributes)
        self.needs, self.examples, self.next_step = needs, tuple(examples), next_step
        self.runs_workers = runs_workers

    def invoke(self, ctx: click.Context) -> Any:
        context = ctx.find_root().ensure_object(Context)
        context.command, context.runs_workers = self.name or "", self.runs_workers
        return super().invoke(ctx)

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_help_text(ctx, formatter)
        with formatter.section("Needs"):
            formatter.write_text(self.needs)
        program = shlex.join(ctx.find_root().ensure_object(Context).program)
        with formatter.section("Examples"):
            for example in self.examples:
                formatter.write(f"{'':>{formatter.current_indent}}{program} {example}\n")
        with formatter.section("Next"):
            formatter.write_text(self.next_step)


class CommandGroup(click.Group):
    """The root command: it takes the shared options and lists the commands in the order in which users need them."""

    command_class = Command

    def __init__(self, name: str | None, *, params: list[click.Parameter] | None = None, **attributes: Any) -> None:
        super().__init__(name, params=[*(params or ()), *build_shared_options()], **attributes)

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the help text, in which PROGRAM_WORD is replaced with how the user started run.py."""
        program = shlex.join(ctx.find_root().ensure_object(Context).program)
        formatter.write_paragraph()
        with formatter.indentation():
            formatter.write_text(cleandoc(self.help or "").replace(PROGRAM_WORD, program))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, names in COMMAND_GROUPS.items():
            with formatter.section(title):
                formatter.write_dl([(name, self.commands[name].get_short_help_str(60)) for name in names])


def build_shared_options() -> list[click.Parameter]:
    """Return the options that can be given before or after the command's name.

    Their values are saved in the Context.
    """
    folder, file = click.Path(path_type=Path, file_okay=False, exists=True), click.Path(path_type=Path)
    shared: dict[str, Any] = {"expose_value": False, "callback": _save_in_context}
    return [
        click.Option(["--local"], is_flag=True, help="Use the local cloud instead of AWS.", **shared),
        click.Option(["--containers"], is_flag=True, help="With --local: run workers in Docker containers.", **shared),
        click.Option(["--config"], type=file, help="Use another config file.", **shared),
        click.Option(
            ["--project"], type=folder, help="Use another folder with config.py, files/, and worker/.", **shared
        ),
        click.Option(["--debug"], is_flag=True, help="Show the traceback of an error.", **shared),
    ]


def _save_in_context(ctx: click.Context, parameter: click.Parameter, value: Any) -> None:
    context = ctx.find_root().ensure_object(Context)
    if value not in (None, False) and parameter.name:
        setattr(context, parameter.name, value)
