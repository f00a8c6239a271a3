"""The interface to a command's output. `cli/console.py` implements it; functions that print take it as an argument."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.console import Console as Screen  # not in the auto-monitor's Lambda


class Output(Protocol):
    """Results go to standard output, progress to standard error."""

    @property
    def screen(self) -> Screen:
        """Return the terminal that live displays draw on."""

    def print_result(self, text: str) -> None:
        """Print the command's result, which a script may read."""

    def print_progress(self, text: str) -> None:
        """Print what the command is doing."""
