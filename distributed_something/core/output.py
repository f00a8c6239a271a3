"""Where a command's output goes. The one implementation is `cli/console.py`; it is passed down to what prints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.console import Console as Screen  # not in the auto-monitor's Lambda


class Output(Protocol):
    """Results go to standard output, progress to standard error."""

    @property
    def screen(self) -> Screen:
        """The terminal that live displays draw on."""

    def print_result(self, text: str) -> None:
        """Print what the command was asked for; a script may read it."""

    def print_progress(self, text: str) -> None:
        """Print what the command is doing."""
