"""The one console that all output goes through: results to standard output, progress to standard error."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.console import Console as Screen


class Console:
    """Implements `core.output.Output`. rich is imported when something is first drawn, so that help is quick."""

    def __init__(self) -> None:
        self._screen: Screen | None = None

    @property
    def screen(self) -> Screen:
        """The terminal that live displays draw on."""
        if self._screen is None:
            from rich.console import Console as Screen

            self._screen = Screen(stderr=True, highlight=False, emoji=False, markup=False)
        return self._screen

    def print_result(self, text: str) -> None:
        """Print what the command was asked for."""
        click.echo(text)

    def print_progress(self, text: str) -> None:
        """Print what the command is doing; on the screen if there is one, because a live display moves down for it."""
        if self._screen is None:
            click.echo(text, err=True)
        else:
            self._screen.print(text, soft_wrap=True)
