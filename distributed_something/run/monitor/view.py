"""The monitor's display, which shows progress on standard error: a live table in a terminal, or else plain lines."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Hashable

from rich.live import Live
from rich.table import Table
from rich.text import Text

from distributed_something.core.aws_errors import format_fleet_problem
from distributed_something.core.monitor_file import MonitorFile
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
from distributed_something.run.output import Output

RATE_SNAPSHOT_COUNT = 20  # number of snapshots over which the jobs per minute are measured
MIN_SHOWN_USD = 0.005  # USD; less than this rounds to 0.00


class MonitorView:
    """Displays the run's snapshots. Use it as a context manager; the live table closes on exit."""

    def __init__(self, monitor_file: MonitorFile, output: Output) -> None:
        self._output = output
        self._app, self._limit = monitor_file.MONITOR_APP_NAME, monitor_file.MONITOR_MAX_COST
        self._ended_counts: deque[tuple[float, int]] = deque(maxlen=RATE_SNAPSHOT_COUNT)
        self._live = Live(console=output.screen, auto_refresh=False) if output.screen.is_terminal else None
        self._last_line = ""
        self._printed_keys: set[Hashable] = set()

    def __enter__(self) -> MonitorView:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def print_progress(self, text: str) -> None:
        self._output.print_progress(text)

    def _print_once(self, key: Hashable, line: str) -> None:
        if key not in self._printed_keys:
            self.print_progress(line)
            self._printed_keys.add(key)

    def show_snapshot(self, snapshot: RunSnapshot, history: RunHistory) -> None:
        facts = self._format_facts(snapshot, history)
        for paused in snapshot.paused:
            self._print_once(paused, format_row("paused", format_paused_machine(paused)))
        for problem in snapshot.problems:
            self._print_once(problem.cause, format_row("fleet", format_fleet_problem(problem)))
        stage = classify_cost(history.cost, self._limit)
        if stage is not CostStage.FAR:
            self._print_once(stage, format_row("cost", format_cost_warning(history.cost, self._limit)))
        if self._live:
            self._live.update(_build_table(self._app, facts), refresh=True)
            return
        line = "  ".join(f"{name} {value}" for name, value in facts if name != "containers")
        if line != self._last_line:
            self.print_progress(f"{time.strftime('%H:%M:%S', time.gmtime(snapshot.at))}  {line}")
            self._last_line = line

    def _format_facts(self, snapshot: RunSnapshot, history: RunHistory) -> list[tuple[str, str]]:
        fleet, service, totals = snapshot.fleet, snapshot.service, snapshot.totals
        facts = [("jobs", "unknown" if snapshot.submitted is None else f"{snapshot.submitted:,}"),
                 ("waiting", f"{snapshot.waiting:,}" if snapshot.queue else "no queue"),
                 ("running", f"{snapshot.running:,}"),
                 ("done", f"{totals.done:,}"),
                 *([("already there", f"{totals.already_there:,}")] if totals.already_there else []),
                 ("failed", f"{totals.failed:,}"),
                 ("machines", f"{len(fleet.machines)}/{fleet.target}" if fleet else "none"),
                 ("containers", f"{service.running}/{service.desired}" if service else "none")]  # fmt: skip
        if history.cost >= MIN_SHOWN_USD or self._limit:
            facts.append(("cost", format_cost_so_far(history.cost, self._limit)))
        return facts + self._format_forecast(snapshot, history)

    def _format_forecast(self, snapshot: RunSnapshot, history: RunHistory) -> list[tuple[str, str]]:
        if history.empty_looks:
            return [("queue", "empty, confirming")]
        if snapshot.queue is None:
            return []
        self._ended_counts.append((snapshot.at, snapshot.totals.ended))
        first_at, first_ended = self._ended_counts[0]
        seconds, finished = snapshot.at - first_at, snapshot.totals.ended - first_ended
        if seconds <= 0 or finished <= 0:
            return []
        remaining_seconds = snapshot.queue.jobs * seconds / finished
        return [("per minute", f"{finished * 60 / seconds:,.0f}"), ("time left", format_duration(remaining_seconds))]


def _build_table(app: str, facts: list[tuple[str, str]]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_row(Text(app, style="bold"), "Ctrl-C stops watching, not the run; to resume, run monitor")
    for name, value in facts:
        table.add_row(name, Text(value, style="bold"))
    return table
