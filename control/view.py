"""What a person sees: progress on standard error (live in a terminal, lines elsewhere), results on standard output."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from control import costs
from control.history import History
from control.monitorfile import MonitorFile
from control.snapshot import Snapshot
from control.text import duration

SPEED_LOOKS = 20  # looks over which the speed is measured
LEAST_SHOWN = 0.005  # USD: less is no cent


class MonitorView:
    """Shows each look at the run. A context manager: the live part ends with it."""

    def __init__(self, monitor_file: MonitorFile) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._app, self._limit = monitor_file.MONITOR_APP_NAME, monitor_file.MONITOR_MAX_COST
        self._looks: deque[tuple[float, int]] = deque(maxlen=SPEED_LOOKS)
        self._live = Live(console=self._console, auto_refresh=False) if self._console.is_terminal else None
        self._last = ""
        self._told: set[str] = set()

    def __enter__(self) -> MonitorView:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def say(self, text: str) -> None:
        self._console.print(text, markup=False, soft_wrap=True)

    def _say_once(self, what: str, line: str) -> None:
        if what not in self._told:
            self.say(line)
            self._told.add(what)

    def show(self, snapshot: Snapshot, history: History) -> None:
        facts = self._facts(snapshot, history)
        for said in snapshot.paused:
            self._say_once(said, f"paused          {said}")
        for cause, line in snapshot.news.items():
            self._say_once(cause, f"fleet           {line}")
        if stage := costs.stage(history.cost, self._limit):
            self._say_once(stage, f"cost            {costs.warning(history.cost, self._limit)}")
        if self._live:
            self._live.update(_table(self._app, facts), refresh=True)
            return
        line = "  ".join(f"{name} {value}" for name, value in facts if name != "containers")
        if line != self._last:
            self.say(f"{time.strftime('%H:%M:%S', time.gmtime(snapshot.at))}  {line}")
            self._last = line

    def _facts(self, snapshot: Snapshot, history: History) -> list[tuple[str, str]]:
        counts, found, service = snapshot.queue, snapshot.fleet, snapshot.service
        facts = [("waiting", f"{counts.waiting:,}" if counts else "no queue"),
                 ("running", f"{counts.running:,}" if counts else "0"),
                 ("done", "unknown" if snapshot.done is None else f"{snapshot.done:,}"),
                 ("failed", f"{snapshot.dead:,}"),
                 ("machines", f"{len(found.machines)}/{found.target}" if found else "none"),
                 ("containers", f"{service.running}/{service.desired}" if service else "none")]  # fmt: skip
        if history.cost >= LEAST_SHOWN or self._limit:
            facts.append(("cost", costs.so_far(history.cost, self._limit)))
        return facts + self._outlook(snapshot, history)

    def _outlook(self, snapshot: Snapshot, history: History) -> list[tuple[str, str]]:
        if history.empty_looks:
            return [("queue", "empty, making sure")]
        if snapshot.done is None or snapshot.queue is None:
            return []
        self._looks.append((snapshot.at, snapshot.done))
        (first_at, first_done), seconds = self._looks[0], snapshot.at - self._looks[0][0]
        through = snapshot.done - first_done
        if seconds <= 0 or through <= 0 or first_at >= snapshot.at:
            return []
        left = snapshot.queue.jobs * seconds / through
        return [("per minute", f"{through * 60 / seconds:,.0f}"), ("left", duration(left))]


def _table(app: str, facts: list[tuple[str, str]]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_row(f"[bold]{escape(app)}[/]", "Ctrl-C leaves the run going; monitor takes it up again")
    for name, value in facts:
        table.add_row(name, f"[bold]{escape(value)}[/]")
    return table


class SubmitView:
    """A bar while jobs are sent; elsewhere than in a terminal a line now and then."""

    def __init__(self, total: int) -> None:
        console = Console(stderr=True)
        columns = (TextColumn("sending jobs"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task = self._bar.add_task("", total=total)

    def __enter__(self) -> Callable[[int, int], None]:
        self._bar.start()
        return lambda done, _total: self._bar.update(self._task, completed=done)

    def __exit__(self, *_: object) -> None:
        self._bar.stop()
