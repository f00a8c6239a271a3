"""One simulated run under one policy, from the fleet request to the end of the last machine."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from random import Random

import simpy

from distributed_something.run.monitor.policy import Pace
from tests.measure.simulation.assumptions import Assumptions
from tests.measure.simulation.clock import Process
from tests.measure.simulation.cloud import Cloud
from tests.measure.simulation.policies import CurrentMonitor, Monitor, PublishedMonitor
from tests.measure.simulation.queue import Queue
from tests.measure.simulation.worker import JobProgress

# The visibility timeout as a multiple of the mean job length, as the published system's manual advises.
VISIBILITY_MEANS = 1.5


@dataclass(frozen=True)
class Outcome:
    """The result of one run.

    `makespan`: the time until the last job is done, as a multiple of its lower bound. The bound is work ÷ slots, or the
    length of the longest job if that is greater. `bound_hours`: the lower bound of the machine-hours, which is work ÷
    slots per machine. `tail_hours`: machine-hours without a job after the last waiting job is received. `longest_idle`:
    the longest time in seconds from a machine's last job to its end. `wasted_share`: program time that produced no
    result, as a fraction of the work. `calls_per_hour`: the monitor's API calls. `lost_jobs`: jobs that were not done
    when the monitor ended the run. `seconds`: simulated length of the run.
    """

    makespan: float
    machine_hours: float
    bound_hours: float
    tail_hours: float
    longest_idle: float
    wasted_share: float
    calls_per_hour: float
    lost_jobs: int
    seconds: float

    @property
    def hours_ratio(self) -> float:
        """Machine-hours as a multiple of their lower bound."""
        return self.machine_hours / self.bound_hours


@dataclass
class Run:
    """A run whose jobs were submitted well before the fleet was requested.

    `later_jobs`: pairs of a time (in seconds after the fleet request) and the lengths of the jobs submitted at that
    time. `interval`: seconds between two normal observations by this project's monitor.
    """

    lengths: array[float]
    machines: int
    is_published: bool = False
    tasks_per_machine: int = 1
    jobs_per_task: int = 2
    assumptions: Assumptions = field(default_factory=Assumptions)
    seed: int = 1
    interval: float = Pace().interval_seconds
    later_jobs: Sequence[tuple[float, array[float]]] = ()
    env: simpy.Environment = field(init=False)
    progress: JobProgress = field(init=False)
    queue: Queue = field(init=False)
    cloud: Cloud = field(init=False)
    monitor: Monitor = field(init=False)

    def __post_init__(self) -> None:
        random, assumptions = Random(self.seed), self.assumptions
        self.env = simpy.Environment()
        mean = sum(self.lengths) / len(self.lengths)
        self.progress = JobProgress(array("d", self.lengths), VISIBILITY_MEANS * mean if self.is_published else None)
        self.queue = Queue(self.env, random, assumptions.count_lag, assumptions.count_noise)
        self.cloud = Cloud(
            self.env, random, self.queue, self.progress, assumptions, machines=self.machines,
            tasks_per_machine=self.tasks_per_machine, jobs_per_task=self.jobs_per_task,
            uses_notice=not self.is_published,
        )  # fmt: skip
        if self.is_published:
            self.monitor = PublishedMonitor(self.cloud)
        else:
            self.monitor = CurrentMonitor(self.cloud, replace(Pace(), interval_seconds=self.interval))

    def simulate_run(self) -> Outcome:
        """Simulate the run until the monitor ends it."""
        self.queue.submit_jobs(len(self.lengths))
        self.queue.settle_counts()
        for seconds, lengths in self.later_jobs:
            self.env.process(self._submit_later(seconds, lengths))
        self.env.process(self._mark_tail())
        self.env.run(until=self.env.process(self.monitor.watch_run()))
        self.cloud.end_all_machines()
        return self._build_outcome()

    def _submit_later(self, seconds: float, lengths: array[float]) -> Process:
        yield self.env.timeout(seconds)
        self.progress.add_jobs(lengths)
        self.queue.submit_jobs(len(lengths))

    def _mark_tail(self) -> Process:
        """Start counting idle machine time when no more jobs are waiting."""
        yield self.env.timeout(max((seconds for seconds, _ in self.later_jobs), default=0.0))
        while self.queue.waiting:
            yield self.env.timeout(1.0)
        self.cloud.start_counting_idle_time()

    def _build_outcome(self) -> Outcome:
        progress, slots = self.progress, self.tasks_per_machine * self.jobs_per_task
        work = sum(progress.lengths)
        useful = sum(length for length, times in zip(progress.lengths, progress.times_done, strict=True) if times)
        min_makespan = max(work / slots / self.machines, max(progress.lengths))
        return Outcome(
            makespan=progress.last_done_at / min_makespan,
            machine_hours=self.cloud.machine_seconds / 3600,
            bound_hours=work / slots / 3600,
            tail_hours=self.cloud.idle_seconds / 3600,
            longest_idle=self.cloud.longest_idle,
            wasted_share=(progress.program_seconds - useful) / work,
            calls_per_hour=self.monitor.calls / (self.env.now / 3600),
            lost_jobs=progress.remaining_jobs,
            seconds=self.env.now,
        )
