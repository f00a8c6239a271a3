"""Shows the steps of a test run: a line for each one that has happened and, in a terminal, one for the current one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from rich.live import Live
from rich.text import Text

from distributed_something.cli.test_run.steps import Step
from distributed_something.core.text import (
    TERMINAL_COLUMNS,
    format_duration,
    format_one_line,
    format_wrapped_lines,
    shorten_text,
)

if TYPE_CHECKING:
    from distributed_something.run.output import Output

_STEP_COLUMNS, _TIME_COLUMNS = 18, 8
REFRESHES_PER_SECOND = 2  # of the current step's seconds; rich does this in a thread


class StepView:
    """The lines about the steps. Use it as a context manager; the line about the current step disappears on exit."""

    def __init__(self, output: Output, now: Callable[[], float]) -> None:
        self._output, self._now = output, now
        self._step: Step | None = None
        self._began = now()
        self._limit: float | None = None
        self._live: Live | None = None
        if output.screen.is_terminal:
            self._live = Live(
                get_renderable=self._build_current_line, console=output.screen, transient=True,
                refresh_per_second=REFRESHES_PER_SECOND,
            )  # fmt: skip

    def __enter__(self) -> StepView:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def begin_step(self, step: Step, limit: float | None = None) -> None:
        """Show that this step is in progress. `limit`: how many seconds it may take."""
        self._step, self._began, self._limit = step, self._now(), limit

    def end_step(self, detail: str) -> None:
        """Print that the current step has happened, how long it took, and what was seen."""
        step, self._step = self._step, None  # first, because Ctrl-C may come while the row is printed
        if step is not None:
            self.print_row(step.value, self._now() - self._began, detail)

    def print_row(self, label: str, seconds: float | None, detail: str) -> None:
        """Print a row of the table; longer details continue below their beginning."""
        first = _format_start(label, seconds)
        lines = format_wrapped_lines(format_one_line(detail), first, " " * len(first), TERMINAL_COLUMNS)
        self._output.print_progress("\n".join(lines))

    def _build_current_line(self) -> Text:
        if self._step is None:
            return Text("")
        limit = f" (at most {format_duration(self._limit)})" if self._limit else ""
        line = f"{_format_start(self._step.value, self._now() - self._began)}…{limit}"
        return Text(shorten_text(line, self._output.screen.width))


def _format_start(label: str, seconds: float | None) -> str:
    took = format_duration(seconds) if seconds is not None else ""
    return f"{label:<{_STEP_COLUMNS}}{took:>{_TIME_COLUMNS}}  "
