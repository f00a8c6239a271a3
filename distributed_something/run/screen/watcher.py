"""Shows what the monitor sees, and remembers whether the run was there at all."""

from __future__ import annotations

from contextlib import suppress

from distributed_something.core.errors import AWSError
from distributed_something.core.text import format_row
from distributed_something.observe.snapshot import RunSnapshot
from distributed_something.run.monitor.history import RunHistory
from distributed_something.run.run_status import RunView, build_current_status, list_messages
from distributed_something.run.screen.view import StatusView


class RunWatcher:
    """The monitor's listener: each snapshot becomes a status on the screen.

    `has_found_run`: whether any snapshot contained the run's queue or fleet.
    """

    def __init__(self, screen: StatusView, view: RunView) -> None:
        self._screen, self._view = screen, view
        self.has_found_run = False

    def show_snapshot(self, snapshot: RunSnapshot, history: RunHistory) -> None:
        self.has_found_run = self.has_found_run or snapshot.queue is not None or snapshot.fleet is not None
        with suppress(*AWSError):  # the next snapshot shows what the journals say
            status = build_current_status(self._view, snapshot, history)
            self._screen.show_status(status)
        if not self._screen.is_live:
            for message in list_messages(self._view, snapshot, history):
                self._screen.print_once(message.key, format_row(message.label, message.text))

    def print_progress(self, text: str) -> None:
        self._screen.print_progress(text)
