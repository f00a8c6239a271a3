"""What a person sees: progress on standard error (live in a terminal, lines elsewhere), results on standard output."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Hashable

from rich.live import Live
from rich.table import Table
from rich.text import Text

from distributed_something.core.aws_errors import format_fleet_problem
from distributed_something.core.monitor_file import MonitorFile
from distributed_something.core.output import Output
from distributed_something.core.text import format_duration, format_row
from distributed_something.observe.containers import format_paused_machine
from distributed_something.observe.snapshot import RunSnapshot
from distributed_something.run.monitor.budget import (
    CostStage,
    classify_cost,
    format_cost_so_far,
    format_cost_warning,
)
from distributed_something.run.monitor.history import RunHistory

SPEED_LOOK_COUNT = 20  # looks over which the speed is measured
MIN_SHOWN_USD = 0.005  # USD: less is no cent


class MonitorView:
    """Shows each look at the run. A context manager: the live part ends with it."""

    def __init__(self, monitor_file: MonitorFile, output: Output) -> None:
        self._output = output
        self._app, self._limit = monitor_file.MONITOR_APP_NAME, monitor_file.MONITOR_MAX_COST
        self._looks: deque[tuple[float, int]] = deque(maxlen=SPEED_LOOK_COUNT)
        self._live = Live(console=output.screen, auto_refresh=False) if output.screen.is_terminal else None
        self._last = ""
        self._told: set[Hashable] = set()

    def __enter__(self) -> MonitorView:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def say(self, text: str) -> None:
        self._output.print_progress(text)

    def _say_once(self, what: Hashable, line: str) -> None:
        if what not in self._told:
            self.say(line)
            self._told.add(what)

    def show(self, snapshot: RunSnapshot, history: RunHistory) -> None:
        facts = self._format_facts(snapshot, history)
        for paused in snapshot.paused:
            self._say_once(paused, format_row("paused", format_paused_machine(paused)))
        for problem in snapshot.problems:
            self._say_once(problem.cause, format_row("fleet", format_fleet_problem(problem)))
        stage = classify_cost(history.cost, self._limit)
        if stage is not CostStage.FAR:
            self._say_once(stage, format_row("cost", format_cost_warning(history.cost, self._limit)))
        if self._live:
            self._live.update(_build_table(self._app, facts), refresh=True)
            return
        line = "  ".join(f"{name} {value}" for name, value in facts if name != "containers")
        if line != self._last:
            self.say(f"{time.strftime('%H:%M:%S', time.gmtime(snapshot.at))}  {line}")
            self._last = line

    def _format_facts(self, snapshot: RunSnapshot, history: RunHistory) -> list[tuple[str, str]]:
        counts, found, service = snapshot.queue, snapshot.fleet, snapshot.service
        facts = [("waiting", f"{counts.waiting:,}" if counts else "no queue"),
                 ("running", f"{counts.running:,}" if counts else "0"),
                 ("done", "unknown" if snapshot.done is None else f"{snapshot.done:,}"),
                 ("failed", f"{snapshot.dead:,}"),
                 ("machines", f"{len(found.machines)}/{found.target}" if found else "none"),
                 ("containers", f"{service.running}/{service.desired}" if service else "none")]  # fmt: skip
        if history.cost >= MIN_SHOWN_USD or self._limit:
            facts.append(("cost", format_cost_so_far(history.cost, self._limit)))
        return facts + self._format_forecast(snapshot, history)

    def _format_forecast(self, snapshot: RunSnapshot, history: RunHistory) -> list[tuple[str, str]]:
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
        return [("per minute", f"{through * 60 / seconds:,.0f}"), ("left", format_duration(left))]


def _build_table(app: str, facts: list[tuple[str, str]]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_row(Text(app, style="bold"), "Ctrl-C leaves the run going; monitor takes it up again")
    for name, value in facts:
        table.add_row(name, Text(value, style="bold"))
    return table
