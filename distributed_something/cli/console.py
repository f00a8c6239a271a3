"""The one console that all output goes through: results to standard output, progress to standard error."""

from __future__ import annotations

import sys
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console as Screen


class Console:
    """Implements `core.output.Output`. rich is imported when something is first drawn, so that help is quick."""

    @cached_property
    def screen(self) -> Screen:
        from rich.console import Console as Screen

        return Screen(stderr=True, highlight=False, emoji=False, markup=False)

    def print_result(self, text: str) -> None:
        print(text, flush=True)

    def print_progress(self, text: str) -> None:
        """Through the screen if it is in use: a live display must know of every line."""
        if "screen" in self.__dict__:
            self.screen.print(text, soft_wrap=True)
        else:
            print(text, file=sys.stderr, flush=True)
