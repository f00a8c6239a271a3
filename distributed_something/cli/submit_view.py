"""The progress bar of `submitJob`."""

from __future__ import annotations

from collections.abc import Callable

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from distributed_something.core.output import Output


class SubmitView:
    """A progress bar that is shown while jobs are being sent, but only in a terminal."""

    def __init__(self, total: int, output: Output) -> None:
        console = output.screen
        columns = (TextColumn("sending jobs"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task = self._bar.add_task("", total=total)

    def __enter__(self) -> Callable[[int, int], None]:
        self._bar.start()
        return lambda done, _total: self._bar.update(self._task, completed=done)

    def __exit__(self, *_: object) -> None:
        self._bar.stop()
