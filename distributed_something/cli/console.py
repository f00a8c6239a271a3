"""The console for all output: results go to standard output, and progress goes to standard error."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from distributed_something.core.text import wrap_wide_lines
from distributed_something.worker import make_visible

if TYPE_CHECKING:
    from rich.console import Console as Screen


class Console:
    """The implementation of `run.output.Output`. rich is imported only when it is needed, so that --help is fast."""

    def __init__(self) -> None:
        self._screen: Screen | None = None

    @property
    def screen(self) -> Screen:
        """Return the terminal that live displays draw on."""
        if self._screen is None:
            from rich.console import Console as Screen

            self._screen = Screen(stderr=True, highlight=False, emoji=False, markup=False)
        return self._screen

    def print_result(self, text: str) -> None:
        """Print the result of the command."""
        click.echo(_make_visible_text(text))

    def print_progress(self, text: str) -> None:
        """Print what the command is doing. If a live display is active, the line appears above it.

        In a terminal, lines end between words.
        """
        text = _make_visible_text(text)
        if sys.stderr.isatty():
            text = wrap_wide_lines(text)
        if self._screen is None:
            click.echo(text, err=True)
        else:
            self._screen.print(text, soft_wrap=True)


def _make_visible_text(text: str) -> str:
    """Return the text without control characters, because it may contain what programs and AWS have written."""
    return "\n".join(map(make_visible, text.split("\n")))
