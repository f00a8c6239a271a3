"""Shows statuses of a run on standard error: a live screen in a terminal, or else a line when something changes."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Sequence

from rich.console import Group
from rich.live import Live

from distributed_something.results.status.document import RunStatus
from distributed_something.run.output import Output
from distributed_something.run.screen.layout import ScreenSize, build_screen, format_status_line

SECONDS_BETWEEN_LINES = 60.0


class StatusView:
    """Shows a run's status again and again. Use it as a context manager; the live screen closes on exit.

    `footer`: the last line of the screen while it is live. `compute_costs` returns the USD that each group of failures
    has cost. `is_removed`: whether to remove the screen at the end; otherwise, it stays without its footer. After an
    error or Ctrl-C, it stays as it is.
    """

    def __init__(
        self, output: Output, footer: str, compute_costs: Callable[[RunStatus], Sequence[float | None]], *,
        is_removed: bool = False,
    ) -> None:  # fmt: skip
        self._output, self._footer, self._compute_costs = output, footer, compute_costs
        self._is_removed = is_removed
        self._last_status: RunStatus | None = None
        self._live = Live(console=output.screen, auto_refresh=False) if output.screen.is_terminal else None
        self._last_line, self._last_line_at = "", -SECONDS_BETWEEN_LINES
        self._printed_keys: set[Hashable] = set()

    def __enter__(self) -> StatusView:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, error: object, *_: object) -> None:
        if self._live is None:
            return
        if error is None:
            self._live.transient = self._is_removed
            self._show_screen("")
        self._live.stop()

    @property
    def is_live(self) -> bool:
        return self._live is not None

    def print_progress(self, text: str) -> None:
        """Print a line above the screen."""
        self._output.print_progress(text)

    def print_once(self, key: Hashable, text: str) -> None:
        """Print a line, unless one with this key was printed before."""
        if key not in self._printed_keys:
            self._printed_keys.add(key)
            self.print_progress(text)

    def show_status(self, status: RunStatus) -> None:
        if self._live:
            self._last_status = status
            self._show_screen(self._footer)
            return
        line = format_status_line(status)
        if line != self._last_line and status.at - self._last_line_at >= SECONDS_BETWEEN_LINES:
            self.print_progress(f"{time.strftime('%H:%M:%S', time.gmtime(status.at))}  {line}")
            self._last_line, self._last_line_at = line, status.at

    def _show_screen(self, footer: str) -> None:
        status = self._last_status
        if self._live and status is not None:
            size = ScreenSize(self._output.screen.width, self._output.screen.height)
            lines = build_screen(status, self._compute_costs(status), footer, size)
            self._live.update(Group(*lines), refresh=True)
