"""How commands are listed, and the options that every command takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from distributed_something.cli.context import Context

COMMAND_GROUPS = {
    "The four commands, in this order": ("setup", "submitJob", "startCluster", "monitor"),
    "The account, once; and a look before it costs money": ("setupAWS", "fleetFile", "check"),
    "When something is wrong": ("why", "cleanup"),
    "Making your own": ("newProject", "makeJobs", "runJob", "upgrade"),
    "The cloud in this computer (with --local)": ("interrupt", "stop"),
}


class Number(click.FloatRange):
    """A number within limits; click's own type accepts nan, which is within none."""

    name = "number"

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> float:
        number: float = super().convert(value, parameter, context)
        return number if number == number else self.fail(f"{value!r} is no number", parameter, context)


class Command(click.Command):
    """A command that also takes the shared options."""

    def __init__(self, name: str | None, *, params: list[click.Parameter] | None = None, **attributes: Any) -> None:
        super().__init__(name, params=[*(params or ()), *build_shared_options()], **attributes)


class CommandGroup(click.Group):
    """Takes the shared options, and lists the commands in the order in which a user meets them."""

    command_class = Command

    def __init__(self, name: str | None, *, params: list[click.Parameter] | None = None, **attributes: Any) -> None:
        super().__init__(name, params=[*(params or ()), *build_shared_options()], **attributes)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, names in COMMAND_GROUPS.items():
            with formatter.section(title):
                formatter.write_dl([(name, self.commands[name].get_short_help_str(60)) for name in names])


def build_shared_options() -> list[click.Parameter]:
    """Return the options that may stand before or after the command; their values go into the Context."""
    folder, file = click.Path(path_type=Path, file_okay=False, exists=True), click.Path(path_type=Path)
    shared: dict[str, Any] = {"expose_value": False, "callback": _save_in_context}
    return [
        click.Option(["--local"], is_flag=True, help="Use the cloud in this computer instead of AWS.", **shared),
        click.Option(["--containers"], is_flag=True, help="With --local: run workers in Docker containers.", **shared),
        click.Option(["--config"], type=file, help="Another config file.", **shared),
        click.Option(["--project"], type=folder, help="Another folder with config.py, files/ and worker/.", **shared),
        click.Option(["--debug"], is_flag=True, help="Show the traceback of an error.", **shared),
    ]


def _save_in_context(ctx: click.Context, parameter: click.Parameter, value: Any) -> None:
    context = ctx.find_root().ensure_object(Context)
    if value not in (None, False) and parameter.name:
        setattr(context, parameter.name, value)
